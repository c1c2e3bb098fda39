/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a commit goes, step by step.
 *
 * Crash ordering.  At any moment the disk may hold any subset of the writes
 * that no sync has covered.  A commit therefore goes
 *
 *	1. copy what is dirty of table slices (their data has been written), grow the
 *	   file over all mapped clusters;
 *	2. NEED_CHECK not durable: write the header with it, sync;
 *	   else if an entry needs its data to be there first: sync;
 *	3. write the copies, sync.
 *
 * What writes tables because of their age or number, and not because somebody
 * waits for them to be durable, leaves out the last sync: it would write out
 * all data too.  The next flush makes up for it.
 *
 * Entries over fresh clusters without backing data need no sync between data
 * and tables: until both are durable the range reads as zeroes, which is what
 * it was.  The copies are taken before the first sync, so that no entry is
 * written whose data that sync has not covered.  New L2 tables need no sync of
 * their own: fresh clusters read as an empty table, whichever of its slices got
 * written.  A table entry past the end of the file, because the growth was
 * lost, is what the check that NEED_CHECK asks for clears; it must not be one
 * over backing data, which could hide that behind zeroes until then, so there
 * the growth is synced with the data.
 *
 * NEED_CHECK is cleared only when a commit left nothing dirty, after its sync.
 */
#include "config.h"

#include "commit.h"
#include "probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void commit_io_done(struct qed_io *io, int err)
{
	struct qed_meta *meta =
		(void *)((char *)io - offsetof(struct qed_meta, io));

	if (io->op == QED_OP_FLUSH)
		QED_PROBE2(sync_end, meta->file->path, err);
	qed_commit_run(meta, err);
}

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
		copy->len = QED_SLICE_BYTES;
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
 * Ranges whose loss this commit makes durable; if it does not sync, or cannot
 * take all that is dirty and so not tell which, it leaves them to the next.
 */
static void take_freed_locked(struct qed_meta *meta)
{
	if (meta->again || !meta->sync)
		return;
	meta->freeing = meta->freed;
	meta->freed = NULL;
	atomic_store(&meta->nfreed, 0);
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
		meta->step = meta->sync && !qed_commit_durable(meta, meta->covers) ?
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
		qed_commit_run(meta, err);
}

/* Starts the write of the run of copies that begins at `first`: how many. */
static unsigned start_run(struct qed_meta *meta, unsigned first)
{
	struct table_write *write = &meta->writes[first];
	struct iovec *iov = &meta->iovs[first];
	uint64_t off = meta->slices[first].file_off, len = 0;
	unsigned n = 0;
	int ret;

	while (first + n < meta->ncopies &&
	       meta->slices[first + n].file_off == off + len) {
		iov[n].iov_base = meta->slices[first + n].page;
		iov[n].iov_len = meta->slices[first + n].len;
		len += iov[n++].iov_len;
	}
	write->meta = meta;
	write->io = (struct qed_io){ .op = QED_OP_WRITE,
				     .file_off = off,
				     .len = len,
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
 * Everything taken is written, and durable if that was wanted; clears
 * NEED_CHECK if wanted and possible.
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
 * The host was too full for the file to grow over the clusters in use.  No
 * table has been written, so nothing is lost: what was taken is dirty as
 * before, and a later flush may succeed.
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
			qed_l2cache_put_back(meta->cache, copy);
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

void qed_commit_run(struct qed_meta *meta, int err)
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
