/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The walk over all tables; scan.h states what it does.
 *
 * Time and memory are bounded by what the file really holds: holes of tables
 * are skipped, no table is read twice (a second L1 entry that names it is a
 * fault), and only tables that lie apart are remembered.
 *
 * The host reads what comes next meanwhile, as far as it lies apart from what
 * the hooks write: other tables, or other parts of this one.
 *
 * Blocking calls on the caller's thread; no locks.
 */
#include "config.h"

#include "fetch.h"
#include "job.h"
#include "scan.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TABLES_MAX (UINT64_C(1) << 22)	/* 128 MiB of memory */

static const struct qed_header *header_of(const struct qed_scan *scan)
{
	return &scan->layer->header;
}

/* Disk offset of a table's entry; UINT64_MAX past what 64 bits reach. */
static uint64_t disk_off_of(const struct qed_scan *scan, uint64_t l1_index,
			    uint64_t l2_index)
{
	const struct qed_header *h = header_of(scan);
	uint64_t cluster, off;

	if (!qed_mul(l1_index, h->table_nelems, &cluster) ||
	    !qed_add(cluster, l2_index, &cluster) ||
	    !qed_mul(cluster, h->cluster_size, &off))
		return UINT64_MAX;
	return off;
}

/* Tells the hook about an entry; its part that the disk has counts. */
static int report(struct qed_scan *scan, struct qed_fault *fault,
		  uint64_t *entry)
{
	uint64_t size = scan->layer->size;

	fault->entry = *entry;
	if (fault->disk_off >= size)
		fault->len = 0;
	else
		fault->len = qed_min(fault->len, size - fault->disk_off);
	return scan->fault(scan, fault, entry);
}

static void note_change(struct qed_scan *scan, uint64_t index, uint64_t value)
{
	scan->chunk[index] = qed_le64_put(value);
	if (scan->dirty_end == 0)
		scan->dirty_first = index;
	scan->dirty_end = index + 1;
}

/* What is wrong with an offset, apart from who else uses it. */
static enum qed_fault_kind classify(const struct qed_scan *scan, uint64_t entry,
				    uint64_t len)
{
	const struct qed_header *h = header_of(scan);

	if (entry & 4095)
		return QED_FAULT_RESERVED_BITS;
	if (qed_in_cluster(h, entry))
		return QED_FAULT_UNALIGNED;
	if (entry < h->header_bytes)
		return QED_FAULT_IN_HEADER;
	if (len > scan->known_end || entry > scan->known_end - len)
		return QED_FAULT_PAST_END;
	return QED_FAULT_IN_L1_TABLE;
}

static bool in_table(const struct qed_scan *scan, uint64_t file_off)
{
	uint64_t low = 0, high = scan->ntables;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (scan->tables[mid].file_off <= file_off)
			low = mid + 1;
		else
			high = mid;
	}
	return low && file_off - scan->tables[low - 1].file_off <
			       header_of(scan)->table_bytes;
}

/* 1 if one of the clusters was in use, 0, or -errno. */
static int mark(struct qed_scan *scan, uint64_t file_off, uint64_t len)
{
	unsigned bits = header_of(scan)->cluster_bits;
	uint64_t first = file_off >> bits, n = len >> bits;
	int ret = 0;

	for (uint64_t i = first; ret >= 0 && i < first + n; i++) {
		int was = qed_used_mark(&scan->used, i);

		ret = was < 0 ? was : ret | was;
	}
	return ret;
}

static int add_table(struct qed_scan *scan, uint64_t l1_index, uint64_t file_off)
{
	if (scan->ntables == TABLES_MAX)
		return -EFBIG;
	if (scan->ntables == scan->max_tables) {
		uint64_t max = scan->max_tables * 2 + 64;
		struct qed_scan_table *tables =
			realloc(scan->tables, max * sizeof(*tables));

		if (!tables)
			return -ENOMEM;
		scan->tables = tables;
		scan->max_tables = max;
	}
	scan->tables[scan->ntables++] = (struct qed_scan_table){
		.file_off = file_off,
		.l1_index = l1_index,
	};
	return 0;
}

