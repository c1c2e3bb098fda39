/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The state of the metadata writer, shared by its two halves: meta.c, which
 * takes what callers want, and commit.c, which carries it out.  Nobody else
 * includes it.
 *
 * Thread model: `lock` guards the fields up to the mark; the cache's lock and
 * alloc's are taken under it.  The fields after the mark belong to the commit
 * that runs, which is one at a time and moves from thread to thread with its
 * I/O.  No waiter is woken under the lock.
 */
#ifndef QED_COMMIT_H
#define QED_COMMIT_H

#include "meta.h"

enum step {
	STEP_BEGIN,
	STEP_NEED_CHECK,
	STEP_GROW,
	STEP_PRE_SYNC,
	STEP_TABLES,
	STEP_SYNC,
	STEP_CLEAN,
	STEP_CLEAN_SYNC,
	STEP_END,
};

/* One write of copies that are neighbours in the file. */
struct table_write {
	struct qed_io io;
	struct qed_meta *meta;
};

struct qed_meta {
	pthread_mutex_t lock;
	struct qed_layer *layer;	/* constant */
	struct qed_file *file;		/* constant */
	struct qed_alloc *alloc;	/* constant */
	struct qed_reclaim *reclaim;	/* constant */
	struct qed_l2cache *cache;	/* constant */
	unsigned dirty_limit;		/* constant: slices; nobody adds to so
					 * many */
	unsigned dirty_many;		/* constant: time to write them */
	unsigned max_slices;		/* constant: room for copies */
	_Atomic bool failed;
	_Atomic uint64_t written;	/* data writes done */
	_Atomic bool autoclear;		/* unknown bits are still on disk */
	_Atomic uint64_t commits, syncs;
	_Atomic unsigned nfreed;	/* ranges; stored under lock */

	/* under lock */
	bool running;
	bool want_sync, want_clean, want_header;
	bool barrier;
	struct qed_waitlist waiting;	/* for the next commit */
	struct qed_waitlist admission;	/* for room, or for the header */
	uint64_t synced;		/* data writes that are durable */
	uint8_t *l1_dirty;		/* flag per slice of the L1 table */
	uint64_t l1_ndirty;
	struct qed_free_range *freed;	/* since the last commit began */
	uint64_t last_tick;		/* `written` at the last tick */

	/* the running commit's */
	enum step step;
	struct qed_waitlist serving;
	bool sync, clean, header, pre_sync, barrier_taken, again;
	bool covered;			/* a sync came last */
	bool tables_unsynced;		/* by it or one before */
	bool need_check_on_disk;
	struct qed_free_range *freeing;	/* whose loss it makes durable */
	uint64_t covers;		/* data writes that its sync covers */
	uint64_t grown;			/* the file reaches here */
	struct qed_io io;
	struct iovec header_iov;
	uint8_t header_buf[QED_HEADER_BYTES];
	struct qed_dirty_slice *slices;	/* copies, L2 first, then L1 */
	struct qed_le64 *pages;
	unsigned nslices;		/* L2 slices: pinned until written */
	unsigned ncopies;		/* with the L1's */
	struct iovec *iovs;		/* one a copy */
	struct table_write *writes;	/* one a copy, at most */
	_Atomic unsigned pending;	/* of those, and the one that starts */
	_Atomic int write_err;
};

/* Are so many data writes, and the tables that were written, durable? */
static inline bool qed_commit_durable(const struct qed_meta *meta,
				      uint64_t written)
{
	return written == meta->synced && !meta->tables_unsynced;
}

/*
 * Goes on with the commit until it waits for I/O or none is due; `err` is how
 * the last step ended.  The caller has set meta->running, and holds no lock.
 */
void qed_commit_run(struct qed_meta *meta, int err);

#endif
