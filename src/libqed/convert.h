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
	QED_COPY_NOTHING,		/* a pause in a long walk */
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
};

struct qed_conversion {
	struct qed_transfer transfer;
	const struct qed_convert_options *options;
	struct qed_target target;

	struct qed_convert_side source;
	bool streaming;			/* instead, from */
	struct qed_stream input;
	struct qed_convert_side base;	/* the new image's backing file, if */
	bool has_base;
	struct qed_image *backing;	/* what base is a view of, or null */

	uint64_t planning;		/* plan's: the next piece's number, */
	uint64_t pos;			/* and position */
	uint64_t size;			/* of the disk; of a stream when it ends */
	enum { QED_SHARE_UNKNOWN, QED_SHARE_YES, QED_SHARE_NO } share;
	uint64_t last_off, last_place;	/* the turn's: the last large unit of a
					 * stream that has got a place */

	pthread_mutex_t lock;
	uint64_t failed;		/* under lock: number of the piece that the
					 * message is about, or UINT64_MAX */
	char *message;			/* under lock, or null */
};

/* qed_transfer's `plan` and `work`. */
int qed_convert_plan(struct qed_transfer *transfer, struct qed_piece *piece,
		     uint64_t *passed);
int qed_convert_piece(struct qed_transfer *transfer, struct qed_piece *piece);

/*
 * Keeps the message for the job's end, if no piece with a number as low has
 * failed: returns `err`.
 */
int qed_convert_fail(struct qed_conversion *copy, uint64_t number, int err,
		     const char *path, const char *what, uint64_t disk_off);
/* The same about the image that has `pos` of one of the disks. */
int qed_convert_fail_side(struct qed_conversion *copy, uint64_t number, int err,
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
