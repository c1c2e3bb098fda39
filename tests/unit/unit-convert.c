/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copying a disk into a new file: what is durable when it gets its name, and
 * that there is nothing, or what was there, if anything fails before.  Into one
 * that is there: that it stays a file or image, of the old disk and the new one
 * mixed.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "convert.h"

#include "../lib/creating.h"
#include "../lib/fake-engine.h"
#include "../lib/rng.h"
#include "../lib/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE    (24 * CLUSTER)
#define TARGET  "target"
#define OLD     "old content"
#define MANY    4u			/* workers, and threads of the engine */
#define CLUSTER 65536u

#define HANG_SECONDS 300		/* one run takes some milliseconds */

static const char *const formats[] = { "raw", "qed" };

static uint8_t content[SIZE];		/* of the source, */
static uint8_t before[SIZE];		/* and of a target that is there */
static struct qed_image *source;

/* One conversion. */
struct run {
	const char *format;
	unsigned nworkers;
	bool in_place;
	struct fake *fake;
	struct rng rng;			/* under the fake's lock, as */
	unsigned n, seen;		/* the n-th operation fails, */
	bool on;			/* and all after it, some otherwise */
	struct fake_verdict verdict;
	bool hit;
	bool named;			/* a flush has found the target there */
	unsigned flushes;
	uint64_t last_flush;		/* submitted */
	/* the job's */
	unsigned steps, cancel_at;
	_Atomic unsigned errors;
	char message[300];		/* the first error's */
};

