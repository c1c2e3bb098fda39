/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The layout in order of the disk: header, L2 tables, data; the L1 table stays.
 *
 * A stretch of the file after the other gets what belongs there, in two
 * batches: what is in its way is moved out, as far behind as there is room,
 * else to the end of the file; then what belongs there is moved in.  Between
 * the two everything is durable, since the second one writes over what the
 * first has left.  Where to move things out to: data as far behind as can be,
 * so that it is not in the way again soon; tables, which need room in one
 * piece, to the first place behind the stretch.
 */
#include "config.h"

#include "arrange.h"
#include "owners.h"

#include <errno.h>
#include <stdlib.h>

#define OWNERS_BATCHES 256
#define LOOK_MAX       (1u << 20)	/* entries, until the job steps */

struct arrange {
	struct qed_relocation *r;
	struct qed_owners owners;
	unsigned bits;
	uint64_t batch;			/* clusters */
	uint64_t table;			/* clusters of a table */
	uint64_t header, l1, l1_end;	/* clusters: ends and start */
	uint64_t slots_before;		/* for tables between header and L1 */
	uint64_t top;			/* the end of what was in use at first */
	struct qed_move *in, *out;	/* of the stretch: room for a batch, or
					 * a table if that has more clusters;
					 * out for tables that only stick into
					 * its ends, too */
	uint64_t nin, nout;
};

uint64_t qed_arrange_spare(const struct qed_header *h, uint64_t size,
			   uint64_t batch)
{
	uint64_t tables = qed_min(h->table_nelems, size / h->table_bytes);

	/* All tables out of the way, and all data from where they go. */
	return 2 * (tables * h->table_size + batch + h->table_size);
}

static uint64_t ntables(const struct arrange *a)
{
	return a->r->scan.ntables;
}

/* Where the table of that number belongs, in clusters. */
static uint64_t slot(const struct arrange *a, uint64_t number)
{
	if (number < a->slots_before)
		return a->header + number * a->table;
	return a->l1_end + (number - a->slots_before) * a->table;
}

/* Behind all tables that are in place. */
static uint64_t slots_end(const struct arrange *a)
{
	return ntables(a) ? slot(a, ntables(a) - 1) + a->table : a->header;
}

static int arrange_init(struct arrange *a, struct qed_relocation *r,
			uint64_t batch)
{
	const struct qed_header *h = qed_relocation_header(r);
	uint64_t room = qed_max(batch, h->table_size);

	*a = (struct arrange){
		.r = r,
		.bits = h->cluster_bits,
		.batch = batch,
		.table = h->table_size,
		.header = h->header_size,
		.l1 = h->l1_table_offset >> h->cluster_bits,
		.top = qed_used_end(&r->scan.used),
		.in = calloc(room, sizeof(*a->in)),
		.out = calloc(room + 2, sizeof(*a->out)),
	};
	a->l1_end = a->l1 + a->table;
	a->slots_before = (a->l1 - a->header) / a->table;
	if (!a->in || !a->out)
		return qed_relocate_complain(r, -ENOMEM, "layout");
	return qed_owners_init(&a->owners, r, room * OWNERS_BATCHES);
}

static void arrange_fini(struct arrange *a)
{
	qed_owners_fini(&a->owners);
	free(a->in);
	free(a->out);
}

static int no_room(const struct arrange *a)
{
	return qed_relocate_complain(a->r, -ENOSPC, "no room to move clusters "
				     "out of the way");
}

static uint64_t to_off(const struct arrange *a, uint64_t cluster)
{
	return cluster << a->bits;
}

/* --- out of the way -------------------------------------------------------------- */

/* Notes the data of a cluster, if it is data: 1, 0 or -errno. */
static int note_data(struct arrange *a, uint64_t cluster)
{
	struct qed_move *move = &a->out[a->nout];
	int ret = qed_owners_get(&a->owners, cluster, &move->owner);

	if (ret > 0) {
		move->from = to_off(a, cluster);
		a->nout++;
	}
	return ret;
}

