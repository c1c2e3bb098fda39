/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New images whose clusters have their place from the beginning: that they have it, and
 * that nothing is made where an operation fails or the job is cancelled.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "create.h"

#include "../lib/creating.h"
#include "../lib/fake-engine.h"
#include "../lib/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGET  "target.qed"
#define OLD     "old content"
#define CLUSTER UINT64_C(4096)
#define SIZE    ((UINT64_C(2100) << 10) + 512)	/* more than one table maps */
#define MIB     (UINT64_C(1) << 20)
#define HUGE    (UINT64_C(1) << 40)


/* One image that is made. */
struct run {
	enum qed_preallocation how;
	uint64_t size;
	/* under the fake's lock */
	unsigned n, seen;		/* the n-th operation fails */
	struct fake_verdict verdict;
	struct fake_record failed;
	bool hit;
	uint64_t written, grown;	/* bytes */
	unsigned late;			/* operations, once it is cancelled */
	/* the job's */
	unsigned steps, cancel_at;
	_Atomic bool cancelled;
	_Atomic unsigned errors;
};

static struct fake_verdict decide(void *opaque,
				  const struct fake_record *record)
{
	struct run *run = opaque;

	if (record->op == QED_OP_WRITE)
		run->written += record->len;
	if (record->op == QED_OP_GROW)
		run->grown += record->len;
	run->late += run->cancelled;
	if (++run->seen != run->n)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	run->hit = true;
	run->failed = *record;
	return run->verdict;
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	if (level != QED_LOG_ERROR)
		return;
	assert_memory_equal(message, TARGET ": ", strlen(TARGET) + 2);
	atomic_fetch_add(&run->errors, 1);
}

static bool cancelled(void *opaque)
{
	struct run *run = opaque;

	if (++run->steps == run->cancel_at)
		run->cancelled = true;
	return run->cancelled;
}

static int preallocate(struct run *run)
{
	const struct qed_job job = { .cancelled = cancelled, .opaque = run };
	const struct qed_create_options options = {
		.virtual_size = run->size ? run->size : SIZE,
		.cluster_size = run->size ? 0 : CLUSTER,
		.table_size = run->size ? 0 : 1,
		.preallocation = run->how,
		.log = { hear, run },
		.job = &job,
	};
	struct fake *fake = fake_create(1);
	int ret;

	fake_set_decide(fake, decide, run);
	ret = qed_image_create_engine(TARGET, &options, fake_start(fake));
	fake_destroy(fake);
	return ret;
}

static void put_old(bool old)
{
	int fd;

	unlink(TARGET);
	if (!old)
		return;
	fd = open(TARGET, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, OLD, strlen(OLD)), strlen(OLD));
	close(fd);
}

/* Nothing is there, or what was, as it was. */
static void assert_untouched(bool old)
{
	DIR *d = opendir(".");
	struct dirent *e;
	unsigned n = 0;
	char buf[100] = "";
	int fd;

	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	assert_int_equal(n, old);
	if (!old)
		return;
	fd = open(TARGET, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), strlen(OLD));
	assert_string_equal(buf, OLD);
	close(fd);
}

static void assert_zeroes(void)
{
	static uint8_t buf[SIZE];
	struct qed_open_options options;
	struct qed_image *image;

	qed_open_options_init(&options);
	options.io = QED_IO_THREADS;
	memset(buf, 1, sizeof(buf));
	assert_int_equal(qed_image_open(TARGET, &options, &image), 0);
	assert_int_equal(qed_pread(image, buf, SIZE, 0), SIZE);
	for (size_t i = 0; i < SIZE; i++)
		assert_int_equal(buf[i], 0);
	qed_image_close(image);
}

/* By a reader that is not the library's. */
static void assert_made(enum qed_preallocation how)
{
	uint64_t nclusters = (SIZE + CLUSTER - 1) / CLUSTER, stored;
	struct walk *walk = walk_open(TARGET);
	struct stat st;

	assert_int_equal(walk->errors, 0);
	assert_int_equal(walk->nleaked, 0);
	assert_int_equal(walk->features, 0);
	assert_int_equal(walk->disk_size, SIZE);
	assert_int_equal(walk->ndata, how ? nclusters : 0);
	walk_close(walk);
	assert_int_equal(stat(TARGET, &st), 0);
	stored = (uint64_t)st.st_blocks * 512;
	if (how == QED_PREALLOCATION_OFF)
		assert_true((uint64_t)st.st_size <= 3 * CLUSTER);
	if (how == QED_PREALLOCATION_METADATA)
		assert_true(stored < SIZE / 4);
	if (how >= QED_PREALLOCATION_FALLOC)
		assert_true(stored >= SIZE);
	assert_zeroes();
}

