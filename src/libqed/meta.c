/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The metadata writer: what is dirty, who waits, when a commit is due. */
#include "config.h"

#include "commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRTY_MIN  16u			/* slices */
#define DIRTY_MAX  3072u
#define SLACK      1024u		/* slices dirtied past the limit at once */
#define FREED_MAX  65536u		/* ranges that wait for a commit */

static uint64_t l1_slices(const struct qed_layer *layer)
{
	return layer->l1_loaded / QED_SLICE_ENTRIES;
}

int qed_meta_create(struct qed_layer *layer, struct qed_alloc *alloc,
		    struct qed_reclaim *reclaim, struct qed_meta **out)
{
	struct qed_meta *meta = calloc(1, sizeof(*meta));
	struct qed_l2cache_stats stats;
	uint64_t copies;

	*out = NULL;
	if (!meta)
		return -ENOMEM;
	pthread_mutex_init(&meta->lock, NULL);
	meta->layer = layer;
	meta->file = layer->source.file;
	meta->alloc = alloc;
	meta->reclaim = reclaim;
	meta->cache = layer->cache;
	qed_l2cache_get_stats(layer->cache, &stats);
	meta->dirty_limit = (unsigned)qed_min(
		DIRTY_MAX, qed_max(DIRTY_MIN, stats.budget / 2));
	meta->dirty_many = meta->dirty_limit / 4 * 3;
	meta->max_slices = meta->dirty_limit + SLACK;
	copies = meta->max_slices + l1_slices(layer);
	/* Touched only as far as a commit needs it. */
	meta->slices = calloc(copies, sizeof(*meta->slices));
	meta->pages = calloc(copies, QED_SLICE_BYTES);
	meta->iovs = calloc(copies, sizeof(*meta->iovs));
	meta->writes = calloc(copies, sizeof(*meta->writes));
	meta->l1_dirty = calloc(1, l1_slices(layer) + 1);
	qed_waitlist_init(&meta->waiting);
	qed_waitlist_init(&meta->admission);
	qed_waitlist_init(&meta->serving);
	if (!meta->slices || !meta->pages || !meta->iovs || !meta->writes ||
	    !meta->l1_dirty) {
		qed_meta_destroy(meta);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < copies; i++)
		meta->slices[i].page = meta->pages + i * QED_SLICE_ENTRIES;
	atomic_init(&meta->autoclear, layer->header.autoclear_features != 0);
	meta->need_check_on_disk =
		layer->header.features & QED_FEATURE_NEED_CHECK;
	*out = meta;
	return 0;
}

void qed_meta_destroy(struct qed_meta *meta)
{
	if (!meta)
		return;
	qed_free_ranges(meta->freed);
	qed_free_ranges(meta->freeing);
	free(meta->slices);
	free(meta->pages);
	free(meta->iovs);
	free(meta->writes);
	free(meta->l1_dirty);
	pthread_mutex_destroy(&meta->lock);
	free(meta);
}

bool qed_meta_failed(const struct qed_meta *meta)
{
	return atomic_load_explicit(&meta->failed, memory_order_acquire);
}

void qed_meta_note_data(struct qed_meta *meta)
{
	atomic_fetch_add_explicit(&meta->written, 1, memory_order_release);
}

void qed_meta_map(struct qed_meta *meta, struct qed_slice *slice,
		  unsigned index, unsigned n, uint64_t file_off, bool barrier)
{
	uint32_t cluster = meta->layer->header.cluster_size;

	pthread_mutex_lock(&meta->lock);
	meta->barrier |= barrier;
	qed_alloc_note_mapped(meta->alloc, file_off + (uint64_t)n * cluster);
	qed_l2cache_set(meta->cache, slice, index, n, file_off, cluster);
	pthread_mutex_unlock(&meta->lock);
}

void qed_meta_unmap(struct qed_meta *meta, struct qed_slice *slice,
		    unsigned index, unsigned n, uint64_t entry,
		    struct qed_free_range *freed)
{
	pthread_mutex_lock(&meta->lock);
	qed_l2cache_set(meta->cache, slice, index, n, entry, 0);
	while (freed) {
		struct qed_free_range *next = freed->next;

		freed->next = meta->freed;
		meta->freed = freed;
		atomic_fetch_add(&meta->nfreed, 1);
		freed = next;
	}
	pthread_mutex_unlock(&meta->lock);
}

int qed_meta_map_table(struct qed_meta *meta, uint64_t l1_index,
		       uint64_t file_off)
{
	uint64_t slice = l1_index / QED_SLICE_ENTRIES;
	int ret;

	pthread_mutex_lock(&meta->lock);
	ret = qed_layer_add_table(meta->layer, l1_index, file_off);
	if (ret == 0) {
		qed_alloc_note_mapped(meta->alloc,
				      file_off +
					      meta->layer->header.table_bytes);
		meta->l1_ndirty += !meta->l1_dirty[slice];
		meta->l1_dirty[slice] = 1;
	}
	pthread_mutex_unlock(&meta->lock);
	return ret;
}

/* Is there nothing to do for a commit of this kind? */
static bool idle_locked(const struct qed_meta *meta, enum qed_commit how)
{
	if (meta->running || meta->l1_ndirty || qed_l2cache_dirty(meta->cache))
		return false;
	if (how == QED_COMMIT_WRITE)
		return true;
	if (how == QED_COMMIT_CLEAN && meta->need_check_on_disk)
		return false;
	return qed_commit_durable(meta, atomic_load_explicit(&meta->written,
						      memory_order_acquire));
}

