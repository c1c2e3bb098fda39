/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Committing to an image that is too small: that it is opened once, that this can be
 * cancelled, and that another file is left alone which has got its name meanwhile.  What
 * survives power cuts and failures is tested in jobs/job-commit.c.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "merge.h"

#include "../lib/creating.h"
#include "../lib/fake-engine.h"
#include "../lib/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOP   "top.qed"
#define BASE  "base"
#define ASIDE "aside"
#define SMALL (UINT64_C(1) << 20)
#define LARGE (UINT64_C(1) << 40)	/* looked at in 16 steps */


struct run {
	bool swap;			/* the base, once the chain is open */
	bool swapped;			/* under the fake's lock */
	const char *format;		/* the base's */
	unsigned steps, cancel_at;
	uint64_t total;			/* of progress; all the same */
	unsigned errors;
	char last[400];
	struct fake *fake;
};

static void make_base(const char *format)
{
	const struct qed_create_options options = { .virtual_size = SMALL };

	if (!strcmp(format, "raw"))
		close(open(BASE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	else
		assert_int_equal(qed_image_create(BASE, &options), 0);
}

static void make_files(const char *format)
{
	const struct qed_create_options options = { .virtual_size = LARGE,
						    .backing = BASE,
						    .backing_format = format };
	struct qed_open_options open;
	struct qed_image *image;

	make_base(format);
	assert_int_equal(qed_image_create(TOP, &options), 0);
	qed_open_options_init(&open);
	open.flags = QED_OPEN_RDWR;
	assert_int_equal(qed_image_open(TOP, &open, &image), 0);
	assert_int_equal(qed_pwrite(image, "data", 4, LARGE - 512), 4);
	assert_int_equal(qed_image_close(image), 0);
}

/* The image's L1 table, behind its header, is read when its chain is open. */
static struct fake_verdict decide(void *opaque,
				  const struct fake_record *record)
{
	struct run *run = opaque;

	if (run->swap && !run->swapped && record->file == 0 &&
	    record->file_off >= QED_CLUSTER_SIZE_DEFAULT) {
		run->swapped = true;
		assert_int_equal(rename(BASE, ASIDE), 0);
		make_base(run->format);
	}
	return (struct fake_verdict){ FAKE_RUN, 0, 0 };
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	run->errors += level == QED_LOG_ERROR;
	snprintf(run->last, sizeof(run->last), "%s", message);
}

static void progress(void *opaque, uint64_t done, uint64_t total)
{
	struct run *run = opaque;

	(void)done;
	run->total = total;
	assert_int_equal(total, LARGE);
}

static bool cancelled(void *opaque)
{
	struct run *run = opaque;

	return ++run->steps >= run->cancel_at && run->cancel_at;
}

static int commit(struct run *run)
{
	const struct qed_job job = { .progress = progress,
				     .cancelled = cancelled,
				     .opaque = run };
	const struct qed_commit_options options = { .log = { hear, run },
						    .job = &job };
	int ret;

	run->fake = fake_create(1);
	fake_set_recording(run->fake, true);
	fake_set_decide(run->fake, decide, run);
	ret = qed_image_commit_engine(TOP, &options, fake_start(run->fake));
	assert_int_equal(run->errors, ret < 0);
	return ret;
}

static uint64_t disk_size(const char *path)
{
	struct walk *walk = walk_open(path);
	uint64_t size = walk->disk_size;

	assert_int_equal(walk->errors, 0);
	assert_int_equal(walk->features & WALK_NEED_CHECK, 0);
	walk_close(walk);
	return size;
}

/* How often the base's header is read, not only its magic: once at each open. */
static unsigned count_opens(const struct run *run)
{
	struct fake_record *const *records;
	size_t n = fake_records(run->fake, &records);
	int file = fake_file(run->fake, BASE);
	unsigned count = 0;

	for (size_t i = 0; i < n; i++)
		count += (int)records[i]->file == file &&
			 records[i]->op == QED_OP_READ &&
			 records[i]->file_off == 0 && records[i]->len > 4;
	return count;
}

/* By the chain, and for writing: nobody else can have it in between. */
static void it_stays_open_while_it_gets_larger(void **state)
{
	struct run run = { .format = "qed" };

	(void)state;
	make_files("qed");
	assert_int_equal(commit(&run), 0);
	assert_int_equal(disk_size(BASE), LARGE);
	assert_int_equal(run.total, LARGE);
	assert_int_equal(count_opens(&run), 2);
	fake_destroy(run.fake);
}

static void getting_larger_can_be_cancelled(void **state)
{
	(void)state;
	make_files("qed");
	for (unsigned at = 1; at <= 16; at += 5) {
		struct run run = { .format = "qed", .cancel_at = at };

		assert_int_equal(commit(&run), -ECANCELED);
		assert_int_equal(run.total, 0);
		assert_int_equal(disk_size(BASE), SMALL);
		fake_destroy(run.fake);
	}
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_size;
}

static void another_file_is_left_alone(void **state)
{
	static const char *const formats[] = { "qed", "raw" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct run run = { .swap = true, .format = formats[i] };
		uint64_t size;

		creating_leave(NULL);
		creating_enter(NULL);
		make_files(formats[i]);
		size = file_size(BASE);
		assert_int_equal(commit(&run), -ESTALE);
		assert_non_null(strstr(run.last, BASE ": has been replaced"));
		assert_true(run.swapped);
		assert_int_equal(file_size(BASE), size);
		assert_int_equal(file_size(ASIDE), size);
		fake_destroy(run.fake);
	}
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, creating_enter, creating_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(it_stays_open_while_it_gets_larger),
		IN_DIR(getting_larger_can_be_cancelled),
		IN_DIR(another_file_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