/* Pairs of clusters, each a piece, with zeroes in parts; holes between them. */
static void make_source(void)
{
	int fd = open("source.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, SIZE), 0);
	for (unsigned at = 0; at < SIZE; at += 3 * CLUSTER) {
		for (unsigned i = at; i < at + CLUSTER + 5000; i++)
			if (i < at + CLUSTER || at / CLUSTER % 2)
				content[i] = (uint8_t)(1 + i % 251);
		assert_int_equal(pwrite(fd, content + at, 2 * CLUSTER, at),
				 2 * CLUSTER);
	}
	close(fd);
}

/* Zeroes beside something else, in other places. */
static void make_old_raw(void)
{
	int fd = open("old.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	for (unsigned i = 0; i < SIZE; i++)
		if (i / (4 * CLUSTER) % 2)
			before[i] = 0xee;
	assert_int_equal(pwrite(fd, before, SIZE, 0), SIZE);
	close(fd);
}

/* Some of its clusters are allocated. */
static void make_old_qed(void)
{
	struct qed_create_options create = { .virtual_size = SIZE };
	struct qed_open_options options;
	struct qed_image *image;

	assert_int_equal(qed_image_create("old.qed", &create), 0);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR | QED_OPEN_DETECT_ZEROES;
	assert_int_equal(qed_image_open("old.qed", &options, &image), 0);
	for (unsigned i = 0; i < SIZE; i += CLUSTER)
		assert_int_equal(qed_pwrite(image, before + i, CLUSTER, i),
				 CLUSTER);
	assert_int_equal(qed_image_close(image), 0);
}

static int setup(void **state)
{
	struct qed_open_options options;

	if (creating_enter(state) < 0)
		return -1;
	make_source();
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RAW;
	assert_int_equal(qed_image_open("source.raw", &options, &source), 0);
	make_old_raw();
	make_old_qed();
	return 0;
}

static int teardown(void **state)
{
	qed_image_close(source);
	return creating_leave(state);
}

static struct fake_verdict decide(void *opaque,
				  const struct fake_record *record)
{
	struct run *run = opaque;

	if (record->op == QED_OP_FLUSH) {
		run->flushes++;
		run->last_flush = record->submitted;
		run->named |= access(TARGET, F_OK) == 0;
	}
	run->seen++;
	/* The disk would take most of the time that the tests take. */
	if (run->seen != run->n && !(run->on && run->hit))
		return (struct fake_verdict){ record->op == QED_OP_FLUSH ?
						      FAKE_PRETEND : FAKE_RUN,
					      0, 0 };
	run->hit = true;
	if (run->on && run->seen % 2)
		return (struct fake_verdict){ FAKE_FAIL, -EIO, 0 };
	return run->verdict;
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	if (level != QED_LOG_ERROR || atomic_fetch_add(&run->errors, 1) > 0)
		return;
	snprintf(run->message, sizeof(run->message), "%s", message);
}

/* Whatever order the operations end in. */
static unsigned pick(void *opaque, unsigned n)
{
	struct run *run = opaque;

	return (unsigned)rng_below(&run->rng, n);
}

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool cancelled(void *opaque)
{
	struct run *run = opaque;

	return ++run->steps == run->cancel_at;
}

static int convert(struct run *run)
{
	const struct qed_job job = { .cancelled = cancelled, .opaque = run };
	struct qed_convert_options options;
	unsigned descriptors = open_descriptors();
	int ret;

	alarm(HANG_SECONDS);
	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.format = run->format;
	options.nworkers = run->nworkers;
	options.flags = run->in_place ? QED_CONVERT_IN_PLACE : 0;
	options.log = (struct qed_log){ hear, run };
	options.job = &job;
	run->fake = fake_create(run->nworkers);
	fake_set_recording(run->fake, !run->n && !run->cancel_at);
	fake_set_decide(run->fake, decide, run);
	if (run->nworkers > 1)
		fake_set_pick(run->fake, pick, run);
	ret = qed_image_convert_engine(TARGET, &options,
				       fake_start(run->fake));
	alarm(0);
	assert_int_equal(open_descriptors(), descriptors);
	return ret;
}

/* Said once, what it was and which file it is about. */
static void assert_reported(const struct run *run, int err)
{
	assert_int_equal(run->errors, 1);
	assert_memory_equal(run->message, TARGET ": ", strlen(TARGET ": "));
	assert_non_null(strstr(run->message, strerror(-err)));
}

static void put_old(void)
{
	int fd = open(TARGET, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, OLD, strlen(OLD)), strlen(OLD));
	close(fd);
}

/* Only the inputs are there, and the target if it was before, as it was. */
static void assert_untouched(bool old)
{
	DIR *d = opendir(".");
	struct dirent *e;
	char buf[100] = "";
	int fd;

	while ((e = readdir(d)))
		if (e->d_name[0] != '.' || strlen(e->d_name) > 2)
			assert_true(!strcmp(e->d_name, "source.raw") ||
				    !strncmp(e->d_name, "old.", 4) ||
				    (old && !strcmp(e->d_name, TARGET)));
	closedir(d);
	if (!old)
		return;
	fd = open(TARGET, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), strlen(OLD));
	assert_string_equal(buf, OLD);
	close(fd);
}

/* The target's disk. */
static const uint8_t *read_target(const char *format)
{
	static uint8_t now[SIZE];
	struct qed_open_options options;
	struct qed_image *image;

	qed_open_options_init(&options);
	options.flags = strcmp(format, "raw") ? 0 : QED_OPEN_RAW;
	options.io = QED_IO_THREADS;
	assert_int_equal(qed_image_open(TARGET, &options, &image), 0);
	assert_int_equal(qed_pread(image, now, SIZE, 0), SIZE);
	assert_int_equal(qed_image_close(image), 0);
	return now;
}

static void assert_converted(const char *format)
{
	assert_memory_equal(read_target(format), content, SIZE);
}

