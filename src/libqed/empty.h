/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking everything out of an image. */
#ifndef QED_EMPTY_H
#define QED_EMPTY_H

#include "layer.h"

/*
 * Makes a writable image as it was when it was new: all of its disk is what the
 * backing file shows, and its file ends behind the L1 table.  Whenever the
 * power goes each range of the disk is in the image, or is not; whatever it is
 * to show then has to be durable in the backing file before.  Durable on
 * return.  Nobody uses the layer meanwhile, nor, but for its header,
 * afterwards; it blocks.  0 or -errno, not logged.
 */
int qed_layer_empty(struct qed_layer *layer);

#endif
