/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving an image's disk another size. */
#ifndef QED_RESIZE_H
#define QED_RESIZE_H

#include "image.h"

/*
 * qed_image_resize() on an engine of the caller's, which it owns, also on
 * failure: how tests plug theirs in.
 */
int qed_image_resize_engine(const char *path,
			    const struct qed_resize_options *options,
			    struct qed_engine *engine);

/*
 * qed_image_finish() of an image that has begun and is sound, whose disk gets
 * options->size bytes, durably, if it has less: no one else can have the image in
 * between.
 * 0, or -errno after one message; then the image has been closed.
 */
int qed_resize_finish_open(struct qed_image *image,
			   const struct qed_open_options *open,
			   const struct qed_resize_options *options);

/*
 * qed_image_resize_engine() of a file that the caller removes if it fails: what
 * it has got by then is not given back, nor made durable, which may take as
 * long as the job.
 */
int qed_image_resize_disposable(const char *path,
				const struct qed_resize_options *options,
				struct qed_engine *engine);

#endif
