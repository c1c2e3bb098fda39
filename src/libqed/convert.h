/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copying a disk: plan.c cuts it into pieces, by the maps of what it is copied
 * from and of the backing file; pieces.c does what is to be done with each.
 */
#ifndef QED_CONVERT_H
#define QED_CONVERT_H

#include "origin.h"
#include "target.h"
#include "transfer.h"

/* What a piece's `value` says is to be done with it. */
enum qed_convert_kind {
	QED_COPY_DATA,			/* read, look for zeroes, write */
	QED_COPY_ZERO,			/* make it zeroes */
	QED_COPY_SHARE,			/* clone, or let the host copy */
	QED_COPY_STREAM,		/* write what buf[0] has */
};

/* What is at a position of one of the two disks, as found last. */
struct qed_convert_side {
	struct qed_origin origin;
	struct qed_map_extent extent;
	struct qed_file *file;		/* that the extent has its place in */
	uint64_t start, end;		/* of the extent */
	uint64_t passed;		/* bytes of data up to its end */
	uint64_t ahead;			/* up to where reading has been begun, */
	uint64_t asked;			/* bytes of data up to there, */
	int ahead_err;			/* and why it went no farther, or 0 */
};

struct qed_conversion {
	struct qed_transfer transfer;
	const struct qed_convert_options *options;
	struct qed_target target;

	struct qed_convert_side source;
	bool streaming;			/* instead, from */
	struct qed_stream input;
	const char *advice;		/* what to do about the end, if it is the
					 * job's own; or null */
	struct qed_convert_side base;	/* the new image's backing file, if */
	bool has_base;
	struct qed_image *backing;	/* what base is a view of, or null */

	const struct qed_piece *planning;	/* plan's: what it fills in, */
	uint64_t pos;			/* and the position */
	uint64_t size;			/* of the disk; of a stream when it ends */
	enum { QED_SHARE_UNKNOWN, QED_SHARE_YES, QED_SHARE_NO } share;
	uint64_t last_off, last_place;	/* the turn's: the last large unit of a
					 * stream that has got a place */
};

/* qed_transfer's `plan` and `work`. */
int qed_convert_plan(struct qed_transfer *transfer, struct qed_piece *piece,
		     uint64_t *passed);
int qed_convert_piece(struct qed_transfer *transfer, struct qed_piece *piece);

/* As qed_transfer_fail(), of the image that has `pos` of one of the disks. */
int qed_convert_fail_side(struct qed_conversion *copy,
			  const struct qed_piece *piece, int err,
			  const struct qed_convert_side *side, const char *what,
			  uint64_t pos);

/*
 * qed_image_convert() with an engine of the caller's for the target, which is
 * destroyed, also on failure: how tests plug theirs in.
 */
int qed_image_convert_engine(const char *path,
			     const struct qed_convert_options *options,
			     struct qed_engine *engine);

#endif
