/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What writes cost at the file layer: how many writes and reads of which lengths, and
 * what may be under way at once.
 */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/counted.h"
#include "../lib/model.h"
#include "../lib/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MANY 50u

static uint8_t data[8 * 65536], got[8 * 65536];

/* --- writes and reads ------------------------------------------------------------------ */

/* Records of one kind on the counted_image, in order of submission. */
static unsigned list(enum qed_op op, const struct fake_record *out[], unsigned max)
{
	struct fake_record *const *records;
	size_t n = fake_records(counted_fake, &records);
	int top = fake_file(counted_fake, TOP);
	unsigned found = 0;

	for (size_t i = 0; i < n; i++) {
		if (records[i]->op != op || (int)records[i]->file != top)
			continue;
		if (found < max)
			out[found] = records[i];
		found++;
	}
	return found;
}

/* Reads of the image's data; tables are read when they are first needed. */
static unsigned reads_of_data(void)
{
	const struct fake_record *reads[MANY];
	unsigned n = list(QED_OP_READ, reads, MANY), found = 0;
	struct walk *walk;

	assert_true(n <= MANY);
	assert_int_equal(qed_fsync(counted_image), 0);
	walk = walk_open(TOP);
	for (unsigned i = 0; i < n; i++)
		found += !walk_is_metadata(walk, reads[i]->file_off);
	walk_close(walk);
	return found;
}

static unsigned reads_of_base(void)
{
	return fake_count(counted_fake, QED_OP_READ, BASE);
}

/* N scattered first writes: N writes of their size, then a few for tables. */
static void first_writes(void **state)
{
	const struct fake_record *writes[MANY + 8];

	(void)state;
	counted_warm_up();
	for (unsigned i = 0; i < MANY; i++)
		counted_put((i * 37 % 1000) * CLUSTER + i % 16 * PAGE, PAGE);
	assert_int_equal(list(QED_OP_WRITE, writes, MANY + 8), MANY);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(writes[i]->len, PAGE);
	assert_int_equal(qed_fsync(counted_image), 0);
	assert_int_equal(reads_of_data(), 0);
	/* 1000 entries are two or three slices of one table. */
	assert_true(counted_ops(QED_OP_WRITE) <= MANY + 3);
	assert_true(counted_ops(QED_OP_GROW) <= 1);
}

static void neighbours_are_contiguous(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	counted_warm_up();
	counted_put(10 * CLUSTER + 512, 5 * CLUSTER);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 5 * CLUSTER);
	assert_int_equal(writes[0]->file_off % CLUSTER, 512);
	counted_assert_disk(2, 10 * CLUSTER + 512, 5 * CLUSTER);
}

static void cow_inside_a_cluster(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	counted_warm_up();
	counted_put(3 * CLUSTER + 8192, PAGE);
	assert_int_equal(reads_of_base(), 1);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, CLUSTER);
	assert_int_equal(writes[0]->file_off % CLUSTER, 0);
	counted_assert_disk(1, 3 * CLUSTER, 8192);
	counted_assert_disk(2, 3 * CLUSTER + 8192, PAGE);
	counted_assert_disk(1, 3 * CLUSTER + 8192 + PAGE, CLUSTER - 8192 - PAGE);
}

/* From the middle of one cluster to the middle of another: head and tail. */
static void cow_over_a_run(void **state)
{
	const struct fake_record *writes[4];
	uint64_t off = 3 * CLUSTER + 4096;

	(void)state;
	counted_warm_up();
	counted_put(off, 4 * CLUSTER);
	assert_int_equal(reads_of_base(), 2);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 5 * CLUSTER);
	counted_assert_disk(1, 3 * CLUSTER, 4096);
	counted_assert_disk(2, off, 4 * CLUSTER);
	counted_assert_disk(1, off + 4 * CLUSTER, CLUSTER - 4096);
}

/* Only one side is missing. */
static void cow_of_one_side(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	counted_warm_up();
	counted_put(3 * CLUSTER, PAGE);
	assert_int_equal(reads_of_base(), 1);
	counted_put(6 * CLUSTER - PAGE, PAGE);
	assert_int_equal(reads_of_base(), 2);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 2);
	counted_assert_disk(1, 3 * CLUSTER + PAGE, CLUSTER - PAGE);
	counted_assert_disk(1, 5 * CLUSTER, CLUSTER - PAGE);
}

