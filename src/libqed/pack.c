/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packs an image file: what lies behind the end that it will have goes into
 * free places before that.  Only that is moved, and no place is used again that
 * has been left behind that end, so one sync a batch will do.
 *
 * L2 tables go first, since they need room in one piece.  If there is none for
 * one of them, all tables are put behind the header, which makes room.
 */
#include "config.h"

#include "arrange.h"

#include <errno.h>
#include <stdlib.h>

struct pack {
	struct qed_relocation *r;
	unsigned bits;
	uint64_t batch;			/* clusters */
	uint64_t table;			/* clusters of a table */
	uint64_t end;			/* cluster: of what is packed */
	struct qed_move *moves;		/* room for a batch */
	uint64_t n;
};

/* Where the file will end if only data is moved from now on. */
static uint64_t end_with_tables(const struct pack *p)
{
	const struct qed_header *h = qed_relocation_header(p->r);
	const struct qed_scan *scan = &p->r->scan;
	uint64_t end = qed_max(p->end, scan->used.count);

	for (uint64_t i = 0; i < scan->ntables; i++)
		end = qed_max(end, (scan->tables[i].file_off + h->table_bytes)
					   >> p->bits);
	return end;
}

static int note(struct pack *p, uint64_t owner, uint64_t from, uint64_t to,
		uint64_t nclusters)
{
	p->moves[p->n++] = (struct qed_move){
		.owner = owner,
		.from = from,
		.to = to << p->bits,
	};
	for (uint64_t i = 0; i < nclusters; i++)
		if (qed_used_mark(&p->r->scan.used, to + i) < 0)
			return qed_relocate_complain(p->r, -EFBIG, "its map");
	p->r->done += nclusters << p->bits;
	return 0;
}

/* The part of a table before the end is a place that the next one may get. */
static int move_tables(struct pack *p)
{
	int ret = qed_relocate_tables(p->r, p->moves, p->n);

	p->n = 0;
	return ret < 0 ? ret : qed_relocate_settle(p->r);
}

/* 1, or 0 if there is no room for one of them; or -errno. */
static int pack_tables(struct pack *p)
{
	const struct qed_scan *scan = &p->r->scan;
	uint64_t to = 0;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < scan->ntables; i++) {
		uint64_t from = scan->tables[i].file_off;

		if ((from >> p->bits) + p->table <= p->end)
			continue;
		to = qed_used_find_run(&scan->used, to, p->table);
		if (to + p->table > p->end)
			break;
		ret = note(p, i, from, to, p->table);
		if (ret == 0 && (p->n + 1) * p->table > p->batch)
			ret = move_tables(p);
	}
	if (ret == 0)
		ret = move_tables(p);
	return ret < 0 ? ret : end_with_tables(p) == p->end;
}

static int move_data(struct pack *p)
{
	int ret = qed_relocate_data(p->r, p->moves, p->n);

	p->n = 0;
	return ret;
}

static int pack_data(struct pack *p, struct qed_entries *entries)
{
	const struct qed_used *used = &p->r->scan.used;
	uint64_t owner, value, to = 0;
	int ret;

	while ((ret = qed_entries_next(entries, &owner, &value)) > 0) {
		if (value < p->end << p->bits)
			continue;
		to = qed_used_next(used, to, false);
		ret = note(p, owner, value, to, 1);
		if (ret == 0 && p->n == p->batch)
			ret = move_data(p);
		if (ret < 0)
			return ret;
	}
	return ret < 0 ? ret : move_data(p);
}

static int pack(struct pack *p)
{
	struct qed_relocation *r = p->r;
	struct qed_entries entries = { .r = r };
	int ret = qed_relocate_settle(r);

	r->total = qed_used_count(&r->scan.used, p->end, r->scan.used.n)
		   << p->bits;
	if (ret == 0)
		ret = pack_tables(p);
	if (ret == 0) {
		ret = qed_arrange_tables(r, p->batch);
		p->end = end_with_tables(p);
	}
	if (ret >= 0)
		ret = qed_relocate_settle(r);
	if (ret == 0)
		ret = qed_entries_init(&entries, r, 0, r->scan.ntables);
	if (ret == 0)
		ret = pack_data(p, &entries);
	qed_entries_fini(&entries);
	return ret;
}

uint64_t qed_arrange_end(const struct qed_relocation *r, uint64_t nclusters)
{
	const struct qed_header *h = qed_relocation_header(r);

	return qed_max(nclusters, (h->l1_table_offset + h->table_bytes) >>
					  h->cluster_bits);
}

int qed_arrange_pack(struct qed_relocation *r, uint64_t batch)
{
	const struct qed_header *h = qed_relocation_header(r);
	struct pack p = {
		.r = r,
		.bits = h->cluster_bits,
		.batch = batch,
		.table = h->table_size,
		.end = qed_arrange_end(r, r->scan.used.count),
	};
	int ret;

	p.moves = calloc(batch, sizeof(*p.moves));
	if (!p.moves)
		return qed_relocate_complain(r, -ENOMEM, "pack");
	ret = pack(&p);
	free(p.moves);
	return ret;
}