static int bad_l1_entry(struct qed_scan *scan, uint64_t l1_index, uint64_t i,
			uint64_t file_off, enum qed_fault_kind kind)
{
	uint64_t entry = qed_le64_get(scan->chunk[i]), now = entry, len;
	struct qed_fault fault = {
		.kind = kind,
		.level = 1,
		.file_off = file_off + i * QED_ENTRY_BYTES,
		.disk_off = disk_off_of(scan, l1_index, 0),
	};
	int ret;

	len = disk_off_of(scan, 1, 0);
	fault.len = len;
	ret = report(scan, &fault, &now);
	if (ret < 0 || now == entry)
		return ret;
	note_change(scan, i, now);
	return now ? add_table(scan, l1_index, now) : 0;
}

/* May the entry at file_off name a table there, as far as it alone tells? */
static bool may_name_table(struct qed_scan *scan, uint64_t entry,
			   uint64_t file_off)
{
	const struct qed_header *h = header_of(scan);

	if (qed_table_offset_ok(h, entry, scan->known_end))
		return true;
	return entry >= scan->known_end && scan->own &&
	       qed_table_offset_ok(h, entry, scan->end) &&
	       scan->own(scan, entry, file_off);
}

/* One entry of the L1 table: marks the table that it names. */
static int l1_entry(struct qed_scan *scan, uint64_t l1_index, uint64_t i,
		    uint64_t file_off)
{
	const struct qed_header *h = header_of(scan);
	uint64_t table = qed_le64_get(scan->chunk[i]);
	int ret;

	if (!table)
		return 0;
	if (!may_name_table(scan, table, file_off + i * QED_ENTRY_BYTES))
		return bad_l1_entry(scan, l1_index, i, file_off,
				    classify(scan, table, h->table_bytes));
	ret = mark(scan, table, h->table_bytes);
	if (ret > 0)
		return bad_l1_entry(scan, l1_index, i, file_off,
				    QED_FAULT_SHARED);
	return ret < 0 ? ret : add_table(scan, l1_index, table);
}

static int visit_l1(struct qed_scan *scan, struct qed_scan_table *unused,
		    uint64_t first, uint64_t n, uint64_t file_off)
{
	int ret = 0;

	(void)unused;
	for (uint64_t i = 0; ret == 0 && i < n; i++)
		ret = l1_entry(scan, first + i, i, file_off);
	return ret;
}

static int bad_l2_entry(struct qed_scan *scan,
			const struct qed_scan_table *table, uint64_t l2_index,
			uint64_t i, uint64_t file_off, bool in_use)
{
	const struct qed_header *h = header_of(scan);
	uint64_t entry = qed_le64_get(scan->chunk[i]), now = entry;
	struct qed_fault fault = {
		.kind = classify(scan, entry, h->cluster_size),
		.level = 2,
		.file_off = file_off + i * QED_ENTRY_BYTES,
		.disk_off = disk_off_of(scan, table->l1_index, l2_index),
		.len = h->cluster_size,
	};
	int ret;

	if (in_use && !qed_ranges_overlap(entry, h->cluster_size,
					  h->l1_table_offset, h->table_bytes))
		fault.kind = in_table(scan, entry) ? QED_FAULT_IN_L2_TABLE :
						     QED_FAULT_SHARED;
	ret = report(scan, &fault, &now);
	if (ret == 0 && now != entry)
		note_change(scan, i, now);
	return ret;
}

/* `n` data clusters from file offset `data` on. */
static void count_data(struct qed_scan *scan, struct qed_scan_table *table,
		       uint64_t data, uint64_t n)
{
	uint32_t cluster = header_of(scan)->cluster_size;

	scan->allocated += n;
	if (!table->first)
		table->first = data;
	else if (data != table->last + cluster)
		scan->fragments++;
	table->last = data + (n - 1) * cluster;
}