static void whole_clusters_read_nothing(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	counted_warm_up();
	counted_put(3 * CLUSTER, 2 * CLUSTER);
	assert_int_equal(reads_of_base(), 0);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 2 * CLUSTER);
	assert_int_equal(reads_of_data(), 0);
	/* nor does one past the end of the backing file */
	counted_put(SIZE - CLUSTER, PAGE);
	assert_int_equal(reads_of_base(), 0);
}

static void zeroing_moves_no_data(void **state)
{
	struct call call;

	(void)state;
	counted_warm_up();
	call_zero(&call, counted_image, 64 * CLUSTER, 32 * CLUSTER);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(counted_ops(QED_OP_WRITE), 0);
	assert_int_equal(reads_of_base(), 0);
	memset(data, 0, sizeof(data));
	assert_int_equal(qed_pread(counted_image, got, sizeof(got), 40 * CLUSTER),
			 sizeof(got));
	assert_memory_equal(got, data, sizeof(got));
	assert_int_equal(qed_fsync(counted_image), 0);
	assert_true(counted_ops(QED_OP_WRITE) <= 2);
}

/* --- at once ----------------------------------------------------------------------------- */

static struct fake_verdict hold_writes(void *opaque,
				       const struct fake_record *record)
{
	(void)opaque;
	return (struct fake_verdict){
		record->op == QED_OP_WRITE ? FAKE_HOLD : FAKE_RUN, 0, 0
	};
}

static void allocating_writes_overlap(void **state)
{
	static uint8_t bytes[MANY][PAGE];
	struct call calls[MANY];

	(void)state;
	counted_warm_up();
	fake_set_decide(counted_fake, hold_writes, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		model_pattern(2, bytes[i], i * CLUSTER, PAGE);
		call_write(&calls[i], counted_image, bytes[i], PAGE, i * CLUSTER);
	}
	fake_wait_held(counted_fake, MANY);
	fake_set_decide(counted_fake, NULL, NULL);
	fake_release_all(counted_fake);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(call_wait(&calls[i]), PAGE);
		counted_assert_disk(2, i * CLUSTER, PAGE);
	}
}

/*
 * Gets the table's entries for the first clusters into the cache, so that no write
 * waits for them: those that do may go on in another order.
 */
static void load_first_entries(void)
{
	/* Behind the backing file's data. */
	assert_int_equal(qed_pread(counted_image, got, PAGE, 300 * CLUSTER), PAGE);
	counted_forget();
}

/* The second of two writes into one new cluster waits, then adds its own. */
static void one_new_cluster_is_merged(void **state)
{
	static uint8_t bytes[3][PAGE];
	struct call calls[3];
	uint64_t base = 5 * CLUSTER;

	(void)state;
	counted_warm_up();
	load_first_entries();
	fake_set_decide(counted_fake, hold_writes, NULL);
	for (unsigned i = 0; i < 3; i++) {
		model_pattern(2, bytes[i], base + 4 * i * PAGE, PAGE);
		call_write(&calls[i], counted_image, bytes[i], PAGE,
			   base + 4 * i * PAGE);
	}
	fake_wait_held(counted_fake, 1);
	assert_int_equal(fake_held(counted_fake), 1);
	fake_release_all(counted_fake);
	assert_int_equal(call_wait(&calls[0]), PAGE);
	/* Now the cluster is there, and those two need not wait any more. */
	fake_wait_held(counted_fake, 2);
	fake_set_decide(counted_fake, NULL, NULL);
	fake_release_all(counted_fake);
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(call_wait(&calls[i]), PAGE);
	for (unsigned i = 0; i < 3; i++)
		counted_assert_disk(2, base + 4 * i * PAGE, PAGE);
	assert_int_equal(qed_fsync(counted_image), 0);
}

static void merged_over_backing(void **state)
{
	(void)state;
	one_new_cluster_is_merged(state);
	counted_assert_disk(1, 5 * CLUSTER + PAGE, 3 * PAGE);
	counted_assert_disk(1, 5 * CLUSTER + 9 * PAGE, 7 * PAGE);
	assert_int_equal(reads_of_base(), 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		PLAIN(first_writes),
		PLAIN(neighbours_are_contiguous),
		BACKED(cow_inside_a_cluster),
		BACKED(cow_over_a_run),
		BACKED(cow_of_one_side),
		BACKED(whole_clusters_read_nothing),
		BACKED(zeroing_moves_no_data),
		PLAIN(allocating_writes_overlap),
		PLAIN(one_new_cluster_is_merged),
		BACKED(merged_over_backing),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
