/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fetch.c: reads ahead of who looks at them. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "fetch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECES 50u
#define LEN    UINT64_C(5000)

static char path[200];
static struct qed_file *file;
static unsigned planned;

/* Piece n of the file holds n everywhere; the last one is twice as far away. */
static uint64_t off_of(unsigned n)
{
	return (n == PIECES - 1 ? 2 * n : n) * LEN;
}

static bool plan(struct qed_fetch *fetch, struct qed_fetch_piece *piece)
{
	(void)fetch;
	if (planned == PIECES)
		return false;
	piece->file_off = off_of(planned);
	piece->len = LEN;
	piece->value = planned++;
	return true;
}

static void make_file(void)
{
	const char *parent = getenv("TMPDIR");
	char buf[LEN];
	int fd;

	snprintf(path, sizeof(path), "%s/unit-fetch.XXXXXX",
		 parent ? parent : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	for (unsigned i = 0; i < PIECES; i++) {
		memset(buf, (int)i, sizeof(buf));
		assert_int_equal(pwrite(fd, buf, LEN, (off_t)off_of(i)), LEN);
	}
	close(fd);
}

static void open_file(struct qed_engine *engine)
{
	const struct qed_log log = { .write = NULL };

	planned = 0;
	assert_int_equal(qed_file_open(path, false, engine, &log, &file), 0);
}

static void assert_piece(const struct qed_fetch_piece *piece, unsigned n)
{
	const uint8_t *buf = piece->buf;

	assert_int_equal(piece->value, n);
	assert_int_equal(piece->err, 0);
	for (unsigned i = 0; i < LEN; i++)
		assert_int_equal(buf[i], n);
}

/* --- with a page cache --------------------------------------------------------------- */

static void cached_is_not_read_ahead(enum qed_io_engine which)
{
	struct qed_fetch fetch = { .plan = plan };
	struct qed_engine *engine;

	if (qed_engine_create(which, &engine) < 0)
		skip();
	open_file(engine);
	fetch.file = file;
	assert_int_equal(qed_fetch_init(&fetch), 0);
	for (unsigned i = 0; i < PIECES; i++) {
		struct qed_fetch_piece *piece = qed_fetch_next(&fetch);

		assert_piece(piece, i);
		assert_int_equal(planned, i + 1);
	}
	assert_null(qed_fetch_next(&fetch));
	assert_null(qed_fetch_next(&fetch));
	qed_fetch_fini(&fetch);
	qed_file_close(file);
	qed_engine_destroy(engine);
}

static void cached_by_threads(void **state)
{
	(void)state;
	cached_is_not_read_ahead(QED_IO_THREADS);
}

static void cached_by_uring(void **state)
{
	(void)state;
	cached_is_not_read_ahead(QED_IO_URING);
}

/* --- what has to wait ----------------------------------------------------------------- */

static unsigned pick_last(void *opaque, unsigned n)
{
	(void)opaque;
	return n - 1;
}

static struct fake_verdict fail_some(void *opaque,
				     const struct fake_record *record)
{
	bool fails = record->file_off / LEN % 7 == 3;

	(void)opaque;
	return (struct fake_verdict){ fails ? FAKE_FAIL : FAKE_RUN, -EIO, 0 };
}

/* Threads that go on with whatever came last: in order all the same. */
static void in_order_with_errors(void **state)
{
	struct fake *fake = fake_create(3);
	struct qed_engine *engine = fake_start(fake);
	struct qed_fetch fetch = { .plan = plan };
	struct qed_fetch_piece *piece;
	unsigned n = 0;

	(void)state;
	fake_set_pick(fake, pick_last, NULL);
	fake_set_decide(fake, fail_some, NULL);
	open_file(engine);
	fetch.file = file;
	assert_int_equal(qed_fetch_init(&fetch), 0);
	for (; (piece = qed_fetch_next(&fetch)); n++) {
		if (off_of(n) / LEN % 7 == 3)
			assert_int_equal(piece->err, -EIO);
		else
			assert_piece(piece, n);
		assert_true(planned > n && planned <= n + QED_FETCH_DEPTH);
	}
	assert_int_equal(n, PIECES);
	qed_fetch_fini(&fetch);
	qed_file_close(file);
	qed_engine_destroy(engine);
	fake_destroy(fake);
}

/* It may be given up at any time. */
static void given_up(void **state)
{
	struct fake *fake = fake_create(2);
	struct qed_engine *engine = fake_start(fake);
	struct qed_fetch fetch = { .plan = plan };

	(void)state;
	open_file(engine);
	fetch.file = file;
	assert_int_equal(qed_fetch_init(&fetch), 0);
	assert_piece(qed_fetch_next(&fetch), 0);
	assert_int_equal(planned, QED_FETCH_DEPTH);
	qed_fetch_fini(&fetch);
	assert_int_equal(fake_pending(fake), 0);
	qed_file_close(file);
	qed_engine_destroy(engine);
	fake_destroy(fake);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static int setup(void **state)
{
	(void)state;
	make_file();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cached_by_threads),
		cmocka_unit_test(cached_by_uring),
		cmocka_unit_test(in_order_with_errors),
		cmocka_unit_test(given_up),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, setup, remove_file);
}
