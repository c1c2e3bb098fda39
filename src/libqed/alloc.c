/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cluster allocation.  Past the end of a file everything reads as zeroes, so a
 * cluster from there is zeroed and needs no zero fill; so is one that was
 * punched.  Others that come back may hold anything: whoever gets them clears
 * what it does not write.  A reused cluster, zeroed or not, may show its old
 * bytes after a power cut unless its new ones are durable before the entry that
 * names it.
 */
#include "config.h"

#include "alloc.h"
#include "probe.h"

#include <errno.h>
#include <stdlib.h>

int qed_alloc_init(struct qed_alloc *alloc, struct qed_layer *layer)
{
	struct qed_file *file = layer->source.file;
	uint32_t cluster = layer->header.cluster_size;
	uint64_t size;
	int ret = qed_file_size(file, &size);

	if (ret < 0)
		return ret;
	pthread_mutex_init(&alloc->lock, NULL);
	alloc->layer = layer;
	alloc->limit = file->block_device ?
			       qed_round_down(size, cluster) :
			       qed_round_down(INT64_MAX, cluster);
	/* A last cluster that is cut short is not in use, but not fresh. */
	alloc->fresh = qed_round_up(size, cluster);
	alloc->written_end = size;
	alloc->mapped_end = atomic_load(&layer->end);
	alloc->free = alloc->hint = NULL;
	return 0;
}

void qed_free_ranges(struct qed_free_range *ranges)
{
	while (ranges) {
		struct qed_free_range *next = ranges->next;

		free(ranges);
		ranges = next;
	}
}

void qed_alloc_fini(struct qed_alloc *alloc)
{
	qed_free_ranges(alloc->free);
	pthread_mutex_destroy(&alloc->lock);
}

/* From the first free range, if there is one. */
static bool take_free_locked(struct qed_alloc *alloc, uint64_t len,
			     struct qed_clusters *out)
{
	struct qed_free_range *range = alloc->free;
	uint64_t take;

	if (!range)
		return false;
	take = qed_min(len, range->len);
	out->file_off = range->file_off;
	out->n = take / alloc->layer->header.cluster_size;
	out->zeroed = range->zeroed;
	out->reused = true;
	range->file_off += take;
	range->len -= take;
	if (!range->len) {
		alloc->free = range->next;
		if (alloc->hint == range)
			alloc->hint = NULL;
		free(range);
	}
	return true;
}

static int take_end_locked(struct qed_alloc *alloc, uint64_t len,
			   struct qed_clusters *out)
{
	struct qed_layer *layer = alloc->layer;
	uint64_t off = atomic_load(&layer->end), end;

	if (!qed_add(off, len, &end) || end > alloc->limit)
		return -ENOSPC;
	if (qed_file_grows_by_truncate(layer->source.file)) {
		int ret = qed_file_extend(layer->source.file, end);

		if (ret < 0)
			return ret;
		alloc->written_end = qed_max(alloc->written_end, end);
	}
	out->file_off = off;
	out->n = len / layer->header.cluster_size;
	out->zeroed = off >= alloc->fresh;
	out->reused = !out->zeroed;
	alloc->fresh = qed_max(alloc->fresh, end);
	atomic_store_explicit(&layer->end, end, memory_order_release);
	return 0;
}

int qed_alloc_data(struct qed_alloc *alloc, uint64_t want,
		   struct qed_clusters *out)
{
	uint64_t len = want * alloc->layer->header.cluster_size;
	int ret = 0;

	pthread_mutex_lock(&alloc->lock);
	if (!take_free_locked(alloc, len, out))
		ret = take_end_locked(alloc, len, out);
	pthread_mutex_unlock(&alloc->lock);
	if (ret < 0)
		return ret;
	qed_count(alloc->layer->counters, QED_COUNT_ALLOCATIONS, out->n);
	QED_PROBE3(allocate, out->file_off, out->n, out->reused);
	return 0;
}

/* Joins `range` and its successor where they touch and are alike. */
static void merge_next_locked(struct qed_free_range *range)
{
	struct qed_free_range *next = range->next;

	if (!next || range->file_off + range->len != next->file_off ||
	    range->zeroed != next->zeroed)
		return;
	range->len += next->len;
	range->next = next->next;
	free(next);
}

