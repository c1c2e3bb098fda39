/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* transfer.c: pieces shared out among workers. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "transfer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PIECES 200u
#define LEN    UINT64_C(1000)
#define NONE   UINT64_MAX

/*
 * A job over PIECES pieces, every other one preceded by LEN bytes to step over, half of
 * them in a call of their own.
 */
struct test {
	struct qed_transfer transfer;
	struct qed_job job;
	uint64_t next;
	uint64_t plan_fails_at, work_ends_at[2], cancel_at;
	int ends[2];
	bool in_turn, hold, later;
	pthread_barrier_t all_here;
	_Atomic unsigned planning, working, most_working, worked;
	_Atomic uint64_t turn;		/* pieces that have had theirs */
	uint64_t steps, last_done;
};

static int plan(struct qed_transfer *transfer, struct qed_piece *piece,
		uint64_t *passed)
{
	struct test *test = transfer->opaque;

	assert_int_equal(atomic_fetch_add(&test->planning, 1), 0);
	assert_int_equal(*passed, 0);
	assert_int_equal(piece->number, test->next);
	atomic_fetch_sub(&test->planning, 1);
	if (test->next == test->plan_fails_at)
		return -EUCLEAN;
	if (test->next == PIECES)
		return QED_PIECE_NONE;
	if (test->next % 2 && !test->later) {
		*passed = LEN;
		test->later = test->next % 4 == 1;
		if (test->later)
			return QED_PIECE_LATER;
	}
	test->later = false;
	piece->disk_off = test->next++ * LEN;
	piece->len = LEN;
	piece->value = ~piece->disk_off;
	return 0;
}

static void take_turn(struct test *test, const struct qed_piece *piece)
{
	if (qed_transfer_await_turn(&test->transfer, piece) < 0)
		return;
	assert_int_equal(atomic_fetch_add(&test->turn, 1), piece->number);
	/* Some leave it to the end of the piece. */
	if (piece->number % 3)
		qed_transfer_pass_turn(&test->transfer, piece);
}

static int work(struct qed_transfer *transfer, struct qed_piece *piece)
{
	struct test *test = transfer->opaque;
	unsigned now = atomic_fetch_add(&test->working, 1) + 1;
	int ret = 0;

	if (now > atomic_load(&test->most_working))
		atomic_store(&test->most_working, now);
	assert_int_equal(piece->value, ~piece->disk_off);
	for (unsigned i = 0; i < transfer->nbufs; i++) {
		assert_int_equal((uintptr_t)piece->buf[i] % 4096, 0);
		memset(piece->buf[i], (int)piece->number, QED_PIECE_MAX);
	}
	if (test->hold && piece->number < transfer->nworkers)
		pthread_barrier_wait(&test->all_here);
	if (test->in_turn)
		take_turn(test, piece);
	for (int i = 0; i < 2; i++)
		if (piece->number == test->work_ends_at[i])
			ret = test->ends[i];
	if (ret == -EIO)
		ret = qed_transfer_fail(transfer, piece, ret, "file", "write",
					piece->disk_off);
	for (unsigned i = 0; i < transfer->nbufs; i++)
		assert_int_equal(piece->buf[i][LEN], (uint8_t)piece->number);
	atomic_fetch_add(&test->worked, 1);
	atomic_fetch_sub(&test->working, 1);
	return ret;
}

static void progress(void *opaque, uint64_t done, uint64_t total)
{
	struct test *test = opaque;

	assert_true(done >= test->last_done);
	assert_true(done <= total);
	test->last_done = done;
	test->steps++;
}

static bool cancelled(void *opaque)
{
	const struct test *test = opaque;

	return test->steps >= test->cancel_at;
}

static void init(struct test *test, unsigned nworkers)
{
	memset(test, 0, sizeof(*test));
	test->plan_fails_at = test->cancel_at = NONE;
	test->work_ends_at[0] = test->work_ends_at[1] = NONE;
	test->job = (struct qed_job){ progress, cancelled, test };
	test->transfer = (struct qed_transfer){ .nworkers = nworkers,
						.nbufs = 2,
						.total = PIECES * LEN / 2 * 3,
						.job = &test->job,
						.plan = plan,
						.work = work,
						.opaque = test };
}

