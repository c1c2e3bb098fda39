/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Grace periods.  A request counts itself in under the parity of the current
 * period.  To wait for all that may have seen an old mapping the parity is
 * flipped and the old count awaited, twice: a request may read the parity, be
 * overtaken by a flip, and count itself in late; the second round catches it.
 * Nobody sleeps: while ranges wait, each request that ends looks whether it was
 * the last.
 *
 * Thread model: the counts are atomic; the rest is under `lock`, under which
 * alloc's lock is taken.  One punch is under way at a time; its completion, on
 * an engine's thread, starts the next.
 */
#include "config.h"

#include "reclaim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PHASE_IDLE, PHASE_FIRST, PHASE_SECOND };

static void punch_done(struct qed_io *io, int err);

void qed_reclaim_init(struct qed_reclaim *reclaim, struct qed_alloc *alloc)
{
	memset(reclaim, 0, sizeof(*reclaim));
	pthread_mutex_init(&reclaim->lock, NULL);
	pthread_cond_init(&reclaim->idle, NULL);
	reclaim->alloc = alloc;
}

void qed_reclaim_fini(struct qed_reclaim *reclaim)
{
	qed_free_ranges(reclaim->next);
	qed_free_ranges(reclaim->grace);
	qed_free_ranges(reclaim->punch);
	pthread_cond_destroy(&reclaim->idle);
	pthread_mutex_destroy(&reclaim->lock);
}

unsigned qed_reclaim_enter(struct qed_reclaim *reclaim)
{
	unsigned parity = atomic_load(&reclaim->period) & 1;
	unsigned shard = qed_thread_shard();

	atomic_fetch_add(&reclaim->shards[shard].count[parity], 1);
	return shard * 2 + parity;
}

static bool drained(const struct qed_reclaim *reclaim, unsigned parity)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < QED_SHARDS; i++)
		sum += atomic_load(&reclaim->shards[i].count[parity]);
	return sum == 0;
}

static struct qed_free_range *append(struct qed_free_range *list,
				     struct qed_free_range *more)
{
	struct qed_free_range **tail = &list;

	while (*tail)
		tail = &(*tail)->next;
	*tail = more;
	return list;
}

static void flip_locked(struct qed_reclaim *reclaim)
{
	atomic_fetch_add(&reclaim->period, 1);
}

/* Takes the grace period one step further: true if it moved. */
static bool advance_locked(struct qed_reclaim *reclaim)
{
	unsigned old = (atomic_load(&reclaim->period) + 1) & 1;

	if (reclaim->phase == PHASE_IDLE) {
		if (!reclaim->next)
			return false;
		reclaim->grace = reclaim->next;
		reclaim->next = NULL;
		reclaim->phase = PHASE_FIRST;
		atomic_store(&reclaim->waiting, true);
		flip_locked(reclaim);
		return true;
	}
	if (!drained(reclaim, old))
		return false;
	if (reclaim->phase == PHASE_FIRST) {
		reclaim->phase = PHASE_SECOND;
		flip_locked(reclaim);
		return true;
	}
	reclaim->punch = append(reclaim->punch, reclaim->grace);
	reclaim->grace = NULL;
	reclaim->phase = PHASE_IDLE;
	atomic_store(&reclaim->waiting, false);
	return true;
}

static bool idle_locked(const struct qed_reclaim *reclaim)
{
	return !reclaim->next && !reclaim->grace && !reclaim->punch &&
	       !reclaim->punching;
}

/*
 * Starts a punch; false if none is due.  Until it is over the range is still at
 * the head of the list, in nobody's hands but ours.
 */
static bool next_punch(struct qed_reclaim *reclaim)
{
	struct qed_free_range *range;

	pthread_mutex_lock(&reclaim->lock);
	range = reclaim->punch;
	if (!range || reclaim->punching) {
		if (idle_locked(reclaim))
			pthread_cond_broadcast(&reclaim->idle);
		pthread_mutex_unlock(&reclaim->lock);
		return false;
	}
	reclaim->punching = true;
	pthread_mutex_unlock(&reclaim->lock);
	reclaim->io = (struct qed_io){ .op = QED_OP_PUNCH,
				       .file_off = range->file_off,
				       .len = range->len,
				       .done = punch_done };
	return true;
}

