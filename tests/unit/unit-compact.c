/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qed_image_compact() on random images: header, tables and data anywhere in the
 * file, in any order, with holes between, of any geometry; in steps of any size.
 * Afterwards the disk is the same, nothing is wrong or free, and a second run finds
 * nothing to do.  QED_SEED repeats a run.
 */
#include "config.h"

#include "compact.h"
#include "../lib/fake-engine.h"
#include "format.h"
#include "../lib/rng.h"
#include "../lib/scratch.h"
#include "../lib/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE     "image.qed"
#define UNITS_MAX 600u
#define ROUNDS    300u
#define ROUNDS_TSAN 60u

static char last_message[300];

/* --- images --------------------------------------------------------------------- */

/* What an image is made of: the L1 table, L2 tables, data clusters. */
struct unit {
	enum { L1, TABLE, DATA } kind;
	uint64_t index;			/* TABLE: in L1; DATA: on the disk */
	uint64_t at;			/* cluster of the file */
	uint64_t order;			/* random */
	bool hole;			/* DATA: zeroes that are not stored */
};

struct layout {
	struct rng *rng;
	uint32_t cluster, table, header;	/* bytes, clusters, clusters */
	uint64_t nelems, image_size;
	struct unit units[UNITS_MAX];
	unsigned n, ndata, nholes;
	bool l1_first;
	uint64_t end;			/* clusters */
};

static int by_order(const void *a, const void *b)
{
	const struct unit *x = a, *y = b;

	return x->order < y->order ? -1 : x->order > y->order;
}

static void add_unit(struct layout *l, int kind, uint64_t index,
		     uint64_t order)
{
	assert_true(l->n < UNITS_MAX);
	l->units[l->n++] = (struct unit){ .kind = kind,
					  .index = index,
					  .order = order };
}

/* How disordered: a few units, or all. */
static uint64_t random_order(struct layout *l, unsigned percent)
{
	return rng_chance(l->rng, percent) ? rng_below(l->rng, 1000) : l->n;
}

static void choose_units(struct layout *l)
{
	static const unsigned choice[] = { 0, 5, 50, 100 };
	unsigned mess = choice[rng_below(l->rng, 4)];
	unsigned share = 5 + (unsigned)rng_below(l->rng, 95);
	uint64_t tables = 1 + rng_below(l->rng, 24);
	uint64_t gap = 1 + rng_below(l->rng, 9);

	l->l1_first = rng_chance(l->rng, 70);
	add_unit(l, L1, 0, l->l1_first ? 0 : rng_below(l->rng, 600));
	for (uint64_t t = 0; t < tables; t++) {
		uint64_t index = t * 3 % 29;	/* not ascending, not all */
		unsigned ndata = (unsigned)rng_below(l->rng, 20);

		add_unit(l, TABLE, index, 1 + random_order(l, mess));
		for (unsigned d = 0; d < ndata; d++) {
			if (!rng_chance(l->rng, share))
				continue;
			add_unit(l, DATA, index * l->nelems + d * gap,
				 1 + random_order(l, mess));
			l->units[l->n - 1].hole = rng_chance(l->rng, 10);
			l->nholes += l->units[l->n - 1].hole;
			l->ndata++;
		}
	}
}

static void place_units(struct layout *l)
{
	static const unsigned choice[] = { 0, 3, 30, 80 };
	unsigned holes = choice[rng_below(l->rng, 4)];
	uint64_t longest = 1 + rng_below(l->rng, 9);

	qsort(l->units, l->n, sizeof(*l->units), by_order);
	l->end = l->header;
	for (unsigned i = 0; i < l->n; i++) {
		struct unit *u = &l->units[i];

		if (u->kind != L1 && rng_chance(l->rng, holes))
			l->end += 1 + rng_below(l->rng, longest);
		u->at = l->end;
		l->end += u->kind == DATA ? 1 : l->table;
	}
	if (rng_chance(l->rng, 50))
		l->end += rng_below(l->rng, 6);
}

