/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the request state machines (read.c, write.c, seek.c) share. */
#ifndef QED_REQUEST_H
#define QED_REQUEST_H

#include "image.h"

#define qed_container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* The most that a request moves at once of bytes that are not its caller's. */
#define QED_STEP_MAX (UINT64_C(1) << 20)

/*
 * A read through the chain from layer `first` down.  The caller fills the first
 * group, keeps the struct, the list and the memory until `done(read, err)`,
 * which may run inside qed_read_start().  Past a layer's end lie zeroes.
 */
struct qed_read {
	struct qed_image *image;
	unsigned first;
	const struct iovec *iov;
	int iovcnt;
	uint64_t disk_off, len;
	void (*done)(struct qed_read *read, int err);

	/* private to read.c */
	struct qed_waiter waiter;
	uint64_t pos;			/* bytes that are issued already */
	uint64_t span;			/* of the layers above `layer` */
	unsigned layer;
	_Atomic unsigned pending;
	_Atomic int err;
};

void qed_read_start(struct qed_read *read);

/* Around whatever looks clusters up and then reads them; see reclaim.h. */
static inline unsigned qed_request_enter(struct qed_image *image)
{
	return image->writable ? qed_reclaim_enter(&image->reclaim) : 0;
}

static inline void qed_request_leave(struct qed_image *image, unsigned token)
{
	if (image->writable)
		qed_reclaim_leave(&image->reclaim, token);
}

/*
 * Ends a request that has come in from outside: counts it, then calls `done`,
 * by which the image may be closed.
 */
void qed_request_end(struct qed_image *image, enum qed_request_kind kind,
		     int64_t result,
		     void (*done)(void *opaque, int64_t result), void *opaque);

/* Notes whose file it was, for a message. */
static inline void qed_note_failed(struct qed_image *image, unsigned layer)
{
	atomic_store_explicit(&image->failed_layer, layer,
			      memory_order_relaxed);
}

/* Does any layer below the top have bytes in [disk_off, disk_off + len)? */
static inline bool qed_has_backing(const struct qed_image *image,
				   uint64_t disk_off)
{
	return image->chain.n > 1 && disk_off < image->chain.layers[1]->size;
}

/* Must a cluster there have an entry that says so, to read as zeroes? */
static inline bool qed_needs_zero_entry(const struct qed_image *image,
					uint64_t disk_off)
{
	return image->zero_entries || qed_has_backing(image, disk_off);
}

#endif
