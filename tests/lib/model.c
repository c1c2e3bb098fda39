/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The model of a disk: a list of writes, and for each sector which touch it. */
#include "config.h"

#include "model.h"
#include "rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR    UINT64_C(512)
#define NO_ZEROES UINT64_C(0x0101010101010101)

struct op {
	enum model_kind kind;
	bool ok;
	uint64_t off, len;
	uint64_t began, ended;		/* ended: UINT64_MAX while under way */
};

struct sector {
	unsigned *ops;
	unsigned n, max;
};

struct flush {
	uint64_t began, ended;
};

struct model {
	uint64_t size;
	uint8_t *base;
	struct op *ops;
	unsigned nops, max_ops;
	struct sector *sectors;
	struct flush *flushes;
	unsigned nflushes, max_flushes;
};

static void *must(void *memory)
{
	if (!memory) {
		perror("model");
		abort();
	}
	return memory;
}

struct model *model_create(uint64_t size, const uint8_t *base)
{
	struct model *model = must(calloc(1, sizeof(*model)));

	model->size = size;
	model->base = must(malloc(size));
	memcpy(model->base, base, size);
	model->sectors = must(calloc(size / SECTOR, sizeof(*model->sectors)));
	return model;
}

void model_destroy(struct model *model)
{
	for (uint64_t i = 0; i < model->size / SECTOR; i++)
		free(model->sectors[i].ops);
	free(model->sectors);
	free(model->flushes);
	free(model->ops);
	free(model->base);
	free(model);
}

static uint64_t pattern_word(uint64_t id, uint64_t word)
{
	return rng_mix(id << 40 ^ word) | NO_ZEROES;
}

static uint8_t pattern_byte(uint64_t id, uint64_t at)
{
	return (uint8_t)(pattern_word(id, at / 8) >> at % 8 * 8);
}

void model_pattern(uint64_t id, uint8_t *buf, uint64_t off, uint64_t len)
{
	uint64_t at = off, end = off + len;

	while (at < end) {
		uint64_t word = pattern_word(id, at / 8);

		for (uint64_t i = at % 8; i < 8 && at < end; i++)
			buf[at++ - off] = (uint8_t)(word >> i * 8);
	}
}

/* The numbers of patterns that a model uses; what is below is for bases. */
static uint64_t id_of(unsigned op)
{
	return UINT64_C(1000) + op;
}

static void touch(struct sector *sector, unsigned op)
{
	if (sector->n == sector->max) {
		sector->max = sector->max * 2 + 4;
		sector->ops = must(realloc(sector->ops,
					   sector->max * sizeof(unsigned)));
	}
	sector->ops[sector->n++] = op;
}

unsigned model_begin(struct model *model, enum model_kind kind, uint64_t off,
		     uint64_t len, uint64_t now)
{
	unsigned op = model->nops++;

	if (op == model->max_ops) {
		model->max_ops = model->max_ops * 2 + 64;
		model->ops = must(realloc(model->ops, model->max_ops *
							sizeof(*model->ops)));
	}
	model->ops[op] = (struct op){ .kind = kind,
				      .off = off,
				      .len = len,
				      .began = now,
				      .ended = UINT64_MAX };
	for (uint64_t s = off / SECTOR; s * SECTOR < off + len; s++)
		touch(&model->sectors[s], op);
	return op;
}

void model_end(struct model *model, unsigned op, uint64_t now, bool ok)
{
	model->ops[op].ended = now;
	model->ops[op].ok = ok;
}

void model_fill(const struct model *model, unsigned op, uint8_t *buf)
{
	const struct op *o = &model->ops[op];

	model_pattern(id_of(op), buf, o->off, o->len);
}

void model_flushed(struct model *model, uint64_t began, uint64_t ended)
{
	if (model->nflushes == model->max_flushes) {
		model->max_flushes = model->max_flushes * 2 + 16;
		model->flushes = must(realloc(model->flushes,
					      model->max_flushes *
						      sizeof(*model->flushes)));
	}
	model->flushes[model->nflushes++] = (struct flush){ began, ended };
}

uint64_t model_durable(const struct model *model, uint64_t cut)
{
	uint64_t durable = 0;

	for (unsigned i = 0; i < model->nflushes; i++)
		if (model->flushes[i].ended <= cut &&
		    model->flushes[i].began > durable)
			durable = model->flushes[i].began;
	return durable;
}

/* --- judging ----------------------------------------------------------------- */

/* A question: bytes [first, last) of one sector, at one moment. */
struct question {
	const struct model *model;
	const struct sector *sector;
	const uint8_t *content;		/* of byte `first` */
	uint64_t first, last;
	uint64_t durable, cut;
};

static bool covers(const struct op *op, const struct question *q)
{
	return op->off <= q->first && op->off + op->len >= q->last;
}

/* Has what ended (or was there) at `ended` been overtaken for good? */
static bool overtaken(const struct question *q, uint64_t ended)
{
	for (unsigned i = 0; i < q->sector->n; i++) {
		const struct op *op = &q->model->ops[q->sector->ops[i]];

		if (op->ok && op->ended < q->durable && op->began > ended &&
		    covers(op, q))
			return true;
	}
	return false;
}

static bool is_candidate(const struct question *q, const struct op *op)
{
	return op->began < q->cut && covers(op, q) && !overtaken(q, op->ended);
}

static uint8_t byte_of(const struct model *model, unsigned op, uint64_t at)
{
	return model->ops[op].kind == MODEL_ZERO ? 0 :
						   pattern_byte(id_of(op), at);
}

