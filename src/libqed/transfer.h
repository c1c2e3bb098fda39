/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work on a whole disk, piece by piece, several at a time: what the jobs that
 * copy or compare have in common.  A job says what the next piece is (`plan`,
 * one call at a time, in the disk's order) and what is to be done with it
 * (`work`, on any of several threads, which may block).  Memory: a worker's
 * buffers, whatever the disk's size.
 */
#ifndef QED_TRANSFER_H
#define QED_TRANSFER_H

#include "job.h"

#define QED_PIECE_MAX   (UINT64_C(1) << 20)	/* bytes */
#define QED_PIECE_BUFS  2u
#define QED_WORKERS_MAX 8u
/* What a plan looks at before it returns, so that the job can be stopped: */
#define QED_PLAN_STEPS  1024u			/* extents, */
#define QED_PLAN_LEN    (UINT64_C(1) << 30)	/* of so many bytes of disk each */

struct qed_piece {
	uint64_t number;		/* pieces planned before */
	uint64_t disk_off, len;		/* plan's to set */
	uint64_t value;			/* plan's, for work */
	uint8_t *buf[QED_PIECE_BUFS];	/* each QED_PIECE_MAX bytes, aligned to
					 * 4 KiB, the worker's; the first
					 * `nbufs`
					 * of the transfer's are there */
};

struct qed_transfer {
	/* the caller's */
	unsigned nworkers;		/* 0: the library's choice */
	unsigned nbufs;			/* each worker's */
	uint64_t total;			/* for progress: bytes; plan may raise
					 * it */
	const struct qed_job *job;	/* or null */
	/*
	 * Fills in the next piece.  0; QED_PIECE_NONE: there is none;
	 * QED_PIECE_LATER: none was found yet, it is to be called again; or
	 * -errno, which ends the job.  Counts in *passed the bytes of `total`
	 * that it stepped over.  No other plan runs meanwhile; work does.
	 */
	int (*plan)(struct qed_transfer *transfer, struct qed_piece *piece,
		    uint64_t *passed);
	/*
	 * Does it.  0, or what ends the job and is its result: -errno, or a
	 * number of the job's own; of several that of the piece with the lowest
	 * number.  No piece is planned after one, but all that were planned
	 * before are carried out.
	 */
	int (*work)(struct qed_transfer *transfer, struct qed_piece *piece);
	void *opaque;

	/* What was said of the result, or null: the caller's to free. */
	char *message;
	struct qed_transfer_state *state;	/* transfer.c's */
};

#define QED_PIECE_NONE  1
#define QED_PIECE_LATER 2

/*
 * Runs to the end: 0, what ended it before, -ECANCELED, or -ENOMEM or another
 * -errno if it could not begin.  When it returns no work is under way.
 * Progress goes to the job from the calling thread.
 */
int qed_transfer_run(struct qed_transfer *transfer);

/*
 * For plan or work, of the piece that it is given: keeps "PATH: cannot WHAT at
 * disk offset N: ..." for the job's one message, if it is this piece that ends
 * the job.  Returns `err`, to be its result; of -ECANCELED nothing is said.
 */
int qed_transfer_fail(struct qed_transfer *transfer,
		      const struct qed_piece *piece, int err, const char *path,
		      const char *what, uint64_t disk_off);

/*
 * For work that has to end in order, as into a pipe: waits until all pieces
 * before this one have passed their turn on or are over.  0, or -ECANCELED if
 * one of them has failed.
 */
int qed_transfer_await_turn(struct qed_transfer *transfer,
			    const struct qed_piece *piece);
/* The next piece's turn begins before this one is over. */
void qed_transfer_pass_turn(struct qed_transfer *transfer,
			    const struct qed_piece *piece);

#endif
