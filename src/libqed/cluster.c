/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lookup engine.  It takes no lock of its own. */
#include "config.h"

#include "cluster.h"
#include "probe.h"

#include <errno.h>

/* Where in the file the L2 entry for disk_off is, given its table. */
struct place {
	uint64_t slice_off;
	unsigned index;			/* in the slice */
	uint64_t max;			/* entries that [disk_off, +len) needs */
};

static struct place place_of(const struct qed_header *h, uint64_t table,
			     uint64_t disk_off, uint64_t len)
{
	uint64_t i = qed_l2_index(h, disk_off);
	uint64_t last = qed_in_cluster(h, disk_off) + len - 1;

	return (struct place){
		.slice_off = table + i / QED_SLICE_ENTRIES * QED_SLICE_BYTES,
		.index = (unsigned)(i % QED_SLICE_ENTRIES),
		.max = (last >> h->cluster_bits) + 1,
	};
}

/* No table: unallocated up to the next L1 entry that is set. */
static void no_table(struct qed_layer *layer, uint64_t l1_index,
		     uint64_t disk_off, uint64_t len, struct qed_extent *extent)
{
	unsigned shift = layer->header.cluster_bits + layer->header.table_bits;
	uint64_t end = disk_off + len;

	extent->kind = QED_EXTENT_UNALLOCATED;
	extent->len = len;
	while (++l1_index < layer->header.l1_used) {
		if (l1_index << shift >= end)
			return;
		if (atomic_load_explicit(&layer->l1[l1_index],
					 memory_order_relaxed)) {
			extent->len = (l1_index << shift) - disk_off;
			return;
		}
	}
}

static void extent_of_run(const struct qed_header *h, const struct qed_run *run,
			  uint64_t disk_off, uint64_t len,
			  struct qed_extent *extent)
{
	uint64_t in = qed_in_cluster(h, disk_off);

	extent->len = qed_min(len, (run->count << h->cluster_bits) - in);
	extent->file_off = run->first + in;
	if (run->first == QED_ENTRY_UNALLOCATED)
		extent->kind = QED_EXTENT_UNALLOCATED;
	else if (run->first == QED_ENTRY_ZERO)
		extent->kind = QED_EXTENT_ZERO;
	else
		extent->kind = QED_EXTENT_DATA;
}

bool qed_cluster_peek(struct qed_layer *layer, uint64_t disk_off, uint64_t len,
		      struct qed_extent *extent)
{
	const struct qed_header *h = &layer->header;
	uint64_t i = qed_l1_index(h, disk_off);
	uint64_t table = atomic_load_explicit(&layer->l1[i],
					      memory_order_acquire);
	struct qed_run run;
	struct place p;

	if (!table) {
		no_table(layer, i, disk_off, len, extent);
		return true;
	}
	if (qed_layer_l1_is_bad(layer, i))
		return false;
	p = place_of(h, table, disk_off, len);
	if (!qed_l2cache_peek(layer->cache, &layer->source, p.slice_off,
			      p.index, p.max, h->cluster_size, &run))
		return false;
	extent_of_run(h, &run, disk_off, len, extent);
	return true;
}

int qed_cluster_extent(struct qed_layer *layer, const struct qed_slice *slice,
		       unsigned index, uint64_t disk_off, uint64_t len,
		       struct qed_extent *extent)
{
	const struct qed_header *h = &layer->header;
	struct place p = place_of(h, 0, disk_off, len);
	bool bad = atomic_load(&slice->bad);
	struct qed_run run;

	/* In a slice with a bad entry each one is judged by itself. */
	qed_slice_run(slice, index, bad ? 1 : p.max, h->cluster_size, &run);
	if (bad && run.first > QED_ENTRY_ZERO &&
	    !qed_layer_data_ok(layer, run.first)) {
		qed_layer_complain(layer, "bad L2 entry",
				   slice->file_off +
					   (uint64_t)index * QED_ENTRY_BYTES,
				   disk_off);
		return -EUCLEAN;
	}
	extent_of_run(h, &run, disk_off, len, extent);
	return 0;
}

static int pin(struct qed_layer *layer, uint64_t disk_off,
	       struct qed_waiter *waiter, struct qed_slice **slice,
	       unsigned *index)
{
	const struct qed_header *h = &layer->header;
	uint64_t i = qed_l1_index(h, disk_off);
	uint64_t table = atomic_load_explicit(&layer->l1[i],
					      memory_order_acquire);
	struct place p = place_of(h, table, disk_off, 1);

	if (qed_layer_l1_is_bad(layer, i)) {
		qed_layer_complain(layer, "bad L1 entry",
				   h->l1_table_offset + i * QED_ENTRY_BYTES,
				   disk_off);
		return -EUCLEAN;
	}
	*index = p.index;
	return qed_l2cache_get(layer->cache, &layer->source, p.slice_off,
			       waiter, slice);
}

/* It follows a look-up, which is what counts, unless the slice has gone since. */
int qed_cluster_pin(struct qed_layer *layer, uint64_t disk_off,
		    struct qed_waiter *waiter, struct qed_slice **slice,
		    unsigned *index)
{
	int ret = pin(layer, disk_off, waiter, slice, index);

	if (ret == 0)
		waiter->missed = false;
	return ret;
}

void qed_cluster_count_hit(struct qed_layer *layer, uint64_t disk_off)
{
	qed_count(layer->counters, QED_COUNT_L2_HITS, 1);
	QED_PROBE2(l2_hit, layer->source.id, disk_off);
}

/* A look-up has its answer: a hit, unless it was a miss before. */
static void answered(struct qed_layer *layer, uint64_t disk_off,
		     struct qed_waiter *waiter)
{
	if (!waiter->missed)
		qed_cluster_count_hit(layer, disk_off);
	waiter->missed = false;
}

int qed_cluster_lookup(struct qed_layer *layer, uint64_t disk_off, uint64_t len,
		       struct qed_waiter *waiter, struct qed_extent *extent)
{
	struct qed_slice *slice;
	unsigned index;
	int ret;

	if (qed_cluster_peek(layer, disk_off, len, extent)) {
		answered(layer, disk_off, waiter);
		return 0;
	}
	ret = pin(layer, disk_off, waiter, &slice, &index);
	if (ret)
		return ret;
	answered(layer, disk_off, waiter);
	ret = qed_cluster_extent(layer, slice, index, disk_off, len, extent);
	qed_l2cache_put(layer->cache, slice);
	return ret;
}
