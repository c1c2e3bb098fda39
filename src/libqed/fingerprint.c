/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fingerprints of tables; fingerprint.h states the contract.  A sum of a hash of
 * each entry and its place: in any order, and zeroes, which may be holes, count
 * nothing.
 */
#include "config.h"

#include "fingerprint.h"
#include "scan.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct fingerprint {
	struct qed_scan scan;
	const struct qed_undo *undo;
	uint64_t sum;
};

static uint64_t hash(uint64_t place, uint64_t value)
{
	uint64_t x = value + place * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* What the first change of each place has found there. */
static void take_back(const struct qed_undo *undo, struct qed_le64 *chunk,
		      uint64_t len, uint64_t file_off)
{
	uint64_t i = qed_undo_find(undo, file_off);

	for (; i < undo->nentries; i = qed_undo_next(undo, i)) {
		const struct qed_undo_entry *entry = &undo->entries[i];
		uint64_t at = entry->file_off - file_off;

		if (at >= len)
			break;
		chunk[at / QED_ENTRY_BYTES] = qed_le64_put(entry->older);
	}
}

static void see(struct qed_scan *scan, uint64_t len, uint64_t file_off)
{
	struct fingerprint *f = scan->opaque;

	take_back(f->undo, scan->chunk, len, file_off);
	for (uint64_t i = 0; i < len / QED_ENTRY_BYTES; i++) {
		uint64_t entry = qed_le64_get(scan->chunk[i]);

		if (entry)
			f->sum += hash(file_off / QED_ENTRY_BYTES + i, entry);
	}
}

static uint64_t next(struct qed_scan *scan, uint64_t file_off)
{
	struct fingerprint *f = scan->opaque;
	uint64_t i = qed_undo_find(f->undo, file_off);

	return i < f->undo->nentries ? f->undo->entries[i].file_off : UINT64_MAX;
}

static int on_fault(struct qed_scan *scan, const struct qed_fault *fault,
		    uint64_t *entry)
{
	(void)scan;
	(void)fault;
	(void)entry;
	return 0;
}

static uint64_t hash_geometry(const struct qed_header *h)
{
	const uint64_t numbers[] = { h->cluster_size, h->table_size,
				     h->header_size, h->l1_table_offset,
				     h->image_size };
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		sum += hash(UINT64_MAX - i, numbers[i]);
	return sum;
}

static int complain(const struct fingerprint *f, int err)
{
	const struct qed_file *file = f->scan.layer->source.file;

	if (f->scan.failed_off)
		qed_log_write(&file->log, QED_LOG_ERROR,
			      "%s: cannot read a table at file offset %" PRIu64
			      ": %s", file->path, f->scan.failed_off,
			      strerror(-err));
	else
		qed_log_write(&file->log, QED_LOG_ERROR,
			      "%s: cannot read all tables: %s", file->path,
			      strerror(-err));
	return err;
}

int qed_fingerprint(struct qed_layer *layer, const struct qed_undo *undo,
		    uint64_t *fingerprint)
{
	const struct qed_header *h = &layer->header;
	struct fingerprint f = {
		.scan = {
			.layer = layer,
			.end = qed_round_down(undo->image_size,
					      h->cluster_size),
			.fault = on_fault,
			.see = see,
			.next = next,
			.opaque = &f,
		},
		.undo = undo,
		.sum = hash_geometry(h),
	};
	int ret = qed_scan_run(&f.scan);

	qed_scan_fini(&f.scan);
	*fingerprint = f.sum;
	return ret < 0 ? complain(&f, ret) : 0;
}