/* Moves the data noted to behind `low`. */
static int move_data_out(struct arrange *a, uint64_t low)
{
	struct qed_used *used = &a->r->scan.used;
	uint64_t to = qed_used_room(used, low, qed_max(low, a->top), a->nout);
	int ret;

	for (uint64_t i = 0; i < a->nout; i++) {
		to = qed_used_next(used, to, false);
		if (to >= used->n)
			return no_room(a);
		if (qed_used_mark(used, to) < 0)
			return qed_relocate_complain(a->r, -EFBIG, "its map");
		a->out[i].to = to_off(a, to);
	}
	ret = qed_relocate_data(a->r, a->out, a->nout);
	if (ret == 0)
		qed_owners_update(&a->owners, a->out, a->nout);
	return ret;
}

static int note_table(struct arrange *a, struct qed_move *move, uint64_t number,
		      uint64_t first)
{
	*move = (struct qed_move){
		.owner = number,
		.from = a->r->scan.tables[number].file_off,
		.to = to_off(a, first),
	};
	for (uint64_t i = 0; i < a->table; i++)
		if (qed_used_mark(&a->r->scan.used, first + i) < 0)
			return qed_relocate_complain(a->r, -EFBIG, "its map");
	return 0;
}

/* --- tables -------------------------------------------------------------------------- */

static bool in_slot(const struct arrange *a, uint64_t number)
{
	return a->r->scan.tables[number].file_off == to_off(a, slot(a, number));
}

/* Data of the clusters [low, high), which are slots. */
static int clear_of_data(struct arrange *a, uint64_t low, uint64_t high)
{
	const struct qed_used *used = &a->r->scan.used;
	int ret = 0;

	a->nout = 0;
	while (ret >= 0 && (low = qed_used_next(used, low, true)) < high)
		ret = note_data(a, low++);
	return ret < 0 ? ret : move_data_out(a, slots_end(a));
}

/* Tables there that belong elsewhere. */
static int clear_of_tables(struct arrange *a, uint64_t low, uint64_t high)
{
	const struct qed_used *used = &a->r->scan.used;
	uint64_t to = high;
	int ret = 0;

	a->nout = 0;
	for (uint64_t i = 0; ret == 0 && i < ntables(a); i++) {
		uint64_t first = a->r->scan.tables[i].file_off >> a->bits;

		if (first >= high || first + a->table <= low || in_slot(a, i))
			continue;
		to = qed_used_find_run(used, to, a->table);
		if (to == used->n)
			return no_room(a);
		ret = note_table(a, &a->out[a->nout++], i, to);
	}
	return ret < 0 ? ret : qed_relocate_tables(a->r, a->out, a->nout);
}

static int fill_slots(struct arrange *a, uint64_t first, uint64_t end)
{
	int ret = 0;

	a->nin = 0;
	for (uint64_t i = first; ret == 0 && i < end; i++)
		if (!in_slot(a, i))
			ret = note_table(a, &a->in[a->nin++], i, slot(a, i));
	return ret < 0 ? ret : qed_relocate_tables(a->r, a->in, a->nin);
}

/* Slots that lie together. */
static int arrange_slots(struct arrange *a, uint64_t first, uint64_t end)
{
	uint64_t low = slot(a, first), high = slot(a, end - 1) + a->table;
	bool done = true;
	int ret;

	for (uint64_t i = first; i < end; i++)
		done = done && in_slot(a, i);
	if (done)
		return 0;
	ret = qed_relocate_settle(a->r);
	if (ret == 0)
		ret = clear_of_data(a, low, high);
	if (ret == 0)
		ret = clear_of_tables(a, low, high);
	if (ret == 0)
		ret = qed_relocate_settle(a->r);
	return ret < 0 ? ret : fill_slots(a, first, end);
}

int qed_arrange_tables(struct qed_relocation *r, uint64_t batch)
{
	struct arrange a;
	int ret = arrange_init(&a, r, batch);
	uint64_t n = qed_max(a.batch / a.table, 1), first = 0;

	while (ret == 0 && first < ntables(&a)) {
		uint64_t end = qed_min(first + n, ntables(&a));

		if (first < a.slots_before)
			end = qed_min(end, a.slots_before);
		ret = arrange_slots(&a, first, end);
		first = end;
	}
	arrange_fini(&a);
	return ret;
}

/* --- data ---------------------------------------------------------------------------- */

