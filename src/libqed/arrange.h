/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Layouts of an image file.  All of these can be stopped after any batch and
 * begun again: they look at what is where, not at what has been done.  A batch
 * is of so many clusters, at least one, and by that many, or by what all L2
 * tables take up, the file may grow on the way.  0, -ECANCELED, or -errno after
 * a message.
 */
#ifndef QED_ARRANGE_H
#define QED_ARRANGE_H

#include "relocate.h"

/*
 * Clusters that have to be free in the map behind the end of the file, at most,
 * for an image with a file of `size` bytes.
 */
uint64_t qed_arrange_spare(const struct qed_header *h, uint64_t size,
			   uint64_t batch);

/*
 * Where the file ends, in clusters, once that many are in use and close
 * together: not before the end of the L1 table.
 */
uint64_t qed_arrange_end(const struct qed_relocation *r, uint64_t nclusters);

/* Fills what is free with what lies farthest behind: moves as little as can be. */
int qed_arrange_pack(struct qed_relocation *r, uint64_t batch);

/*
 * L2 tables behind the header in order of the disk, around the L1 table; then,
 * for qed_arrange_data(), all data likewise, close together.
 */
int qed_arrange_tables(struct qed_relocation *r, uint64_t batch);
int qed_arrange_data(struct qed_relocation *r, uint64_t batch);

#endif
