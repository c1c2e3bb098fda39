/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The map of clusters in use: runs, and what it finds, against single clusters. */
#include "config.h"

#include "../lib/rng.h"
#include "used.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define N 100000u			/* over several pages of the map */

/* Marks one by one what can be; how many. */
static uint64_t mark_singly(struct qed_used *used, uint64_t first, uint64_t n)
{
	uint64_t done = 0;

	while (done < n && qed_used_mark(used, first + done) == 0)
		done++;
	return done;
}

static void same(const struct qed_used *a, const struct qed_used *b)
{
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->npages, b->npages);
	for (uint64_t i = 0; i < N; i++)
		assert_int_equal(qed_used_test(a, i), qed_used_test(b, i));
}

static void test_runs(void **state)
{
	struct qed_used runs, single;
	struct rng rng = { 1 };

	(void)state;
	assert_int_equal(qed_used_init(&runs, N), 0);
	assert_int_equal(qed_used_init(&single, N), 0);
	for (int i = 0; i < 300; i++) {
		uint64_t first = rng_below(&rng, N);
		uint64_t most = i % 3 ? 200 : 40000;
		uint64_t n = 1 + rng_below(&rng, qed_min(most, N - first));

		assert_int_equal(qed_used_mark_run(&runs, first, n),
				 mark_singly(&single, first, n));
	}
	same(&runs, &single);
	assert_int_equal(qed_used_mark_run(&runs, 5, 0), 0);
	qed_used_fini(&runs);
	qed_used_fini(&single);
}

/* To the bit, at both ends of words and of the map. */
static void test_edges(void **state)
{
	static const uint64_t edges[] = { 0, 1, 63, 64, 65, 127, 32767, 32768 };
	struct qed_used used;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		for (uint64_t n = 1; n < 130; n++) {
			uint64_t at = edges[i];

			assert_int_equal(qed_used_init(&used, N), 0);
			assert_int_equal(qed_used_mark(&used, at + n), 0);
			assert_int_equal(qed_used_mark_run(&used, at, n + 1),
					 n);
			assert_int_equal(qed_used_count(&used, 0, N), n + 1);
			assert_true(qed_used_test(&used, at));
			assert_int_equal(qed_used_end(&used), at + n + 1);
			qed_used_fini(&used);
		}
	}
}

static uint64_t plain_room(const struct qed_used *used, uint64_t low,
			   uint64_t high, uint64_t n)
{
	while (high > low && n > 0)
		n -= !qed_used_test(used, --high);
	return high;
}

static void check_map(struct qed_used *used, struct rng *rng)
{
	uint64_t low = rng_below(rng, used->n), count = 0;
	uint64_t high = low + rng_below(rng, used->n - low), end = 0;
	uint64_t n = rng_below(rng, 300);

	for (uint64_t i = 0; i < used->n; i++) {
		count += i >= low && i < high && qed_used_test(used, i);
		end = qed_used_test(used, i) ? i + 1 : end;
	}
	assert_int_equal(qed_used_count(used, low, high), count);
	assert_int_equal(qed_used_end(used), end);
	assert_int_equal(qed_used_room(used, low, high, n),
			 plain_room(used, low, high, n));
	n = 1 + n / 30;
	low = qed_used_find_run(used, low, n);
	for (uint64_t i = 0; i < n && low < used->n; i++)
		assert_false(qed_used_test(used, low + i));
}

static void test_changes(void **state)
{
	struct rng rng = { 7 };
	struct qed_used used;

	(void)state;
	assert_int_equal(qed_used_init(&used, N), 0);
	for (int i = 0; i < 300; i++) {
		uint64_t first = rng_below(&rng, used.n - 3000);

		for (uint64_t c = first; c < first + rng_below(&rng, 3000); c++)
			if (i % 3 == 2 && qed_used_test(&used, c))
				qed_used_clear(&used, c);
			else if (i % 3 < 2)
				assert_true(qed_used_mark(&used, c) >= 0);
		check_map(&used, &rng);
	}
	for (uint64_t c = 0; c < used.n; c++)
		if (qed_used_test(&used, c))
			qed_used_clear(&used, c);
	assert_int_equal(used.count, 0);
	check_map(&used, &rng);
	qed_used_fini(&used);
}

/* One bit a page, as what costs most memory does: how many pages there may be. */
static uint64_t fill(struct qed_used *used)
{
	uint64_t page = 0;

	while (qed_used_mark(used, page << QED_USED_PAGE_BITS) == 0)
		page++;
	return page;
}

static void test_limit(void **state)
{
	/* Pages: of the disk's clusters, and that there may be. */
	static const uint64_t limits[][2] = {
		{ 0, 16384 },		/* 64 MiB */
		{ 10, 16384 + 2 * 10 },
		{ 1 << 20, 65536 },	/* 256 MiB */
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		uint64_t max = limits[i][1], next = max << QED_USED_PAGE_BITS;
		struct qed_used used;

		assert_int_equal(qed_used_init(&used, 2 * next), 0);
		qed_used_limit(&used, limits[i][0] << QED_USED_PAGE_BITS);
		assert_int_equal(fill(&used), max);
		assert_int_equal(qed_used_mark(&used, next), -EFBIG);
		assert_int_equal(qed_used_mark_run(&used, next, 1), -EFBIG);
		assert_false(qed_used_test(&used, next));
		/* In pages that it has there is room. */
		assert_int_equal(qed_used_mark(&used, next - 1), 0);
		assert_int_equal(used.count, max + 1);
		qed_used_fini(&used);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