/* The place for data behind this one, in clusters; slots and L1 are skipped. */
static uint64_t place_from(const struct arrange *a, uint64_t place)
{
	uint64_t before = qed_min(ntables(a), a->slots_before);

	place = qed_max(place, a->header + before * a->table);
	if (place >= a->l1 && place < a->l1_end)
		place = qed_max(a->l1_end, slots_end(a));
	return place;
}

/*
 * What belongs into the next stretch and is not there.  1 if there may be more
 * to come, 0 or -errno.
 */
static int note_in(struct arrange *a, struct qed_entries *entries,
		   uint64_t *place)
{
	uint32_t cluster = qed_relocation_header(a->r)->cluster_size;
	uint64_t owner, value;
	int ret = 1;

	a->nin = 0;
	qed_entries_reread(entries);
	for (unsigned i = 0; i < LOOK_MAX && a->nin < a->batch; i++) {
		ret = qed_entries_next(entries, &owner, &value);
		if (ret <= 0)
			break;
		if (value <= QED_ENTRY_ZERO)
			continue;
		*place = place_from(a, *place);
		if (value != to_off(a, *place))
			a->in[a->nin++] = (struct qed_move){
				.owner = owner,
				.from = value,
				.to = to_off(a, *place),
			};
		++*place;
		a->r->done += cluster;
	}
	return ret;
}

static int note_out(struct arrange *a)
{
	const struct qed_used *used = &a->r->scan.used;
	int ret = 1;

	a->nout = 0;
	for (uint64_t i = 0; ret > 0 && i < a->nin; i++) {
		uint64_t to = a->in[i].to >> a->bits;

		if (qed_used_test(used, to))
			ret = note_data(a, to);
	}
	if (ret == 0)
		return qed_relocate_complain(a->r, -EUCLEAN, "a cluster in use"
					     " that no table names");
	return ret < 0 ? ret : 0;
}

static int compare_owner(const void *key, const void *move)
{
	uint64_t x = *(const uint64_t *)key;
	uint64_t y = ((const struct qed_move *)move)->owner;

	return x < y ? -1 : x > y;
}

/* What has been moved out may be what is to be moved in. */
static void follow_out(struct arrange *a)
{
	for (uint64_t i = 0; i < a->nout; i++) {
		struct qed_move *move = bsearch(&a->out[i].owner, a->in, a->nin,
						sizeof(*a->in), compare_owner);

		if (move)
			move->from = a->out[i].to;
	}
}

static int move_data_in(struct arrange *a)
{
	int ret;

	for (uint64_t i = 0; i < a->nin; i++)
		if (qed_used_mark(&a->r->scan.used, a->in[i].to >> a->bits) < 0)
			return qed_relocate_complain(a->r, -EFBIG, "its map");
	ret = qed_relocate_data(a->r, a->in, a->nin);
	if (ret == 0)
		qed_owners_update(&a->owners, a->in, a->nin);
	return ret;
}

/* Brings the data noted in to its places; `end` is behind the last of them. */
static int arrange_stretch(struct arrange *a, uint64_t end)
{
	int ret = qed_relocate_settle(a->r);

	if (ret == 0)
		ret = note_out(a);
	if (ret == 0)
		ret = move_data_out(a, end);
	if (ret == 0)
		ret = qed_relocate_settle(a->r);
	if (ret < 0)
		return ret;
	follow_out(a);
	return move_data_in(a);
}

static int arrange_all(struct arrange *a, struct qed_entries *entries)
{
	uint64_t place = a->header;
	int more, ret = 0;

	do {
		more = note_in(a, entries, &place);
		if (more >= 0 && a->nin)
			ret = arrange_stretch(a, place);
		else if (more >= 0)
			ret = qed_relocate_step(a->r);
	} while (more > 0 && ret == 0);
	return more < 0 ? more : ret;
}

int qed_arrange_data(struct qed_relocation *r, uint64_t batch)
{
	struct qed_entries entries = { .r = r };
	struct arrange a;
	int ret = arrange_init(&a, r, batch);

	if (ret == 0)
		ret = qed_entries_init(&entries, r, 0, r->scan.ntables);
	if (ret == 0)
		ret = arrange_all(&a, &entries);
	qed_entries_fini(&entries);
	arrange_fini(&a);
	return ret;
}
