/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests under way and their buffers (fuse/pool.c): of qedfs, not of the library. */
#include "config.h"

#include "../../fuse/pool.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define KIB       1024u
#define NTHREADS  16u
#define LARGE_MAX 10u			/* requests with large buffers at once */
#define ROUNDS    2000u

/* Not one allocation succeeds while this is set. */
static bool no_memory;

int __real_posix_memalign(void **out, size_t align, size_t size);
int __wrap_posix_memalign(void **out, size_t align, size_t size);

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
	return no_memory ? ENOMEM : __real_posix_memalign(out, align, size);
}

static struct qedfs_pool pool;

static int setup(void **state)
{
	(void)state;
	qedfs_pool_init(&pool);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	qedfs_pool_finish(&pool);
	return 0;
}

static fuse_req_t a_request(uintptr_t n)
{
	return (fuse_req_t)n;
}

static struct qedfs_request *get(size_t size)
{
	struct qedfs_request *request = qedfs_pool_get(&pool, a_request(7), size);

	assert_non_null(request);
	return request;
}

/* --- what one gets ------------------------------------------------------------------- */

static void test_buffer(void **state)
{
	static const size_t sizes[] = { 0, 1, 4096, 64 * KIB, 64 * KIB + 1,
					QEDFS_IO_MAX, QEDFS_IO_MAX + 1 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct qedfs_request *request = get(sizes[i]);

		assert_ptr_equal(request->req, a_request(7));
		assert_int_equal(request->size, sizes[i]);
		assert_ptr_equal(request->iov.iov_base, request->buf);
		assert_int_equal(request->iov.iov_len, sizes[i]);
		assert_int_equal((uintptr_t)request->buf % 4096, 0);
		assert_int_equal(!request->buf, !sizes[i]);
		if (sizes[i])
			memset(request->buf, 1, sizes[i]);
		qedfs_pool_put(&pool, request);
	}
}

/* The next one has nothing of the last one's. */
static void test_reuse(void **state)
{
	struct qedfs_request *request = get(64 * KIB);
	void *buf = request->buf;

	(void)state;
	request->overruns = request->durable = true;
	request->err = 5;
	request->io = (struct qedfs_io *)request;
	request->iov.iov_len = 3;
	qedfs_pool_put(&pool, request);
	request = get(100);
	assert_ptr_equal(request->buf, buf);
	assert_int_equal(request->iov.iov_len, 100);
	assert_int_equal(request->size, 100);
	assert_false(request->overruns);
	assert_false(request->durable);
	assert_int_equal(request->err, 0);
	assert_null(request->io);
	qedfs_pool_put(&pool, request);
}

static void test_no_memory(void **state)
{
	static const size_t sizes[] = { 1, QEDFS_IO_MAX, QEDFS_IO_MAX + 1 };

	(void)state;
	no_memory = true;
	for (unsigned i = 0; i < 3 * LARGE_MAX; i++)
		assert_null(qedfs_pool_get(&pool, a_request(1), sizes[i % 3]));
	no_memory = false;
	/* None of them counts as under way, or as a large one. */
	qedfs_pool_drain(&pool);
	for (unsigned i = 0; i < LARGE_MAX; i++)
		qedfs_pool_put(&pool, get(QEDFS_IO_MAX));
}

/* --- threads ------------------------------------------------------------------------- */

static _Atomic unsigned nstarted, nheld, most_held;
static _Atomic bool may_put;

static void start(pthread_t threads[], unsigned n, void *(*run)(void *))
{
	for (uintptr_t i = 0; i < n; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)i), 0);
}

static void join(const pthread_t threads[], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void *hold_large(void *opaque)
{
	struct qedfs_request *request;
	unsigned n, most;

	(void)opaque;
	atomic_fetch_add(&nstarted, 1);
	request = qedfs_pool_get(&pool, a_request(1), QEDFS_IO_MAX);
	if (!request)
		abort();
	n = atomic_fetch_add(&nheld, 1) + 1;
	most = atomic_load(&most_held);
	while (most < n && !atomic_compare_exchange_weak(&most_held, &most, n))
		;
	while (!atomic_load(&may_put))
		sched_yield();
	atomic_fetch_sub(&nheld, 1);
	qedfs_pool_put(&pool, request);
	return NULL;
}

/* Others wait until one is answered, and then get theirs. */
static void test_limit(void **state)
{
	pthread_t threads[NTHREADS];

	(void)state;
	start(threads, NTHREADS, hold_large);
	while (atomic_load(&nstarted) < NTHREADS ||
	       atomic_load(&nheld) < LARGE_MAX)
		sched_yield();
	/* Time for the others to get one as well, if they could. */
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	atomic_store(&may_put, true);
	join(threads, NTHREADS);
	assert_int_equal(atomic_load(&most_held), LARGE_MAX);
}

static _Atomic bool drained;

static void *drain(void *opaque)
{
	(void)opaque;
	qedfs_pool_drain(&pool);
	atomic_store(&drained, true);
	return NULL;
}

static bool is_draining(const struct qedfs_request *request)
{
	return atomic_load(&request->shard->under_way) >> 31;
}

static void test_drain(void **state)
{
	struct qedfs_request *one = get(0), *other = get(QEDFS_IO_MAX);
	pthread_t thread;

	(void)state;
	start(&thread, 1, drain);
	while (!is_draining(one))
		sched_yield();
	qedfs_pool_put(&pool, one);
	assert_false(atomic_load(&drained));
	qedfs_pool_put(&pool, other);
	join(&thread, 1);
	assert_true(atomic_load(&drained));
	/* Others may come, and it can be waited for them, too. */
	qedfs_pool_put(&pool, get(1));
	qedfs_pool_drain(&pool);
}

static _Atomic unsigned nwrong;

static void *work(void *opaque)
{
	static const size_t sizes[] = { 0, 512, 64 * KIB, QEDFS_IO_MAX,
					QEDFS_IO_MAX + 1 };
	unsigned char mine = (unsigned char)((uintptr_t)opaque + 1);

	for (unsigned i = 0; i < ROUNDS; i++) {
		size_t size = sizes[(i + mine) % (i % 16 ? 3 : 5)];
		struct qedfs_request *request =
			qedfs_pool_get(&pool, a_request(mine), size);

		if (!request) {
			atomic_fetch_add(&nwrong, 1);
			continue;
		}
		if (size)
			memset(request->buf, mine, 512);
		sched_yield();
		if (request->req != a_request(mine) || request->size != size ||
		    (size && ((unsigned char *)request->buf)[511] != mine))
			atomic_fetch_add(&nwrong, 1);
		qedfs_pool_put(&pool, request);
	}
	return NULL;
}

/* No two get the same one at the same time. */
static void test_threads(void **state)
{
	pthread_t threads[NTHREADS];

	(void)state;
	start(threads, NTHREADS, work);
	join(threads, NTHREADS);
	assert_int_equal(atomic_load(&nwrong), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
