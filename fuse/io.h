/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests that move data: their buffers, their way through libqed, their one
 * answer.  Every function takes over `req` and answers it, at once or later
 * from a thread of the library.
 */
#ifndef QEDFS_IO_H
#define QEDFS_IO_H

#include "lowlevel.h"
#include "overrun.h"
#include "pool.h"
#include "tree.h"

struct qedfs_io {
	/* set by qedfs_io_init(), then constant */
	struct qedfs_tree *tree;
	struct fuse_session *session;
	struct qedfs_overrun *overrun;

	struct qedfs_pool pool;
	_Atomic bool failure_logged;
};

void qedfs_io_init(struct qedfs_io *io, struct qedfs_tree *tree,
		   struct fuse_session *session,
		   struct qedfs_overrun *overrun);
/* Waits until no request is under way; others may start afterwards. */
void qedfs_io_drain(struct qedfs_io *io);
/* The same when none can start any more, and frees the buffers. */
void qedfs_io_finish(struct qedfs_io *io);

/*
 * The most that the kernel is let read in one request.  It sends what a program
 * reads beyond that as further requests at once, which several workers answer;
 * and that much fits into the largest pipe that anybody may have.
 */
#define QEDFS_READ_MAX (512u << 10)
void qedfs_io_read(struct qedfs_io *io, fuse_req_t req, size_t size,
		   uint64_t offset);

#define QEDFS_WRITE_LATE    0x1u	/* by the kernel's writeback cache */
#define QEDFS_WRITE_DURABLE 0x2u	/* to be flushed before the answer */
/* `data` is used during the call only. */
void qedfs_io_write(struct qedfs_io *io, fuse_req_t req, const void *data,
		    size_t size, uint64_t offset, unsigned flags);

/* Answers with the flush's error, else with `err` (positive, or 0). */
void qedfs_io_flush(struct qedfs_io *io, fuse_req_t req, int err);

/* A handle was closed: whoever looks next sees the space in use as it is. */
void qedfs_io_closed(struct qedfs_io *io);

/* How qedfs_io_allocate() changes a range of the disk. */
enum qedfs_range {
	QEDFS_RANGE_ZERO,		/* reads as zeroes, space given back */
	QEDFS_RANGE_RESERVE,		/* space reserved, contents kept */
};
void qedfs_io_allocate(struct qedfs_io *io, fuse_req_t req,
		       enum qedfs_range how, uint64_t offset, uint64_t len);

void qedfs_io_seek(struct qedfs_io *io, fuse_req_t req, uint64_t offset,
		   int whence);

#endif
