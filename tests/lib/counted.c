/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "calls.h"
#include "counted.h"
#include "model.h"
#include "walk.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fake *counted_fake;
struct qed_image *counted_image;
uint64_t counted_leaks;

static char dir[200];
static uint8_t data[8 * 65536], got[8 * 65536];

unsigned counted_ops(enum qed_op op)
{
	return fake_count(counted_fake, op, TOP);
}

void counted_forget(void)
{
	fake_reset_counts(counted_fake);
	fake_forget_records(counted_fake);
}

void counted_put(uint64_t off, uint64_t len)
{
	model_pattern(2, data, off, len);
	assert_int_equal(qed_pwrite(counted_image, data, len, off), len);
}

void counted_assert_disk(uint64_t id, uint64_t off, uint64_t len)
{
	model_pattern(id, data, off, len);
	assert_int_equal(qed_pread(counted_image, got, len, off), len);
	assert_memory_equal(got, data, len);
}

void counted_open(void)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	counted_fake = fake_create(2);
	fake_set_recording(counted_fake, true);
	assert_int_equal(qed_image_open_engine(TOP, &options,
					       fake_start(counted_fake),
					       &counted_image),
			 0);
	counted_forget();
}

static int enter_dir(const char *backing, const char *format)
{
	const struct qed_create_options create = {
		.virtual_size = SIZE,
		.backing = backing,
		.backing_format = format,
	};
	const char *parent = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/counted.XXXXXX",
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
	counted_open();
	return 0;
}

int counted_plain(void **state)
{
	(void)state;
	return enter_dir(NULL, NULL);
}

int counted_backed(void **state)
{
	(void)state;
	return enter_dir(BASE, "raw");
}

int counted_leave(void **state)
{
	int ret = 0;
	struct walk *walk;

	(void)state;
	fake_set_decide(counted_fake, NULL, NULL);
	fake_release_all(counted_fake);
	if (qed_image_close(counted_image) < 0)
		ret = -1;
	fake_destroy(counted_fake);
	walk = walk_open(TOP);
	if (walk->errors || walk->features & WALK_NEED_CHECK ||
	    walk->nleaked > counted_leaks)
		ret = -1;
	walk_close(walk);
	counted_leaks = 0;
	unlink(TOP);
	unlink(BASE);
	return chdir("/") == 0 && rmdir(dir) == 0 ? ret : -1;
}

void counted_warm_up(void)
{
	counted_put(SIZE / 2, PAGE);
	assert_int_equal(qed_fsync(counted_image), 0);
	counted_forget();
}
