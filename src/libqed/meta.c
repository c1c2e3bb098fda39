/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The metadata writer.
 *
 * Crash ordering.  At any moment the disk may hold any subset of the writes that
 * no sync has covered.  A commit therefore goes
 *
 *	1. copy the dirty table slices (their data has been written), grow the
 *	   file over all mapped clusters;
 *	2. NEED_CHECK not durable: write the header with it, sync;
 *	   else if an entry needs its data to be there first: sync;
 *	3. write the copies, sync.
 *
 * What writes tables because of their age or number, and not because somebody
 * waits for them to be durable, leaves out the last sync: it would write out all
 * data too.  The next flush makes up for it.
 *
 * Entries over fresh clusters without backing data need no sync between data and
 * tables: until both are durable the range reads as zeroes, which is what it was.
 * The copies are taken before the first sync, so that no entry is written whose
 * data that sync has not covered.  New L2 tables need no sync of their own:
 * fresh clusters read as an empty table, whichever of its slices got written.
 * A table entry past the end of the file, because the growth was lost, is what
 * the check that NEED_CHECK asks for clears; it must not be one over backing data,
 * which could hide that behind zeroes until then, so there the growth is synced
 * with the data.
 *
 * NEED_CHECK is cleared only when a commit left nothing dirty, after its sync.
 *
 * Thread model: `lock` guards the fields up to the mark; the cache's lock and
 * alloc's are taken under it.  The fields after the mark belong to the commit
 * that runs, which is one at a time and moves from thread to thread with its
 * I/O.  No waiter is woken under the lock.
 */
#include "config.h"

#include "meta.h"
#include "probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRTY_MIN  16u			/* slices */
#define DIRTY_MAX  3072u
#define SLACK      1024u		/* slices dirtied past the limit at once */
#define FREED_MAX  65536u		/* ranges that wait for a commit */

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

static void commit_run(struct qed_meta *meta, int err);

static void commit_io_done(struct qed_io *io, int err)
{
	struct qed_meta *meta =
		(void *)((char *)io - offsetof(struct qed_meta, io));

	if (io->op == QED_OP_FLUSH)
		QED_PROBE2(sync_end, meta->file->path, err);
	commit_run(meta, err);
}

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

/* --- the commit, step by step ------------------------------------------- */

static int start_sync(struct qed_meta *meta)
{
	atomic_fetch_add(&meta->syncs, 1);
	QED_PROBE1(sync_start, meta->file->path);
	meta->io = (struct qed_io){ .op = QED_OP_FLUSH,
				    .done = commit_io_done };
	return qed_file_start(meta->file, &meta->io);
}

/* Writes the header as it is to be on disk from now on. */
static int start_header(struct qed_meta *meta, bool need_check)
{
	struct qed_header *header = &meta->layer->header;

	pthread_mutex_lock(&meta->lock);
	header->features &= ~QED_FEATURE_NEED_CHECK;
	if (need_check)
		header->features |= QED_FEATURE_NEED_CHECK;
	header->autoclear_features = 0;
	qed_header_encode(header, meta->header_buf);
	pthread_mutex_unlock(&meta->lock);
	meta->header_iov.iov_base = meta->header_buf;
	meta->header_iov.iov_len = sizeof(meta->header_buf);
	meta->io = (struct qed_io){ .op = QED_OP_WRITE,
				    .len = sizeof(meta->header_buf),
				    .iov = &meta->header_iov,
				    .iovcnt = 1,
				    .done = commit_io_done };
	return qed_file_start(meta->file, &meta->io);
}

static void copy_l1_locked(struct qed_meta *meta)
{
	struct qed_layer *layer = meta->layer;

	for (uint64_t s = 0; meta->l1_ndirty; s++) {
		struct qed_dirty_slice *copy;

		if (!meta->l1_dirty[s])
			continue;
		copy = &meta->slices[meta->ncopies++];
		copy->slice = NULL;
		copy->file_off = layer->header.l1_table_offset +
				 s * QED_SLICE_BYTES;
		for (unsigned i = 0; i < QED_SLICE_ENTRIES; i++)
			copy->page[i] = qed_le64_put(atomic_load(
				&layer->l1[s * QED_SLICE_ENTRIES + i]));
		meta->l1_dirty[s] = 0;
		meta->l1_ndirty--;
	}
}

