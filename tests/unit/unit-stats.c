/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The counters: exact for a known sequence, and none is lost between threads. */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "image.h"
#include "../lib/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Tables of 512 entries, a slice each, for clusters of 4 KiB: 2 MiB of disk. */
#define CLUSTER UINT64_C(4096)
#define REACH   (UINT64_C(2) << 20)
#define NTABLES 32u
#define SIZE    (NTABLES * REACH)
#define TOP     "top.qed"
#define MIDDLE  "middle.qed"
#define BASE    "base.raw"
#define MANY    10u

static char dir[200];
static struct fake *fake;
static struct qed_image *image;
static struct qed_stats last;		/* as they were when last looked at */
static uint8_t buf[8 * 4096];

static const struct {
	const char *name;
	size_t offset;
} fields[] = {
#define FIELD(name) { #name, offsetof(struct qed_stats, name) }
	FIELD(reads), FIELD(writes), FIELD(flushes), FIELD(zeroes),
	FIELD(preallocations), FIELD(seeks), FIELD(bytes_read),
	FIELD(bytes_written), FIELD(l2_hits), FIELD(l2_misses),
	FIELD(l2_loads), FIELD(allocations), FIELD(commits), FIELD(syncs),
};
#define NFIELDS (sizeof(fields) / sizeof(fields[0]))
_Static_assert(NFIELDS * sizeof(uint64_t) == sizeof(struct qed_stats),
	       "a counter is not looked at");

static uint64_t field(const struct qed_stats *stats, size_t i)
{
	uint64_t value;

	memcpy(&value, (const char *)stats + fields[i].offset, sizeof(value));
	return value;
}

/* Since the last look this much has been counted, and nothing else. */
static void expect(int line, const struct qed_stats *want)
{
	struct qed_stats now;
	bool good = true;

	qed_image_get_stats(image, &now);
	for (size_t i = 0; i < NFIELDS; i++) {
		uint64_t got = field(&now, i) - field(&last, i);

		if (got == field(want, i))
			continue;
		print_error("line %d: %s: %llu counted, %llu expected\n", line,
			    fields[i].name, (unsigned long long)got,
			    (unsigned long long)field(want, i));
		good = false;
	}
	last = now;
	assert_true(good);
}
#define EXPECT(...) expect(__LINE__, &(const struct qed_stats){ __VA_ARGS__ })

static void open_image(uint64_t l2_cache)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.l2_cache = l2_cache;
	fake = fake_create(2);
	assert_int_equal(qed_image_open_engine(TOP, &options,
					       fake_start(fake), &image),
			 0);
	memset(&last, 0, sizeof(last));
	EXPECT(.reads = 0);
}

static void close_image(void)
{
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	assert_int_equal(qed_image_close(image), 0);
	fake_destroy(fake);
}

/* An image of one data cluster at the start of each table's reach. */
static void with_tables(void)
{
	open_image(QED_L2_CACHE_DEFAULT);
	for (unsigned i = 0; i < NTABLES; i++)
		assert_int_equal(qed_pwrite(image, buf, CLUSTER, i * REACH),
				 CLUSTER);
	close_image();
}

static int create(const char *name, const char *backing, const char *format)
{
	const struct qed_create_options options = {
		.virtual_size = SIZE,
		.cluster_size = CLUSTER,
		.table_size = 1,
		.backing = backing,
		.backing_format = format,
	};

	return qed_image_create(name, &options);
}

static int enter_dir(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/unit-stats.XXXXXX",
		 parent ? parent : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	memset(buf, 'x', sizeof(buf));
	return create(TOP, NULL, NULL);
}

static int leave_dir(void **state)
{
	(void)state;
	unlink(TOP);
	unlink(MIDDLE);
	unlink(BASE);
	return chdir("/") == 0 ? rmdir(dir) : -1;
}

static void read_at(uint64_t off, uint64_t len, int64_t result)
{
	assert_int_equal(qed_pread(image, buf, len, off), result);
}

static void write_at(uint64_t off, uint64_t len, int64_t result)
{
	assert_int_equal(qed_pwrite(image, buf, len, off), result);
}

static void seek_done(void *opaque, int64_t result)
{
	*(int64_t *)opaque = result;
}

/* --- requests and their bytes --------------------------------------------------- */

static void reads(void **state)
{
	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	read_at(0, 3 * CLUSTER, 3 * CLUSTER);
	EXPECT(.reads = 1, .bytes_read = 3 * CLUSTER, .l2_hits = 1);
	read_at(SIZE - 100, CLUSTER, 100);
	EXPECT(.reads = 1, .bytes_read = 100, .l2_hits = 1);
	read_at(SIZE, CLUSTER, 0);
	EXPECT(.reads = 1);
	close_image();
}

