/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One engine for several images.  A share passes everything on to the engine,
 * and counts what is under way for its own image: when the share is destroyed
 * none of the engine's threads is in a completion of it any more.
 *
 * Thread model: `lock` guards `busy`.  A completion that lets the last one go
 * still has to leave the lock, so the share's memory goes with the last of its
 * users.
 */
#include "config.h"

#include "engine.h"
#include "file.h"

#include <errno.h>
#include <stdlib.h>

struct share {
	struct qed_engine engine;
	struct qed_engine_ops ops;	/* with the name of the real one */
	struct qed_engine *real;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	uint64_t busy;			/* under lock: operations under way */
	_Atomic uint64_t users;		/* those, and whoever may start more */
};

static void put(struct share *share)
{
	if (atomic_fetch_sub(&share->users, 1) != 1)
		return;
	pthread_cond_destroy(&share->idle);
	pthread_mutex_destroy(&share->lock);
	free(share);
}

/* Whoever started the operation may free it, and the image, in its `done`. */
static void share_done(struct qed_io *io, int err)
{
	struct share *share = (struct share *)io->file->engine;

	io->done = io->shared_done;
	io->done(io, err);
	pthread_mutex_lock(&share->lock);
	if (--share->busy == 0)
		pthread_cond_signal(&share->idle);
	pthread_mutex_unlock(&share->lock);
	put(share);
}

static void share_submit(struct qed_engine *engine, struct qed_io *io)
{
	struct share *share = (struct share *)engine;

	/* Otherwise it is a further attempt at the same operation. */
	if (io->done != share_done) {
		io->shared_done = io->done;
		io->done = share_done;
		atomic_fetch_add(&share->users, 1);
		pthread_mutex_lock(&share->lock);
		share->busy++;
		pthread_mutex_unlock(&share->lock);
	}
	share->real->ops->submit(share->real, io);
}

static int64_t share_try_now(struct qed_engine *engine, struct qed_io *io)
{
	struct share *share = (struct share *)engine;

	return share->real->ops->try_now(share->real, io);
}

static void share_destroy(struct qed_engine *engine)
{
	struct share *share = (struct share *)engine;

	pthread_mutex_lock(&share->lock);
	while (share->busy)
		pthread_cond_wait(&share->idle, &share->lock);
	pthread_mutex_unlock(&share->lock);
	put(share);
}

int qed_engine_share(struct qed_engine *engine, struct qed_engine **out)
{
	struct share *share = calloc(1, sizeof(*share));

	*out = NULL;
	if (!share)
		return -ENOMEM;
	share->ops = (struct qed_engine_ops){
		.name = engine->ops->name,
		.submit = share_submit,
		.try_now = engine->ops->try_now ? share_try_now : NULL,
		.destroy = share_destroy,
	};
	share->engine.ops = &share->ops;
	share->real = engine;
	pthread_mutex_init(&share->lock, NULL);
	pthread_cond_init(&share->idle, NULL);
	atomic_init(&share->users, 1);
	*out = &share->engine;
	return 0;
}