static void make_layout(struct layout *l, struct rng *rng)
{
	static const uint32_t tables[] = { 1, 2, 4, 8, 16 };

	*l = (struct layout){ .rng = rng };
	l->cluster = rng_chance(rng, 80) ? 4096 : 8192;
	l->table = tables[rng_below(rng, 5)];
	l->header = 1 + (uint32_t)rng_below(rng, 3);
	l->nelems = (uint64_t)l->table * l->cluster / 8;
	l->image_size = 30 * l->nelems * l->cluster - 512;
	choose_units(l);
	place_units(l);
}

static void put_bytes(int fd, const void *buf, size_t len, uint64_t at)
{
	assert_int_equal(pwrite(fd, buf, len, (off_t)at), len);
}

static void put64(int fd, uint64_t value, uint64_t at)
{
	struct qed_le64 v = qed_le64_put(value);

	put_bytes(fd, &v, sizeof(v), at);
}

static uint64_t place_of(const struct layout *l, int kind, uint64_t index)
{
	for (unsigned i = 0; i < l->n; i++)
		if ((int)l->units[i].kind == kind && l->units[i].index == index)
			return l->units[i].at * l->cluster;
	fail();
	return 0;
}

static void fill_cluster(const struct layout *l, uint64_t disk_cluster,
			 uint8_t *buf)
{
	for (uint32_t i = 0; i < l->cluster; i += 8)
		memcpy(buf + i, &(uint64_t){ (disk_cluster << 20) + i + 1 }, 8);
}

static void write_header(const struct layout *l, int fd)
{
	struct qed_header h = { .cluster_size = l->cluster,
				.table_size = l->table,
				.header_size = l->header,
				.image_size = l->image_size };
	char message[QED_MESSAGE_MAX];
	uint8_t buf[QED_HEADER_BYTES];

	assert_int_equal(qed_header_derive(&h, message), 0);
	h.l1_table_offset = place_of(l, L1, 0);
	if (rng_chance(l->rng, 20))
		h.features = QED_FEATURE_NEED_CHECK;
	if (rng_chance(l->rng, 20))
		h.autoclear_features = 5;
	qed_header_encode(&h, buf);
	put_bytes(fd, buf, sizeof(buf), 0);
}

/* Leaks have contents. */
static void write_garbage(const struct layout *l, int fd)
{
	uint8_t *buf = malloc(l->cluster);

	assert_non_null(buf);
	memset(buf, 0xee, l->cluster);
	for (uint64_t i = l->header; i < l->end; i++)
		put_bytes(fd, buf, l->cluster, i * l->cluster);
	free(buf);
}

static void write_unit(const struct layout *l, const struct unit *u, int fd)
{
	uint64_t at = u->at * l->cluster;
	size_t len = u->kind == DATA ? l->cluster : l->table * l->cluster;
	uint8_t *buf = calloc(1, len);

	assert_non_null(buf);
	if (u->kind == DATA)
		fill_cluster(l, u->index, buf);
	if (u->hole)
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE |
						       FALLOC_FL_KEEP_SIZE,
					   (off_t)at, (off_t)len),
				 0);
	else
		put_bytes(fd, buf, len, at);
	free(buf);
}

/* Some have zero clusters, which are no data. */
static void put_table(const struct layout *l, const struct unit *u, int fd)
{
	put64(fd, u->at * l->cluster, place_of(l, L1, 0) + u->index * 8);
	if (u->index % 2)
		put64(fd, QED_ENTRY_ZERO,
		      u->at * l->cluster + (l->nelems - 1) * 8);
}

static void write_image(const struct layout *l)
{
	int fd = open(IMAGE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)(l->end * l->cluster)), 0);
	write_garbage(l, fd);
	write_header(l, fd);
	for (unsigned i = 0; i < l->n; i++)
		write_unit(l, &l->units[i], fd);
	for (unsigned i = 0; i < l->n; i++) {
		const struct unit *u = &l->units[i];

		if (u->kind == TABLE)
			put_table(l, u, fd);
		else if (u->kind == DATA)
			put64(fd, u->at * l->cluster,
			      place_of(l, TABLE, u->index / l->nelems) +
				      u->index % l->nelems * 8);
	}
	close(fd);
}

