/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Moves clusters and tables; relocate.h states the order.
 *
 * NEED_CHECK is set, durably, before the first change, although no state on the
 * way needs a repair: whoever finds a half-done image is to look at it.
 */
#include "config.h"

#include "check.h"
#include "job.h"
#include "relocate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BUF_ENTRIES 8192u		/* 64 KiB */

int qed_relocate_complain(const struct qed_relocation *r, int err,
			  const char *what)
{
	qed_log_write(&r->layer->log, QED_LOG_ERROR, "%s: %s: %s",
		      r->layer->source.file->path, what, strerror(-err));
	return err;
}

int qed_relocate_complain_at(const struct qed_relocation *r, int err,
			     const char *what, uint64_t file_off)
{
	qed_log_write(&r->layer->log, QED_LOG_ERROR,
		      "%s: %s at file offset %" PRIu64 ": %s",
		      r->layer->source.file->path, what, file_off,
		      strerror(-err));
	return err;
}

int qed_relocate_init(struct qed_relocation *r)
{
	int ret = qed_copier_create(r->layer->source.file, &r->copier);

	r->buf = malloc(BUF_ENTRIES * QED_ENTRY_BYTES);
	if (ret == 0 && !r->buf)
		ret = -ENOMEM;
	return ret < 0 ? qed_relocate_complain(r, ret, "cannot begin") : 0;
}

void qed_relocate_fini(struct qed_relocation *r)
{
	qed_copier_destroy(r->copier);
	free(r->buf);
}

int qed_relocate_step(struct qed_relocation *r)
{
	r->total = qed_max(r->total, r->done);
	return qed_job_step(r->job, r->done, r->total);
}

