/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who owns what a repair has copied to the end of the file.  A damaged image
 * may have named clusters there before there were any: these entries must not
 * come to name somebody's copy.
 */
#include "config.h"

#include "repair.h"

#include <errno.h>
#include <stdlib.h>

/* Room for one more in an array of `n` of `max`, or null: then it is as it was. */
static void *grow(void *list, uint64_t n, uint64_t *max, size_t size)
{
	uint64_t more = *max * 2 + 64;
	void *larger;

	if (n < *max)
		return list;
	larger = n < QED_COPIES_MAX ? realloc(list, more * size) : NULL;
	if (larger)
		*max = more;
	return larger;
}

/* Notes whose copy has just been made, for the second pass. */
static int note_copy(struct qed_repair *r, uint64_t entry_off)
{
	struct qed_repair_copies *copies = &r->copies;
	uint64_t *owner = grow(copies->owner, copies->n, &copies->max,
			       sizeof(*owner));

	if (!owner)
		return -ENOMEM;
	copies->owner = owner;
	copies->owner[copies->n++] = entry_off;
	return 0;
}

static int note_table(struct qed_repair *r, uint64_t from, uint64_t to)
{
	struct qed_repair_tables *tables = &r->tables;
	struct qed_repair_table *list = grow(tables->list, tables->n,
					     &tables->max, sizeof(*list));

	if (!list)
		return -ENOMEM;
	tables->list = list;
	tables->list[tables->n++] = (struct qed_repair_table){ from, to };
	return 0;
}

static int complain(struct qed_repair *r, int err)
{
	return err < 0 ? qed_repair_complain(r, err, "too much to mend for the "
					     "check's memory") : 0;
}

int qed_copies_note_table(struct qed_repair *r, uint64_t from, uint64_t to)
{
	return complain(r, note_table(r, from, to));
}

static int by_place(const void *a, const void *b)
{
	const struct qed_repair_table *x = a, *y = b;

	return x->to < y->to ? -1 : x->to > y->to;
}

void qed_copies_sort_tables(struct qed_repair *r)
{
	if (r->tables.n)
		qsort(r->tables.list, r->tables.n, sizeof(*r->tables.list),
		      by_place);
}

/* Where an entry of a table that is a copy comes from. */
static uint64_t origin(const struct qed_repair *r, uint64_t entry_off)
{
	const struct qed_repair_tables *tables = &r->tables;
	uint64_t low = 0, high = tables->n;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (tables->list[mid].to <= entry_off)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low || entry_off - tables->list[low - 1].to >=
			    r->layer->header.table_bytes)
		return entry_off;
	return entry_off - tables->list[low - 1].to +
	       tables->list[low - 1].from;
}

static bool in_l1_table(const struct qed_repair *r, uint64_t entry_off)
{
	const struct qed_header *h = &r->layer->header;

	return entry_off - h->l1_table_offset < h->table_bytes;
}

/* Did the first pass make the copy for this entry? */
static bool is_owner(const struct qed_repair *r, uint64_t entry,
		     uint64_t entry_off)
{
	const struct qed_repair_copies *copies = &r->copies;
	uint64_t i;

	if (entry < copies->base)
		return false;
	i = (entry - copies->base) >> r->layer->header.cluster_bits;
	return i < copies->n && copies->owner[i] == entry_off;
}

bool qed_copies_own(struct qed_scan *scan, uint64_t entry, uint64_t entry_off)
{
	struct qed_repair *r = scan->opaque;
	uint64_t from = origin(r, entry_off);

	if (entry == r->old_cut)
		return !in_l1_table(r, entry_off);
	return is_owner(r, entry, entry_off) || is_owner(r, entry, from) ||
	       qed_undo_made(&r->undo, entry_off, entry) ||
	       qed_undo_made(&r->undo, from, entry);
}

int qed_copies_note(struct qed_repair *r, const struct qed_fault *fault,
		    uint64_t entry)
{
	int ret = 0;

	if (!r->pass)
		ret = note_copy(r, fault->file_off);
	else if (r->pass == 1 && fault->level == 1)
		ret = note_table(r, fault->entry, entry);
	return complain(r, ret);
}

void qed_copies_fini(struct qed_repair *r)
{
	free(r->copies.owner);
	free(r->tables.list);
	r->copies = (struct qed_repair_copies){ .n = 0 };
	r->tables = (struct qed_repair_tables){ .n = 0 };
}