/* --- judging ------------------------------------------------------------------------- */

static void assert_unit(const struct layout *l, const struct unit *u,
			const struct walk *walk, bool no_zeroes)
{
	uint64_t at = walk_entry(walk, u->index * l->cluster);
	uint8_t *buf = calloc(1, l->cluster);

	assert_non_null(buf);
	if (u->hole && no_zeroes) {
		assert_int_equal(at, 0);
	} else {
		if (!u->hole)
			fill_cluster(l, u->index, buf);
		assert_memory_equal(walk->file + at, buf, l->cluster);
	}
	free(buf);
}

static void assert_contents(const struct layout *l, const struct walk *walk,
			    bool no_zeroes)
{
	assert_int_equal(walk->errors, 0);
	assert_int_equal(walk->ndata, l->ndata - (no_zeroes ? l->nholes : 0));
	assert_int_equal(walk->features, 0);
	for (unsigned i = 0; i < l->n; i++)
		if (l->units[i].kind == DATA)
			assert_unit(l, &l->units[i], walk, no_zeroes);
}

/* Of those, this many are needed: others map nothing. */
static unsigned tables_needed(const struct layout *l, bool no_zeroes)
{
	bool needed[64] = { false };
	unsigned n = 0;

	for (unsigned i = 0; i < l->n; i++) {
		const struct unit *u = &l->units[i];

		if (u->kind == DATA && !(u->hole && no_zeroes))
			needed[u->index / l->nelems] = true;
		if (u->kind == TABLE && u->index % 2)
			needed[u->index] = true;
	}
	for (unsigned i = 0; i < 64; i++)
		n += needed[i];
	return n;
}

static void assert_compact(const struct layout *l, const struct walk *walk,
			   bool no_zeroes)
{
	uint64_t l1_end = walk->l1_off + walk->table_bytes;
	unsigned ntables = tables_needed(l, no_zeroes);
	uint64_t clusters = l->header + walk->ndata +
			    (ntables + 1) * l->table;
	/* What lies before a table that does not move may be too narrow. */
	uint64_t narrow = (walk->l1_off / l->cluster - l->header) % l->table;

	assert_int_equal(walk->ntables, ntables);
	assert_int_equal(walk->size % l->cluster, 0);
	if (walk->size == l1_end)
		assert_true(clusters * l->cluster <= l1_end);
	else if (walk->ndata >= narrow)
		assert_int_equal(walk->size, clusters * l->cluster);
	else
		assert_true(walk->size <= (clusters + narrow) * l->cluster);
}

/* Data and tables ascend with the disk, and follow each other. */
static void assert_in_order(const struct layout *l, const struct walk *walk)
{
	uint64_t last = 0, last_table = 0, gaps = 0;

	for (uint64_t i = 0; i < 30 * l->nelems; i++) {
		uint64_t entry = walk_entry(walk, i * l->cluster);
		uint64_t table = walk_table(walk, i * l->cluster);

		if (table) {
			assert_true(table >= last_table);
			last_table = table;
		}
		if (entry <= QED_ENTRY_ZERO)
			continue;
		assert_true(entry > last);
		gaps += last && entry != last + l->cluster;
		last = entry;
	}
	assert_true(gaps <= !l->l1_first);
}

/* --- running ------------------------------------------------------------------------- */

static void note_message(void *opaque, enum qed_log_level level,
			 const char *message)
{
	(void)opaque;
	if (level == QED_LOG_ERROR)
		snprintf(last_message, sizeof(last_message), "%s", message);
}

static int run(uint32_t flags, uint64_t batch,
	       struct qed_compact_report *report)
{
	const struct qed_compact_options options = {
		.flags = flags,
		.io = QED_IO_THREADS,
		.batch = batch,
		.log = { note_message, NULL },
	};