static int write_header(struct qed_relocation *r)
{
	struct qed_file *file = r->layer->source.file;
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	qed_header_encode(&r->layer->header, buf);
	ret = qed_file_write(file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(file);
}

/* What has to be durable before anything of the image is changed. */
static int prepare_header(struct qed_relocation *r)
{
	int ret;

	if (r->header_ready)
		return 0;
	r->layer->header.autoclear_features = 0;
	r->layer->header.features |= QED_FEATURE_NEED_CHECK;
	ret = write_header(r);
	if (ret < 0)
		return qed_relocate_complain(r, ret, "cannot write the header");
	r->header_ready = r->changed = true;
	return 0;
}

int qed_relocate_clear_flag(struct qed_relocation *r)
{
	struct qed_header *h = &r->layer->header;
	int ret;

	if (!(h->features & QED_FEATURE_NEED_CHECK) && !h->autoclear_features)
		return 0;
	h->autoclear_features = 0;
	ret = qed_check_clear_flag(r->layer);
	return ret < 0 ? qed_relocate_complain(r, ret,
					       "cannot clear NEED_CHECK") :
			 0;
}

int qed_relocate_settle(struct qed_relocation *r)
{
	int ret;

	if (!r->unsettled)
		return 0;
	ret = qed_file_flush(r->layer->source.file);
	if (ret < 0)
		return qed_relocate_complain(r, ret, "cannot sync");
	r->unsettled = false;
	return 0;
}

/* --- a batch's first half: the copies ---------------------------------------- */

static int grow_to(struct qed_relocation *r, uint64_t end)
{
	int ret;

	if (end <= r->size)
		return 0;
	ret = end > INT64_MAX ? -EFBIG :
				qed_file_run(r->layer->source.file, QED_OP_GROW,
					     r->size, end - r->size);
	r->full = ret < 0;
	if (ret < 0)
		return qed_relocate_complain(r, ret, "cannot make the file "
					     "longer while clusters change "
					     "places");
	r->size = end;
	return 0;
}

static int copy_all(struct qed_relocation *r, const struct qed_move *moves,
		    uint64_t n, uint64_t len)
{
	uint64_t end = 0, ncopies = 0, at;
	int ret = prepare_header(r);

	for (uint64_t i = 0; i < n; i++)
		if (moves[i].to > QED_ENTRY_ZERO)
			end = qed_max(end, moves[i].to + len), ncopies++;
	if (ret == 0)
		ret = grow_to(r, end);
	if (ret < 0 || !ncopies)
		return ret;
	for (uint64_t i = 0; i < n; i++)
		if (moves[i].to > QED_ENTRY_ZERO)
			qed_copier_add(r->copier, moves[i].from,
					 moves[i].to, len);
	ret = qed_copier_wait(r->copier, &at);
	if (ret < 0)
		return qed_relocate_complain_at(r, ret, "cannot copy clusters",
						at);
	r->unsettled = true;
	return qed_relocate_settle(r);
}

/* --- the second half: the entries ----------------------------------------------- */

static uint64_t entry_off(const struct qed_relocation *r, uint64_t owner)
{
	uint64_t nelems = qed_relocation_header(r)->table_nelems;

	return r->scan.tables[owner / nelems].file_off +
	       owner % nelems * QED_ENTRY_BYTES;
}

static int write_entries(struct qed_relocation *r, uint64_t n, uint64_t off)
{
	int ret = qed_file_write(r->layer->source.file, r->buf,
				 n * QED_ENTRY_BYTES, off);

	r->unsettled = r->changed = true;
	return ret < 0 ? qed_relocate_complain_at(r, ret,
						  "cannot write a table", off) :
			 0;
}

/* Neighbouring entries of one table go in one write. */
static int write_run(struct qed_relocation *r, const struct qed_move *moves,
		     uint64_t max, uint64_t *n)
{
	uint64_t nelems = qed_relocation_header(r)->table_nelems, i = 0;

	do {
		r->buf[i] = qed_le64_put(moves[i].to);
		i++;
	} while (i < qed_min(max, BUF_ENTRIES) &&
		 moves[i].owner == moves[0].owner + i &&
		 moves[i].owner % nelems != 0);
	*n = i;
	return write_entries(r, i, entry_off(r, moves[0].owner));
}

static int by_owner(const void *a, const void *b)
{
	const struct qed_move *x = a, *y = b;

	return x->owner < y->owner ? -1 : x->owner > y->owner;
}

static void leave(struct qed_relocation *r, uint64_t from, uint64_t len)
{
	unsigned bits = qed_relocation_header(r)->cluster_bits;

	for (uint64_t i = 0; i < len >> bits; i++)
		qed_used_clear(&r->scan.used, (from >> bits) + i);
}

static void count_data(struct qed_relocation *r, const struct qed_move *moves,
		       uint64_t n)
{
	uint32_t cluster = qed_relocation_header(r)->cluster_size;

	for (uint64_t i = 0; i < n; i++) {
		leave(r, moves[i].from, cluster);
		if (moves[i].to > QED_ENTRY_ZERO)
			r->moved++;
		else
			r->dropped++;
	}
}

int qed_relocate_data(struct qed_relocation *r, struct qed_move *moves,
		      uint64_t n)
{
	int ret;

	if (!n)
		return 0;
	ret = copy_all(r, moves, n, qed_relocation_header(r)->cluster_size);
	if (ret < 0)
		return ret;
	qsort(moves, n, sizeof(*moves), by_owner);
	for (uint64_t i = 0, len; ret == 0 && i < n; i += len)
		ret = write_run(r, moves + i, n - i, &len);
	if (ret < 0)
		return ret;
	count_data(r, moves, n);
	return qed_relocate_step(r);
}

static int write_l1_entry(struct qed_relocation *r, uint64_t table,
			  uint64_t value)
{
	r->buf[0] = qed_le64_put(value);
	return write_entries(r, 1,
			     qed_relocation_header(r)->l1_table_offset +
				     r->scan.tables[table].l1_index *
					     QED_ENTRY_BYTES);
}

int qed_relocate_tables(struct qed_relocation *r, struct qed_move *moves,
			uint64_t n)
{
	uint64_t len = qed_relocation_header(r)->table_bytes;
	int ret;

	if (!n)
		return 0;
	ret = copy_all(r, moves, n, len);
	for (uint64_t i = 0; ret == 0 && i < n; i++) {
		ret = write_l1_entry(r, moves[i].owner, moves[i].to);
		r->scan.tables[moves[i].owner].file_off = moves[i].to;
		leave(r, moves[i].from, len);
		r->moved_tables++;
	}
	return ret < 0 ? ret : qed_relocate_step(r);
}

int qed_relocate_drop_table(struct qed_relocation *r, uint64_t table)
{
	int ret = prepare_header(r);

	if (ret == 0)
		ret = write_l1_entry(r, table, QED_ENTRY_UNALLOCATED);
	if (ret < 0)
		return ret;
	leave(r, r->scan.tables[table].file_off,
	      qed_relocation_header(r)->table_bytes);
	r->scan.tables[table].file_off = 0;
	r->dropped_tables++;
	return 0;
}

void qed_relocate_sweep_tables(struct qed_relocation *r)
{
	struct qed_scan *scan = &r->scan;
	uint64_t n = 0;

	for (uint64_t i = 0; i < scan->ntables; i++)
		if (scan->tables[i].file_off)
			scan->tables[n++] = scan->tables[i];
	scan->ntables = n;
}

/* --- reading entries --------------------------------------------------------------- */

int qed_entries_init(struct qed_entries *e, struct qed_relocation *r,
		     uint64_t table, uint64_t end)
{
	*e = (struct qed_entries){ .r = r, .table = table, .end = end };
	e->buf = malloc(BUF_ENTRIES * QED_ENTRY_BYTES);
	return e->buf ? 0 : qed_relocate_complain(r, -ENOMEM, "tables");
}

void qed_entries_fini(struct qed_entries *e)
{
	free(e->buf);
}

/* Reads on from e->next, over a hole; at the table's end n is 0. */
static int fill(struct qed_entries *e)
{
	struct qed_file *file = e->r->layer->source.file;
	uint64_t bytes = qed_relocation_header(e->r)->table_bytes, at;
	uint64_t table = e->r->scan.tables[e->table].file_off, data;
	int ret;

	at = e->next * QED_ENTRY_BYTES;
	data = qed_file_next_data(file, table + at);
	e->n = 0;
	e->next = bytes / QED_ENTRY_BYTES;
	if (data >= table + bytes)
		return 0;
	at = qed_max(at, qed_round_down(data - table, QED_SLICE_BYTES));
	e->first = e->next = at / QED_ENTRY_BYTES;
	e->n = qed_min(BUF_ENTRIES, bytes / QED_ENTRY_BYTES - e->first);
	ret = qed_file_read(file, e->buf, e->n * QED_ENTRY_BYTES, table + at);
	return ret < 0 ? qed_relocate_complain_at(e->r, ret,
						  "cannot read a table",
						  table + at) :
			 0;
}

/* The walk has seen it, unless the host's storage lies or another program writes. */
static bool is_known(const struct qed_relocation *r, uint64_t value)
{
	const struct qed_header *h = qed_relocation_header(r);
	const struct qed_used *used = &r->scan.used;

	return value <= QED_ENTRY_ZERO ||
	       (value >= h->header_bytes && !qed_in_cluster(h, value) &&
		value >> h->cluster_bits < used->n &&
		qed_used_test(used, value >> h->cluster_bits));
}

int qed_entries_next(struct qed_entries *e, uint64_t *owner, uint64_t *value)
{
	uint64_t nelems = qed_relocation_header(e->r)->table_nelems;

	while (e->table < e->end) {
		int ret;

		while (e->n && e->next < e->first + e->n) {
			*value = qed_le64_get(e->buf[e->next - e->first]);
			*owner = e->table * nelems + e->next;
			e->next++;
			if (!is_known(e->r, *value))
				return qed_relocate_complain(
					e->r, -EUCLEAN, "a table has changed "
					"by itself");
			if (*value)
				return 1;
		}
		e->n = 0;
		if (e->next == nelems) {
			e->table++;
			e->next = 0;
			continue;
		}
		ret = fill(e);
		if (ret < 0)
			return ret;
	}
	return 0;
}