/* May the entry at file_off name a cluster there, as far as it alone tells? */
static bool may_name(struct qed_scan *scan, uint64_t entry, uint64_t file_off)
{
	const struct qed_header *h = header_of(scan);

	if (qed_in_cluster(h, entry) || entry < h->header_bytes)
		return false;
	return entry < scan->known_end ||
	       (entry < scan->end && scan->own(scan, entry, file_off));
}

static uint64_t get_entry(const struct qed_le64 *at)
{
	uint64_t entry;

	memcpy(&entry, at, sizeof(entry));
	return le64toh(entry);
}

/*
 * How many of the `n` entries from `at` on name one cluster behind the other,
 * the first being `entry`.  Eight at once: most tables are long runs, and then
 * this is what a check spends its time with.
 */
static uint64_t run_of(const struct qed_le64 *at, uint64_t n, uint64_t entry,
		       uint64_t cluster)
{
	uint64_t i = 1;

	for (; i + 8 <= n; i += 8) {
		uint64_t differs = 0;

		for (unsigned j = 0; j < 8; j++)
			differs |= get_entry(&at[i + j]) ^
				   (entry + (i + j) * cluster);
		if (differs)
			break;
	}
	while (i < n && get_entry(&at[i]) == entry + i * cluster)
		i++;
	return i;
}

/*
 * The entries from i on up to n, which may name clusters, as far as they are
 * one run and nobody else names these: how many, or -errno.
 */
static int64_t mark_data(struct qed_scan *scan, struct qed_scan_table *table,
			 uint64_t i, uint64_t n, uint64_t entry)
{
	const struct qed_header *h = header_of(scan);
	uint64_t room = 1;
	int64_t marked;

	if (entry < scan->known_end)
		room = (scan->known_end - entry) >> h->cluster_bits;
	n = run_of(&scan->chunk[i], qed_min(n - i, room), entry,
		   h->cluster_size);
	marked = qed_used_mark_run(&scan->used, entry >> h->cluster_bits, n);
	if (marked > 0)
		count_data(scan, table, entry, (uint64_t)marked);
	return marked;
}

static int visit_l2(struct qed_scan *scan, struct qed_scan_table *table,
		    uint64_t first, uint64_t n, uint64_t file_off)
{
	uint64_t i = 0;

	while (i < n) {
		uint64_t entry = get_entry(&scan->chunk[i]);
		int64_t marked = -1;
		int ret;

		if (entry <= QED_ENTRY_ZERO) {
			scan->zero += entry == QED_ENTRY_ZERO;
			i++;
			continue;
		}
		if (may_name(scan, entry, file_off + i * QED_ENTRY_BYTES)) {
			marked = mark_data(scan, table, i, n, entry);
			if (marked < 0)
				return (int)marked;
		}
		if (marked > 0) {
			i += (uint64_t)marked;
			continue;
		}
		ret = bad_l2_entry(scan, table, first + i, i, file_off,
				   marked == 0);
		if (ret < 0)
			return ret;
		i++;
	}
	return 0;
}

static int write_changes(struct qed_scan *scan, uint64_t file_off)
{
	uint64_t first = scan->dirty_first, end = scan->dirty_end;

	if (!end)
		return 0;
	scan->dirty_end = 0;
	return scan->write(scan, scan->chunk + first,
			   (end - first) * QED_ENTRY_BYTES,
			   file_off + first * QED_ENTRY_BYTES);
}

static int step(struct qed_scan *scan)
{
	uint64_t tables = scan->ntables + 1, total;

	if (!qed_mul(tables, header_of(scan)->table_bytes, &total))
		total = UINT64_MAX;
	return qed_job_step(scan->job, qed_min(scan->done, total), total);
}