int qed_meta_commit(struct qed_meta *meta, enum qed_commit how,
		    struct qed_waiter *waiter)
{
	bool start;

	if (qed_meta_failed(meta))
		return -EIO;
	pthread_mutex_lock(&meta->lock);
	if (idle_locked(meta, how)) {
		pthread_mutex_unlock(&meta->lock);
		return 0;
	}
	qed_waitlist_add(&meta->waiting, waiter);
	meta->want_sync |= how != QED_COMMIT_WRITE;
	meta->want_clean |= how == QED_COMMIT_CLEAN;
	start = !meta->running;
	meta->running = true;
	pthread_mutex_unlock(&meta->lock);
	if (start)
		qed_commit_run(meta, 0);
	return QED_PENDING;
}

/* Starts a commit, which ends by itself, unless one runs. */
static void commit_in_background(struct qed_meta *meta)
{
	bool start;

	pthread_mutex_lock(&meta->lock);
	start = !meta->running;
	meta->running = true;
	pthread_mutex_unlock(&meta->lock);
	if (start)
		qed_commit_run(meta, 0);
}

/* Waits for the end of a commit that writes the header, or that syncs. */
static int await_commit(struct qed_meta *meta, bool header, bool sync,
			struct qed_waiter *waiter)
{
	bool start;

	pthread_mutex_lock(&meta->lock);
	qed_waitlist_add(&meta->admission, waiter);
	meta->want_header |= header;
	meta->want_sync |= sync;
	start = !meta->running;
	meta->running = true;
	pthread_mutex_unlock(&meta->lock);
	if (start)
		qed_commit_run(meta, 0);
	return QED_PENDING;
}

bool qed_meta_admits_data(const struct qed_meta *meta)
{
	return !atomic_load_explicit(&meta->autoclear, memory_order_acquire) &&
	       !qed_meta_failed(meta);
}

int qed_meta_admit_data(struct qed_meta *meta, struct qed_waiter *waiter)
{
	if (qed_meta_admits_data(meta))
		return 0;
	if (qed_meta_failed(meta))
		return -EIO;
	return await_commit(meta, true, false, waiter);
}

int qed_meta_admit_map(struct qed_meta *meta, struct qed_waiter *waiter)
{
	unsigned dirty = qed_l2cache_dirty(meta->cache);
	bool freed_many = atomic_load_explicit(&meta->nfreed,
					       memory_order_relaxed) >=
			  FREED_MAX;

	if (qed_meta_failed(meta))
		return -EIO;
	if (freed_many || dirty >= meta->dirty_limit)
		return await_commit(meta, false, freed_many, waiter);
	if (dirty >= meta->dirty_many)
		commit_in_background(meta);
	return 0;
}

/* A blocking caller. */
struct wait {
	struct qed_waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;	/* under lock */
	int err;	/* under lock */
};

static void wait_woken(struct qed_waiter *waiter, int err)
{
	struct wait *wait = (struct wait *)waiter;

	pthread_mutex_lock(&wait->lock);
	wait->over = true;
	wait->err = err;
	pthread_cond_signal(&wait->cond);
	pthread_mutex_unlock(&wait->lock);
}

static int commit_wait(struct qed_meta *meta, enum qed_commit how)
{
	struct wait wait = { .waiter = { .wake = wait_woken } };
	int ret;

	pthread_mutex_init(&wait.lock, NULL);
	pthread_cond_init(&wait.cond, NULL);
	ret = qed_meta_commit(meta, how, &wait.waiter);
	if (ret == QED_PENDING) {
		pthread_mutex_lock(&wait.lock);
		while (!wait.over)
			pthread_cond_wait(&wait.cond, &wait.lock);
		ret = wait.err;
		pthread_mutex_unlock(&wait.lock);
	}
	pthread_cond_destroy(&wait.cond);
	pthread_mutex_destroy(&wait.lock);
	return ret;
}

int qed_meta_clean(struct qed_meta *meta)
{
	return commit_wait(meta, QED_COMMIT_CLEAN);
}

void qed_meta_tick(struct qed_meta *meta)
{
	bool dirty, quiet;
	uint64_t written;

	pthread_mutex_lock(&meta->lock);
	written = atomic_load(&meta->written);
	quiet = written == meta->last_tick;
	meta->last_tick = written;
	dirty = meta->l1_ndirty || qed_l2cache_dirty(meta->cache);
	pthread_mutex_unlock(&meta->lock);
	/* A failure is logged, and remembered for the next flush. */
	if (quiet)
		commit_wait(meta, QED_COMMIT_CLEAN);
	else if (atomic_load(&meta->nfreed))
		commit_wait(meta, QED_COMMIT_SYNC);	/* to use them again */
	else if (dirty)
		commit_wait(meta, QED_COMMIT_WRITE);
}

void qed_meta_get_header(struct qed_meta *meta, struct qed_header *header)
{
	pthread_mutex_lock(&meta->lock);
	*header = meta->layer->header;
	pthread_mutex_unlock(&meta->lock);
}

void qed_meta_get_stats(struct qed_meta *meta, struct qed_meta_stats *stats)
{
	stats->commits = atomic_load(&meta->commits);
	stats->syncs = atomic_load(&meta->syncs);
}
