/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds what of an image need not be stored; likewise to be begun again. */
#ifndef QED_TRIM_H
#define QED_TRIM_H

#include "relocate.h"

/*
 * Reads all data; clusters of zeroes become zero clusters if there is a backing
 * file, else unallocated.  0, -ECANCELED, or -errno after a message.
 */
int qed_trim_zeroes(struct qed_relocation *r, uint64_t batch);

/*
 * Counts L2 tables that map nothing, and, if `drop`, takes them away, so that
 * the others' numbers change.  As above.
 */
int qed_trim_tables(struct qed_relocation *r, bool drop, uint64_t *n);

#endif
