/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a check must say.  Of entries that name the same cluster all but one are
 * wrong, whichever that is.
 */
#include "config.h"

#include "corrupt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oracle {
	const struct image *image;
	const struct report *report;
	uint8_t *table;			/* for each cluster: an L2 table is there */
	uint32_t *refs;			/* entries that name it, as data or as the
					 * odd end of a table */
	uint32_t *said;			/* of them, said to be shared */
	uint64_t nwrong, nleaked;
	char *message;
};

static const struct fault *find(const struct oracle *o, unsigned level,
				uint64_t file_off)
{
	for (unsigned i = 0; i < o->report->nfaults; i++) {
		const struct fault *f = &o->report->faults[i];

		if (f->level == level && f->file_off <= file_off &&
		    (file_off - f->file_off) / 8 < f->count)
			return f;
	}
	return NULL;
}

static void complain(struct oracle *o, const char *what, unsigned level,
		     uint64_t file_off, enum kind kind)
{
	if (!*o->message)
		snprintf(o->message, 300, "%s: L%u entry at %" PRIu64 " (%" PRIu64
			 "), kind %d", what, level, file_off,
			 image_get(o->image, file_off), kind);
}

/* How much of the disk an entry maps. */
static uint64_t disk_len(const struct oracle *o, uint64_t start, uint64_t len)
{
	uint64_t size = o->image->disk_size;

	if (start >= size)
		return 0;
	return len < size - start ? len : size - start;
}

/* An entry is wrong in itself. */
static void expect(struct oracle *o, enum kind kind, unsigned level,
		   uint64_t file_off, uint64_t start, uint64_t len)
{
	const struct fault *f;
	uint64_t before;

	o->nwrong++;
	if (!o->report)
		return;
	f = find(o, level, file_off);
	if (!f || f->kind != kind) {
		complain(o, f ? "another kind" : "not found", level, file_off,
			 kind);
		return;
	}
	before = (file_off - f->file_off) / 8 * len;
	if (f->far ? disk_len(o, start, len) != 0 : f->start + before != start)
		complain(o, "another disk offset", level, file_off, kind);
	if (f->count == 1 && (f->len != disk_len(o, start, len) ||
			      f->entry != image_get(o->image, file_off)))
		complain(o, "another length or entry", level, file_off, kind);
}

static uint64_t cluster_of(const struct oracle *o, uint64_t off)
{
	return off / o->image->g.cluster;
}

/* Marks the clusters of a table; true if one of them is in another. */
static bool claim(struct oracle *o, uint64_t table)
{
	bool taken = false;

	for (uint64_t i = 0; i < o->image->g.table; i++) {
		uint64_t c = cluster_of(o, table) + i;

		taken = taken || o->table[c] || o->refs[c];
	}
	for (uint64_t i = 0; i < o->image->g.table; i++) {
		uint64_t c = cluster_of(o, table) + i;

		if (!taken)
			o->table[c] = 1;
		else if (!o->table[c])
			o->refs[c] = 1;
	}
	return taken;
}

static void judge_l2(struct oracle *o, uint64_t l1_index, uint64_t table)
{
	const struct image *image = o->image;

	for (uint64_t i = 0; i < image->nelems; i++) {
		uint64_t at = table + i * 8, entry = image_get(image, at);
		uint64_t start = l1_index * image->span + i * image->g.cluster;
		enum kind kind;

		if (entry <= 1)
			continue;
		kind = image_judge(image, entry, image->g.cluster);
		if (kind == GOOD && o->table[cluster_of(o, entry)])
			kind = IN_L2_TABLE;
		if (kind != GOOD) {
			expect(o, kind, 2, at, start, image->g.cluster);
			continue;
		}
		o->nwrong += o->refs[cluster_of(o, entry)]++ > 0;
		if (o->report && find(o, 2, at)) {
			if (find(o, 2, at)->kind != SHARED)
				complain(o, "not wrong", 2, at, GOOD);
			o->said[cluster_of(o, entry)]++;
		}
	}
}

static void judge_all(struct oracle *o)
{
	const struct image *image = o->image;
	uint64_t *tables = calloc(image->nelems, sizeof(*tables));

	if (!tables)
		die("oracle");
	for (uint64_t i = 0; i < image->nelems; i++) {
		uint64_t at = image->l1 + i * 8, entry = image_get(image, at);
		enum kind kind;

		if (!entry)
			continue;
		kind = image_judge(image, entry, image->table_bytes);
		if (kind == GOOD && claim(o, entry))
			kind = SHARED;
		if (kind != GOOD)
			expect(o, kind, 1, at, i * image->span, image->span);
		else if (o->report && find(o, 1, at))
			complain(o, "not wrong", 1, at, GOOD);
		else
			tables[i] = entry;
	}
	for (uint64_t i = 0; i < image->nelems; i++)
		if (tables[i])
			judge_l2(o, i, tables[i]);
	free(tables);
}

static void judge_shared(struct oracle *o)
{
	uint64_t n = image_end(o->image) / o->image->g.cluster;

	for (uint64_t c = 0; c < n; c++) {
		uint32_t want = o->refs[c] ? o->refs[c] - 1 : 0;

		if (o->said[c] != want && !*o->message)
			snprintf(o->message, 300, "cluster %" PRIu64 ": %u "
				 "entries are said to share it, not %u", c,
				 o->said[c], want);
	}
}

static void count_leaks(struct oracle *o)
{
	const struct image *image = o->image;
	uint64_t n = image_end(image) / image->g.cluster;

	for (uint64_t c = image->g.header; c < n; c++)
		o->nleaked += !o->table[c] && !o->refs[c] &&
			      c * image->g.cluster - image->l1 >=
				      image->table_bytes;
}

static uint64_t count_said(const struct report *report)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < report->nfaults; i++)
		if (report->faults[i].kind != LEAK)
			n += report->faults[i].count;
	return n;
}

static uint64_t run(struct oracle *o)
{
	uint64_t n = o->image->size / o->image->g.cluster + 1;

	o->table = calloc(n, 1);
	o->refs = calloc(n, sizeof(*o->refs));
	o->said = calloc(n, sizeof(*o->said));
	if (!o->table || !o->refs || !o->said)
		die("oracle");
	judge_all(o);
	count_leaks(o);
	if (o->report)
		judge_shared(o);
	free(o->table);
	free(o->refs);
	free(o->said);
	return o->nwrong;
}

void oracle_judge(const struct image *image, const struct report *report,
		  char message[300])
{
	struct oracle o = { .image = image, .report = report,
			    .message = message };
	uint64_t n, said = count_said(report);

	*message = '\0';
	n = run(&o);
	if (n != said && !*message)
		snprintf(message, 300, "%" PRIu64 " entries are said to be wrong, "
			 "not %" PRIu64, said, n);
}

uint64_t oracle_count(const struct image *image, uint64_t *nleaked)
{
	char message[300] = "";
	struct oracle o = { .image = image, .message = message };
	uint64_t nwrong = run(&o);

	*nleaked = o.nleaked;
	return nwrong;
}