	last_message[0] = '\0';
	return qed_image_compact(IMAGE, &options, report);
}

static void one_image(uint64_t seed)
{
	struct rng rng = { seed };
	uint32_t flags = rng_chance(&rng, 60) ? QED_COMPACT_DEFRAG : 0;
	bool no_zeroes = rng_chance(&rng, 30);
	uint64_t batch = rng_chance(&rng, 40) ?
				 4096 :
				 (1 + rng_below(&rng, 30)) * 4096;
	struct qed_compact_report planned, report;
	struct layout *l = malloc(sizeof(*l));
	struct walk *walk;
	int ret;

	assert_non_null(l);
	make_layout(l, &rng);
	write_image(l);
	flags |= no_zeroes ? QED_COMPACT_ZEROES : 0;
	assert_int_equal(run(QED_COMPACT_DRY_RUN, batch, &planned), 0);
	ret = run(flags, batch, &report);
	if (ret < 0)
		print_message("seed %" PRIu64 ": %s\n", seed, last_message);
	assert_int_equal(ret, 0);
	walk = walk_open(IMAGE);
	assert_contents(l, walk, no_zeroes);
	assert_compact(l, walk, no_zeroes);
	assert_int_equal(report.size_after, walk->size);
	if (!no_zeroes) {
		assert_int_equal(report.dropped_tables, planned.dropped_tables);
		assert_true(planned.size_after <= walk->size);
	}
	if (flags & QED_COMPACT_DEFRAG)
		assert_in_order(l, walk);
	walk_close(walk);
	assert_int_equal(run(flags, batch, &report), 0);
	assert_int_equal(report.moved + report.moved_tables, 0);
	assert_int_equal(report.dropped_tables, 0);
	free(l);
}

static void test_random_images(void **state)
{
	const char *given = getenv("QED_SEED"), *with = getenv("QED_SANITIZER");
	unsigned rounds = with && strstr(with, "thread") ? ROUNDS_TSAN : ROUNDS;
	uint64_t seed = given ? strtoull(given, NULL, 0) :
				(uint64_t)getpid() << 20;

	(void)state;
	print_message("QED_SEED=%" PRIu64 "\n", seed);
	for (unsigned i = 0; i < rounds; i++)
		one_image(seed + i);
}

/* --- a host that cannot punch ------------------------------------------------------ */

static struct fake_verdict refuse_punch(void *opaque,
					const struct fake_record *record)
{
	unsigned *n = opaque;

	if (record->op != QED_OP_PUNCH)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	++*n;
	return (struct fake_verdict){ FAKE_FAIL, -EOPNOTSUPP, 0 };
}

/* Then zeroes are written where holes go. */
static void test_no_punch(void **state)
{
	const struct qed_compact_options options = {
		.flags = QED_COMPACT_DEFRAG,
	};
	struct layout *l = malloc(sizeof(*l));
	struct qed_compact_report report;
	unsigned n = 0;

	(void)state;
	assert_non_null(l);
	for (uint64_t seed = 1; seed < 20; seed++) {
		struct rng rng = { seed };
		struct fake *fake = fake_create(2);
		struct walk *walk;

		make_layout(l, &rng);
		write_image(l);
		fake_set_decide(fake, refuse_punch, &n);
		assert_int_equal(qed_image_compact_engine(IMAGE, &options,
							  fake_start(fake),
							  &report), 0);
		fake_destroy(fake);
		walk = walk_open(IMAGE);
		assert_contents(l, walk, false);
		assert_in_order(l, walk);
		walk_close(walk);
	}
	assert_true(n > 0);
	free(l);
}

static int enter(void **state)
{
	(void)state;
	return scratch_enter("unit-compact");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_images),
		cmocka_unit_test(test_no_punch),
	};

	return cmocka_run_group_tests(tests, enter, NULL);
}
