/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Checked sums, the log, scatter lists and wait lists. */
#include "util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))

struct sum {
	uint64_t a, b;
	bool add_fits, mul_fits;
};

static void sums_and_products_are_checked(void **state)
{
	static const struct sum sums[] = {
		{ 0, 0, true, true },
		{ UINT64_MAX, 0, true, true },
		{ UINT64_MAX, 1, false, true },
		{ UINT64_MAX - 1, 1, true, true },
		{ UINT64_MAX, 2, false, false },
		{ UINT64_C(1) << 32, UINT64_C(1) << 32, true, false },
		{ UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, true, true },
		{ UINT64_C(1) << 63, UINT64_C(1) << 63, false, false },
		{ UINT64_MAX, UINT64_MAX, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ELEMS(sums); i++) {
		uint64_t a = sums[i].a, b = sums[i].b, r;

		assert_int_equal(qed_add(a, b, &r), sums[i].add_fits);
		if (sums[i].add_fits)
			assert_true(r == a + b);
		assert_int_equal(qed_mul(a, b, &r), sums[i].mul_fits);
		if (sums[i].mul_fits)
			assert_true(r == a * b);
	}
}

static void rounding_and_extremes(void **state)
{
	(void)state;
	assert_true(qed_round_up(0, 512) == 0);
	assert_true(qed_round_up(1, 512) == 512);
	assert_true(qed_round_up(512, 512) == 512);
	assert_true(qed_round_up(UINT64_MAX - 511, 512) == UINT64_MAX - 511);
	assert_true(qed_round_down(511, 512) == 0);
	assert_true(qed_round_down(UINT64_MAX, 4096) == UINT64_MAX - 4095);
	assert_true(qed_min(1, UINT64_MAX) == 1);
	assert_true(qed_max(1, UINT64_MAX) == UINT64_MAX);
}

struct heard {
	int lines;
	enum qed_log_level level;
	char last[8192];
};

static void listen(void *opaque, enum qed_log_level level, const char *message)
{
	struct heard *heard = opaque;

	heard->lines++;
	heard->level = level;
	snprintf(heard->last, sizeof(heard->last), "%s", message);
}

static void a_message_is_one_line(void **state)
{
	struct heard heard = { 0 };
	const struct qed_log log = { listen, &heard };

	(void)state;
	qed_log_write(&log, QED_LOG_WARNING, "%s: offset 0x%x", "a\nb\tc\x7f",
		      0x12);
	assert_int_equal(heard.lines, 1);
	assert_int_equal(heard.level, QED_LOG_WARNING);
	assert_string_equal(heard.last, "a?b?c?: offset 0x12");
	/* Bytes above ASCII are somebody's letters. */
	qed_log_write(&log, QED_LOG_ERROR, "%s", "\xc3\xa4");
	assert_string_equal(heard.last, "\xc3\xa4");
}

static void a_message_may_be_long(void **state)
{
	static const size_t sizes[] = { 1, 510, 511, 512, 513, 5000 };
	struct heard heard = { 0 };
	const struct qed_log log = { listen, &heard };
	char text[5001];

	(void)state;
	for (size_t i = 0; i < ELEMS(sizes); i++) {
		memset(text, 'x', sizes[i]);
		text[sizes[i] - 1] = 'y';
		text[sizes[i]] = '\0';
		qed_log_write(&log, QED_LOG_INFO, "%s", text);
		assert_string_equal(heard.last, text);
	}
	assert_int_equal(heard.lines, (int)ELEMS(sizes));
}

static void nobody_has_to_listen(void **state)
{
	const struct qed_log silent = { NULL, NULL };

	(void)state;
	qed_log_write(NULL, QED_LOG_ERROR, "lost");
	qed_log_write(&silent, QED_LOG_ERROR, "lost");
}

/* Ten bytes in parts of 3, 0, 4, 0 and 3. */
static char bytes[10];

static const struct iovec parts[] = {
	{ bytes, 3 }, { bytes + 3, 0 }, { bytes + 3, 4 },
	{ NULL, 0 }, { bytes + 7, 3 },
};
#define NPARTS ((int)ELEMS(parts))

/* Every slice of the list, against the bytes that it has to name. */
static void slices_name_the_right_bytes(void **state)
{
	struct iovec out[ELEMS(parts)];

	(void)state;
	assert_true(qed_iov_bytes(parts, NPARTS) == sizeof(bytes));
	assert_true(qed_iov_bytes(parts, 0) == 0);
	for (size_t skip = 0; skip <= sizeof(bytes); skip++) {
		for (size_t len = 0; len <= sizeof(bytes) - skip; len++) {
			const char *next = bytes + skip;
			int n = qed_iov_slice(parts, NPARTS, skip, len, out);

			assert_int_equal(n, qed_iov_parts(parts, NPARTS, skip,
							  len));
			assert_true(qed_iov_bytes(out, n) == len);
			for (int i = 0; i < n; i++) {
				assert_ptr_equal(out[i].iov_base, next);
				assert_true(out[i].iov_len > 0);
				next += out[i].iov_len;
			}
		}
	}
}

struct slice {
	uint64_t skip, len;
	int n;
};

static void slices_have_no_empty_parts(void **state)
{
	static const struct slice cases[] = {
		{ 0, 10, 3 }, { 0, 0, 0 }, { 10, 0, 0 }, { 3, 0, 0 },
		{ 0, 3, 1 }, { 0, 4, 2 }, { 3, 4, 1 }, { 2, 6, 3 },
		{ 7, 3, 1 }, { 9, 1, 1 },
	};

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++)
		assert_int_equal(qed_iov_parts(parts, NPARTS, cases[i].skip,
					       cases[i].len), cases[i].n);
}

