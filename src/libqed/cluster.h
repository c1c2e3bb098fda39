/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lookup engine: a range of one layer's disk becomes an extent. */
#ifndef QED_CLUSTER_H
#define QED_CLUSTER_H

#include "layer.h"

enum qed_extent_kind {
	QED_EXTENT_DATA,		/* at file_off */
	QED_EXTENT_ZERO,		/* reads as zeroes, hides what is below */
	QED_EXTENT_UNALLOCATED,		/* the next layer's, or zeroes */
};

struct qed_extent {
	enum qed_extent_kind kind;
	uint64_t file_off;		/* DATA only: of the first byte */
	uint64_t len;			/* bytes, from the offset asked for */
};

/*
 * What is at disk_off, for at most `len` bytes (not 0, wholly inside the
 * layer's size)?  The extent may be shorter than the mapping really goes on.
 *
 * peek: lock-free; false if a table must be read first, or is damaged.  It does
 * not count: whoever goes by its answer does.  lookup: 0; -EUCLEAN (logged) or
 * another -errno; or QED_PENDING: `waiter` is woken from an engine's thread and
 * looks up again, which then succeeds at once.
 */
bool qed_cluster_peek(struct qed_layer *layer, uint64_t disk_off, uint64_t len,
		      struct qed_extent *extent);
int qed_cluster_lookup(struct qed_layer *layer, uint64_t disk_off, uint64_t len,
		       struct qed_waiter *waiter, struct qed_extent *extent);

/* A look-up for disk_off was answered from memory. */
void qed_cluster_count_hit(struct qed_layer *layer, uint64_t disk_off);

/*
 * Pins the slice of the L2 table that maps disk_off, for a caller that will set
 * entries: as qed_l2cache_get(), with the entry's index in *index.  The L1
 * entry must be there; -EUCLEAN if it is bad.
 */
int qed_cluster_pin(struct qed_layer *layer, uint64_t disk_off,
		    struct qed_waiter *waiter, struct qed_slice **slice,
		    unsigned *index);

/* What entries from `index` on of a pinned slice say; as lookup. */
int qed_cluster_extent(struct qed_layer *layer, const struct qed_slice *slice,
		       unsigned index, uint64_t disk_off, uint64_t len,
		       struct qed_extent *extent);

#endif
