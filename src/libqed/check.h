/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The check that NEED_CHECK asks for before an image is opened for writing. */
#ifndef QED_CHECK_H
#define QED_CHECK_H

#include "layer.h"

struct qed_check_result {
	uint64_t dropped;		/* bad entries that were cleared */
	uint64_t shared;		/* clusters named twice: not mended */
};

/*
 * Scans all tables of the writable image (its L1 table need not be loaded, and
 * nobody else uses it), clears entries that cannot be right as QEMU does, with
 * a warning for each range of the disk that is lost, and, unless clusters are
 * shared, clears NEED_CHECK; all durable on return.  Memory: a bit per cluster
 * of the file.  0 or -errno after one error message.
 */
int qed_check_repair(struct qed_layer *layer, struct qed_check_result *result);

/*
 * Reads all tables for a job that makes the file grow: an entry that names what
 * lies past its end would name the job's data then, and nobody could see it any
 * more.  Nothing of the layer is in use (its L1 table need not be loaded) or dirty.
 * 0, also with a warning if it is too large for that; -EUCLEAN if an entry is
 * wrong; -ECANCELED or another -errno; each of these after one message.  Memory: a
 * bit per cluster of the file.
 */
int qed_check_sound(struct qed_layer *layer, const struct qed_job *job);

/*
 * Makes everything durable, then clears NEED_CHECK, durably too: 0 or -errno.
 * For who has found nothing wrong in a complete pass.
 */
int qed_check_clear_flag(struct qed_layer *layer);

/*
 * What qed_image_check() does, on a layer that is open, writable if anything is
 * to be mended, and in use by nobody else (its L1 table need not be loaded).
 */
int qed_check_layer(struct qed_layer *layer,
		    const struct qed_check_options *options,
		    struct qed_check_report *report);

#endif