static int by_file_off(const void *a, const void *b)
{
	const struct qed_dirty_slice *x = a, *y = b;

	return x->file_off < y->file_off ? -1 : x->file_off > y->file_off;
}

/*
 * Ranges whose loss this commit makes durable; if it does not sync, or cannot take
 * all that is dirty and so not tell which, it leaves them to the next.
 */
static void take_freed_locked(struct qed_meta *meta)
{
	if (meta->again || !meta->sync)
		return;
	meta->freeing = meta->freed;
	meta->freed = NULL;
	atomic_store(&meta->nfreed, 0);
}

/* Of `written` data writes and the tables that were written. */
static bool all_durable(const struct qed_meta *meta, uint64_t written)
{
	return written == meta->synced && !meta->tables_unsynced;
}

/* Step 1: takes what is dirty, decides what has to be done. */
static int commit_begin(struct qed_meta *meta)
{
	bool goes_on = meta->again;

	pthread_mutex_lock(&meta->lock);
	if (!goes_on)
		qed_waitlist_move(&meta->serving, &meta->waiting);
	meta->sync |= meta->want_sync;
	meta->clean |= meta->want_clean;
	meta->header = meta->want_header;
	meta->want_sync = meta->want_clean = meta->want_header = false;
	meta->covered = false;
	meta->covers =
		atomic_load_explicit(&meta->written, memory_order_acquire);
	meta->nslices = qed_l2cache_collect(meta->cache, meta->slices,
					    meta->max_slices);
	meta->again = meta->nslices == meta->max_slices;
	take_freed_locked(meta);
	meta->ncopies = meta->nslices;
	copy_l1_locked(meta);
	meta->pre_sync = meta->barrier_taken = meta->barrier;
	meta->barrier = meta->again && meta->barrier;
	if (meta->ncopies)
		atomic_fetch_add(&meta->commits, 1);
	if (meta->ncopies || meta->header)
		meta->step = STEP_NEED_CHECK;
	else
		meta->step = meta->sync && !all_durable(meta, meta->covers) ?
				     STEP_SYNC :
				     STEP_CLEAN;
	pthread_mutex_unlock(&meta->lock);
	if (!goes_on)
		QED_PROBE2(commit_start, meta->file->path, meta->ncopies);
	return 0;
}

static int commit_need_check(struct qed_meta *meta)
{
	bool first = meta->ncopies && !meta->need_check_on_disk;

	meta->step = STEP_GROW;
	if (!first && !meta->header)
		return 0;
	meta->pre_sync = true;
	return start_header(meta, first || meta->need_check_on_disk);
}

static int commit_grow(struct qed_meta *meta)
{
	uint64_t target =
		meta->ncopies ? qed_alloc_grow_target(meta->alloc) : 0;

	meta->step = STEP_PRE_SYNC;
	meta->grown = target;
	if (!target)
		return 0;
	meta->io = (struct qed_io){ .op = QED_OP_GROW,
				    .file_off = target - 1,
				    .len = 1,
				    .done = commit_io_done };
	return qed_file_start(meta->file, &meta->io);
}

static int commit_pre_sync(struct qed_meta *meta)
{
	meta->step = STEP_TABLES;
	meta->covered = meta->pre_sync;
	qed_alloc_note_written(meta->alloc, meta->grown);
	return meta->pre_sync ? start_sync(meta) : 0;
}

/* What the header had to say before the tables is durable. */
static void commit_synced_header(struct qed_meta *meta)
{
	atomic_store(&meta->autoclear, false);
	meta->need_check_on_disk |= meta->ncopies > 0;
	qsort(meta->slices, meta->nslices, sizeof(*meta->slices), by_file_off);
}

/* Ends one of the table writes: 0 or -errno once all are over. */
static int table_write_end(struct qed_meta *meta, int err)
{
	int none = 0;

	if (err)
		atomic_compare_exchange_strong(&meta->write_err, &none, err);
	if (atomic_fetch_sub(&meta->pending, 1) != 1)
		return QED_PENDING;
	return atomic_load(&meta->write_err);
}

