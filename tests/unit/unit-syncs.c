/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What requests cost at the file layer: how many syncs, how many writes, how many
 * reads, and what may be under way at once.
 */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "image.h"
#include "../lib/model.h"
#include "../lib/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
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
#define MANY    50u

static char dir[200];
static struct fake *fake;
static struct qed_image *image;
static uint8_t data[8 * 65536], got[8 * 65536];
static sem_t committed;
static uint64_t leaks;			/* clusters that may be left over */

/* What happened since the last look. */
static unsigned count(enum qed_op op)
{
	return fake_count(fake, op, TOP);
}

static void forget(void)
{
	fake_reset_counts(fake);
	fake_forget_records(fake);
}

/* How many syncs a flush costs now. */
static unsigned syncs_of_flush(void)
{
	unsigned before = count(QED_OP_FLUSH);

	assert_int_equal(qed_fsync(image), 0);
	return count(QED_OP_FLUSH) - before;
}

/* Writes `len` bytes of the pattern at `off`. */
static void put(uint64_t off, uint64_t len)
{
	model_pattern(2, data, off, len);
	assert_int_equal(qed_pwrite(image, data, len, off), len);
}

static void assert_disk(uint64_t id, uint64_t off, uint64_t len)
{
	model_pattern(id, data, off, len);
	assert_int_equal(qed_pread(image, got, len, off), len);
	assert_memory_equal(got, data, len);
}

static void open_image(void)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	fake = fake_create(2);
	fake_set_recording(fake, true);
	assert_int_equal(qed_image_open_engine(TOP, &options, fake_start(fake),
					       &image),
			 0);
	forget();
}

