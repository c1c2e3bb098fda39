/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New L2 tables. */
#ifndef QED_TABLE_H
#define QED_TABLE_H

#include "image.h"

/*
 * Is there an L2 table for disk_off?  0: yes, now.  QED_PENDING: one is being
 * made, `waiter` is woken and asks again.  -errno: it could not be made.
 */
int qed_table_require(struct qed_image *image, uint64_t disk_off,
		      struct qed_waiter *waiter);

#endif