static void table_write_done(struct qed_io *io, int err)
{
	struct qed_meta *meta = ((struct table_write *)io)->meta;

	err = table_write_end(meta, err);
	if (err != QED_PENDING)
		commit_run(meta, err);
}

/* Starts the write of the run of copies that begins at `first`: how many. */
static unsigned start_run(struct qed_meta *meta, unsigned first)
{
	struct table_write *write = &meta->writes[first];
	struct iovec *iov = &meta->iovs[first];
	uint64_t off = meta->slices[first].file_off;
	unsigned n = 0;
	int ret;

	while (first + n < meta->ncopies &&
	       meta->slices[first + n].file_off ==
		       off + (uint64_t)n * QED_SLICE_BYTES) {
		iov[n].iov_base = meta->slices[first + n].page;
		iov[n].iov_len = QED_SLICE_BYTES;
		n++;
	}
	write->meta = meta;
	write->io = (struct qed_io){ .op = QED_OP_WRITE,
				     .file_off = off,
				     .len = (uint64_t)n * QED_SLICE_BYTES,
				     .iov = iov,
				     .iovcnt = (int)n,
				     .done = table_write_done };
	atomic_fetch_add(&meta->pending, 1);
	ret = qed_file_start(meta->file, &write->io);
	if (ret != QED_PENDING)
		table_write_end(meta, ret);
	return n;
}

/* Writes the copies, all runs of neighbours side by side. */
static int commit_tables(struct qed_meta *meta)
{
	unsigned next = 0, n = meta->ncopies;

	commit_synced_header(meta);
	if (!n) {
		meta->step = STEP_CLEAN;	/* it was for the header only */
		return 0;
	}
	meta->step = STEP_SYNC;
	atomic_store(&meta->pending, 1);
	atomic_store(&meta->write_err, 0);
	while (next < n)
		next += start_run(meta, next);
	return table_write_end(meta, 0);
}

static int commit_sync(struct qed_meta *meta)
{
	/* From here on a reload would read what was written. */
	for (unsigned i = 0; i < meta->nslices; i++)
		qed_l2cache_put(meta->cache, meta->slices[i].slice);
	meta->nslices = meta->ncopies = 0;
	meta->step = STEP_CLEAN;
	meta->covered = meta->sync;
	meta->tables_unsynced = !meta->sync;
	return meta->sync ? start_sync(meta) : 0;
}

/*
 * Everything taken is written, and durable if that was wanted; clears NEED_CHECK
 * if wanted and possible.
 */
static int commit_clean(struct qed_meta *meta)
{
	struct qed_free_range *freeing = meta->freeing;
	bool dirty;

	meta->freeing = NULL;
	if (freeing)
		qed_reclaim_add(meta->reclaim, freeing);
	pthread_mutex_lock(&meta->lock);
	if (meta->covered) {
		meta->synced = qed_max(meta->synced, meta->covers);
		meta->tables_unsynced = false;
	}
	dirty = meta->l1_ndirty || qed_l2cache_dirty(meta->cache);
	pthread_mutex_unlock(&meta->lock);
	if (meta->again) {
		meta->step = STEP_BEGIN;
		return 0;
	}
	if (!meta->clean || dirty || !meta->need_check_on_disk) {
		meta->step = STEP_END;
		return 0;
	}
	meta->step = STEP_CLEAN_SYNC;
	return start_header(meta, false);
}

static int commit_clean_sync(struct qed_meta *meta)
{
	meta->need_check_on_disk = false;
	meta->step = STEP_END;
	return start_sync(meta);
}

static int commit_step(struct qed_meta *meta)
{
	switch (meta->step) {
	case STEP_BEGIN:
		return commit_begin(meta);
	case STEP_NEED_CHECK:
		return commit_need_check(meta);
	case STEP_GROW:
		return commit_grow(meta);
	case STEP_PRE_SYNC:
		return commit_pre_sync(meta);
	case STEP_TABLES:
		return commit_tables(meta);
	case STEP_SYNC:
		return commit_sync(meta);
	case STEP_CLEAN:
		return commit_clean(meta);
	case STEP_CLEAN_SYNC:
		return commit_clean_sync(meta);
	case STEP_END:
		break;
	}
	return 0;
}

