/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Bringing data into new clusters: the caller's bytes, and around them what the
 * clusters showed before, so that nothing else changes and nothing stale shows.
 */
#ifndef QED_COPY_H
#define QED_COPY_H

#include "request.h"

/* Parts that a copy may add: one before the caller's, one after. */
#define QED_COPY_EXTRA_IOVS 2

/*
 * The caller fills the first group; iov[-1] and iov[iovcnt] are free for the
 * copy's use, the whole list is consumed.  `done(copy, err)` may run inside
 * qed_copy_start().
 */
struct qed_copy {
	struct qed_image *image;
	uint64_t disk_off, len;		/* the caller's bytes; none: reserve */
	uint64_t file_off;		/* of the first cluster */
	uint64_t nclusters;
	bool zeroed;			/* the clusters read as zeroes */
	bool backing;			/* else zeroes go around the bytes */
	struct iovec *iov;
	int iovcnt;
	void (*done)(struct qed_copy *copy, int err);

	/* private to copy.c */
	int step;
	uint64_t head, tail;		/* bytes to fill before and after */
	uint64_t gap;			/* in buf between the two */
	uint64_t copied;		/* of a fill that goes by chunks */
	bool unwritten;			/* the file need not reach there yet */
	char *buf;
	size_t buf_len;
	struct iovec buf_iov;
	struct qed_io io;
	struct qed_read read;
};

void qed_copy_start(struct qed_copy *copy);

#endif