/* Marks in `good` the bytes of the content that `op` could have written. */
static void match_op(const struct question *q, unsigned op, uint8_t *good)
{
	uint8_t bytes[SECTOR];
	uint64_t n = q->last - q->first;

	if (q->model->ops[op].kind == MODEL_ZERO)
		memset(bytes, 0, n);
	else
		model_pattern(id_of(op), bytes, q->first, n);
	for (uint64_t i = 0; i < n; i++)
		good[i] |= bytes[i] == q->content[i];
}

static void match_base(const struct question *q, uint8_t *good)
{
	for (uint64_t i = 0; i < q->last - q->first; i++)
		good[i] |= q->model->base[q->first + i] == q->content[i];
}

/* All writes that touch the bytes cover them; the first bad byte, or `last`. */
static uint64_t judge(const struct question *q)
{
	uint8_t good[SECTOR] = { 0 };
	uint64_t at = q->first;

	if (!overtaken(q, 0))
		match_base(q, good);
	for (unsigned i = 0; i < q->sector->n; i++) {
		unsigned op = q->sector->ops[i];

		if (is_candidate(q, &q->model->ops[op]))
			match_op(q, op, good);
	}
	while (at < q->last && good[at - q->first])
		at++;
	return at;
}

/* Where the next write begins or ends between `at` and `end`. */
static uint64_t next_edge(const struct model *model,
			  const struct sector *sector, uint64_t at,
			  uint64_t end)
{
	for (unsigned i = 0; i < sector->n; i++) {
		const struct op *op = &model->ops[sector->ops[i]];

		if (op->off > at && op->off < end)
			end = op->off;
		if (op->off + op->len > at && op->off + op->len < end)
			end = op->off + op->len;
	}
	return end;
}

/* --- saying what is wrong ------------------------------------------------------ */

/* What do these bytes look like?  Tries all patterns at all their places. */
static void recognise(const struct question *q, uint64_t at, char *buf,
		      size_t room)
{
	const uint8_t *c = q->content + (at - q->first);
	uint64_t n = q->last - at < 8 ? q->last - at : 8, zeroes = 0;

	while (zeroes < n && !c[zeroes])
		zeroes++;
	if (zeroes == n) {
		snprintf(buf, room, "zeroes");
		return;
	}
	if (!memcmp(c, q->model->base + at, n)) {
		snprintf(buf, room, "the base's bytes");
		return;
	}
	for (unsigned op = 0; op < q->model->nops; op++) {
		const struct op *o = &q->model->ops[op];

		for (uint64_t off = o->off; off + n <= o->off + o->len; off++) {
			uint64_t i = 0;

			while (i < n &&
			       pattern_byte(id_of(op), off + i) == c[i])
				i++;
			if (i < n)
				continue;
			snprintf(buf, room,
				 "write %u's bytes for %" PRIu64, op, off);
			return;
		}
	}
	snprintf(buf, room, "%02x %02x %02x...", c[0], n > 1 ? c[1] : 0,
		 n > 2 ? c[2] : 0);
}

static void explain(const struct question *q, uint64_t at, char message[512])
{
	char what[80];
	int n;

	recognise(q, at, what, sizeof(what));
	n = snprintf(message, 512,
		     "disk offset %" PRIu64 " (sector %" PRIu64
		     ") at %" PRIu64 ", durable %" PRIu64
		     ", holds %s; allowed:%s",
		     at, at / SECTOR, q->cut, q->durable, what,
		     overtaken(q, 0)	  ? "" :
		     q->model->base[at] ? " base (data)" :
					  " base (zeroes)");
	for (unsigned i = 0; i < q->sector->n && n < 440; i++) {
		unsigned op = q->sector->ops[i];
		const struct op *o = &q->model->ops[op];

		if (o->began < q->cut && covers(o, q))
			n += snprintf(message + n, 512 - (size_t)n,
				      " %s%u[%" PRIu64 "+%" PRIu64 " t%" PRIu64
				      "-%" PRId64 "]=%02x%s",
				      o->kind == MODEL_ZERO ? "zero" : "write",
				      op, o->off, o->len, o->began,
				      (int64_t)o->ended,
				      byte_of(q->model, op, at),
				      is_candidate(q, o) ? "" : " (gone)");
	}
}

static bool sector_allowed(const struct model *model, uint64_t start,
			   uint64_t end, const uint8_t *content,
			   uint64_t durable, uint64_t cut, char message[512])
{
	struct question q = { .model = model,
			      .sector = &model->sectors[start / SECTOR],
			      .durable = durable,
			      .cut = cut };

	for (q.first = start; q.first < end; q.first = q.last) {
		uint64_t bad;

		q.last = next_edge(model, q.sector, q.first, end);
		q.content = content + (q.first - start);
		bad = judge(&q);
		if (bad == q.last)
			continue;
		explain(&q, bad, message);
		return false;
	}
	return true;
}

bool model_allows(const struct model *model, const uint8_t *content,
		  uint64_t off, uint64_t len, uint64_t durable, uint64_t cut,
		  char message[512])
{
	uint64_t at = off, end = off + len;

	while (at < end) {
		uint64_t next = (at / SECTOR + 1) * SECTOR;

		if (next > end)
			next = end;
		if (model->sectors[at / SECTOR].n ||
		    memcmp(content + (at - off), model->base + at,
			   next - at)) {
			if (!sector_allowed(model, at, next,
					    content + (at - off), durable, cut,
					    message))
				return false;
		}
		at = next;
	}
	return true;
}
