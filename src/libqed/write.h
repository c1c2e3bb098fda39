/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A write under way: what write.c, which moves its cursor, and fresh.c share. */
#ifndef QED_WRITE_H
#define QED_WRITE_H

#include "request.h"

enum qed_write_kind {
	QED_WRITE_DATA = QED_REQUEST_WRITE,
	QED_WRITE_ZERO = QED_REQUEST_ZERO, /* no list: all bytes are zero */
	QED_WRITE_RESERVE = QED_REQUEST_PREALLOCATE, /* whole clusters keep
						      * what they show */
};

/* A caller's write; also its cursor. */
struct qed_write {
	struct qed_image *image;
	enum qed_write_kind kind;
	unsigned token;			/* of the reclaim room */
	const struct iovec *iov;
	int iovcnt;
	uint64_t disk_off, len;
	uint64_t pos;			/* the cursor */
	struct qed_waiter waiter;	/* the cursor's */
	_Atomic unsigned pending;
	_Atomic int err;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

/*
 * The parts of the next `len` bytes at the cursor: how many; into `out` if it
 * is not null.
 */
int qed_write_parts(const struct qed_write *write, uint64_t len,
		    struct iovec *out);

/* How many of the next `len` bytes at the cursor lie in its next n clusters. */
static inline uint64_t qed_write_bytes_in(const struct qed_write *write,
					  uint64_t n, uint64_t len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t off = write->disk_off + write->pos;

	return qed_min(len, (n << h->cluster_bits) - qed_in_cluster(h, off));
}

/* The write will end with this error, unless it had one before. */
void qed_write_fail(struct qed_write *write, int err);

/* One of those that `pending` counts is over; the last one ends the write. */
void qed_write_unref(struct qed_write *write);

/*
 * fresh.c: starts to write at most `len` bytes at the cursor into new clusters.
 * 0: the cursor has moved, or looks again; QED_PENDING: it is woken; or -errno.
 */
int qed_write_fresh(struct qed_write *write, uint64_t len);

#endif
