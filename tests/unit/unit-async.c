/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The lookup engine is asynchronous: no caller sleeps on a table, a table is read
 * once however many want it, and what needs no table does not wait.
 */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "image.h"
#include "../lib/model.h"
#include "../lib/walk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Tables of 512 entries for clusters of 4 KiB: 2 MiB of disk each. */
#define CLUSTER 4096u
#define REACH   (UINT64_C(2) << 20)
#define NTABLES 64u
#define CALLERS 2u
#define NSAME   100u
#define NAME    "top.qed"

static char dir[200];
static struct walk *walk;		/* of the image at rest */
static struct fake *fake;
static struct qed_image *image;
static uint8_t buffers[NSAME][CLUSTER];
static struct call calls[NSAME];

/* Each table maps two clusters, its first and its last. */
static uint64_t first_of(unsigned table)
{
	return table * REACH;
}

static uint64_t last_of(unsigned table)
{
	return (table + 1) * REACH - CLUSTER;
}

static void write_cluster(struct qed_image *to, uint64_t off)
{
	uint8_t buf[CLUSTER];

	model_pattern(1, buf, off, CLUSTER);
	assert_int_equal(qed_pwrite(to, buf, CLUSTER, off), CLUSTER);
}

static void assert_cluster(const uint8_t *buf, uint64_t off)
{
	uint8_t expected[CLUSTER];

	model_pattern(1, expected, off, CLUSTER);
	assert_memory_equal(buf, expected, CLUSTER);
}

static void make_image(void)
{
	const struct qed_create_options create = {
		.virtual_size = NTABLES * REACH,
		.cluster_size = CLUSTER,
		.table_size = 1,
	};
	struct qed_open_options options;
	struct qed_image *made;

	assert_int_equal(qed_image_create(NAME, &create), 0);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.io = QED_IO_THREADS;
	assert_int_equal(qed_image_open(NAME, &options, &made), 0);
	for (unsigned i = 0; i < NTABLES; i++) {
		write_cluster(made, first_of(i));
		write_cluster(made, last_of(i));
	}
	assert_int_equal(qed_image_close(made), 0);
}

static int enter_dir(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/unit-async.XXXXXX",
		 parent ? parent : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	make_image();
	walk = walk_open(NAME);
	return walk->errors ? -1 : 0;
}

static int leave_dir(void **state)
{
	(void)state;
	walk_close(walk);
	unlink(NAME);
	return chdir("/") == 0 ? rmdir(dir) : -1;
}

static void open_image(uint64_t l2_cache)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.l2_cache = l2_cache;
	fake = fake_create(2);
	assert_int_equal(qed_image_open_engine(NAME, &options,
					       fake_start(fake), &image),
			 0);
	fake_reset_counts(fake);
}

static void close_image(void)
{
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	assert_int_equal(qed_image_close(image), 0);
	fake_destroy(fake);
}

/* --- hooks ---------------------------------------------------------------------- */

static bool is_table_read(const struct fake_record *record)
{
	return record->op == QED_OP_READ &&
	       walk_is_metadata(walk, record->file_off);
}

static struct fake_verdict hold_tables(void *opaque,
				       const struct fake_record *record)
{
	(void)opaque;
	return (struct fake_verdict){
		is_table_read(record) ? FAKE_HOLD : FAKE_RUN, 0, 0
	};
}

static struct fake_verdict hold_writes(void *opaque,
				       const struct fake_record *record)
{
	(void)opaque;
	return (struct fake_verdict){
		record->op == QED_OP_WRITE ? FAKE_HOLD : FAKE_RUN, 0, 0
	};
}

/* --- the tests --------------------------------------------------------------------- */

static void read_first(unsigned table)
{
	call_read(&calls[table], image, buffers[table], CLUSTER,
		  first_of(table));
}

/* One of two callers; it comes back though no read has ended. */
static void *caller_main(void *opaque)
{
	unsigned which = *(unsigned *)opaque;

	for (unsigned i = which; i < NTABLES; i += CALLERS)
		read_first(i);
	return NULL;
}

static void misses_in_flight_at_once(void **state)
{
	unsigned which[CALLERS];
	pthread_t threads[CALLERS];

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_tables, NULL);
	for (unsigned i = 0; i < CALLERS; i++) {
		which[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, caller_main,
						&which[i]),
				 0);
	}
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	fake_wait_held(fake, NTABLES);
	assert_int_equal(fake_held(fake), NTABLES);
	for (unsigned i = 0; i < NTABLES; i++)
		assert_false(call_is_over(&calls[i]));
	fake_release_all(fake);
	for (unsigned i = 0; i < NTABLES; i++) {
		assert_int_equal(call_wait(&calls[i]), CLUSTER);
		assert_cluster(buffers[i], first_of(i));
	}
	close_image();
}

static void one_read_serves_all(void **state)
{
	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_tables, NULL);
	for (unsigned i = 0; i < NSAME; i++)
		call_read(&calls[i], image, buffers[i], CLUSTER, first_of(7));
	fake_wait_held(fake, 1);
	assert_int_equal(fake_held(fake), 1);
	assert_int_equal(fake_count(fake, QED_OP_READ, NAME), 1);
	fake_release_all(fake);
	for (unsigned i = 0; i < NSAME; i++) {
		assert_int_equal(call_wait(&calls[i]), CLUSTER);
		assert_cluster(buffers[i], first_of(7));
	}
	/* one of the table, one each of the data */
	assert_int_equal(fake_count(fake, QED_OP_READ, NAME), 1 + NSAME);
	close_image();
}

