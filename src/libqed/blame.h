/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a job says of a request to an image that failed. */
#ifndef QED_BLAME_H
#define QED_BLAME_H

#include "image.h"
#include "transfer.h"

/*
 * As qed_transfer_fail(), of a request to `image`: names the file of its chain
 * that failed.
 */
int qed_blame(struct qed_transfer *transfer, const struct qed_piece *piece,
	      int err, struct qed_image *image, const char *what,
	      uint64_t disk_off);

#endif
