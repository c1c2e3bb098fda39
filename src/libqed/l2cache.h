/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * L2 tables in memory, by slices of 4 KiB (512 entries), for all images of a
 * chain under one byte budget.
 *
 * A slice in memory is found without a lock and without writing to shared
 * memory (qed_l2cache_peek).  One that is missing is read once, however many
 * wait for it.  Clean, unpinned slices are evicted when the budget is used up;
 * slices that are being loaded, pinned or dirty can push the cache past its
 * budget, by at most one slice per request under way plus the dirty limit.
 */
#ifndef QED_L2CACHE_H
#define QED_L2CACHE_H

#include "file.h"
#include "format.h"

#define QED_SLICE_BYTES   4096u
#define QED_SLICE_ENTRIES (QED_SLICE_BYTES / QED_ENTRY_BYTES)
#define QED_SOURCE_MAX    8191u

struct qed_l2cache;

/* Where slices come from: one image of the chain. */
struct qed_table_source {
	struct qed_file *file;
	unsigned id;		/* unique in the cache, at most QED_SOURCE_MAX */
	/*
	 * Are all entries of a slice that was just read valid?  Called without
	 * a lock.  If not, the slice is marked and every use checks the entry.
	 */
	bool (*entries_ok)(struct qed_table_source *source,
			   const uint64_t *entries, size_t n);
};

struct qed_slice {
	/* Lock-free readers check these; written under the cache's lock. */
	_Atomic uint64_t seq;		/* odd: contents in flux */
	_Atomic uint64_t key;		/* source and file offset */
	_Atomic uint32_t next;		/* hash chain: slot + 1, 0 ends it */
	_Atomic uint8_t referenced;	/* used since the last sweep */
	_Atomic bool bad;		/* holds an invalid entry */
	/* under the cache's lock */
	uint8_t state;
	bool dirty;
	uint16_t dirty_from, dirty_to;	/* entries, if it is */
	uint32_t slot;
	uint32_t pins;
	uint64_t file_off;
	struct qed_slice *dirty_next;
	struct qed_waitlist waiters;
	_Atomic uint64_t *entries;	/* QED_SLICE_ENTRIES, as on disk; stores
					 * under the cache's lock */
};

/* Entries that continue each other: all 0, all 1, or contiguous clusters. */
struct qed_run {
	uint64_t first;
	uint64_t count;
};

int qed_l2cache_create(uint64_t budget, struct qed_l2cache **cache);
void qed_l2cache_destroy(struct qed_l2cache *cache);

/*
 * Lock-free: if the slice at `file_off` is here and has no bad entry, stores
 * the run that starts at `index`, of at most `max` entries, and returns true.
 * `stride` is the cluster size.
 */
bool qed_l2cache_peek(struct qed_l2cache *cache,
		      const struct qed_table_source *source, uint64_t file_off,
		      unsigned index, uint64_t max, uint32_t stride,
		      struct qed_run *run);

/*
 * Pins the slice at `file_off` (a multiple of QED_SLICE_BYTES): 0 with *slice
 * to be released by qed_l2cache_put(); -errno; or QED_PENDING: `waiter` will be
 * woken, on an engine's thread, and calls again.  When it is woken with 0 the
 * slice is certain to be here until the waiter returns.  If the slice had to be
 * read, waiter->missed is set.
 */
int qed_l2cache_get(struct qed_l2cache *cache, struct qed_table_source *source,
		    uint64_t file_off, struct qed_waiter *waiter,
		    struct qed_slice **slice);
void qed_l2cache_put(struct qed_l2cache *cache, struct qed_slice *slice);

/* The run at `index` of a pinned slice. */
void qed_slice_run(const struct qed_slice *slice, unsigned index, uint64_t max,
		   uint32_t stride, struct qed_run *run);

/*
 * Sets `n` entries of a pinned slice to `first`, `first` + `stride`, ... and
 * marks it dirty.
 */
void qed_l2cache_set(struct qed_l2cache *cache, struct qed_slice *slice,
		     unsigned index, unsigned n, uint64_t first,
		     uint32_t stride);

/* The budget in bytes.  Lock-free. */
uint64_t qed_l2cache_budget(const struct qed_l2cache *cache);

/* How many slices are dirty.  Lock-free. */
unsigned qed_l2cache_dirty(const struct qed_l2cache *cache);

/*
 * A dirty slice, or of it what is between its first dirty entry and its last one,
 * as it was at one moment; to be written at `file_off`.
 */
struct qed_dirty_slice {
	struct qed_slice *slice;
	uint64_t file_off;
	size_t len;			/* bytes */
	struct qed_le64 *page;		/* in: room for QED_SLICE_ENTRIES */
};

/*
 * Copies up to `max` dirty slices out and marks them clean, but keeps each
 * pinned until qed_l2cache_put().  Returns how many.
 */
unsigned qed_l2cache_collect(struct qed_l2cache *cache,
			     struct qed_dirty_slice *out, unsigned max);

/* Undoes collect for a slice that was not written: dirty again, pin dropped. */
void qed_l2cache_put_back(struct qed_l2cache *cache,
			  const struct qed_dirty_slice *copy);

struct qed_l2cache_stats {
	uint64_t loads;			/* slices read from a file */
	uint64_t misses;		/* callers of get that needed one */
	uint64_t slots;			/* slices in memory, in use or not */
	uint64_t budget;		/* slices */
};
void qed_l2cache_get_stats(struct qed_l2cache *cache,
			   struct qed_l2cache_stats *stats);

#endif
