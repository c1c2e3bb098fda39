/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The backing file's name in an image's header. */
#ifndef QED_BACKING_H
#define QED_BACKING_H

#include "layer.h"

/*
 * Can qed_backing_write() give this name to the image, or take it away if it is
 * null?  0, or after one error message -EINVAL (no plain file name, or too
 * long), -ENOTSUP (unknown compat_features bits, whose owner may rely on the
 * header's shape).
 */
int qed_backing_check(const struct qed_layer *layer, const char *name);

/*
 * Gives the image another backing name, of a file without format if `raw`, or
 * none if `name` is null; qed_backing_check() has allowed it.  Whenever the
 * power goes the header has the old name or the new one; the new one is durable
 * on return, and in layer->header and ->backing_name.  All else that the new
 * name relies on has to be durable before.  Nobody else writes the header
 * meanwhile; it blocks.  0, or -errno after one error message.
 */
int qed_backing_write(struct qed_layer *layer, const char *name, bool raw);

#endif