static void clusters_have_their_place(void **state)
{
	(void)state;
	for (int how = 0; how <= QED_PREALLOCATION_FULL; how++) {
		struct run run = { .how = (enum qed_preallocation)how };

		put_old(how % 2);
		assert_int_equal(preallocate(&run), 0);
		assert_int_equal(run.errors, 0);
		assert_made(run.how);
		/* Space is reserved by the host, zeroes are written. */
		assert_int_equal(run.grown >= SIZE,
				 how >= QED_PREALLOCATION_FALLOC);
		assert_int_equal(run.written >= SIZE,
				 how == QED_PREALLOCATION_FULL);
	}
}

static void what_there_is_not_is_refused(void **state)
{
	struct run run = { .how = QED_PREALLOCATION_FULL + 1 };

	(void)state;
	put_old(true);
	assert_int_equal(preallocate(&run), -EINVAL);
	assert_int_equal(run.errors, 1);
	assert_untouched(true);
}

/* A part of a table that could not be read ahead is read again when it is needed. */
static bool may_fail(const struct fake_record *record)
{
	return record->op == QED_OP_READ && record->len == 4096;
}

/* False when the n-th operation was not reached. */
static bool fail_one(enum qed_preallocation how, unsigned n,
		     struct fake_verdict verdict)
{
	struct run run = { .how = how, .n = n, .verdict = verdict };
	int ret;

	put_old(n % 2);
	ret = preallocate(&run);
	if (ret == 0) {
		assert_int_equal(run.errors, 0);
		assert_made(how);
		assert_true(!run.hit || verdict.what != FAKE_FAIL ||
			    may_fail(&run.failed));
		return run.hit;
	}
	assert_true(run.hit);
	assert_int_equal(ret, verdict.err);
	assert_int_equal(run.errors, 1);
	assert_untouched(n % 2);
	return true;
}

static void a_failure_leaves_nothing(void **state)
{
	static const struct fake_verdict verdicts[] = {
		{ FAKE_FAIL, -EIO, 0 },
		{ FAKE_FAIL, -ENOSPC, 0 },
		{ FAKE_SHORT, 0, 1000 },
	};
	unsigned n;

	(void)state;
	for (int i = 0; i < 12; i++) {
		enum qed_preallocation how = (enum qed_preallocation)(i % 4);

		for (n = 1; fail_one(how, n, verdicts[i / 4]);)
			n++;
		assert_true(n > 3);
	}
}

static void cancelled_leaves_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		struct run run = { .how = (enum qed_preallocation)(i % 4),
				   .cancel_at = 1 + i / 8 };
		bool old = i / 4 % 2;
		int ret;

		put_old(old);
		ret = preallocate(&run);
		/* There is always one before the image gets its name. */
		assert_true(run.cancelled || run.cancel_at > 1);
		if (!run.cancelled) {
			assert_int_equal(ret, 0);
			continue;
		}
		assert_int_equal(ret, -ECANCELED);
		assert_int_equal(run.errors, 1);
		assert_int_equal(run.late, 0);
		assert_untouched(old);
	}
}

/* It ends soon, however much is left; the disk is looked at in 16 steps first. */
static void a_huge_one_can_be_cancelled(void **state)
{
	struct run run = { .how = QED_PREALLOCATION_FULL,
			   .size = HUGE,
			   .cancel_at = 16 + 1 };

	(void)state;
	put_old(true);
	/* A terabyte would be written if nobody asked on the way: fail by then. */
	run.n = 1000;
	run.verdict = (struct fake_verdict){ FAKE_FAIL, -EIO, 0 };
	assert_int_equal(preallocate(&run), -ECANCELED);
	assert_true(run.written >= 64 * MIB && run.written < 130 * MIB);
	assert_int_equal(run.late, 0);
	assert_untouched(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clusters_have_their_place),
		cmocka_unit_test(what_there_is_not_is_refused),
		cmocka_unit_test(a_failure_leaves_nothing),
		cmocka_unit_test(cancelled_leaves_nothing),
		cmocka_unit_test(a_huge_one_can_be_cancelled),
	};

	return cmocka_run_group_tests(tests, creating_enter, creating_leave);
}