static void writes(void **state)
{
	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	/* there is no table; the new one has to be read */
	write_at(0, 10, 10);
	EXPECT(.writes = 1, .bytes_written = 10, .allocations = 1,
	       .l2_hits = 1, .l2_misses = 1, .l2_loads = 1);
	write_at(5, 10, 10);
	EXPECT(.writes = 1, .bytes_written = 10, .l2_hits = 1);
	write_at(4 * CLUSTER - 1, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.writes = 1, .bytes_written = 2 * CLUSTER, .allocations = 3,
	       .l2_hits = 1);
	write_at(SIZE, 1, -EFBIG);
	EXPECT(.writes = 1);
	close_image();
}

static void ranges(void **state)
{
	struct call call;

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	write_at(0, 4 * CLUSTER, 4 * CLUSTER);
	memset(&last, 0, sizeof(last));
	qed_image_get_stats(image, &last);
	call_preallocate(&call, image, 3 * CLUSTER, 8 * CLUSTER);
	assert_int_equal(call_wait(&call), 0);
	EXPECT(.preallocations = 1, .allocations = 3, .l2_hits = 1);
	call_zero(&call, image, 2 * CLUSTER, CLUSTER);
	assert_int_equal(call_wait(&call), 0);
	EXPECT(.zeroes = 1, .l2_hits = 1);
	call_preallocate(&call, image, CLUSTER, SIZE);
	assert_int_equal(call_wait(&call), -EFBIG);
	EXPECT(.preallocations = 1);
	close_image();
}

static void seeks(void **state)
{
	int64_t result = -1;

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	qed_seek(image, 0, SEEK_HOLE, seek_done, &result);
	assert_int_equal(result, 0);
	EXPECT(.seeks = 1, .l2_hits = 1);
	qed_seek(image, SIZE, SEEK_DATA, seek_done, &result);
	assert_int_equal(result, -ENXIO);
	qed_seek(image, 0, SEEK_SET, seek_done, &result);
	assert_int_equal(result, -EINVAL);
	EXPECT(.seeks = 2);
	close_image();
}

static void flushes(void **state)
{
	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	assert_int_equal(qed_fsync(image), 0);
	EXPECT(.flushes = 1);
	write_at(0, 10, 10);
	qed_image_get_stats(image, &last);
	assert_int_equal(qed_fsync(image), 0);
	EXPECT(.flushes = 1, .commits = 1, .syncs = 2);
	assert_int_equal(qed_fsync(image), 0);
	EXPECT(.flushes = 1);
	write_at(10, 10, 10);
	qed_image_get_stats(image, &last);
	assert_int_equal(qed_fsync(image), 0);
	EXPECT(.flushes = 1, .syncs = 1);
	close_image();
}

/* A failed request is one as well. */
static void failures(void **state)
{
	struct qed_open_options options;

	(void)state;
	qed_open_options_init(&options);
	options.io = QED_IO_THREADS;
	assert_int_equal(qed_image_open(TOP, &options, &image), 0);
	memset(&last, 0, sizeof(last));
	write_at(0, 10, -EROFS);
	assert_int_equal(qed_fsync(image), 0);
	EXPECT(.writes = 1, .flushes = 1);
	assert_int_equal(qed_image_close(image), 0);
}

/* --- look-ups --------------------------------------------------------------------- */

static void cold_then_warm(void **state)
{
	(void)state;
	with_tables();
	open_image(QED_L2_CACHE_DEFAULT);
	read_at(0, CLUSTER, CLUSTER);
	EXPECT(.reads = 1, .bytes_read = CLUSTER, .l2_misses = 1,
	       .l2_loads = 1);
	read_at(0, CLUSTER, CLUSTER);
	EXPECT(.reads = 1, .bytes_read = CLUSTER, .l2_hits = 1);
	/* data, then a hole: two look-ups */
	read_at(0, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.reads = 1, .bytes_read = 2 * CLUSTER, .l2_hits = 2);
	/* a hole at the end of one table, data at the start of the next */
	read_at(REACH - CLUSTER, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.reads = 1, .bytes_read = 2 * CLUSTER, .l2_hits = 1,
	       .l2_misses = 1, .l2_loads = 1);
	/* the other way round: a miss does not hide the hit after it */
	read_at(8 * REACH, CLUSTER, CLUSTER);
	read_at(8 * REACH - CLUSTER, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.reads = 2, .bytes_read = 3 * CLUSTER, .l2_hits = 1,
	       .l2_misses = 2, .l2_loads = 2);
	/* a write finds the table that it needs in the same way */
	write_at(5 * REACH, CLUSTER, CLUSTER);
	EXPECT(.writes = 1, .bytes_written = CLUSTER, .l2_misses = 1,
	       .l2_loads = 1);
	write_at(6 * REACH + CLUSTER, CLUSTER, CLUSTER);
	EXPECT(.writes = 1, .bytes_written = CLUSTER, .l2_misses = 1,
	       .l2_loads = 1, .allocations = 1);
	close_image();
}