/* A target to be written in place. */
static void put_target(const char *format)
{
	int from = open(strcmp(format, "raw") ? "old.qed" : "old.raw",
			O_RDONLY | O_CLOEXEC);
	int to = open(TARGET, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	do
		n = copy_file_range(from, NULL, to, NULL, SIZE, 0);
	while (n > 0);
	assert_int_equal(n, 0);
	close(from);
	close(to);
}

/* Each sector is from one of the two disks, and an image's tables are sound. */
static void assert_mixed(const char *format, bool clean)
{
	const uint8_t *now;

	if (!strcmp(format, "qed")) {
		struct walk *walk = walk_open(TARGET);

		if (walk->errors)
			fail_msg("%s", walk->message);
		if (clean)
			assert_false(walk->features & WALK_NEED_CHECK);
		walk_close(walk);
	}
	now = read_target(format);
	for (unsigned i = 0; i < SIZE; i += 512)
		if (memcmp(now + i, before + i, 512))
			assert_memory_equal(now + i, content + i, 512);
}

static bool changes(const struct fake_record *record)
{
	return record->op != QED_OP_READ && record->op != QED_OP_FLUSH;
}

static void durable_before_it_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct run run = { .format = formats[i % 2],
				   .nworkers = i < 2 ? 1 : MANY };
		struct fake_record *const *records;
		size_t n, written = 0;

		unlink(TARGET);
		assert_int_equal(convert(&run), 0);
		assert_converted(run.format);
		assert_true(run.flushes > 0);
		assert_false(run.named);
		n = fake_records(run.fake, &records);
		for (size_t j = 0; j < n; j++) {
			if (!changes(records[j]))
				continue;
			written++;
			assert_true(records[j]->completed < run.last_flush);
		}
		assert_true(written > 0);
		fake_destroy(run.fake);
	}
}

/* --- failures ------------------------------------------------------------- */

/* What is tried with each operation in turn. */
struct fault {
	struct fake_verdict verdict;
	bool on;
};

/* Of several errors one is reported and returned. */
static const struct fault faults[] = {
	{ { FAKE_FAIL, -EIO, 0 }, false },
	{ { FAKE_FAIL, -ENOSPC, 0 }, true },
	{ { FAKE_SHORT, 0, 1000 }, false },
};

/* A case of each number from 0 on. */
static struct run fault_run(unsigned i, unsigned n)
{
	const struct fault *fault = &faults[i / 4];

	return (struct run){ .format = formats[i % 2],
			     .nworkers = i / 2 % 2 ? MANY : 1,
			     .rng = { i << 16 | n },
			     .n = n,
			     .verdict = fault->verdict,
			     .on = fault->on };
}

/* Each operation; of those that succeed in the end, which takes syncs, some. */
static unsigned step_of(unsigned i)
{
	return faults[i / 4].verdict.what == FAKE_SHORT ? 5 : 1;
}

/* False when the n-th operation was not reached. */
static bool fail_one(unsigned i, unsigned n, bool old)
{
	struct run run = fault_run(i, n);
	int ret;

	unlink(TARGET);
	if (old)
		put_old();
	ret = convert(&run);
	fake_destroy(run.fake);
	if (ret == 0) {
		/* What the host cannot do is done in another way. */
		assert_converted(run.format);
		assert_int_equal(run.errors, 0);
		return run.hit;
	}
	assert_true(run.hit);
	assert_true(ret == run.verdict.err || (run.on && ret == -EIO));
	assert_reported(&run, ret);
	assert_untouched(old);
	return true;
}

static void a_failure_leaves_nothing(void **state)
{
	unsigned n;

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		for (n = 1; fail_one(i, n, n % 2);)
			n += step_of(i);
		assert_true(n > 10);
	}
}

static bool fail_in_place(unsigned i, unsigned n)
{
	struct run run = fault_run(i, n);
	int ret;

	run.in_place = true;
	put_target(run.format);
	ret = convert(&run);
	fake_destroy(run.fake);
	if (ret == 0) {
		assert_converted(run.format);
		return run.hit;
	}
	assert_true(run.hit);
	assert_true(ret == run.verdict.err || (run.on && ret == -EIO));
	assert_reported(&run, ret);
	assert_mixed(run.format, false);
	return true;
}

