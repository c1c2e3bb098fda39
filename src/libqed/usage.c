/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts what an image's clusters are used for.  First the tables are marked in
 * a bitmap of clusters, so that an entry that points into one is found whatever
 * the order, then the data clusters.  A table that shares a cluster with anything
 * is not read: so none is read twice, and holes are skipped: the time is bounded
 * by the data that the file really has.
 */
#include "config.h"

#include "source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTERS_MAX  (UINT64_C(1) << 31)	/* 256 MiB of bits */
#define CHUNK_ENTRIES 8192u

struct count {
	struct qed_layer *layer;
	struct qed_usage *usage;
	uint64_t end;			/* of the file's whole clusters */
	uint64_t used_clusters;		/* bits set in `used` */
	uint8_t *used;			/* bit per cluster */
	uint8_t *readable;		/* bit per L1 entry: its table is good */
	struct qed_le64 l1[CHUNK_ENTRIES], l2[CHUNK_ENTRIES];
};

static bool test_bit(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> i % 8 & 1;
}

static void set_bit(uint8_t *bits, uint64_t i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Marks clusters as used, unless one of them is already: then false. */
static bool claim(struct count *count, uint64_t file_off, uint64_t len)
{
	unsigned bits = count->layer->header.cluster_bits;
	uint64_t first = file_off >> bits, n = len >> bits;

	for (uint64_t i = first; i < first + n; i++)
		if (test_bit(count->used, i))
			return false;
	for (uint64_t i = first; i < first + n; i++)
		set_bit(count->used, i);
	count->used_clusters += n;
	return true;
}

/*
 * Reads the table at `table` in chunks, without its holes, which are zeroes, and
 * calls `visit` for each chunk with the index of its first entry.
 */
static int for_entries(struct count *count, uint64_t table,
		       struct qed_le64 *chunk,
		       int (*visit)(struct count *count, uint64_t first,
				    const struct qed_le64 *entry, size_t n))
{
	struct qed_file *file = count->layer->source.file;
	uint64_t bytes = count->layer->header.table_bytes, at, len;
	int ret = 0;

	for (at = 0; ret == 0 && at < bytes; at += len) {
		struct qed_source from = { .file = file,
					   .file_off = table + at,
					   .len = bytes - at,
					   .raw = true };
		bool data = qed_source_has_data(&from);

		/* Entries whole: what a hole cuts is read. */
		len = qed_round_down(from.len, QED_ENTRY_BYTES);
		if (!data && len > 0)
			continue;
		len = qed_min(qed_max(len, QED_ENTRY_BYTES),
			      CHUNK_ENTRIES * QED_ENTRY_BYTES);
		ret = qed_file_read(file, chunk, len, table + at);
		if (ret == 0)
			ret = visit(count, at / QED_ENTRY_BYTES, chunk,
				    len / QED_ENTRY_BYTES);
	}
	return ret;
}

static int mark_tables(struct count *count, uint64_t first,
		       const struct qed_le64 *entry, size_t n)
{
	const struct qed_header *h = &count->layer->header;

	for (size_t i = 0; i < n; i++) {
		uint64_t table = qed_le64_get(entry[i]);

		if (!table)
			continue;
		if (!qed_table_offset_ok(h, table, count->end) ||
		    !claim(count, table, h->table_bytes)) {
			count->usage->damaged++;
			continue;
		}
		count->usage->tables++;
		set_bit(count->readable, first + i);
	}
	return 0;
}

static int mark_data(struct count *count, uint64_t first,
		     const struct qed_le64 *entry, size_t n)
{
	const struct qed_header *h = &count->layer->header;

	(void)first;
	for (size_t i = 0; i < n; i++) {
		uint64_t data = qed_le64_get(entry[i]);

		if (data == QED_ENTRY_ZERO)
			count->usage->zero++;
		else if (data && qed_data_offset_ok(h, data, count->end) &&
			 claim(count, data, h->cluster_size))
			count->usage->data++;
		else if (data)
			count->usage->damaged++;
	}
	return 0;
}

static int read_tables(struct count *count, uint64_t first,
		       const struct qed_le64 *entry, size_t n)
{
	const struct qed_header *h = &count->layer->header;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < n; i++) {
		uint64_t table = qed_le64_get(entry[i]);

		/* Tested again: another program may write the image now. */
		if (test_bit(count->readable, first + i) && table &&
		    qed_table_offset_ok(h, table, count->end))
			ret = for_entries(count, table, count->l2, mark_data);
	}
	return ret;
}

static int run(struct count *count)
{
	const struct qed_header *h = &count->layer->header;
	uint64_t clusters = count->end >> h->cluster_bits;
	int ret;

	claim(count, 0, h->header_bytes);
	claim(count, h->l1_table_offset, h->table_bytes);
	ret = for_entries(count, h->l1_table_offset, count->l1, mark_tables);
	if (ret == 0)
		ret = for_entries(count, h->l1_table_offset, count->l1,
				  read_tables);
	count->usage->leaked = clusters - count->used_clusters;
	return ret;
}

int qed_image_get_usage(struct qed_image *image, unsigned layer,
			struct qed_usage *usage)
{
	struct qed_layer *l;
	struct count *count;
	uint64_t clusters;
	int ret = -ENOMEM;

	memset(usage, 0, sizeof(*usage));
	if (layer >= image->chain.n)
		return -ENOENT;
	l = image->chain.layers[layer];
	if (l->raw)
		return -EMEDIUMTYPE;
	clusters = atomic_load(&l->end) >> l->header.cluster_bits;
	if (clusters > CLUSTERS_MAX)
		return -EFBIG;
	count = calloc(1, sizeof(*count));
	if (!count)
		return -ENOMEM;
	count->layer = l;
	count->usage = usage;
	count->end = clusters << l->header.cluster_bits;
	count->used = calloc(1, clusters / 8 + 1);
	count->readable = calloc(1, l->header.table_nelems / 8 + 1);
	if (count->used && count->readable)
		ret = run(count);
	free(count->used);
	free(count->readable);
	free(count);
	return ret;
}