/* Four slices fit. */
static void evicted(void **state)
{
	struct qed_image_info info;

	(void)state;
	with_tables();
	open_image(4 * 4096);
	qed_image_get_info(image, &info);
	assert_int_equal(info.l2_cache, 4 * 4096);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < NTABLES; i++)
			read_at(i * REACH, CLUSTER, CLUSTER);
	EXPECT(.reads = 2 * NTABLES, .bytes_read = 2 * NTABLES * CLUSTER,
	       .l2_misses = 2 * NTABLES, .l2_loads = 2 * NTABLES);
	close_image();
}

/* With an engine that does at once what it can. */
static void at_once(void **state)
{
	struct qed_open_options options;

	(void)state;
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.io = QED_IO_THREADS;
	options.commit_seconds = 0;
	assert_int_equal(qed_image_open(TOP, &options, &image), 0);
	memset(&last, 0, sizeof(last));
	/* two new tables, read when they are made */
	write_at(REACH - CLUSTER, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.writes = 1, .bytes_written = 2 * CLUSTER, .allocations = 2,
	       .l2_hits = 2, .l2_misses = 2, .l2_loads = 2);
	write_at(REACH, 100, 100);
	EXPECT(.writes = 1, .bytes_written = 100, .l2_hits = 1);
	read_at(REACH - CLUSTER, 2 * CLUSTER, 2 * CLUSTER);
	EXPECT(.reads = 1, .bytes_read = 2 * CLUSTER, .l2_hits = 2);
	assert_int_equal(qed_image_close(image), 0);
}

static struct fake_verdict hold_reads(void *opaque,
				      const struct fake_record *record)
{
	(void)opaque;
	return (struct fake_verdict){
		record->op == QED_OP_READ ? FAKE_HOLD : FAKE_RUN, 0, 0
	};
}

/* All wait for the one that reads. */
static void one_load_for_many(void **state)
{
	static uint8_t bufs[MANY][4096];
	struct call calls[MANY];

	(void)state;
	with_tables();
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_reads, NULL);
	for (unsigned i = 0; i < MANY; i++)
		call_read(&calls[i], image, bufs[i], CLUSTER, 0);
	fake_wait_held(fake, 1);
	/* not over, so not requests yet */
	EXPECT(.l2_misses = MANY, .l2_loads = 1);
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(call_wait(&calls[i]), CLUSTER);
	EXPECT(.reads = MANY, .bytes_read = MANY * CLUSTER);
	close_image();
}

static void failed_load(void **state)
{
	struct call call;

	(void)state;
	with_tables();
	open_image(QED_L2_CACHE_DEFAULT);
	fake_set_decide(fake, hold_reads, NULL);
	call_read(&call, image, buf, CLUSTER, 0);
	fake_wait_held(fake, 1);
	fake_set_decide(fake, NULL, NULL);
	fake_release(fake, 1, (struct fake_verdict){ FAKE_FAIL, -EIO, 0 });
	assert_int_equal(call_wait(&call), -EIO);
	EXPECT(.reads = 1, .l2_misses = 1, .l2_loads = 1);
	close_image();
}

