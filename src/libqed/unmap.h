/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making whole clusters read as zeroes by taking their mapping away. */
#ifndef QED_UNMAP_H
#define QED_UNMAP_H

#include "image.h"

/*
 * Makes up to `n` whole clusters from disk_off on zero clusters where they hide
 * backing data, else unallocated; the data clusters that they had are
 * reclaimed.  Returns how many clusters are done, at least 1; -errno; or 0:
 * `waiter` is woken and calls again.
 */
int64_t qed_unmap(struct qed_image *image, uint64_t disk_off, uint64_t n,
		  struct qed_waiter *waiter);

#endif