/* The range may be used again; whether it was punched decides how. */
static void end_punch(struct qed_reclaim *reclaim, int err)
{
	struct qed_free_range *range;

	pthread_mutex_lock(&reclaim->lock);
	range = reclaim->punch;
	reclaim->punch = range->next;
	reclaim->punching = false;
	pthread_mutex_unlock(&reclaim->lock);
	range->next = NULL;
	range->zeroed = err == 0;
	qed_alloc_add_free(reclaim->alloc, range);
}

static void run_punches(struct qed_reclaim *reclaim)
{
	struct qed_file *file = reclaim->alloc->layer->source.file;

	while (next_punch(reclaim)) {
		int ret = qed_file_start(file, &reclaim->io);

		if (ret == QED_PENDING)
			return;
		end_punch(reclaim, ret);
	}
}

static void punch_done(struct qed_io *io, int err)
{
	struct qed_reclaim *reclaim =
		(void *)((char *)io - offsetof(struct qed_reclaim, io));

	end_punch(reclaim, err);
	run_punches(reclaim);
}

static void poll(struct qed_reclaim *reclaim)
{
	bool due;

	pthread_mutex_lock(&reclaim->lock);
	while (advance_locked(reclaim))
		;
	due = reclaim->punch && !reclaim->punching;
	pthread_mutex_unlock(&reclaim->lock);
	if (due)
		run_punches(reclaim);
}

void qed_reclaim_leave(struct qed_reclaim *reclaim, unsigned token)
{
	atomic_fetch_sub(&reclaim->shards[token / 2].count[token % 2], 1);
	if (atomic_load(&reclaim->waiting))
		poll(reclaim);
}

/* Two ascending lists become one. */
static struct qed_free_range *merge(struct qed_free_range *a,
				    struct qed_free_range *b)
{
	struct qed_free_range *list = NULL, **tail = &list;

	while (a && b) {
		struct qed_free_range **first =
			a->file_off < b->file_off ? &a : &b;

		*tail = *first;
		tail = &(*tail)->next;
		*first = *tail;
	}
	*tail = a ? a : b;
	return list;
}

/* Merge sort from the bottom up: list k holds 2^k ranges or none. */
static struct qed_free_range *sort(struct qed_free_range *ranges)
{
	struct qed_free_range *lists[32] = { NULL }, *all = NULL;

	while (ranges) {
		struct qed_free_range *one = ranges;
		int k = 0;

		ranges = ranges->next;
		one->next = NULL;
		for (; lists[k]; k++) {
			one = merge(lists[k], one);
			lists[k] = NULL;
		}
		lists[k] = one;
	}
	for (int k = 0; k < 32; k++)
		all = merge(lists[k], all);
	return all;
}

/* Neighbours become one range: fewer punches, longer ones. */
static void join_neighbours(struct qed_free_range *range)
{
	while (range && range->next) {
		struct qed_free_range *next = range->next;

		if (range->file_off + range->len != next->file_off) {
			range = next;
			continue;
		}
		range->len += next->len;
		range->next = next->next;
		free(next);
	}
}

void qed_reclaim_add(struct qed_reclaim *reclaim, struct qed_free_range *ranges)
{
	ranges = sort(ranges);
	join_neighbours(ranges);
	pthread_mutex_lock(&reclaim->lock);
	reclaim->next = append(ranges, reclaim->next);
	pthread_mutex_unlock(&reclaim->lock);
	poll(reclaim);
}

void qed_reclaim_drain(struct qed_reclaim *reclaim)
{
	poll(reclaim);
	pthread_mutex_lock(&reclaim->lock);
	while (!idle_locked(reclaim))
		pthread_cond_wait(&reclaim->idle, &reclaim->lock);
	pthread_mutex_unlock(&reclaim->lock);
}
