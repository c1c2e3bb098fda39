/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The thread engine: plain blocking system calls on a pool of threads, for
 * hosts where io_uring is missing or refused.
 *
 * Thread model: `lock` guards the queue and the counts.  A thread is added when
 * work arrives and none is idle, up to THREADS_MAX; they end with the engine.
 */
#include "config.h"

#include "engine.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS_MAX 32

struct threads {
	struct qed_engine engine;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct qed_io *head, **tail;	/* under lock */
	unsigned idle, count;		/* under lock */
	bool stop;			/* under lock */
	pthread_t thread[THREADS_MAX];	/* under lock; the first `count` */
};

static struct qed_io *next_io(struct threads *t)
{
	struct qed_io *io;

	pthread_mutex_lock(&t->lock);
	t->idle++;
	while (!t->head && !t->stop)
		pthread_cond_wait(&t->work, &t->lock);
	t->idle--;
	io = t->head;
	if (io) {
		t->head = io->next;
		if (!t->head)
			t->tail = &t->head;
	}
	pthread_mutex_unlock(&t->lock);
	return io;
}

static void *thread_main(void *opaque)
{
	struct threads *t = opaque;
	struct qed_io *io;

	while ((io = next_io(t)))
		qed_file_attempted(io, qed_engine_attempt(io));
	return NULL;
}

/* Signals are for the program's own threads. */
static int spawn_locked(struct threads *t)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&t->thread[t->count], NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		t->count++;
	return -err;
}

static void threads_submit(struct qed_engine *engine, struct qed_io *io)
{
	struct threads *t = (struct threads *)engine;

	io->next = NULL;
	pthread_mutex_lock(&t->lock);
	*t->tail = io;
	t->tail = &io->next;
	/* If no thread can be added, those that exist will get to it. */
	if (!t->idle && t->count < THREADS_MAX)
		spawn_locked(t);
	pthread_cond_signal(&t->work);
	pthread_mutex_unlock(&t->lock);
}

static void threads_destroy(struct qed_engine *engine)
{
	struct threads *t = (struct threads *)engine;

	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_broadcast(&t->work);
	pthread_mutex_unlock(&t->lock);
	for (unsigned i = 0; i < t->count; i++)
		pthread_join(t->thread[i], NULL);
	pthread_cond_destroy(&t->work);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static const struct qed_engine_ops threads_ops = {
	.name = "threads",
	.submit = threads_submit,
	.try_now = qed_engine_try_now,
	.destroy = threads_destroy,
};

int qed_engine_threads_create(struct qed_engine **engine)
{
	struct threads *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->engine.ops = &threads_ops;
	t->tail = &t->head;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work, NULL);
	ret = spawn_locked(t);	/* so that work can never be stranded */
	if (ret < 0) {
		threads_destroy(&t->engine);
		return ret;
	}
	*engine = &t->engine;
	return 0;
}