static int enter_dir(const char *backing, const char *format)
{
	const struct qed_create_options create = {
		.virtual_size = SIZE,
		.backing = backing,
		.backing_format = format,
	};
	const char *parent = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/unit-syncs.XXXXXX",
		 parent ? parent : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	if (backing) {
		int fd = open(BASE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		for (uint64_t off = 0; off < 16 << 20; off += sizeof(data)) {
			model_pattern(1, data, off, sizeof(data));
			if (pwrite(fd, data, sizeof(data), (off_t)off) < 0)
				return -1;
		}
		close(fd);
	}
	if (qed_image_create(TOP, &create) < 0)
		return -1;
	open_image();
	return 0;
}

static int without_backing(void **state)
{
	(void)state;
	return enter_dir(NULL, NULL);
}

/* A raw disk with data in its first 16 MiB. */
static int with_backing(void **state)
{
	(void)state;
	return enter_dir(BASE, "raw");
}

static int leave_dir(void **state)
{
	int ret = 0;
	struct walk *walk;

	(void)state;
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	if (qed_image_close(image) < 0)
		ret = -1;
	fake_destroy(fake);
	walk = walk_open(TOP);
	if (walk->errors || walk->features & WALK_NEED_CHECK ||
	    walk->nleaked > leaks)
		ret = -1;
	walk_close(walk);
	leaks = 0;
	unlink(TOP);
	unlink(BASE);
	return chdir("/") == 0 && rmdir(dir) == 0 ? ret : -1;
}

/* Sets NEED_CHECK and makes the first table: what follows is the usual case. */
static void warm_up(void)
{
	put(SIZE / 2, PAGE);
	assert_int_equal(qed_fsync(image), 0);
	forget();
}

/* --- syncs ------------------------------------------------------------------------- */

static void sync_nothing(void **state)
{
	(void)state;
	assert_int_equal(syncs_of_flush(), 0);
	warm_up();
	assert_int_equal(syncs_of_flush(), 0);
	assert_int_equal(qed_pread(image, got, PAGE, 0), PAGE);
	assert_int_equal(syncs_of_flush(), 0);
}

static void sync_in_place(void **state)
{
	(void)state;
	warm_up();
	put(SIZE / 2 + 100, 5000);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(count(QED_OP_WRITE), 1);
	assert_int_equal(syncs_of_flush(), 0);
}

static void sync_first_after_clean(void **state)
{
	(void)state;
	put(0, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
	put(CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	/* Clean again, and its sync is not the flush's. */
	assert_int_equal(qed_meta_clean(image->meta), 0);
	forget();
	put(2 * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
}

/* In-place data does not touch the header. */
static void sync_clean_in_place(void **state)
{
	struct qed_image_info info;

	(void)state;
	put(0, PAGE);
	assert_int_equal(qed_meta_clean(image->meta), 0);
	forget();
	put(1000, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(count(QED_OP_WRITE), 1);
	qed_image_get_info(image, &info);
	assert_false(info.features & QED_FEATURE_NEED_CHECK);
}

static void sync_new_clusters(void **state)
{
	(void)state;
	warm_up();
	for (unsigned i = 0; i < MANY; i++)
		put(2 * i * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
}

static void sync_over_backing(void **state)
{
	(void)state;
	warm_up();
	for (unsigned i = 0; i < MANY; i++)
		put(2 * i * CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
	/* Past the end of the backing file there is nothing to lose. */
	put(SIZE - CLUSTER, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
}

/* The header's sync and the data's are one. */
static void sync_over_backing_first(void **state)
{
	(void)state;
	put(0, PAGE);
	assert_int_equal(syncs_of_flush(), 2);
}

static void sync_reused(void **state)
{
	struct call call;

	(void)state;
	warm_up();
	put(0, 4 * CLUSTER);
	put(8 * CLUSTER, CLUSTER);
	assert_int_equal(syncs_of_flush(), 1);
	call_zero(&call, image, 4 * CLUSTER, 0);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(syncs_of_flush(), 1);
	/* The clusters come back when they have been punched. */
	qed_reclaim_drain(&image->reclaim);
	assert_true(count(QED_OP_PUNCH) > 0);
	put(20 * CLUSTER, PAGE);
	leaks = 3;
	assert_int_equal(syncs_of_flush(), 2);
	assert_disk(2, 20 * CLUSTER, PAGE);
}

static void sync_new_table(void **state)
{
	/* A table maps 2 GiB: an image with room for two. */
	const struct qed_create_options create = {
		.virtual_size = UINT64_C(8) << 30,
	};

	(void)state;
	assert_int_equal(qed_image_close(image), 0);
	fake_destroy(fake);
	assert_int_equal(qed_image_create(TOP, &create), 0);
	open_image();
	warm_up();
	put(UINT64_C(3) << 30, PAGE);
	assert_int_equal(syncs_of_flush(), 1);
	put(UINT64_C(5) << 30, PAGE);
	put(UINT64_C(7) << 30, PAGE);
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
	warm_up();
	fake_set_decide(fake, hold_flushes, NULL);
	put(0, PAGE);
	call_flush(&first, image);
	fake_wait_held(fake, 1);
	/* Writes and reads go on meanwhile. */
	for (unsigned i = 0; i < MANY; i++) {
		put((i + 1) * CLUSTER, PAGE);
		assert_disk(2, i * CLUSTER, PAGE);
		call_flush(&others[i], image);
	}
	fake_release_all(fake);
	assert_int_equal(call_wait(&first), 0);
	fake_wait_held(fake, 1);
	for (unsigned i = 0; i < MANY; i++)
		assert_false(call_is_over(&others[i]));
	fake_release_all(fake);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(call_wait(&others[i]), 0);
	assert_int_equal(count(QED_OP_FLUSH), 2);
	fake_set_decide(fake, NULL, NULL);
	assert_int_equal(syncs_of_flush(), 0);
}

/* A write that ends while a sync runs is not covered by it. */
static void late_write_is_not_covered(void **state)
{
	struct call first;

	(void)state;
	warm_up();
	fake_set_decide(fake, hold_flushes, NULL);
	put(SIZE / 2, PAGE);
	call_flush(&first, image);
	fake_wait_held(fake, 1);
	put(SIZE / 2 + PAGE, PAGE);
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
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
	ret = qed_meta_commit(image->meta, QED_COMMIT_WRITE, &waiter);
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
	warm_up();
	put(5 * CLUSTER, PAGE);
	forget();
	write_tables();
	writes = count(QED_OP_WRITE);
	assert_true(writes > 0);
	assert_int_equal(count(QED_OP_FLUSH), 0);
	assert_int_equal(syncs_of_flush(), 1);
	assert_int_equal(count(QED_OP_WRITE), writes);
	assert_int_equal(syncs_of_flush(), 0);
}

/* With nothing but tables written: no data says that a sync is due. */
static void early_tables_of_a_discard(void **state)
{
	struct call call;

	(void)state;
	warm_up();
	call_zero(&call, image, CLUSTER, SIZE / 2);
	assert_int_equal(call_wait(&call), 0);
	forget();
	leaks = 1;
	write_tables();
	assert_int_equal(count(QED_OP_FLUSH), 0);
	assert_int_equal(syncs_of_flush(), 1);
}

/* Over backing data the tables wait for the data, whoever asks for them. */
static void early_tables_over_backing(void **state)
{
	(void)state;
	warm_up();
	put(0, PAGE);
	forget();
	write_tables();
	assert_int_equal(count(QED_OP_FLUSH), 1);
	assert_int_equal(syncs_of_flush(), 1);
}

/* --- writes and reads ------------------------------------------------------------------ */

/* Records of one kind on the image, in order of submission. */
static unsigned list(enum qed_op op, const struct fake_record *out[], unsigned max)
{
	struct fake_record *const *records;
	size_t n = fake_records(fake, &records);
	int top = fake_file(fake, TOP);
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
	assert_int_equal(qed_fsync(image), 0);
	walk = walk_open(TOP);
	for (unsigned i = 0; i < n; i++)
		found += !walk_is_metadata(walk, reads[i]->file_off);
	walk_close(walk);
	return found;
}

static unsigned reads_of_base(void)
{
	return fake_count(fake, QED_OP_READ, BASE);
}

/* N scattered first writes: N writes of their size, then a few for tables. */
static void first_writes(void **state)
{
	const struct fake_record *writes[MANY + 8];

	(void)state;
	warm_up();
	for (unsigned i = 0; i < MANY; i++)
		put((i * 37 % 1000) * CLUSTER + i % 16 * PAGE, PAGE);
	assert_int_equal(list(QED_OP_WRITE, writes, MANY + 8), MANY);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(writes[i]->len, PAGE);
	assert_int_equal(qed_fsync(image), 0);
	assert_int_equal(reads_of_data(), 0);
	/* 1000 entries are two or three slices of one table. */
	assert_true(count(QED_OP_WRITE) <= MANY + 3);
	assert_true(count(QED_OP_GROW) <= 1);
}

static void neighbours_are_contiguous(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	warm_up();
	put(10 * CLUSTER + 512, 5 * CLUSTER);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 5 * CLUSTER);
	assert_int_equal(writes[0]->file_off % CLUSTER, 512);
	assert_disk(2, 10 * CLUSTER + 512, 5 * CLUSTER);
}

static void cow_inside_a_cluster(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	warm_up();
	put(3 * CLUSTER + 8192, PAGE);
	assert_int_equal(reads_of_base(), 1);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, CLUSTER);
	assert_int_equal(writes[0]->file_off % CLUSTER, 0);
	assert_disk(1, 3 * CLUSTER, 8192);
	assert_disk(2, 3 * CLUSTER + 8192, PAGE);
	assert_disk(1, 3 * CLUSTER + 8192 + PAGE, CLUSTER - 8192 - PAGE);
}

/* From the middle of one cluster to the middle of another: head and tail. */
static void cow_over_a_run(void **state)
{
	const struct fake_record *writes[4];
	uint64_t off = 3 * CLUSTER + 4096;

	(void)state;
	warm_up();
	put(off, 4 * CLUSTER);
	assert_int_equal(reads_of_base(), 2);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 5 * CLUSTER);
	assert_disk(1, 3 * CLUSTER, 4096);
	assert_disk(2, off, 4 * CLUSTER);
	assert_disk(1, off + 4 * CLUSTER, CLUSTER - 4096);
}

/* Only one side is missing. */
static void cow_of_one_side(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	warm_up();
	put(3 * CLUSTER, PAGE);
	assert_int_equal(reads_of_base(), 1);
	put(6 * CLUSTER - PAGE, PAGE);
	assert_int_equal(reads_of_base(), 2);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 2);
	assert_disk(1, 3 * CLUSTER + PAGE, CLUSTER - PAGE);
	assert_disk(1, 5 * CLUSTER, CLUSTER - PAGE);
}

static void whole_clusters_read_nothing(void **state)
{
	const struct fake_record *writes[4];

	(void)state;
	warm_up();
	put(3 * CLUSTER, 2 * CLUSTER);
	assert_int_equal(reads_of_base(), 0);
	assert_int_equal(list(QED_OP_WRITE, writes, 4), 1);
	assert_int_equal(writes[0]->len, 2 * CLUSTER);
	assert_int_equal(reads_of_data(), 0);
	/* nor does one past the end of the backing file */
	put(SIZE - CLUSTER, PAGE);
	assert_int_equal(reads_of_base(), 0);
}

static void zeroing_moves_no_data(void **state)
{
	struct call call;

	(void)state;
	warm_up();
	call_zero(&call, image, 64 * CLUSTER, 32 * CLUSTER);
	assert_int_equal(call_wait(&call), 0);
	assert_int_equal(count(QED_OP_WRITE), 0);
	assert_int_equal(reads_of_base(), 0);
	memset(data, 0, sizeof(data));
	assert_int_equal(qed_pread(image, got, sizeof(got), 40 * CLUSTER),
			 sizeof(got));
	assert_memory_equal(got, data, sizeof(got));
	assert_int_equal(qed_fsync(image), 0);
	assert_true(count(QED_OP_WRITE) <= 2);
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
	warm_up();
	fake_set_decide(fake, hold_writes, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		model_pattern(2, bytes[i], i * CLUSTER, PAGE);
		call_write(&calls[i], image, bytes[i], PAGE, i * CLUSTER);
	}
	fake_wait_held(fake, MANY);
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(call_wait(&calls[i]), PAGE);
		assert_disk(2, i * CLUSTER, PAGE);
	}
}

/*
 * Gets the table's entries for the first clusters into the cache, so that no write
 * waits for them: those that do may go on in another order.
 */
static void load_first_entries(void)
{
	/* Behind the backing file's data. */
	assert_int_equal(qed_pread(image, got, PAGE, 300 * CLUSTER), PAGE);
	forget();
}

/* The second of two writes into one new cluster waits, then adds its own. */
static void one_new_cluster_is_merged(void **state)
{
	static uint8_t bytes[3][PAGE];
	struct call calls[3];
	uint64_t base = 5 * CLUSTER;

	(void)state;
	warm_up();
	load_first_entries();
	fake_set_decide(fake, hold_writes, NULL);
	for (unsigned i = 0; i < 3; i++) {
		model_pattern(2, bytes[i], base + 4 * i * PAGE, PAGE);
		call_write(&calls[i], image, bytes[i], PAGE,
			   base + 4 * i * PAGE);
	}
	fake_wait_held(fake, 1);
	assert_int_equal(fake_held(fake), 1);
	fake_release_all(fake);
	assert_int_equal(call_wait(&calls[0]), PAGE);
	/* Now the cluster is there, and those two need not wait any more. */
	fake_wait_held(fake, 2);
	fake_set_decide(fake, NULL, NULL);
	fake_release_all(fake);
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(call_wait(&calls[i]), PAGE);
	for (unsigned i = 0; i < 3; i++)
		assert_disk(2, base + 4 * i * PAGE, PAGE);
	assert_int_equal(qed_fsync(image), 0);
}

static void merged_over_backing(void **state)
{
	(void)state;
	one_new_cluster_is_merged(state);
	assert_disk(1, 5 * CLUSTER + PAGE, 3 * PAGE);
	assert_disk(1, 5 * CLUSTER + 9 * PAGE, 7 * PAGE);
	assert_int_equal(reads_of_base(), 1);
}

#define PLAIN(name) \
	cmocka_unit_test_setup_teardown(name, without_backing, leave_dir)
#define BACKED(name) \
	cmocka_unit_test_setup_teardown(name, with_backing, leave_dir)

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
