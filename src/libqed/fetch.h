/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Large reads of one file, several in flight at once, handed out in the order
 * in which they were planned.  Memory: QED_FETCH_DEPTH buffers of
 * QED_FETCH_BYTES, whatever is read.
 *
 * What the page cache has is read when it is asked for and no earlier: it stays
 * in the processor's cache for whoever looks at it.  Only once a read has to
 * wait for the disk are the next ones begun.
 *
 * A fetch belongs to one thread, which may block and is not an engine's.
 */
#ifndef QED_FETCH_H
#define QED_FETCH_H

#include "file.h"

#define QED_FETCH_BYTES (UINT64_C(1) << 20)
#define QED_FETCH_DEPTH 8u

struct qed_fetch_piece {
	uint64_t file_off, len;		/* plan's to set; len bytes, at most
					 * QED_FETCH_BYTES, not 0 */
	uint64_t value;			/* plan's, for whoever gets the piece */
	void *buf;			/* what was read; aligned to 4 KiB */
	int err;			/* 0, or -errno: buf has nothing of use */
};

struct qed_fetch {
	/* the caller's */
	struct qed_file *file;
	/* Says what the next piece is, or false: there is none.  Asked ahead. */
	bool (*plan)(struct qed_fetch *fetch, struct qed_fetch_piece *piece);
	void *opaque;

	struct qed_fetch_state *state;	/* fetch.c's */
};

/* 0 or -ENOMEM.  To be ended by qed_fetch_fini() if it is 0. */
int qed_fetch_init(struct qed_fetch *fetch);

/*
 * The next piece, when it is there, or null behind the last one.  It is the
 * fetch's, and valid until the next call; buf may be written to.
 */
struct qed_fetch_piece *qed_fetch_next(struct qed_fetch *fetch);

/* Waits for what is under way, and forgets it. */
void qed_fetch_fini(struct qed_fetch *fetch);

#endif
