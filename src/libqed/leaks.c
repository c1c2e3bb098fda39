/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters that nobody names: finding them, and giving their space back.  One
 * that was part of a table until this repair changed the L1 table goes into the
 * undo file first, so that the repair can be taken back.
 */
#include "config.h"

#include "repair.h"

#include <stdlib.h>
#include <string.h>

#define LOST_MAX 65536u

/* --- tables that are lost ---------------------------------------------------------- */

void qed_leaks_note_table(struct qed_repair *r, uint64_t file_off)
{
	struct qed_repair_lost *lost = &r->lost;

	/* Whatever its low bits are, tables are at such places. */
	file_off = qed_round_down(file_off, QED_SLICE_BYTES);
	if (file_off < r->layer->header.header_bytes ||
	    file_off >= r->old_end || lost->too_many)
		return;
	if (lost->n == lost->max) {
		uint64_t max = qed_min(lost->max * 2 + 16, LOST_MAX);
		uint64_t *list = realloc(lost->file_off, max * sizeof(*list));

		if (!list || max == lost->n) {
			lost->file_off = list ? list : lost->file_off;
			lost->too_many = true;
			return;
		}
		lost->file_off = list;
		lost->max = max;
	}
	lost->file_off[lost->n++] = file_off;
}

void qed_leaks_fini(struct qed_repair *r)
{
	free(r->lost.file_off);
	r->lost = (struct qed_repair_lost){ .n = 0 };
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The first of them that ends behind file_off. */
static uint64_t first_behind(const struct qed_repair *r, uint64_t file_off)
{
	uint64_t low = 0, high = r->lost.n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (r->lost.file_off[mid] + r->layer->header.table_bytes >
		    file_off)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* What the host has stored of the range, which is going to be zero. */
static int save_stored(struct qed_repair *r, uint64_t start, uint64_t end)
{
	int ret = 0;

	while (ret == 0 && start < end) {
		uint64_t data = qed_file_next_data(r->file, start), len;

		if (data >= end)
			break;
		data = qed_round_down(data, QED_SLICE_BYTES);
		start = qed_max(start, data);
		len = qed_min(end - start, QED_REPAIR_BYTES);
		ret = qed_undo_save(&r->undo, r->file, r->buf, len, start);
		start += len;
	}
	return ret;
}

/* Saves the parts of lost tables that are in [start, end). */
static int save_lost(struct qed_repair *r, uint64_t start, uint64_t end)
{
	uint64_t size = r->layer->header.table_bytes;
	int ret = 0;

	if (!r->lost.n || !r->undo.file)
		return 0;
	memset(r->buf, 0, QED_REPAIR_BYTES);
	for (uint64_t i = first_behind(r, start);
	     ret == 0 && i < r->lost.n && r->lost.file_off[i] < end; i++) {
		uint64_t off = r->lost.file_off[i];
		uint64_t stop = qed_min(off + size, end);

		start = qed_max(start, off);
		ret = save_stored(r, start, stop);
		start = qed_max(start, stop);
	}
	return ret;
}

/* --- giving back ------------------------------------------------------------------- */

/* Clusters of [start, end) that take up space on the host. */
static uint64_t count_stored(struct qed_repair *r, uint64_t start, uint64_t end)
{
	uint32_t cluster = r->layer->header.cluster_size;
	uint64_t n = 0;

	while (start < end) {
		uint64_t data = qed_file_next_data(r->file, start), hole;

		if (data >= end)
			break;
		hole = qed_min(qed_file_next_hole(r->file, data), end);
		start = qed_round_up(qed_max(hole, data + 1), cluster);
		n += (start - qed_round_down(data, cluster)) / cluster;
	}
	return n;
}

static int give_back(struct qed_repair *r, const struct qed_fault *leak,
		     enum qed_fault_action action)
{
	int ret = save_lost(r, leak->file_off, leak->file_off + leak->len);

	if (ret < 0)
		return ret;
	ret = qed_repair_prepare(r);
	if (ret < 0)
		return qed_repair_complain(r, ret, "cannot write");
	if (action == QED_ACTION_TRUNCATE)
		ret = qed_file_cut(r->file, leak->file_off);
	else
		ret = qed_file_run(r->file, QED_OP_PUNCH, leak->file_off,
				   leak->len);
	return ret < 0 ? qed_repair_complain_at(r, ret, "cannot give leaked "
						"clusters back",
						leak->file_off) : 0;
}

/* What would be lost for good has to stay. */
static bool may_give_back(const struct qed_repair *r)
{
	return r->options->flags & QED_CHECK_LEAKS && !r->report->corruptions &&
	       !r->lost.too_many;
}

static int handle_leak(struct qed_repair *r, uint64_t first, uint64_t end,
		       bool mend)
{
	unsigned bits = r->layer->header.cluster_bits;
	struct qed_fault leak = {
		.kind = QED_FAULT_LEAK,
		.file_off = first << bits,
		.len = (end - first) << bits,
		.count = end - first,
	};
	bool tail = end == r->scan.used.n && !r->file->block_device;
	uint64_t stored = tail ? leak.count :
				 count_stored(r, first << bits, end << bits);
	enum qed_fault_action action = QED_ACTION_NONE;
	int ret = 0;

	if (may_give_back(r))
		action = tail ? QED_ACTION_TRUNCATE :
			 stored ? QED_ACTION_PUNCH : QED_ACTION_NONE;
	qed_repair_report(r, &leak, action);
	if (mend && action != QED_ACTION_NONE) {
		ret = give_back(r, &leak, action);
		if (ret == 0)
			r->report->leaks_fixed += stored;
		if (ret == 0 && tail)
			return 0;
		stored = ret == 0 ? 0 : stored;
	}
	r->report->leaks += leak.count;
	r->report->empty_leaks += leak.count - stored;
	return ret;
}

/* Bytes of a cluster that nobody names are no leak, but go as well. */
static int cut_ragged_end(struct qed_repair *r)
{
	int ret = qed_file_cut(r->file, r->report->image_end_offset);

	return ret < 0 ? qed_repair_complain(r, ret, "cannot cut its end off") :
			 0;
}

int qed_leaks_handle(struct qed_repair *r, bool mend)
{
	const struct qed_used *used = &r->scan.used;
	uint64_t end = qed_scan_leaks_end(&r->scan), first = 0;
	int ret = 0;

	if (r->lost.n)
		qsort(r->lost.file_off, r->lost.n, sizeof(*r->lost.file_off),
		      by_value);
	while (ret == 0 &&
	       (first = qed_used_next(used, first, false)) < end) {
		uint64_t next = qed_min(qed_used_next(used, first, true), end);

		ret = handle_leak(r, first, next, mend);
		first = next;
	}
	if (ret == 0 && mend && may_give_back(r) && r->cut != UINT64_MAX)
		ret = cut_ragged_end(r);
	qed_repair_flush_report(r);
	return ret;
}