static void all_pieces(void **state)
{
	struct test test;

	(void)state;
	for (unsigned n = 0; n <= QED_WORKERS_MAX; n++) {
		init(&test, n);
		assert_int_equal(qed_transfer_run(&test.transfer), 0);
		assert_int_equal(test.worked, PIECES);
		assert_int_equal(test.last_done, test.transfer.total);
		assert_null(test.transfer.state);
	}
}

/* The first pieces wait for each other: none of the workers is missing. */
static void side_by_side(void **state)
{
	struct test test;

	(void)state;
	init(&test, QED_WORKERS_MAX);
	test.hold = true;
	pthread_barrier_init(&test.all_here, NULL, QED_WORKERS_MAX);
	assert_int_equal(qed_transfer_run(&test.transfer), 0);
	pthread_barrier_destroy(&test.all_here);
	assert_int_equal(test.most_working, QED_WORKERS_MAX);
	assert_int_equal(test.worked, PIECES);
}

static void turns_in_order(void **state)
{
	struct test test;

	(void)state;
	for (int i = 0; i < 20; i++) {
		init(&test, QED_WORKERS_MAX);
		test.in_turn = true;
		test.transfer.nbufs = 0;
		assert_int_equal(qed_transfer_run(&test.transfer), 0);
		assert_int_equal(test.turn, PIECES);
	}
}

/* Nobody has a turn behind a piece that failed. */
static void no_turn_after_failure(void **state)
{
	struct test test;

	(void)state;
	init(&test, QED_WORKERS_MAX);
	test.in_turn = true;
	test.work_ends_at[0] = 60;
	test.ends[0] = -EIO;
	assert_int_equal(qed_transfer_run(&test.transfer), -EIO);
	assert_int_equal(test.turn, 61);
	assert_true(test.worked >= 61);
	free(test.transfer.message);
}

static void lowest_result_counts(void **state)
{
	struct test test;

	(void)state;
	for (int i = 0; i < 20; i++) {
		init(&test, 4);
		test.work_ends_at[0] = 51;
		test.ends[0] = -EIO;
		test.work_ends_at[1] = 50;
		test.ends[1] = 7;
		assert_int_equal(qed_transfer_run(&test.transfer), 7);
		/* The other one had something to say. */
		assert_null(test.transfer.message);
		/* What was planned before is carried out. */
		assert_true(test.worked >= 51);
	}
}

/* With one worker there is no doubt about what was planned before. */
static void no_piece_after_failure(void **state)
{
	struct test test;

	(void)state;
	init(&test, 1);
	test.work_ends_at[0] = 50;
	test.ends[0] = -EIO;
	assert_int_equal(qed_transfer_run(&test.transfer), -EIO);
	assert_int_equal(test.worked, 51);
	assert_int_equal(test.next, 51);
	assert_string_equal(test.transfer.message,
			    "file: cannot write at disk offset 50000: "
			    "Input/output error");
	free(test.transfer.message);
}

static void plan_fails(void **state)
{
	struct test test;

	(void)state;
	init(&test, 4);
	test.plan_fails_at = 30;
	assert_int_equal(qed_transfer_run(&test.transfer), -EUCLEAN);
	assert_int_equal(test.worked, 30);
	/* An earlier piece's result goes before it. */
	init(&test, 4);
	test.plan_fails_at = 30;
	test.work_ends_at[0] = 29;
	test.ends[0] = 3;
	assert_int_equal(qed_transfer_run(&test.transfer), 3);
}

static void cancelled_job(void **state)
{
	struct test test;

	(void)state;
	init(&test, 4);
	test.cancel_at = 1;
	assert_int_equal(qed_transfer_run(&test.transfer), -ECANCELED);
	init(&test, 4);
	test.transfer.job = NULL;
	assert_int_equal(qed_transfer_run(&test.transfer), 0);
	assert_int_equal(test.worked, PIECES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_pieces),
		cmocka_unit_test(side_by_side),
		cmocka_unit_test(turns_in_order),
		cmocka_unit_test(no_turn_after_failure),
		cmocka_unit_test(lowest_result_counts),
		cmocka_unit_test(no_piece_after_failure),
		cmocka_unit_test(plan_fails),
		cmocka_unit_test(cancelled_job),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