/* A look-up in each QED image that is asked; raw ones have no tables. */
static void a_chain(void **state)
{
	struct qed_image_info info;
	int fd = open(BASE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	(void)state;
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
	assert_int_equal(create(MIDDLE, BASE, "raw"), 0);
	assert_int_equal(create(TOP, MIDDLE, "qed"), 0);
	open_image(QED_L2_CACHE_DEFAULT);
	read_at(0, CLUSTER, CLUSTER);
	EXPECT(.reads = 1, .bytes_read = CLUSTER, .l2_hits = 2);
	write_at(0, 10, 10);
	EXPECT(.writes = 1, .bytes_written = 10, .allocations = 1,
	       /* the top's; where the copy comes from is known */
	       .l2_hits = 1, .l2_misses = 1, .l2_loads = 1);
	read_at(0, CLUSTER, CLUSTER);
	EXPECT(.reads = 1, .bytes_read = CLUSTER, .l2_hits = 1);
	/* What was found below the top is not looked for again. */
	read_at(5 * CLUSTER + 512, 512, 512);
	EXPECT(.reads = 1, .bytes_read = 512, .l2_hits = 2);
	read_at(6 * CLUSTER - 512, 512, 512);
	EXPECT(.reads = 1, .bytes_read = 512, .l2_hits = 1);

	qed_image_get_info(image, &info);
	assert_int_equal(info.nlayers, 3);
	assert_string_equal(info.io_engine, "fake");
	assert_string_equal(qed_image_get_path(image, 0), TOP);
	assert_string_equal(qed_image_get_path(image, 1), MIDDLE);
	assert_string_equal(qed_image_get_path(image, 2), BASE);
	assert_null(qed_image_get_path(image, 3));
	close_image();
}

/* What the upper layers have said is not asked again after a wait below. */
static void a_cold_layer(void **state)
{
	(void)state;
	with_tables();
	assert_int_equal(rename(TOP, MIDDLE), 0);
	assert_int_equal(create(TOP, MIDDLE, "qed"), 0);
	open_image(QED_L2_CACHE_DEFAULT);
	read_at(REACH, CLUSTER, CLUSTER);
	EXPECT(.reads = 1, .bytes_read = CLUSTER, .l2_hits = 1,
	       .l2_misses = 1, .l2_loads = 1);
	close_image();
}

/* --- threads ------------------------------------------------------------------------ */

#define NCOUNTING 64u			/* more than there are shards */
#define NTHREADS  20u
#define EACH      400u

static struct qed_counters counters;
static pthread_barrier_t together;
static _Atomic bool over;

static void *counting(void *opaque)
{
	(void)opaque;
	pthread_barrier_wait(&together);
	for (unsigned i = 0; i < 200000; i++)
		qed_count(&counters, i % QED_NCOUNTERS, 3);
	return NULL;
}

static void nothing_is_lost(void **state)
{
	pthread_t threads[NCOUNTING];
	uint64_t sum = 0;

	(void)state;
	pthread_barrier_init(&together, NULL, NCOUNTING);
	for (unsigned i = 0; i < NCOUNTING; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, counting,
						NULL),
				 0);
	for (unsigned i = 0; i < NCOUNTING; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
	for (unsigned i = 0; i < QED_NCOUNTERS; i++)
		sum += qed_counted(&counters, i);
	assert_int_equal(sum, UINT64_C(600000) * NCOUNTING);
}

static void *worker(void *opaque)
{
	uint64_t place = *(unsigned *)opaque * 2 * CLUSTER;
	uint8_t mine[512];

	memset(mine, 'y', sizeof(mine));
	for (unsigned i = 0; i < EACH; i++) {
		if (qed_pwrite(image, mine, sizeof(mine), place) !=
			    sizeof(mine) ||
		    qed_pread(image, mine, 100, place) != 100)
			return opaque;
	}
	return NULL;
}

/* Counters never go back, whoever looks and whenever. */
static void *reader(void *opaque)
{
	struct qed_stats before = { .reads = 0 }, now;

	do {
		qed_image_get_stats(image, &now);
		for (size_t i = 0; i < NFIELDS; i++)
			if (field(&now, i) < field(&before, i))
				return opaque;
		before = now;
	} while (!over);
	return NULL;
}

static void many_threads(void **state)
{
	pthread_t threads[NTHREADS], looking;
	unsigned numbers[NTHREADS];
	void *failed;

	(void)state;
	open_image(QED_L2_CACHE_DEFAULT);
	write_at(REACH - CLUSTER, CLUSTER, CLUSTER);	/* makes the table */
	qed_image_get_stats(image, &last);
	over = false;
	assert_int_equal(pthread_create(&looking, NULL, reader, &over), 0);
	for (unsigned i = 0; i < NTHREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, worker,
						&numbers[i]),
				 0);
	}
	for (unsigned i = 0; i < NTHREADS; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	over = true;
	pthread_join(looking, &failed);
	assert_null(failed);
	EXPECT(.writes = NTHREADS * EACH, .reads = NTHREADS * EACH,
	       .bytes_written = NTHREADS * EACH * 512,
	       .bytes_read = NTHREADS * EACH * 100,
	       .l2_hits = 2 * NTHREADS * EACH, .allocations = NTHREADS);
	close_image();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_dir, leave_dir)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(reads),
		TEST(writes),
		TEST(ranges),
		TEST(seeks),
		TEST(flushes),
		TEST(failures),
		TEST(cold_then_warm),
		TEST(evicted),
		TEST(at_once),
		TEST(one_load_for_many),
		TEST(failed_load),
		TEST(a_chain),
		TEST(a_cold_layer),
		cmocka_unit_test(nothing_is_lost),
		TEST(many_threads),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