static void log_unreadable(struct qed_scan *scan, uint64_t len,
			   uint64_t file_off, int err)
{
	scan->unreadable++;
	if (scan->unreadable <= 100)
		qed_log_write(&scan->layer->log, QED_LOG_ERROR,
			      "%s: cannot read a table at file offset %" PRIu64
			      ", length %" PRIu64 ": %s",
			      scan->layer->source.file->path, file_off, len,
			      strerror(-err));
}

/* --- reading ---------------------------------------------------------------------- */

/* What the host has stored of a table, or of `len` bytes of it, in one piece. */
struct part {
	uint64_t table;			/* its number */
	uint64_t file_off, len;
};

/* The walk over some tables, in file order. */
struct walk {
	struct qed_scan *scan;
	struct qed_fetch fetch;
	struct qed_scan_table *tables;
	uint64_t ntables;
	int (*visit)(struct qed_scan *scan, struct qed_scan_table *table,
		     uint64_t first, uint64_t n, uint64_t file_off);
	struct part part;		/* planned next */
};

/* Where a table has something at or after a place of the file. */
static uint64_t next_data(struct qed_scan *scan, uint64_t file_off)
{
	uint64_t data = qed_file_next_data(scan->layer->source.file, file_off);

	return scan->next ? qed_min(data, scan->next(scan, file_off)) : data;
}

/* Goes on to the next part behind this one, over holes: false if there is none. */
static bool next_part(struct walk *walk)
{
	struct qed_scan *scan = walk->scan;
	uint64_t size = header_of(scan)->table_bytes;
	struct part *part = &walk->part;

	for (; part->table < walk->ntables; part->table++) {
		uint64_t start = walk->tables[part->table].file_off, data;
		uint64_t end = start + size;
		uint64_t from = qed_max(part->file_off + part->len, start);

		data = from < end ? next_data(scan, from) : end;
		if (data >= end)
			continue;
		part->file_off = start + qed_round_down(data - start,
							QED_SLICE_BYTES);
		part->len = qed_min(QED_FETCH_BYTES, end - part->file_off);
		return true;
	}
	return false;
}

/* Parts that touch are read as one. */
static bool plan_read(struct qed_fetch *fetch, struct qed_fetch_piece *piece)
{
	struct walk *walk = fetch->opaque;
	struct part *part = &walk->part;

	if (part->table == walk->ntables)
		return false;
	piece->file_off = part->file_off;
	piece->len = 0;
	piece->value = part->table;
	do
		piece->len += part->len;
	while (next_part(walk) &&
	       part->file_off == piece->file_off + piece->len &&
	       part->len <= QED_FETCH_BYTES - piece->len);
	return true;
}

/* `err` is how reading it went. */
static int visit_part(struct walk *walk, const struct part *part, int err)
{
	struct qed_scan *scan = walk->scan;
	struct qed_scan_table *table = &walk->tables[part->table];
	int ret = 0;

	if (err == 0 && scan->see)
		scan->see(scan, part->len, part->file_off);
	if (err < 0 && !scan->skip_unreadable) {
		scan->failed_off = part->file_off;
		return err;
	}
	if (err < 0)
		log_unreadable(scan, part->len, part->file_off, err);
	else
		ret = walk->visit(scan, table,
				  (part->file_off - table->file_off) /
					  QED_ENTRY_BYTES,
				  part->len / QED_ENTRY_BYTES, part->file_off);
	if (ret == 0)
		ret = write_changes(scan, part->file_off);
	scan->done = scan->base + part->table * header_of(scan)->table_bytes +
		     part->file_off + part->len - table->file_off;
	return ret == 0 ? step(scan) : ret;
}

