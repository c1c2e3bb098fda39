/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copying a disk into a new file: what is durable when it gets its name, and that there
 * is nothing, or what was there, if anything fails before.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "convert.h"

#include "../lib/fake-engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE   (3u << 20)
#define TARGET "target"
#define OLD    "old content"

static const char *const formats[] = { "raw", "qed" };

static char dir[200];
static uint8_t content[SIZE];
static struct qed_image *source;

/* One conversion. */
struct run {
	const char *format;
	struct fake *fake;
	/* under the fake's lock */
	unsigned n, seen;		/* the n-th operation fails */
	struct fake_verdict verdict;
	bool hit;
	bool named;			/* a flush has found the target there */
	unsigned flushes;
	uint64_t last_flush;		/* submitted */
	/* the job's */
	unsigned steps, cancel_at;
	_Atomic unsigned errors;
};

static int setup(void **state)
{
	const char *parent = getenv("TMPDIR");
	struct qed_open_options options;
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/unit-convert.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	/* Data, a hole, data that is zero in parts. */
	for (size_t i = 0; i < SIZE; i++)
		if (i < SIZE / 3 || (i > SIZE / 2 && i / 70000 % 2))
			content[i] = (uint8_t)(1 + i % 251);
	fd = open("source.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(fd, content, SIZE, 0), SIZE);
	close(fd);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RAW;
	assert_int_equal(qed_image_open("source.raw", &options, &source), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	qed_image_close(source);
	unlink("source.raw");
	unlink(TARGET);
	assert_int_equal(chdir("/"), 0);
	return rmdir(dir);
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
	if (++run->seen != run->n)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	run->hit = true;
	return run->verdict;
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	(void)message;
	if (level == QED_LOG_ERROR)
		atomic_fetch_add(&run->errors, 1);
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

	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.format = run->format;
	options.nworkers = 1;
	options.log = (struct qed_log){ hear, run };
	options.job = &job;
	run->fake = fake_create(1);
	fake_set_recording(run->fake, true);
	fake_set_decide(run->fake, decide, run);
	return qed_image_convert_engine(TARGET, &options, fake_start(run->fake));
}

static void put_old(void)
{
	int fd = open(TARGET, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, OLD, strlen(OLD)), strlen(OLD));
	close(fd);
}

/* Nothing but the source, and the target if it was there, as it was. */
static void assert_untouched(bool old)
{
	DIR *d = opendir(".");
	struct dirent *e;
	char buf[100] = "";
	int fd;

	while ((e = readdir(d)))
		if (e->d_name[0] != '.' || strlen(e->d_name) > 2)
			assert_true(!strcmp(e->d_name, "source.raw") ||
				    (old && !strcmp(e->d_name, TARGET)));
	closedir(d);
	if (!old)
		return;
	fd = open(TARGET, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), strlen(OLD));
	assert_string_equal(buf, OLD);
	close(fd);
}

static void assert_converted(const char *format)
{
	static uint8_t now[SIZE];
	struct qed_open_options options;
	struct qed_image *image;

	qed_open_options_init(&options);
	if (!strcmp(format, "raw"))
		options.flags = QED_OPEN_RAW;
	assert_int_equal(qed_image_open(TARGET, &options, &image), 0);
	assert_int_equal(qed_pread(image, now, SIZE, 0), SIZE);
	assert_memory_equal(now, content, SIZE);
	qed_image_close(image);
}

static bool changes(const struct fake_record *record)
{
	return record->op != QED_OP_READ && record->op != QED_OP_FLUSH;
}

static void durable_before_it_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct run run = { .format = formats[i] };
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

/* False when the n-th operation was not reached. */
static bool fail_one(const char *format, unsigned n, struct fake_verdict verdict,
		     bool old)
{
	struct run run = { .format = format, .n = n, .verdict = verdict };
	int ret;

	unlink(TARGET);
	if (old)
		put_old();
	ret = convert(&run);
	fake_destroy(run.fake);
	if (ret == 0) {
		/* What the host cannot do is done in another way. */
		assert_converted(format);
		assert_int_equal(run.errors, 0);
		return run.hit;
	}
	assert_true(run.hit);
	assert_int_equal(ret, verdict.err);
	assert_int_equal(run.errors, 1);
	assert_untouched(old);
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
	for (int i = 0; i < 6; i++) {
		for (n = 1; fail_one(formats[i % 2], n, verdicts[i / 2], n % 2);)
			n++;
		assert_true(n > 3);
	}
}

static void cancelled_leaves_nothing(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		struct run run = { .format = formats[i % 2],
				   .cancel_at = 1 + i / 4 };
		bool old = i / 2 % 2;
		int ret;

		unlink(TARGET);
		if (old)
			put_old();
		ret = convert(&run);
		fake_destroy(run.fake);
		if (run.steps < run.cancel_at) {
			assert_int_equal(ret, 0);
			continue;
		}
		assert_int_equal(ret, -ECANCELED);
		assert_int_equal(run.errors, 1);
		assert_untouched(old);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durable_before_it_has_a_name),
		cmocka_unit_test(a_failure_leaves_nothing),
		cmocka_unit_test(cancelled_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
