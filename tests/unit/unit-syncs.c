/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What requests cost at the file layer: how many syncs. */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/counted.h"
#include "../lib/model.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MANY 50u

static uint8_t got[8 * 65536];
static sem_t committed;

/* How many syncs a flush costs now. */
static unsigned syncs_of_flush(void)
{
	unsigned before = counted_ops(QED_OP_FLUSH);

	assert_int_equal(qed_fsync(counted_image), 0);
	return counted_ops(QED_OP_FLUSH) - before;
}

/* --- syncs ------------------------------------------------------------------------- */

static void sync_nothing(void **state)
{
	(void)state;
	assert_int_equal(syncs_of_flush(), 0);
	counted_warm_up();
	assert_int_equal(syncs_of_flush(), 0);
	assert_int_equal(qed_pread(counted_image, got, PAGE, 0), PAGE);
	assert_int_equal(syncs_of_flush(), 0);
}

static void sync_in_place(void **state)
{
	(void)state;
	counted_warm_up();
	counted_put(SIZE / 2 + 100, 5000);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(counted_ops(QED_OP_WRITE), 1);
	assert_int_equal(syncs_of_flush(), 0);
}

static void sync_first_after_clean(void **state)
{
	(void)state;
	counted_put(0, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
	counted_put(CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	/* Clean again, and its sync is not the flush's. */
	assert_int_equal(qed_meta_clean(counted_image->meta), 0);
	counted_forget();
	counted_put(2 * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
}

/* In-place data does not touch the header. */
static void sync_clean_in_place(void **state)
{
	struct qed_image_info info;

	(void)state;
	counted_put(0, PAGE);
	assert_int_equal(qed_meta_clean(counted_image->meta), 0);
	counted_forget();
	counted_put(1000, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(counted_ops(QED_OP_WRITE), 1);
	qed_image_get_info(counted_image, &info);
	assert_false(info.features & QED_FEATURE_NEED_CHECK);
}

static void sync_new_clusters(void **state)
{
	(void)state;
	counted_warm_up();
	for (unsigned i = 0; i < MANY; i++)
		counted_put(2 * i * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
}

static void sync_over_backing(void **state)
{
	(void)state;
	counted_warm_up();
	for (unsigned i = 0; i < MANY; i++)
		counted_put(2 * i * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
	/* Past the end of the backing file there is nothing to lose. */
	counted_put(SIZE - CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
}

/* The header's sync and the data's are one. */
static void sync_over_backing_first(void **state)
{
	(void)state;
	counted_put(0, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
}

static void sync_reused(void **state)
{
	struct call call;

	(void)state;
	counted_warm_up();
	counted_put(0, 4 * CLUSTER);
	counted_put(8 * CLUSTER, CLUSTER);
	assert_int_equal(syncs_of_flush(), 1);
	call_zero(&call, counted_image, 4 * CLUSTER, 0);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(syncs_of_flush(), 1);
	/* The clusters come back when they have been punched. */
	qed_reclaim_drain(&counted_image->reclaim);
	assert_true(counted_ops(QED_OP_PUNCH) > 0);
	counted_put(20 * CLUSTER, PAGE);
	counted_leaks = 3;
	assert_int_equal(syncs_of_flush(), 2);
	counted_assert_disk(2, 20 * CLUSTER, PAGE);
}

static void sync_new_table(void **state)
{
	/* A table maps 2 GiB: an counted_image with room for two. */
	const struct qed_create_options create = {
		.virtual_size = UINT64_C(8) << 30,
	};

	(void)state;
	assert_int_equal(qed_image_close(counted_image), 0);
	fake_destroy(counted_fake);
	assert_int_equal(qed_image_create(TOP, &create), 0);
	counted_open();
	counted_warm_up();
	counted_put(UINT64_C(3) << 30, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	counted_put(UINT64_C(5) << 30, PAGE);
	counted_put(UINT64_C(7) << 30, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
}

static struct fake_verdict hold_flushes(void *opaque,
					const struct fake_record *record)
{
	(void)opaque;
	return (struct fake_verdict){
		record->op == QED_OP_FLUSH ? FAKE_HOLD : FAKE_RUN, 0, 0
	};
}

/* Flushes that come while one runs share the next. */
static void flushes_share(void **state)
{
	struct call first, others[MANY];

	(void)state;
	counted_warm_up();
	fake_set_decide(counted_fake, hold_flushes, NULL);
	counted_put(0, PAGE);
	call_flush(&first, counted_image);
	fake_wait_held(counted_fake, 1);
	/* Writes and reads go on meanwhile. */
	for (unsigned i = 0; i < MANY; i++) {
		counted_put((i + 1) * CLUSTER, PAGE);
		counted_assert_disk(2, i * CLUSTER, PAGE);
		call_flush(&others[i], counted_image);
	}
	fake_release_all(counted_fake);
	assert_int_equal(call_wait(&first), 0);
	fake_wait_held(counted_fake, 1);
	for (unsigned i = 0; i < MANY; i++)
		assert_false(call_is_over(&others[i]));
	fake_release_all(counted_fake);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(call_wait(&others[i]), 0);
	assert_int_equal(counted_ops(QED_OP_FLUSH), 2);
	fake_set_decide(counted_fake, NULL, NULL);
	assert_int_equal(syncs_of_flush(), 0);
}

/* A write that ends while a sync runs is not covered by it. */
static void late_write_is_not_covered(void **state)
{
	struct call first;

	(void)state;
	counted_warm_up();
	fake_set_decide(counted_fake, hold_flushes, NULL);
	counted_put(SIZE / 2, PAGE);
	call_flush(&first, counted_image);
	fake_wait_held(counted_fake, 1);
	counted_put(SIZE / 2 + PAGE, PAGE);
	fake_set_decide(counted_fake, NULL, NULL);
	fake_release_all(counted_fake);
	assert_int_equal(call_wait(&first), 0);
	assert_int_equal(syncs_of_flush(), 1);
}

static void commit_woken(struct qed_waiter *waiter, int err)
{
	(void)waiter;
	assert_int_equal(err, 0);
	sem_post(&committed);
}

/* Tables are written, as when they are many or old. */
static void write_tables(void)
{
	struct qed_waiter waiter = { .wake = commit_woken };
	int ret;

	sem_init(&committed, 0, 0);
	ret = qed_meta_commit(counted_image->meta, QED_COMMIT_WRITE, &waiter);
	if (ret == QED_PENDING)
		sem_wait(&committed);
	else
		assert_int_equal(ret, 0);
	sem_destroy(&committed);
}

/* Tables that are written early cost no sync then; the flush is owed one. */
static void tables_written_early(void **state)
{
	unsigned writes;

	(void)state;
	counted_warm_up();
	counted_put(5 * CLUSTER, PAGE);
	counted_forget();
	write_tables();
	writes = counted_ops(QED_OP_WRITE);
	assert_true(writes > 0);
	assert_int_equal(counted_ops(QED_OP_FLUSH), 0);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(counted_ops(QED_OP_WRITE), writes);
	assert_int_equal(syncs_of_flush(), 0);
}

/* With nothing but tables written: no data says that a sync is due. */
static void early_tables_of_a_discard(void **state)
{
	struct call call;

	(void)state;
	counted_warm_up();
	call_zero(&call, counted_image, CLUSTER, SIZE / 2);
	assert_int_equal(call_wait(&call), 0);
	counted_forget();
	counted_leaks = 1;
	write_tables();
	assert_int_equal(counted_ops(QED_OP_FLUSH), 0);
	assert_int_equal(syncs_of_flush(), 1);
}

/* Over backing data the tables wait for the data, whoever asks for them. */
static void early_tables_over_backing(void **state)
{
	(void)state;
	counted_warm_up();
	counted_put(0, PAGE);
	counted_forget();
	write_tables();
	assert_int_equal(counted_ops(QED_OP_FLUSH), 1);
	assert_int_equal(syncs_of_flush(), 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		PLAIN(sync_nothing),
		PLAIN(sync_in_place),
		PLAIN(sync_first_after_clean),
		PLAIN(sync_clean_in_place),
		PLAIN(sync_new_clusters),
		BACKED(sync_over_backing),
		BACKED(sync_over_backing_first),
		PLAIN(sync_reused),
		PLAIN(sync_new_table),
		PLAIN(flushes_share),
		PLAIN(late_write_is_not_covered),
		PLAIN(tables_written_early),
		PLAIN(early_tables_of_a_discard),
		BACKED(early_tables_over_backing),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
