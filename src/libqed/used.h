/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which clusters of a file are in use: one bit each.  Only the pages of the map
 * that hold a set bit take up memory, and no more of them than a limit, so that
 * a small hostile file which claims to be huge cannot fill the host's memory.
 * One thread at a time.
 */
#ifndef QED_USED_H
#define QED_USED_H

#include "util.h"

#include <errno.h>

struct qed_used {
	uint64_t *words;		/* mapped, not yet all there */
	size_t mapped;			/* bytes */
	uint8_t *pages;			/* bit per page of words: has a set bit */
	uint64_t npages;		/* that have one */
	uint64_t max_pages;
	uint64_t last_page;		/* the one marked last */
	uint64_t n;			/* clusters */
	uint64_t count;			/* of those in use */
};

/* A map of `n` clusters, none in use: 0, -EFBIG if that is too many, -ENOMEM. */
int qed_used_init(struct qed_used *used, uint64_t n);
void qed_used_fini(struct qed_used *used);

/*
 * No more than about `nclusters` are going to be in use: much less memory will
 * do than the 256 MiB at most that there are without this.
 */
void qed_used_limit(struct qed_used *used, uint64_t nclusters);

/* The slow part of qed_used_mark(): 0 or -EFBIG past the limit. */
int qed_used_touch(struct qed_used *used, uint64_t page);

#define QED_USED_PAGE_BITS 15u		/* a page of 4 KiB */

static inline bool qed_used_test(const struct qed_used *used, uint64_t cluster)
{
	return used->words[cluster / 64] >> cluster % 64 & 1;
}

/* Marks a cluster below n: 1 if it was in use already, 0, or -EFBIG. */
static inline int qed_used_mark(struct qed_used *used, uint64_t cluster)
{
	uint64_t page = cluster >> QED_USED_PAGE_BITS;

	if (qed_used_test(used, cluster))
		return 1;
	if (page != used->last_page && qed_used_touch(used, page) < 0)
		return -EFBIG;
	used->words[cluster / 64] |= UINT64_C(1) << cluster % 64;
	used->count++;
	return 0;
}

/*
 * Marks the `n` clusters from `first` on, all below n, up to the first that was
 * in use already: how many, or -EFBIG.
 */
int64_t qed_used_mark_run(struct qed_used *used, uint64_t first, uint64_t n);

/* No longer in use, which it is. */
static inline void qed_used_clear(struct qed_used *used, uint64_t cluster)
{
	used->words[cluster / 64] &= ~(UINT64_C(1) << cluster % 64);
	used->count--;
}

/* The first cluster from `from` on that is in use, or is not; n if none. */
uint64_t qed_used_next(const struct qed_used *used, uint64_t from, bool in_use);

/* One more than the last cluster in use; 0 if none is. */
uint64_t qed_used_end(const struct qed_used *used);

/* How many of the clusters [from, to) are in use. */
uint64_t qed_used_count(const struct qed_used *used, uint64_t from, uint64_t to);

/* The first place from `from` on where `n` clusters are free together; used->n if
 * there is none. */
uint64_t qed_used_find_run(const struct qed_used *used, uint64_t from,
			   uint64_t n);

/*
 * The last place from which on `n` clusters before `high` are free; `low` if
 * not so many are behind it.
 */
uint64_t qed_used_room(const struct qed_used *used, uint64_t low, uint64_t high,
		       uint64_t n);

#endif