/* Links a range in, by file offset. */
static void add_free_locked(struct qed_alloc *alloc,
			    struct qed_free_range *range)
{
	struct qed_free_range **link = &alloc->free, *prev = NULL;

	/* Ranges come mostly in ascending order: try where the last one went. */
	if (alloc->hint && alloc->hint->file_off < range->file_off) {
		prev = alloc->hint;
		link = &prev->next;
	}
	while (*link && (*link)->file_off < range->file_off) {
		prev = *link;
		link = &prev->next;
	}
	range->next = *link;
	*link = range;
	merge_next_locked(range);
	alloc->hint = range;
	if (prev && prev->file_off + prev->len == range->file_off &&
	    prev->zeroed == range->zeroed) {
		merge_next_locked(prev);
		alloc->hint = prev;
	}
}

static void add_used_locked(struct qed_alloc *alloc, uint64_t file_off,
			    uint64_t len)
{
	struct qed_free_range *range = malloc(sizeof(*range));

	if (!range)
		return;	/* leaked: harmless, a check finds it */
	*range = (struct qed_free_range){ .file_off = file_off, .len = len };
	add_free_locked(alloc, range);
}

/* Leaves what was written before, if only for a failed write, to data. */
static void skip_used_locked(struct qed_alloc *alloc)
{
	uint64_t end = atomic_load(&alloc->layer->end);

	if (end >= alloc->fresh || alloc->fresh > alloc->limit)
		return;
	add_used_locked(alloc, end, alloc->fresh - end);
	atomic_store_explicit(&alloc->layer->end, alloc->fresh,
			      memory_order_release);
}

int qed_alloc_table(struct qed_alloc *alloc, struct qed_clusters *out)
{
	int ret;

	pthread_mutex_lock(&alloc->lock);
	skip_used_locked(alloc);
	ret = take_end_locked(alloc, alloc->layer->header.table_bytes, out);
	pthread_mutex_unlock(&alloc->lock);
	return ret;
}

/* Free clusters at the very end are the end's again. */
static void trim_end_locked(struct qed_alloc *alloc)
{
	struct qed_free_range *last = alloc->hint;
	uint64_t end = atomic_load(&alloc->layer->end);
	struct qed_free_range **link = &alloc->free;

	if (!last || last->next || last->file_off + last->len != end)
		return;
	while (*link != last)
		link = &(*link)->next;
	*link = NULL;
	alloc->hint = NULL;
	atomic_store_explicit(&alloc->layer->end, last->file_off,
			      memory_order_release);
	alloc->mapped_end = qed_min(alloc->mapped_end, last->file_off);
	free(last);
}

void qed_alloc_release(struct qed_alloc *alloc, uint64_t file_off, uint64_t n)
{
	pthread_mutex_lock(&alloc->lock);
	add_used_locked(alloc, file_off,
			n * alloc->layer->header.cluster_size);
	trim_end_locked(alloc);
	pthread_mutex_unlock(&alloc->lock);
}

void qed_alloc_add_free(struct qed_alloc *alloc, struct qed_free_range *range)
{
	pthread_mutex_lock(&alloc->lock);
	add_free_locked(alloc, range);
	trim_end_locked(alloc);
	pthread_mutex_unlock(&alloc->lock);
}

void qed_alloc_note_written(struct qed_alloc *alloc, uint64_t file_end)
{
	pthread_mutex_lock(&alloc->lock);
	alloc->written_end = qed_max(alloc->written_end, file_end);
	pthread_mutex_unlock(&alloc->lock);
}

void qed_alloc_note_mapped(struct qed_alloc *alloc, uint64_t file_end)
{
	pthread_mutex_lock(&alloc->lock);
	alloc->mapped_end = qed_max(alloc->mapped_end, file_end);
	pthread_mutex_unlock(&alloc->lock);
}

uint64_t qed_alloc_grow_target(struct qed_alloc *alloc)
{
	uint64_t target;

	pthread_mutex_lock(&alloc->lock);
	target = alloc->mapped_end > alloc->written_end ? alloc->mapped_end : 0;
	pthread_mutex_unlock(&alloc->lock);
	return target;
}