static void hits_do_not_wait(void **state)
{
	uint8_t buf[CLUSTER], zeroes[CLUSTER] = { 0 };

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	read_first(0);
	assert_int_equal(call_wait(&calls[0]), CLUSTER);
	fake_set_decide(fake, hold_tables, NULL);
	for (unsigned i = 1; i < NTABLES; i++)
		read_first(i);
	fake_wait_held(fake, NTABLES - 1);
	/* data, a hole, and a write, all by a table that is there */
	assert_int_equal(qed_pread(image, buf, CLUSTER, last_of(0)), CLUSTER);
	assert_cluster(buf, last_of(0));
	assert_int_equal(qed_pread(image, buf, CLUSTER, 8 * CLUSTER), CLUSTER);
	assert_memory_equal(buf, zeroes, CLUSTER);
	write_cluster(image, 16 * CLUSTER);
	assert_int_equal(qed_fsync(image), 0);
	assert_int_equal(fake_held(fake), NTABLES - 1);
	fake_release_all(fake);
	for (unsigned i = 1; i < NTABLES; i++)
		assert_int_equal(call_wait(&calls[i]), CLUSTER);
	close_image();
}

/* Every table is in use by a write that does not end; more are needed. */
static void pinned_tables_push_the_budget(void **state)
{
	static uint8_t data[NTABLES][CLUSTER];
	struct qed_l2cache_stats stats;
	unsigned last = NTABLES - 1;
	uint8_t buf[CLUSTER];

	(void)state;
	open_image(1);
	fake_set_decide(fake, hold_writes, NULL);
	/* fewer than the dirty limit, more than the budget */
	for (unsigned i = 0; i < 12; i++) {
		uint64_t off = first_of(i) + 4 * CLUSTER;

		model_pattern(1, data[i], off, CLUSTER);
		call_write(&calls[i], image, data[i], CLUSTER, off);
	}
	fake_wait_held(fake, 12);
	qed_l2cache_get_stats(image->chain.cache, &stats);
	assert_true(stats.slots >= 12);
	assert_true(stats.budget < 12);
	assert_int_equal(qed_pread(image, buf, CLUSTER, first_of(last)),
			 CLUSTER);
	assert_cluster(buf, first_of(last));
	for (unsigned i = 0; i < 12; i++)
		assert_false(call_is_over(&calls[i]));
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	for (unsigned i = 0; i < 12; i++) {
		assert_int_equal(call_wait(&calls[i]), CLUSTER);
		assert_int_equal(qed_pread(image, buf, CLUSTER,
					   first_of(i) + 4 * CLUSTER),
				 CLUSTER);
		assert_cluster(buf, first_of(i) + 4 * CLUSTER);
	}
	close_image();
}

/* More dirty tables than the budget and the dirty limit: commits make room. */
static void dirty_tables_make_room(void **state)
{
	uint8_t buf[CLUSTER];

	(void)state;
	open_image(1);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < NTABLES; i++)
			write_cluster(image,
				      first_of(i) + (8 + round) * CLUSTER);
	for (unsigned i = 0; i < NTABLES; i++) {
		assert_int_equal(qed_pread(image, buf, CLUSTER,
					   first_of(i) + 9 * CLUSTER),
				 CLUSTER);
		assert_cluster(buf, first_of(i) + 9 * CLUSTER);
	}
	close_image();
}

static void a_failed_load_reaches_all(void **state)
{
	static uint8_t data[CLUSTER];
	const unsigned nreads = 10;
	struct call *write = &calls[nreads];

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_tables, NULL);
	for (unsigned i = 0; i < nreads; i++)
		call_read(&calls[i], image, buffers[i], CLUSTER, first_of(3));
	model_pattern(1, data, last_of(3), CLUSTER);
	call_write(write, image, data, CLUSTER, last_of(3));
	fake_wait_held(fake, 1);
	fake_release(fake, 1, (struct fake_verdict){ FAKE_FAIL, -EIO, 0 });
	for (unsigned i = 0; i <= nreads; i++)
		assert_int_equal(call_wait(&calls[i]), -EIO);
	assert_int_equal(fake_count(fake, QED_OP_READ, NAME), 1);
	/* It is tried again for whoever asks next. */
	fake_set_decide(fake, NULL, NULL);
	read_first(3);
	assert_int_equal(call_wait(&calls[3]), CLUSTER);
	assert_cluster(buffers[3], first_of(3));
	assert_int_equal(fake_count(fake, QED_OP_READ, NAME), 3);
	assert_int_equal(qed_pwrite(image, data, CLUSTER, last_of(3)),
			 CLUSTER);
	close_image();
}

/* Two tables under one read: the second is asked for when the first is there. */
static void a_read_over_two_tables(void **state)
{
	static uint8_t buf[2 * CLUSTER];

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_tables, NULL);
	call_read(&calls[0], image, buf, sizeof(buf), last_of(20));
	fake_wait_held(fake, 1);
	fake_release_all(fake);
	fake_wait_held(fake, 1);
	assert_false(call_is_over(&calls[0]));
	fake_release_all(fake);
	assert_int_equal(call_wait(&calls[0]), sizeof(buf));
	assert_cluster(buf, last_of(20));
	assert_cluster(buf + CLUSTER, first_of(21));
	close_image();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_dir, leave_dir)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(misses_in_flight_at_once),
		TEST(one_read_serves_all),
		TEST(hits_do_not_wait),
		TEST(pinned_tables_push_the_budget),
		TEST(dirty_tables_make_room),
		TEST(a_failed_load_reaches_all),
		TEST(a_read_over_two_tables),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