/* Of several that could not be read as one each gets a try of its own. */
static int visit_piece(struct walk *walk, const struct qed_fetch_piece *piece)
{
	struct qed_scan *scan = walk->scan;
	uint64_t size = header_of(scan)->table_bytes;
	uint64_t end = piece->file_off + piece->len;
	struct part part = { .table = piece->value,
			     .file_off = piece->file_off };
	int ret = 0;

	for (; ret == 0 && part.file_off < end; part.table++) {
		uint64_t table = walk->tables[part.table].file_off;
		int err = piece->err;

		part.len = qed_min(end, table + size) - part.file_off;
		scan->chunk = (struct qed_le64 *)((char *)piece->buf +
						  part.file_off -
						  piece->file_off);
		if (err < 0 && part.len < piece->len)
			err = qed_file_read(walk->fetch.file, scan->chunk,
					    part.len, part.file_off);
		ret = visit_part(walk, &part, err);
		part.file_off += part.len;
	}
	return ret;
}

/* Reads tables by parts, without their holes, and has each visited. */
static int read_tables(struct qed_scan *scan, struct qed_scan_table *tables,
		       uint64_t ntables,
		       int (*visit)(struct qed_scan *scan,
				    struct qed_scan_table *table,
				    uint64_t first, uint64_t n,
				    uint64_t file_off))
{
	struct walk walk = { .scan = scan,
			     .fetch = { .file = scan->layer->source.file,
					.plan = plan_read,
					.opaque = &walk },
			     .tables = tables,
			     .ntables = ntables,
			     .visit = visit };
	struct qed_fetch_piece *piece;
	int ret = qed_fetch_init(&walk.fetch);

	if (ret < 0)
		return ret;
	next_part(&walk);
	while (ret == 0 && (piece = qed_fetch_next(&walk.fetch)))
		ret = visit_piece(&walk, piece);
	qed_fetch_fini(&walk.fetch);
	return ret;
}

static int by_offset(const void *a, const void *b)
{
	const struct qed_scan_table *x = a, *y = b;

	return x->file_off < y->file_off ? -1 : x->file_off > y->file_off;
}

static int by_index(const void *a, const void *b)
{
	const struct qed_scan_table *x = a, *y = b;

	return x->l1_index < y->l1_index ? -1 : x->l1_index > y->l1_index;
}

/* From the end of one table's data to the start of the next one's. */
static void count_fragments_between(struct qed_scan *scan)
{
	uint64_t last = 0;

	qsort(scan->tables, scan->ntables, sizeof(*scan->tables), by_index);
	for (uint64_t i = 0; i < scan->ntables; i++) {
		const struct qed_scan_table *table = &scan->tables[i];

		if (!table->first)
			continue;
		if (last &&
		    table->first != last + header_of(scan)->cluster_size)
			scan->fragments++;
		last = table->last;
	}
}

static int read_l1_table(struct qed_scan *scan)
{
	struct qed_scan_table l1 = {
		.file_off = header_of(scan)->l1_table_offset,
	};

	return read_tables(scan, &l1, 1, visit_l1);
}

static int read_l2_tables(struct qed_scan *scan)
{
	scan->base = header_of(scan)->table_bytes;
	qsort(scan->tables, scan->ntables, sizeof(*scan->tables), by_offset);
	return read_tables(scan, scan->tables, scan->ntables, visit_l2);
}

int qed_scan_run(struct qed_scan *scan)
{
	const struct qed_header *h = header_of(scan);
	int ret = qed_used_init(&scan->used,
				(scan->end >> h->cluster_bits) + scan->spare);

	if (ret < 0)
		return ret;
	qed_used_limit(&scan->used, h->image_size >> h->cluster_bits);
	if (!scan->known_end)
		scan->known_end = scan->end;
	ret = mark(scan, 0, h->header_bytes);
	if (ret >= 0)
		ret = mark(scan, h->l1_table_offset, h->table_bytes);
	if (ret >= 0)
		ret = read_l1_table(scan);
	if (ret == 0 && scan->ntables) {
		ret = read_l2_tables(scan);
		count_fragments_between(scan);
	}
	return ret;
}

void qed_scan_fini(struct qed_scan *scan)
{
	qed_used_fini(&scan->used);
	free(scan->tables);
	scan->tables = NULL;
	scan->ntables = scan->max_tables = 0;
}