/*
 * What was taken is lost to the disk and nobody can say what is on it.  The
 * slices stay pinned, so that reads still see what was written.
 */
static void commit_failed(struct qed_meta *meta, int err)
{
	atomic_store_explicit(&meta->failed, true, memory_order_release);
	qed_log_write(&meta->layer->log, QED_LOG_ERROR,
		      "%s: a flush failed (%s): the image takes no more writes; "
		      "it is checked when it is next opened for writing",
		      meta->file->path, strerror(-err));
}

/*
 * The host was too full for the file to grow over the clusters in use.  No table
 * has been written, so nothing is lost: what was taken is dirty as before, and a
 * later flush may succeed.
 */
static void commit_put_back(struct qed_meta *meta)
{
	uint64_t base = meta->layer->header.l1_table_offset;
	struct qed_free_range **tail = &meta->freeing;

	pthread_mutex_lock(&meta->lock);
	for (unsigned i = 0; i < meta->ncopies; i++) {
		struct qed_dirty_slice *copy = &meta->slices[i];
		uint64_t s = (copy->file_off - base) / QED_SLICE_BYTES;

		if (copy->slice) {
			qed_l2cache_put_back(meta->cache, copy->slice);
			continue;
		}
		meta->l1_ndirty += !meta->l1_dirty[s];
		meta->l1_dirty[s] = 1;
	}
	while (*tail)
		tail = &(*tail)->next;
	*tail = meta->freed;
	meta->freed = meta->freeing;
	meta->freeing = NULL;
	meta->barrier |= meta->barrier_taken;
	pthread_mutex_unlock(&meta->lock);
}

static bool no_space_to_grow(const struct qed_meta *meta, int err)
{
	return meta->step == STEP_PRE_SYNC && (err == -ENOSPC || err == -EDQUOT);
}

/* Ends a commit: true if another is due. */
static bool commit_end(struct qed_meta *meta, int err)
{
	struct qed_waitlist served, admitted;
	bool more;

	qed_waitlist_init(&served);
	qed_waitlist_init(&admitted);
	QED_PROBE2(commit_end, meta->file->path, err);
	if (no_space_to_grow(meta, err))
		commit_put_back(meta);
	else if (err)
		commit_failed(meta, err);
	pthread_mutex_lock(&meta->lock);
	qed_waitlist_move(&served, &meta->serving);
	qed_waitlist_move(&admitted, &meta->admission);
	if (err) {
		qed_waitlist_move(&served, &meta->waiting);
		meta->want_sync = meta->want_clean = meta->want_header = false;
	}
	more = meta->waiting.head || meta->want_header || meta->want_sync;
	meta->running = more;
	meta->step = STEP_BEGIN;
	meta->again = meta->sync = meta->clean = false;
	pthread_mutex_unlock(&meta->lock);
	qed_waitlist_wake(&served, err);
	qed_waitlist_wake(&admitted, err);
	return more;
}

/* Goes on with the commit until it waits for I/O or none is due. */
static void commit_run(struct qed_meta *meta, int err)
{
	for (;;) {
		while (!err && meta->step != STEP_END)
			err = commit_step(meta);
		if (err == QED_PENDING)
			return;
		if (!commit_end(meta, err))
			return;
		err = 0;
	}
}

/* --- what callers see ---------------------------------------------------- */

/* Is there nothing to do for a commit of this kind? */
static bool idle_locked(const struct qed_meta *meta, enum qed_commit how)
{
	if (meta->running || meta->l1_ndirty || qed_l2cache_dirty(meta->cache))
		return false;
	if (how == QED_COMMIT_WRITE)
		return true;
	if (how == QED_COMMIT_CLEAN && meta->need_check_on_disk)
		return false;
	return all_durable(meta, atomic_load_explicit(&meta->written,
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
		commit_run(meta, 0);
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
		commit_run(meta, 0);
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
		commit_run(meta, 0);
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