static void a_failure_in_place_mixes_two_disks(void **state)
{
	unsigned n;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		for (n = 1; fail_in_place(i, n);)
			n++;
		assert_true(n > 10);
	}
}

/* --- cancellation --------------------------------------------------------- */

/* False when the job was over before. */
static bool cancel_one(struct run *run, bool old)
{
	int ret;

	unlink(TARGET);
	if (run->in_place)
		put_target(run->format);
	else if (old)
		put_old();
	ret = convert(run);
	fake_destroy(run->fake);
	if (run->steps < run->cancel_at) {
		assert_int_equal(ret, 0);
		assert_converted(run->format);
		return false;
	}
	assert_int_equal(ret, -ECANCELED);
	assert_reported(run, ret);
	if (run->in_place)
		assert_mixed(run->format, true);
	else
		assert_untouched(old);
	return true;
}

/*
 * How many steps there are depends on how workers and caller take turns; the first
 * is always there.
 */
static void cancel_at_each_step(bool in_place)
{
	for (unsigned i = 0; i < 4; i++) {
		unsigned at = 0;
		struct run run;

		do {
			at++;
			run = (struct run){ .format = formats[i % 2],
					    .nworkers = i / 2 ? MANY : 1,
					    .in_place = in_place,
					    .rng = { at },
					    .cancel_at = at };
		} while (cancel_one(&run, at / CLUSTER % 2));
		assert_true(at > 1);
	}
}

static void cancelled_leaves_nothing(void **state)
{
	(void)state;
	cancel_at_each_step(false);
}

static void cancelled_in_place_mixes_two_disks(void **state)
{
	(void)state;
	cancel_at_each_step(true);
}

/* --- what must not be written --------------------------------------------- */

/* How a kind of target begins, when the path has become that of a source. */
static int open_kind(int (*open)(struct qed_target *target, uint64_t size),
		     struct qed_image *image, const char *path, struct run *run)
{
	struct qed_convert_options options;
	struct qed_target target = { .path = path,
				     .options = &options,
				     .limit = INT64_MAX,
				     .unit = 4096,
				     .claim = -1,
				     .stream.fd = -1 };
	int ret;

	qed_convert_options_init(&options);
	options.sources = &image;
	options.nsources = 1;
	options.log = (struct qed_log){ hear, run };
	assert_int_equal(qed_engine_create(QED_IO_THREADS, &target.engine), 0);
	ret = open(&target, 512);
	qed_target_close(&target);
	return ret;
}

/*
 * Looking at the path first is no use if it leads elsewhere by the time that it
 * is opened: the descriptor counts.
 */
static void what_is_opened_is_no_source(void **state)
{
	int (*const kinds[])(struct qed_target *target, uint64_t size) = {
		qed_target_open_raw, qed_target_open_new_raw,
		qed_target_open_qed, qed_target_open_new_qed,
	};
	struct qed_open_options options;

	(void)state;
	qed_open_options_init(&options);
	options.flags = QED_OPEN_FORCE_SHARE;
	for (unsigned i = 0; i < 4; i++) {
		struct run run = { .n = 0 };
		struct qed_image *image;

		put_target("qed");
		assert_int_equal(qed_image_open(TARGET, &options, &image), 0);
		assert_int_equal(open_kind(kinds[i], image, TARGET, &run),
				 -EINVAL);
		assert_int_equal(run.errors, 1);
		assert_non_null(strstr(run.message, "which is read from"));
		assert_int_equal(open_kind(kinds[i], source, TARGET, &run), 0);
		qed_image_close(image);
		assert_memory_equal(read_target("qed"), before, SIZE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durable_before_it_has_a_name),
		cmocka_unit_test(a_failure_leaves_nothing),
		cmocka_unit_test(a_failure_in_place_mixes_two_disks),
		cmocka_unit_test(cancelled_leaves_nothing),
		cmocka_unit_test(cancelled_in_place_mixes_two_disks),
		cmocka_unit_test(what_is_opened_is_no_source),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
