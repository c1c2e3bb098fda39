/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check and repair at open.  First all tables are marked in a bitmap of clusters,
 * then the data clusters that they name, so that an entry that points into any
 * table is found whatever the order.  A bad entry is cleared; what it mapped is
 * reported.  Order on disk: cleared entries, sync, header without NEED_CHECK,
 * sync; an interruption leaves NEED_CHECK set and the check is run again.
 */
#include "config.h"

#include "check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct check {
	struct qed_layer *layer;
	struct qed_check_result *result;
	uint64_t end;			/* of the file's whole clusters */
	uint8_t *used;			/* bit per cluster */
	uint64_t lost_off, lost_len;	/* range of disk not yet reported */
	struct qed_le64 l1[QED_SLICE_ENTRIES];
	struct qed_le64 l2[QED_SLICE_ENTRIES];
};

static const struct qed_header *header_of(const struct check *check)
{
	return &check->layer->header;
}

static void report_lost(struct check *check)
{
	if (check->lost_len)
		qed_log_write(&check->layer->log, QED_LOG_WARNING,
			      "%s: dropped a damaged mapping: disk offset "
			      "%" PRIu64 ", length %" PRIu64
			      " now reads as if never written",
			      check->layer->source.file->path, check->lost_off,
			      check->lost_len);
	check->lost_len = 0;
}

/* Neighbouring losses make one message. */
static void note_lost(struct check *check, uint64_t disk_off, uint64_t len)
{
	uint64_t size = check->layer->size;

	check->result->dropped++;
	if (disk_off >= size)
		return;
	len = qed_min(len, size - disk_off);
	if (check->lost_len &&
	    check->lost_off + check->lost_len == disk_off) {
		check->lost_len += len;
		return;
	}
	report_lost(check);
	check->lost_off = disk_off;
	check->lost_len = len;
}

/* Marks clusters in use; false if one of them was. */
static bool mark(struct check *check, uint64_t file_off, uint64_t len)
{
	unsigned bits = header_of(check)->cluster_bits;
	uint64_t first = file_off >> bits, n = len >> bits;
	bool ok = true;

	for (uint64_t i = first; i < first + n; i++) {
		uint8_t bit = (uint8_t)(1u << i % 8);

		ok = ok && !(check->used[i / 8] & bit);
		check->used[i / 8] |= bit;
	}
	return ok;
}

static int read_slice(struct check *check, struct qed_le64 *slice,
		      uint64_t file_off)
{
	return qed_file_read(check->layer->source.file, slice, QED_SLICE_BYTES,
			     file_off);
}

static int write_slice(struct check *check, const struct qed_le64 *slice,
		       uint64_t file_off)
{
	return qed_file_write(check->layer->source.file, slice,
			      QED_SLICE_BYTES, file_off);
}

/* Disk bytes that one L1 entry maps; the most an L1 index can reach is 2^63. */
static unsigned table_shift(const struct check *check)
{
	return header_of(check)->cluster_bits + header_of(check)->table_bits;
}

static uint64_t table_disk_off(const struct check *check, uint64_t l1_index)
{
	unsigned shift = table_shift(check);

	/* Past the disk's end: no offset that note_lost() would report. */
	if (shift > 62 || l1_index >> (63 - shift))
		return l1_index ? UINT64_MAX : 0;
	return l1_index << shift;
}

static uint64_t table_disk_len(const struct check *check)
{
	unsigned shift = table_shift(check);

	return shift > 62 ? INT64_MAX : UINT64_C(1) << shift;
}

/* Judges one L1 entry; true if it had to be cleared. */
static bool check_l1_entry(struct check *check, uint64_t index,
			   struct qed_le64 *entry)
{
	const struct qed_header *h = header_of(check);
	uint64_t table = qed_le64_get(*entry);

	if (!table)
		return false;
	if (!qed_table_offset_ok(h, table, check->end)) {
		*entry = qed_le64_put(0);
		note_lost(check, table_disk_off(check, index),
			  table_disk_len(check));
		return true;
	}
	if (!mark(check, table, h->table_bytes))
		check->result->shared++;
	return false;
}

static bool check_l2_entry(struct check *check, uint64_t disk_off,
			   struct qed_le64 *entry)
{
	const struct qed_header *h = header_of(check);
	uint64_t data = qed_le64_get(*entry);

