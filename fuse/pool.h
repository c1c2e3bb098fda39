/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests under way and their buffers.  Each owns one buffer from the moment
 * it is decoded until it has been answered, because the library may use it
 * after the call that starts the request.  They are kept for reuse, so that the
 * busy ones stay mapped and warm and the write path does not allocate.
 *
 * Any thread may call any function, but only a worker may get a request.  One
 * with a small buffer that ends where it began takes no lock and shares no
 * cache line with those of other threads.
 */
#ifndef QEDFS_POOL_H
#define QEDFS_POOL_H

#include "lowlevel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#define QEDFS_IO_MAX       (1u << 20)	/* bytes in one read or write */
#define QEDFS_POOL_CLASSES 3u		/* of buffers, by size */
#define QEDFS_POOL_SHARDS  16u

struct qedfs_io;
struct qedfs_pool_shard;

struct qedfs_request {
	/* the pool's */
	struct qedfs_request *next;
	struct qedfs_pool_shard *shard;
	unsigned class;

	fuse_req_t req;
	void *buf;			/* null for a size of 0 */
	struct iovec iov;		/* all of `size`, to begin with */
	size_t size;			/* bytes the kernel asked for */
	/* zero, to begin with */
	struct qedfs_io *io;
	bool overruns;			/* a late write past the end */
	bool durable;
	int err;			/* to answer a good flush with */
};

struct qedfs_pool_shard {
	_Alignas(64) _Atomic(struct qedfs_request *) spare[QEDFS_POOL_CLASSES];
	_Atomic unsigned under_way;	/* not answered yet; and a flag */
};

struct qedfs_pool {
	struct qedfs_pool_shard shards[QEDFS_POOL_SHARDS];
	pthread_mutex_t lock;
	pthread_cond_t idle, room;
	unsigned taken[QEDFS_POOL_CLASSES]; /* under lock: of limited classes */
	/* under lock: what the shards have no room for */
	struct qedfs_request *spare[QEDFS_POOL_CLASSES];
	unsigned nspare[QEDFS_POOL_CLASSES];
};

void qedfs_pool_init(struct qedfs_pool *pool);
/* Waits until no request is under way; others may start afterwards. */
void qedfs_pool_drain(struct qedfs_pool *pool);
/* The same when none can start any more, and frees everything. */
void qedfs_pool_finish(struct qedfs_pool *pool);

/*
 * A request with a buffer of `size` bytes; null if there is no memory.  Waits
 * while there are too many with large buffers.
 */
struct qedfs_request *qedfs_pool_get(struct qedfs_pool *pool, fuse_req_t req,
				     size_t size);
/* It has been answered. */
void qedfs_pool_put(struct qedfs_pool *pool, struct qedfs_request *request);

#endif
