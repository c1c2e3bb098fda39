/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking mappings away.  The steps are a write's: admission, the table, its
 * slice, a claim on the clusters; then entries are set instead of data written.
 */
#include "config.h"

#include "request.h"
#include "table.h"
#include "unmap.h"

#include <errno.h>
#include <stdlib.h>

/* Clusters from disk_off on that are alike in hiding backing data or not. */
static uint64_t alike(const struct qed_image *image, uint64_t disk_off,
		      uint64_t n)
{
	const struct qed_header *h = &image->top->header;
	uint64_t hidden;

	if (image->zero_entries || !qed_has_backing(image, disk_off))
		return n;
	hidden = image->chain.layers[1]->size - disk_off;
	return qed_min(n, ((hidden - 1) >> h->cluster_bits) + 1);
}

/* Adds a freed cluster to the list, most often to its first range. */
static int note_freed(struct qed_free_range **freed, uint64_t file_off,
		      uint32_t cluster)
{
	struct qed_free_range *range = *freed;

	if (range && range->file_off + range->len == file_off) {
		range->len += cluster;
		return 0;
	}
	range = malloc(sizeof(*range));
	if (!range)
		return -ENOMEM;
	*range = (struct qed_free_range){ .file_off = file_off,
					  .len = cluster,
					  .next = *freed };
	*freed = range;
	return 0;
}

/* The data clusters behind `n` entries: 0, -EUCLEAN at a bad one, -ENOMEM. */
static int collect_freed(struct qed_image *image, const struct qed_slice *slice,
			 unsigned index, uint64_t n, uint64_t disk_off,
			 struct qed_free_range **freed)
{
	const struct qed_header *h = &image->top->header;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < n; i++) {
		struct qed_extent extent;

		ret = qed_cluster_extent(image->top, slice,
					 index + (unsigned)i,
					 disk_off + (i << h->cluster_bits), 1,
					 &extent);
		if (ret == 0 && extent.kind == QED_EXTENT_DATA)
			ret = note_freed(freed, extent.file_off,
					 h->cluster_size);
	}
	return ret;
}

/* With the slice pinned and the clusters claimed. */
static int64_t unmap_claimed(struct qed_image *image, struct qed_slice *slice,
			     unsigned index, uint64_t n, uint64_t disk_off)
{
	struct qed_free_range *freed = NULL;
	int ret = collect_freed(image, slice, index, n, disk_off, &freed);

	if (ret < 0) {
		qed_free_ranges(freed);
		return ret;
	}
	qed_meta_unmap(image->meta, slice, index, (unsigned)n,
		       qed_needs_zero_entry(image, disk_off) ?
			       QED_ENTRY_ZERO :
			       QED_ENTRY_UNALLOCATED,
		       freed);
	return (int64_t)n;
}

/* 0 or -errno, or QED_PENDING. */
static int prepare(struct qed_image *image, uint64_t disk_off,
		   struct qed_waiter *waiter, struct qed_slice **slice,
		   unsigned *index)
{
	int ret = qed_meta_admit_map(image->meta, waiter);

	if (ret == 0)
		ret = qed_table_require(image, disk_off, waiter);
	if (ret == 0)
		ret = qed_cluster_pin(image->top, disk_off, waiter, slice,
				      index);
	return ret;
}

static int64_t unmap_mapped(struct qed_image *image, uint64_t disk_off,
			    uint64_t n, struct qed_waiter *waiter)
{
	const struct qed_header *h = &image->top->header;
	struct qed_slice *slice;
	struct qed_claim claim;
	unsigned index;
	int64_t done = 0;
	int ret = prepare(image, disk_off, waiter, &slice, &index);

	if (ret)
		return ret == QED_PENDING ? 0 : ret;
	n = qed_min(n, QED_SLICE_ENTRIES - index);
	ret = qed_claims_take(&image->clusters, &claim,
			      disk_off >> h->cluster_bits, &n, waiter);
	if (ret == 0)
		done = unmap_claimed(image, slice, index, n, disk_off);
	qed_l2cache_put(image->chain.cache, slice);
	if (ret == 0)
		qed_claims_release(&image->clusters, &claim);
	return done;
}

int64_t qed_unmap(struct qed_image *image, uint64_t disk_off, uint64_t n,
		  struct qed_waiter *waiter)
{
	const struct qed_header *h = &image->top->header;
	uint64_t len = qed_min(n << h->cluster_bits, image->size - disk_off);
	struct qed_extent extent;
	uint64_t same;
	int ret = qed_cluster_lookup(image->top, disk_off, len, waiter,
				     &extent);

	if (ret)
		return ret == QED_PENDING ? 0 : ret;
	same = ((extent.len - 1) >> h->cluster_bits) + 1;
	n = alike(image, disk_off, qed_min(n, same));
	/* Nothing to take away, and nothing below to hide. */
	if (extent.kind == QED_EXTENT_ZERO ||
	    (extent.kind == QED_EXTENT_UNALLOCATED &&
	     !qed_needs_zero_entry(image, disk_off)))
		return (int64_t)n;
	return unmap_mapped(image, disk_off, n, waiter);
}
