/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Clusters of zeroes, and tables without mappings. */
#include "config.h"

#include "trim.h"

#include <errno.h>
#include <stdlib.h>

#define READ_BYTES (UINT64_C(1) << 20)

struct trim {
	struct qed_relocation *r;
	struct qed_entries entries;
	uint8_t *buf;			/* READ_BYTES */
	struct qed_move *moves;		/* room for a batch */
	uint64_t batch, n;
	uint64_t instead;		/* the entry of a cluster of zeroes */
};

/* 1, 0 or -errno. */
static int is_zero(struct trim *t, uint64_t file_off)
{
	struct qed_file *file = t->r->layer->source.file;
	uint64_t cluster = qed_relocation_header(t->r)->cluster_size, n;

	for (uint64_t at = 0; at < cluster; at += n) {
		uint64_t data = qed_file_next_data(file, file_off + at);
		struct iovec iov = { .iov_base = t->buf };
		int ret;

		if (data >= file_off + cluster)
			return 1;
		at = qed_max(at, qed_round_down(data - file_off, 4096));
		n = iov.iov_len = qed_min(READ_BYTES, cluster - at);
		ret = qed_file_read(file, t->buf, n, file_off + at);
		if (ret < 0)
			return qed_relocate_complain_at(t->r, ret,
							"cannot read a cluster",
							file_off + at);
		if (!qed_iov_is_zero(&iov, 1, 0, n))
			return 0;
	}
	return 1;
}

static int drop_noted(struct trim *t)
{
	int ret = qed_relocate_data(t->r, t->moves, t->n);

	t->n = 0;
	return ret;
}

static int look_at(struct trim *t, uint64_t owner, uint64_t file_off)
{
	int ret = is_zero(t, file_off);

	if (ret < 0)
		return ret;
	if (ret > 0)
		t->moves[t->n++] = (struct qed_move){
			.owner = owner,
			.from = file_off,
			.to = t->instead,
		};
	t->r->done += qed_relocation_header(t->r)->cluster_size;
	return t->n == t->batch ? drop_noted(t) : qed_relocate_step(t->r);
}

static int trim_all(struct trim *t)
{
	uint64_t owner, value;
	int ret;

	while ((ret = qed_entries_next(&t->entries, &owner, &value)) > 0) {
		if (value > QED_ENTRY_ZERO)
			ret = look_at(t, owner, value);
		if (ret < 0)
			return ret;
	}
	return ret < 0 ? ret : drop_noted(t);
}

int qed_trim_zeroes(struct qed_relocation *r, uint64_t batch)
{
	const struct qed_header *h = qed_relocation_header(r);
	struct trim t = {
		.r = r,
		.buf = malloc(READ_BYTES),
		.moves = calloc(batch, sizeof(*t.moves)),
		.batch = batch,
		.instead = h->features & QED_FEATURE_BACKING_FILE ?
				   QED_ENTRY_ZERO :
				   QED_ENTRY_UNALLOCATED,
	};
	int ret = -ENOMEM;

	if (!t.buf || !t.moves)
		qed_relocate_complain(r, ret, "cannot look for zeroes");
	else
		ret = qed_entries_init(&t.entries, r, 0, r->scan.ntables);
	if (ret == 0)
		ret = trim_all(&t);
	qed_entries_fini(&t.entries);
	free(t.moves);
	free(t.buf);
	return ret;
}

/* 1, 0 or -errno. */
static int is_empty(struct qed_relocation *r, uint64_t table)
{
	struct qed_entries entries;
	uint64_t owner, value;
	int ret = qed_entries_init(&entries, r, table, table + 1);

	if (ret == 0)
		ret = qed_entries_next(&entries, &owner, &value);
	qed_entries_fini(&entries);
	return ret < 0 ? ret : ret == 0;
}

int qed_trim_tables(struct qed_relocation *r, bool drop, uint64_t *n)
{
	uint64_t ntables = r->scan.ntables;
	int ret = 0;

	*n = 0;
	for (uint64_t i = 0; ret >= 0 && i < ntables; i++) {
		/* The walk has seen data, and nobody has dropped any. */
		if (r->scan.tables[i].first && !r->dropped)
			continue;
		ret = is_empty(r, i);
		if (ret <= 0)
			continue;
		++*n;
		ret = drop ? qed_relocate_drop_table(r, i) : 0;
		if (ret == 0)
			ret = qed_relocate_step(r);
	}
	qed_relocate_sweep_tables(r);
	return ret < 0 ? ret : 0;
}