static void zeroing_hits_only_its_range(void **state)
{
	char expected[sizeof(bytes)];

	(void)state;
	for (size_t skip = 0; skip <= sizeof(bytes); skip++) {
		for (size_t len = 0; len <= sizeof(bytes) - skip; len++) {
			memset(bytes, 'x', sizeof(bytes));
			memset(expected, 'x', sizeof(expected));
			memset(expected + skip, 0, len);
			qed_iov_zero(parts, NPARTS, skip, len);
			assert_memory_equal(bytes, expected, sizeof(bytes));
		}
	}
}

/* A waiter that notes its turn, and may do something rash in it. */
struct turn {
	struct qed_waiter waiter;
	int order, err;
	void (*rash)(struct turn *turn);
	struct qed_waitlist *list;
};

static int turns;

static void take_turn(struct qed_waiter *waiter, int err)
{
	struct turn *turn = (struct turn *)waiter;

	turn->order = ++turns;
	turn->err = err;
	if (turn->rash)
		turn->rash(turn);
}

static void init_turns(struct turn *turn, int n)
{
	turns = 0;
	memset(turn, 0, (size_t)n * sizeof(*turn));
	for (int i = 0; i < n; i++)
		turn[i].waiter.wake = take_turn;
}

static void waiters_wake_in_order(void **state)
{
	struct qed_waitlist list;
	struct turn turn[3];

	(void)state;
	init_turns(turn, 3);
	qed_waitlist_init(&list);
	qed_waitlist_wake(&list, -EIO);
	assert_int_equal(turns, 0);
	for (int i = 0; i < 3; i++)
		qed_waitlist_add(&list, &turn[i].waiter);
	qed_waitlist_wake(&list, -EIO);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(turn[i].order, i + 1);
		assert_int_equal(turn[i].err, -EIO);
	}
	qed_waitlist_wake(&list, 0);
	assert_int_equal(turns, 3);
}

static void lists_can_be_joined(void **state)
{
	struct qed_waitlist a, b;
	struct turn turn[4];

	(void)state;
	init_turns(turn, 4);
	qed_waitlist_init(&a);
	qed_waitlist_init(&b);
	qed_waitlist_move(&a, &b);		/* nothing to nothing */
	qed_waitlist_add(&b, &turn[0].waiter);
	qed_waitlist_move(&a, &b);		/* to an empty list */
	qed_waitlist_add(&b, &turn[1].waiter);
	qed_waitlist_add(&b, &turn[2].waiter);
	qed_waitlist_move(&a, &b);
	qed_waitlist_move(&a, &b);		/* nothing to something */
	qed_waitlist_add(&a, &turn[3].waiter);
	qed_waitlist_wake(&b, 0);
	assert_int_equal(turns, 0);
	qed_waitlist_wake(&a, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(turn[i].order, i + 1);
}

static void wait_again(struct turn *turn)
{
	turn->rash = NULL;
	qed_waitlist_add(turn->list, &turn->waiter);
}

static void a_waiter_may_wait_again(void **state)
{
	struct qed_waitlist list;
	struct turn turn[2];

	(void)state;
	init_turns(turn, 2);
	qed_waitlist_init(&list);
	turn[0].rash = wait_again;
	turn[0].list = &list;
	qed_waitlist_add(&list, &turn[0].waiter);
	qed_waitlist_add(&list, &turn[1].waiter);
	qed_waitlist_wake(&list, 0);
	assert_int_equal(turns, 2);
	qed_waitlist_wake(&list, 0);
	assert_int_equal(turns, 3);
	assert_int_equal(turn[0].order, 3);
	assert_int_equal(turn[1].order, 2);
}

static void free_all(struct turn *turn)
{
	free(turn->list);
	free(turn);
}

/* Sanitizers and valgrind see it if the list or the waiter is used again. */
static void a_waiter_may_end_everything(void **state)
{
	struct turn *turn = malloc(sizeof(*turn));

	(void)state;
	assert_non_null(turn);
	init_turns(turn, 1);
	turn->list = malloc(sizeof(*turn->list));
	assert_non_null(turn->list);
	turn->rash = free_all;
	qed_waitlist_init(turn->list);
	qed_waitlist_add(turn->list, &turn->waiter);
	qed_waitlist_wake(turn->list, 0);
	assert_int_equal(turns, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_and_products_are_checked),
		cmocka_unit_test(rounding_and_extremes),
		cmocka_unit_test(a_message_is_one_line),
		cmocka_unit_test(a_message_may_be_long),
		cmocka_unit_test(nobody_has_to_listen),
		cmocka_unit_test(slices_name_the_right_bytes),
		cmocka_unit_test(slices_have_no_empty_parts),
		cmocka_unit_test(zeroing_hits_only_its_range),
		cmocka_unit_test(waiters_wake_in_order),
		cmocka_unit_test(lists_can_be_joined),
		cmocka_unit_test(a_waiter_may_wait_again),
		cmocka_unit_test(a_waiter_may_end_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
