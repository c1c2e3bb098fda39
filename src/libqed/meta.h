/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metadata writer: ordered, batched commits of L2 and L1 entries and of the
 * header's NEED_CHECK bit, for the top image.
 *
 * A commit takes everything that is dirty when it begins.  Callers that ask for
 * a flush while one runs share the next.  Nothing else waits for a commit.
 */
#ifndef QED_META_H
#define QED_META_H

#include "reclaim.h"

struct qed_meta;

/* Reads nothing; `layer` is the writable top image, checked and clean. */
int qed_meta_create(struct qed_layer *layer, struct qed_alloc *alloc,
		    struct qed_reclaim *reclaim, struct qed_meta **meta);
void qed_meta_destroy(struct qed_meta *meta);

/*
 * Maps clusters: `n` entries from `index` on of a pinned slice become
 * `file_off`, `file_off` + cluster size, ...  The data is written already.
 * `barrier`: were the entries to reach the disk before the data, older data
 * would be lost.
 */
void qed_meta_map(struct qed_meta *meta, struct qed_slice *slice,
		  unsigned index, unsigned n, uint64_t file_off, bool barrier);

/*
 * Takes mappings away: `n` entries from `index` on of a pinned slice become
 * `entry` (QED_ENTRY_ZERO or QED_ENTRY_UNALLOCATED).  The clusters of the list,
 * which it takes over, are reclaimed when that is durable.
 */
void qed_meta_unmap(struct qed_meta *meta, struct qed_slice *slice,
		    unsigned index, unsigned n, uint64_t entry,
		    struct qed_free_range *freed);

/* Maps a new, empty L2 table.  0 or -ENOMEM. */
int qed_meta_map_table(struct qed_meta *meta, uint64_t l1_index,
		       uint64_t file_off);

/* Data has been written: a flush is due for it.  Lock-free. */
void qed_meta_note_data(struct qed_meta *meta);

/*
 * Must a write wait?  0: no.  -EIO: the image has failed.  QED_PENDING:
 * `waiter` is woken and asks again.  Data waits until unknown autoclear bits
 * are gone from the header; a change of mappings until a commit has made room
 * for more dirty slices and freed clusters.  admits_data: lock-free; would the
 * first say 0?
 */
int qed_meta_admit_data(struct qed_meta *meta, struct qed_waiter *waiter);
int qed_meta_admit_map(struct qed_meta *meta, struct qed_waiter *waiter);
bool qed_meta_admits_data(const struct qed_meta *meta);

enum qed_commit {
	QED_COMMIT_WRITE,	/* tables are written, nothing is made durable */
	QED_COMMIT_SYNC,	/* what was written and mapped before is durable */
	QED_COMMIT_CLEAN,	/* and if then nothing is dirty NEED_CHECK is
				 * cleared, durably */
};

/*
 * 0 or -errno at once, or QED_PENDING and `waiter` is woken.  After the first
 * failure -EIO.
 */
int qed_meta_commit(struct qed_meta *meta, enum qed_commit how,
		    struct qed_waiter *waiter);

/* QED_COMMIT_CLEAN.  Blocks; not on an engine's thread. */
int qed_meta_clean(struct qed_meta *meta);

/* Has a flush failed? */
bool qed_meta_failed(const struct qed_meta *meta);

/*
 * One tick of the commit interval: writes tables that are dirty; if no data was
 * written since the last tick, cleans.  Blocks; not on an engine's thread.
 */
void qed_meta_tick(struct qed_meta *meta);

/* A copy of the header as it is now. */
void qed_meta_get_header(struct qed_meta *meta, struct qed_header *header);

struct qed_meta_stats {
	uint64_t commits;		/* that wrote tables */
	uint64_t syncs;
};
void qed_meta_get_stats(struct qed_meta *meta, struct qed_meta_stats *stats);

#endif
