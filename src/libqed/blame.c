/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Messages of jobs about what is not theirs. */
#include "config.h"

#include "blame.h"

#include <errno.h>

int qed_blame(struct qed_transfer *transfer, const struct qed_piece *piece,
	      int err, struct qed_image *image, const char *what,
	      uint64_t disk_off)
{
	const char *below = qed_image_failed_below(image);

	/* Nothing is written there: a write had to read what surrounds it. */
	if (below)
		return qed_transfer_fail(transfer, piece, err, below, "read",
					 disk_off);
	return qed_transfer_fail(transfer, piece, err,
				 qed_image_get_path(image, 0), what, disk_off);
}