	if (data <= QED_ENTRY_ZERO)
		return false;
	if (!qed_data_offset_ok(h, data, check->end)) {
		*entry = qed_le64_put(0);
		note_lost(check, disk_off, h->cluster_size);
		return true;
	}
	if (!mark(check, data, h->cluster_size))
		check->result->shared++;
	return false;
}

/* One slice of the L1 table: marks the tables that it names. */
static int check_l1_slice(struct check *check, uint64_t first, uint64_t file_off)
{
	bool changed = false;
	int ret = read_slice(check, check->l1, file_off);

	for (unsigned i = 0; ret == 0 && i < QED_SLICE_ENTRIES; i++)
		changed |= check_l1_entry(check, first + i, &check->l1[i]);
	if (ret == 0 && changed)
		ret = write_slice(check, check->l1, file_off);
	return ret;
}

static int check_l2_slice(struct check *check, uint64_t disk_off,
			  uint64_t file_off)
{
	uint32_t cluster = header_of(check)->cluster_size;
	bool changed = false;
	int ret = read_slice(check, check->l2, file_off);

	for (unsigned i = 0; ret == 0 && i < QED_SLICE_ENTRIES; i++)
		changed |= check_l2_entry(check,
					  disk_off + (uint64_t)i * cluster,
					  &check->l2[i]);
	if (ret == 0 && changed)
		ret = write_slice(check, check->l2, file_off);
	return ret;
}

static int check_table(struct check *check, uint64_t l1_index, uint64_t table)
{
	const struct qed_header *h = header_of(check);
	uint64_t disk_off = table_disk_off(check, l1_index);
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < h->table_bytes;
	     at += QED_SLICE_BYTES) {
		uint64_t skip = at / QED_ENTRY_BYTES << h->cluster_bits;
		uint64_t off;

		if (!qed_add(disk_off, skip, &off))
			off = UINT64_MAX;
		ret = check_l2_slice(check, off, table + at);
	}
	return ret;
}

/* The tables that one slice of the L1 table names. */
static int check_tables_of(struct check *check, uint64_t first,
			   uint64_t file_off)
{
	int ret = read_slice(check, check->l1, file_off);

	for (unsigned i = 0; ret == 0 && i < QED_SLICE_ENTRIES; i++) {
		uint64_t table = qed_le64_get(check->l1[i]);

		if (table)
			ret = check_table(check, first + i, table);
	}
	return ret;
}

static int for_l1_slices(struct check *check,
			 int (*visit)(struct check *check, uint64_t first,
				      uint64_t file_off))
{
	const struct qed_header *h = header_of(check);
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < h->table_bytes;
	     at += QED_SLICE_BYTES)
		ret = visit(check, at / QED_ENTRY_BYTES,
			    h->l1_table_offset + at);
	report_lost(check);
	return ret;
}

static int scan(struct check *check)
{
	const struct qed_header *h = header_of(check);
	int ret;

	check->used = calloc(1, (check->end >> h->cluster_bits) / 8 + 1);
	if (!check->used)
		return -ENOMEM;
	mark(check, 0, h->header_bytes);
	mark(check, h->l1_table_offset, h->table_bytes);
	ret = for_l1_slices(check, check_l1_slice);
	if (ret == 0)
		ret = for_l1_slices(check, check_tables_of);
	free(check->used);
	return ret;
}

static int clear_need_check(struct check *check)
{
	struct qed_layer *layer = check->layer;
	uint8_t buf[QED_HEADER_BYTES];
	int ret = qed_file_flush(layer->source.file);

	if (ret < 0)
		return ret;
	layer->header.features &= ~QED_FEATURE_NEED_CHECK;
	qed_header_encode(&layer->header, buf);
	ret = qed_file_write(layer->source.file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(layer->source.file);
}

int qed_check_repair(struct qed_layer *layer, struct qed_check_result *result)
{
	struct check *check = calloc(1, sizeof(*check));
	int ret = -ENOMEM;

	memset(result, 0, sizeof(*result));
	if (check) {
		check->layer = layer;
		check->result = result;
		check->end = atomic_load(&layer->end);
		ret = scan(check);
		if (ret == 0 && !result->shared)
			ret = clear_need_check(check);
	}
	free(check);
	if (ret < 0)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: cannot check the image: %s; open it "
			      "read-only, or free memory and space",
			      layer->source.file->path, strerror(-ret));
	return ret;
}
