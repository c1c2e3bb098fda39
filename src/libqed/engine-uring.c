/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The io_uring engine: one ring for all files of a chain, filled by any thread
 * under `lock`, reaped by one thread that runs the completions.
 *
 * The reaper takes `lock` once per batch: that orders what the submitter wrote
 * before what the completion reads, and lets it hand in entries that the kernel
 * was too busy to take.
 */
#include "config.h"

#include "engine.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#ifdef HAVE_LIBURING
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define RING_ENTRIES 256
#define BATCH        64

struct uring {
	struct qed_engine engine;
	pthread_mutex_t lock;
	struct io_uring ring;	/* submission side under lock */
	pthread_t reaper;
};

static void prepare(struct io_uring_sqe *sqe, struct qed_io *io)
{
	int fd = qed_engine_fd(io);
	unsigned n = (unsigned)qed_engine_iovcnt(io);

	switch (io->op) {
	case QED_OP_READ:
		io_uring_prep_readv(sqe, fd, io->iov, n, io->file_off);
		break;
	case QED_OP_WRITE:
		io_uring_prep_writev(sqe, fd, io->iov, n, io->file_off);
		break;
	case QED_OP_FLUSH:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case QED_OP_PUNCH:
		io_uring_prep_fallocate(sqe, fd,
					FALLOC_FL_PUNCH_HOLE |
						FALLOC_FL_KEEP_SIZE,
					(off_t)io->file_off, (off_t)io->len);
		break;
	case QED_OP_GROW:
		io_uring_prep_fallocate(sqe, fd, 0, (off_t)io->file_off,
					(off_t)io->len);
		break;
	case QED_OP_CUT:
	case QED_OP_CLONE:
	case QED_OP_COPY:
		assert(!"done by qed_engine_try_now()");
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static struct io_uring_sqe *get_sqe_locked(struct uring *u)
{
	struct io_uring_sqe *sqe;

	/* The queue is full only until the kernel takes what is in it. */
	while (!(sqe = io_uring_get_sqe(&u->ring)))
		io_uring_submit(&u->ring);
	return sqe;
}

static void uring_submit(struct qed_engine *engine, struct qed_io *io)
{
	struct uring *u = (struct uring *)engine;

	pthread_mutex_lock(&u->lock);
	prepare(get_sqe_locked(u), io);
	io_uring_submit(&u->ring);
	pthread_mutex_unlock(&u->lock);
}

/* Collects finished attempts; waits for one at least.  0 on an interruption. */
static unsigned reap(struct uring *u, struct qed_io *ios[BATCH])
{
	struct io_uring_cqe *cqes[BATCH], *first;
	unsigned n;

	if (io_uring_wait_cqe(&u->ring, &first) < 0)
		return 0;
	n = io_uring_peek_batch_cqe(&u->ring, cqes, BATCH);
	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < n; i++) {
		ios[i] = io_uring_cqe_get_data(cqes[i]);
		if (ios[i])
			ios[i]->result = cqes[i]->res;
	}
	if (io_uring_sq_ready(&u->ring))
		io_uring_submit(&u->ring);
	pthread_mutex_unlock(&u->lock);
	io_uring_cq_advance(&u->ring, n);
	return n;
}

static void *reaper_main(void *opaque)
{
	struct uring *u = opaque;
	struct qed_io *ios[BATCH];
	bool stop = false;

	qed_engine_enter_thread();
	while (!stop) {
		unsigned n = reap(u, ios);

		for (unsigned i = 0; i < n; i++) {
			if (ios[i])
				qed_file_attempted(ios[i], ios[i]->result);
			else
				stop = true;
		}
	}
	return NULL;
}

static void uring_destroy(struct qed_engine *engine)
{
	struct uring *u = (struct uring *)engine;
	struct io_uring_sqe *sqe;

	pthread_mutex_lock(&u->lock);
	sqe = get_sqe_locked(u);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	io_uring_submit(&u->ring);
	pthread_mutex_unlock(&u->lock);
	pthread_join(u->reaper, NULL);
	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static const struct qed_engine_ops uring_ops = {
	.name = "io_uring",
	.submit = uring_submit,
	.try_now = qed_engine_try_now,
	.destroy = uring_destroy,
};

static int start_reaper(struct uring *u)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&u->reaper, NULL, reaper_main, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

int qed_engine_uring_create(struct qed_engine **engine)
{
	struct uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->engine.ops = &uring_ops;
	ret = io_uring_queue_init(RING_ENTRIES, &u->ring, 0);
	if (ret < 0)
		goto out_free;
	pthread_mutex_init(&u->lock, NULL);
	ret = start_reaper(u);
	if (ret < 0)
		goto out_ring;
	*engine = &u->engine;
	return 0;

out_ring:
	pthread_mutex_destroy(&u->lock);
	io_uring_queue_exit(&u->ring);
out_free:
	free(u);
	return ret;
}

#else

int qed_engine_uring_create(struct qed_engine **engine)
{
	*engine = NULL;
	return -ENOSYS;
}

#endif
