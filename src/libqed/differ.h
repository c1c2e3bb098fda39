/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What would show through another backing file, and must not. */
#ifndef QED_DIFFER_H
#define QED_DIFFER_H

#include "image.h"

/*
 * Copies into `image`, open for writing, all that its chain shows and that it
 * would not show on top of `other`, which may be null: no backing file.  These
 * are ordinary writes, which change nothing that the guest sees, whenever this
 * ends; it blocks, and nobody else may use the image.  0: all is durable; or
 * -errno after one message.
 */
int qed_differ_copy(struct qed_image *image, struct qed_image *other,
		    const struct qed_job *job);

#endif
