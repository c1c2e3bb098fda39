/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of requests: once the first ones are over, others allocate none.  What
 * the library asks the allocator for is counted by the linker's --wrap, which
 * replaces the calls of everything that this program is linked from.
 */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/creating.h"
#include "image.h"
#include "spare.h"

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

#define CLUSTER UINT64_C(65536)
#define PAGE    4096u
#define SIZE    (UINT64_C(256) << 20)
#define TOP     "top.qed"
#define BASE    "base.raw"
#define DEPTH   16u
#define FIRST   (3 * QED_SHARDS * DEPTH) /* cluster that is not warmed up */

static _Atomic unsigned nallocations;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	nallocations++;
	return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	nallocations++;
	return __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	nallocations++;
	return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	nallocations++;
	return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	nallocations++;
	return __real_posix_memalign(memory, alignment, size);
}

static struct qed_image *image;
static uint8_t bufs[DEPTH][CLUSTER];

/* A file of zeroes that are all stored. */
static int make_base(void)
{
	int fd = open(BASE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int ret = 0;

	memset(bufs[0], 'b', CLUSTER);
	for (uint64_t off = 0; off < SIZE && ret == 0; off += CLUSTER)
		if (pwrite(fd, bufs[0], CLUSTER, (off_t)off) < 0)
			ret = -1;
	close(fd);
	return ret;
}

static int create_top(const char *backing)
{
	const struct qed_create_options options = {
		.virtual_size = SIZE,
		.backing = backing,
		.backing_format = backing ? "raw" : NULL,
	};

	return qed_image_create(TOP, &options);
}

static int enter(void **state)
{
	return creating_enter(state) == 0 ? make_base() : -1;
}

/*
 * Opens the image on threads; `slowly`: nothing is done at once, so that all
 * requests end on the engine's threads.
 */
static void open_image(bool slowly)
{
	static struct qed_engine_ops slow;
	struct qed_open_options options;
	struct qed_engine *engine;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	assert_int_equal(qed_engine_create(QED_IO_THREADS, &engine), 0);
	if (slowly) {
		slow = *engine->ops;
		slow.try_now = NULL;
		engine->ops = &slow;
	}
	assert_int_equal(qed_image_open_engine(TOP, &options, engine, &image),
			 0);
}

static void close_image(void)
{
	assert_int_equal(qed_image_close(image), 0);
}

/* Starts `DEPTH` requests in neighbouring clusters, waits for all. */
static void many(bool writing, uint64_t first)
{
	struct call calls[DEPTH];

	for (unsigned i = 0; i < DEPTH; i++) {
		uint64_t off = (first + i) * CLUSTER + 8192;

		if (writing)
			call_write(&calls[i], image, bufs[i], PAGE, off);
		else
			call_read(&calls[i], image, bufs[i], PAGE, off);
	}
	for (unsigned i = 0; i < DEPTH; i++)
		assert_int_equal(call_wait(&calls[i]), PAGE);
}

/*
 * Requests to `n` clusters from `first` on, so many at a time, and a flush after
 * them: how often did the library ask for memory?
 */
static unsigned count(bool writing, uint64_t first, uint64_t n)
{
	unsigned before = nallocations;
	struct call flush;

	for (uint64_t i = first; i < first + n; i += DEPTH)
		many(writing, i);
	call_flush(&flush, image);
	assert_int_equal(call_wait(&flush), 0);
	return nallocations - before;
}

/*
 * First writes, in place, reads: after a few, once the slices of the table are in
 * memory, all of them are free.  Each flush ends on a thread of the engine's and
 * leaves its memory there: a few are needed until there is enough.
 */
static void run_at_once(void)
{
	count(true, 0, 2 * DEPTH);
	for (uint64_t slice = 0; slice < 4; slice++)
		count(false, slice * QED_SLICE_ENTRIES, DEPTH);
	for (unsigned i = 0; i < 3 * QED_SHARDS; i++)
		count(true, i * DEPTH, DEPTH);
	assert_int_equal(count(true, FIRST, 1024), 0);
	assert_int_equal(count(true, FIRST, 1024), 0);
	assert_int_equal(count(false, FIRST, 1024), 0);
}

static void at_once(void **state)
{
	(void)state;
	assert_int_equal(create_top(NULL), 0);
	open_image(false);
	run_at_once();
	close_image();
}

static void copy_at_once(void **state)
{
	(void)state;
	assert_int_equal(create_top(BASE), 0);
	open_image(false);
	run_at_once();
	close_image();
}

/*
 * With threads that hand requests to each other what is spare may lie where
 * another thread does not look: it takes a few more, and then no more.
 */
static void run_slowly(void)
{
	unsigned reads, fresh;

	count(true, 0, 256);
	fresh = count(true, 256, 1024);
	count(false, 0, 256);
	reads = count(false, 0, 1024);
	if (fresh > 4 * DEPTH || reads > 4 * DEPTH)
		fail_msg("1024 first writes allocated %u times, reads %u times",
			 fresh, reads);
}

static void slowly(void **state)
{
	(void)state;
	assert_int_equal(create_top(NULL), 0);
	open_image(true);
	run_slowly();
	close_image();
}

static void copy_slowly(void **state)
{
	(void)state;
	assert_int_equal(create_top(BASE), 0);
	open_image(true);
	run_slowly();
	close_image();
}

/* --- the room itself ---------------------------------------------------------- */

static void sizes(void **state)
{
	struct qed_spares spares;
	char *small, *buffer, *large;
	unsigned before;

	(void)state;
	qed_spares_init(&spares);
	qed_spares_set_buffer(&spares, CLUSTER);
	small = qed_spare_get(&spares, 10);
	buffer = qed_spare_get(&spares, QED_SPARE_SMALL + 1);
	large = qed_spare_get(&spares, CLUSTER + 1);
	/* whatever the length, the memory is that of its kind */
	memset(small, 's', 10);
	memset(buffer, 'b', QED_SPARE_SMALL + 1);
	memset(large, 'l', CLUSTER + 1);
	assert_int_equal((uintptr_t)buffer % PAGE, 0);
	assert_int_equal((uintptr_t)large % PAGE, 0);
	qed_spare_put(&spares, small, 10);
	qed_spare_put(&spares, buffer, QED_SPARE_SMALL + 1);
	qed_spare_put(&spares, large, CLUSTER + 1);
	qed_spare_put(&spares, NULL, 10);
	before = nallocations;
	assert_ptr_equal(qed_spare_get(&spares, QED_SPARE_SMALL), small);
	assert_ptr_equal(qed_spare_get(&spares, CLUSTER), buffer);
	memset(small, 's', QED_SPARE_SMALL);
	memset(buffer, 'b', CLUSTER);
	assert_int_equal(nallocations, before);
	qed_spare_put(&spares, small, QED_SPARE_SMALL);
	qed_spare_put(&spares, buffer, CLUSTER);
	qed_spares_fini(&spares);
}

/* What is kept has a bound, whatever was in use at once. */
static void bounded(void **state)
{
	static void *taken[2000];
	struct qed_spares spares;
	unsigned before;

	(void)state;
	qed_spares_init(&spares);
	qed_spares_set_buffer(&spares, UINT64_C(64) << 20);
	for (unsigned i = 0; i < 2000; i++)
		taken[i] = qed_spare_get(&spares, 1);
	for (unsigned i = 0; i < 2000; i++)
		qed_spare_put(&spares, taken[i], 1);
	before = nallocations;
	for (unsigned i = 0; i < 2000; i++)
		taken[i] = qed_spare_get(&spares, 1);
	assert_true(nallocations - before >= 1500);
	for (unsigned i = 0; i < 2000; i++)
		qed_spare_put(&spares, taken[i], 1);
	for (unsigned i = 0; i < 100; i++)
		taken[i] = qed_spare_get(&spares, QED_SPARE_LARGEST);
	for (unsigned i = 0; i < 100; i++)
		qed_spare_put(&spares, taken[i], QED_SPARE_LARGEST);
	before = nallocations;
	for (unsigned i = 0; i < 100; i++)
		taken[i] = qed_spare_get(&spares, QED_SPARE_LARGEST);
	assert_int_equal(nallocations - before, 96);
	for (unsigned i = 0; i < 100; i++)
		qed_spare_put(&spares, taken[i], QED_SPARE_LARGEST);
	qed_spares_fini(&spares);
}

static struct qed_spares shared;

static void *exchange(void *opaque)
{
	uint8_t *held[8] = { NULL };

	for (unsigned i = 0; i < 100000; i++) {
		uint8_t **mine = &held[i * 7 % 8];

		if (*mine) {
			if ((*mine)[8] != *(uint8_t *)opaque)
				return opaque;
			qed_spare_put(&shared, *mine, 100);
			*mine = NULL;
		} else {
			*mine = qed_spare_get(&shared, 100);
			(*mine)[8] = *(uint8_t *)opaque;
		}
	}
	for (unsigned i = 0; i < 8; i++)
		qed_spare_put(&shared, held[i], 100);
	return NULL;
}

/* More threads than shards: nobody gets what another one has. */
static void threads(void **state)
{
	pthread_t thread[24];
	uint8_t number[24];
	void *failed;

	(void)state;
	qed_spares_init(&shared);
	for (unsigned i = 0; i < 24; i++) {
		number[i] = (uint8_t)i;
		assert_int_equal(pthread_create(&thread[i], NULL, exchange,
						&number[i]),
				 0);
	}
	for (unsigned i = 0; i < 24; i++) {
		pthread_join(thread[i], &failed);
		assert_null(failed);
	}
	qed_spares_fini(&shared);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, creating_leave)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(at_once),
		TEST(copy_at_once),
		TEST(slowly),
		TEST(copy_slowly),
		cmocka_unit_test(sizes),
		cmocka_unit_test(bounded),
		cmocka_unit_test(threads),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
