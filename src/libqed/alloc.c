/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cluster allocation.  Past the end of a file everything reads as zeroes, so a
 * cluster from there is `fresh` and needs no zero fill.  Clusters that were
 * given back may hold anything: whoever gets them clears what it does not write.
 */
#include "config.h"

#include "alloc.h"

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
	alloc->free = NULL;
	return 0;
}

void qed_alloc_fini(struct qed_alloc *alloc)
{
	while (alloc->free) {
		struct qed_free_range *range = alloc->free;

		alloc->free = range->next;
		free(range);
	}
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
	out->fresh = false;
	range->file_off += take;
	range->len -= take;
	if (!range->len) {
		alloc->free = range->next;
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
	out->fresh = off >= alloc->fresh;
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
	return ret;
}

/* Links [file_off, +len) in, merged with its neighbours where they touch. */
static void add_free_locked(struct qed_alloc *alloc, uint64_t file_off,
			    uint64_t len)
{
	struct qed_free_range **link = &alloc->free, *range, *next;

	while (*link && (*link)->file_off + (*link)->len < file_off)
		link = &(*link)->next;
	range = *link;
	if (range && range->file_off + range->len == file_off) {
		range->len += len;
	} else if (range && file_off + len == range->file_off) {
		range->file_off = file_off;
		range->len += len;
		return;
	} else {
		range = malloc(sizeof(*range));
		if (!range)
			return;	/* leaked: harmless, a check finds it */
		range->file_off = file_off;
		range->len = len;
		range->next = *link;
		*link = range;
	}
	next = range->next;
	if (next && range->file_off + range->len == next->file_off) {
		range->len += next->len;
		range->next = next->next;
		free(next);
	}
}

/* Leaves what was written before, if only for a failed write, to data. */
static void skip_used_locked(struct qed_alloc *alloc)
{
	uint64_t end = atomic_load(&alloc->layer->end);

	if (end >= alloc->fresh || alloc->fresh > alloc->limit)
		return;
	add_free_locked(alloc, end, alloc->fresh - end);
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
	struct qed_free_range **link = &alloc->free;
	uint64_t end = atomic_load(&alloc->layer->end);

	while (*link && (*link)->next)
		link = &(*link)->next;
	if (!*link || (*link)->file_off + (*link)->len != end)
		return;
	atomic_store_explicit(&alloc->layer->end, (*link)->file_off,
			      memory_order_release);
	free(*link);
	*link = NULL;
}

void qed_alloc_release(struct qed_alloc *alloc, uint64_t file_off, uint64_t n)
{
	pthread_mutex_lock(&alloc->lock);
	add_free_locked(alloc, file_off,
			n * alloc->layer->header.cluster_size);
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
