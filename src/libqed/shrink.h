/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making an image's disk smaller. */
#ifndef QED_SHRINK_H
#define QED_SHRINK_H

#include "layer.h"

/*
 * Makes the disk of a layer that is open for writing, and in use by nobody
 * else, `size` bytes long, durably; `size` is a multiple of a sector and not
 * more than it is now.  0, or -errno after one message.  qed_image_resize()
 * says what a failure leaves.
 */
int qed_shrink(struct qed_layer *layer, uint64_t size, const struct qed_job *job);

#endif
