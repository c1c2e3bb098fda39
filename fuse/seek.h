/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SEEK_DATA and SEEK_HOLE beside the kernel's page cache.
 *
 * The kernel passes these on without writing out what its cache holds, so the
 * image may still show a hole where a program has just written; a copying
 * program would skip it.  While somebody has the disk open for writing the
 * cache is written first, by a thread of its own (a worker must not wait for
 * requests that workers serve).  Where that cannot be done everything counts as
 * data, which is always right.  Without a writer nothing is in the cache alone:
 * the kernel writes it out before it gives up a handle.
 *
 * Nor is it done where requests come by io_uring.  A ring has a fixed number of
 * places, and a request keeps its own until it is answered: those that wait for
 * the cache could have taken all of them when the cache's writes want one.  For
 * the same reason there is no writeback cache then, with which much more is in
 * the cache alone.
 */
#ifndef QEDFS_SEEK_H
#define QEDFS_SEEK_H

#include "io.h"
#include "lowlevel.h"
#include "place.h"

#include <pthread.h>

struct qedfs_seek_request;

struct qedfs_seek {
	/* set by qedfs_seek_start(), then constant */
	struct qedfs_io *io;
	const struct qedfs_place *place;
	bool can_sync;			/* set before requests are served */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	bool stopping;
	unsigned writers;		/* handles open for writing */
	struct qedfs_seek_request *waiting; /* for the cache to be written */
};

/* Starts the thread: 0 or -errno. */
int qedfs_seek_start(struct qedfs_seek *seek, struct qedfs_io *io,
		     const struct qedfs_place *place);

/*
 * Answers what waits.  The thread ends once the mount is disconnected; then
 * qedfs_seek_join().
 */
void qedfs_seek_stop(struct qedfs_seek *seek);
void qedfs_seek_join(struct qedfs_seek *seek);

/* A handle that writes was opened (+1) or given up (-1). */
void qedfs_seek_count_writer(struct qedfs_seek *seek, int change);

/* Takes over `req`: lseek with SEEK_DATA or SEEK_HOLE. */
void qedfs_seek(struct qedfs_seek *seek, fuse_req_t req, uint64_t offset,
		int whence);

#endif
