/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * When the host is told to begin: to write what a flush will ask for, to read what
 * a copy will.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "qed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MIB  (UINT64_C(1) << 20)
#define SIZE (256 * MIB)

static _Atomic unsigned begun;

/* Instead of the C library's. */
int sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
	(void)fd;
	assert_int_equal(offset, 0);
	assert_int_equal(count, 0);
	assert_int_equal(flags, SYNC_FILE_RANGE_WRITE);
	atomic_fetch_add(&begun, 1);
	return 0;
}

struct range {
	off_t off, len;
};

static struct range asked[8];
static _Atomic unsigned nasked;

/* Runs of data, of RUN bytes at each multiple of EVERY, that a copy reads. */
#define RUN   (3 * MIB)
#define EVERY (16 * MIB)
#define NRUNS ((unsigned)(SIZE / EVERY))

/* How many ranges had been asked for when a run was first read, 0: it was not. */
static unsigned before_run[NRUNS];

/* Instead of the C library's. */
int posix_fadvise(int fd, off_t offset, off_t len, int advice)
{
	unsigned i = atomic_fetch_add(&nasked, 1);

	(void)fd;
	assert_int_equal(advice, POSIX_FADV_WILLNEED);
	if (i < sizeof(asked) / sizeof(asked[0]))
		asked[i] = (struct range){ offset, len };
	return 0;
}

/* Instead of the C library's; whatever the engine, it tries this first. */
ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	if (off % (off_t)EVERY == 0 && iov->iov_len == MIB &&
	    !before_run[off / (off_t)EVERY])
		before_run[off / (off_t)EVERY] = nasked;
	return syscall(SYS_preadv2, fd, iov, n, off, 0, flags);
}

/* Instead of the C library's: a host that cannot share space, so that all is read. */
int ioctl(int fd, unsigned long request, ...)
{
	(void)fd;
	assert_int_equal(request, FICLONERANGE);
	errno = EOPNOTSUPP;
	return -1;
}

static char dir[200];
static struct qed_image *image;

static int setup(void **state)
{
	const char *parent = getenv("TMPDIR");
	const struct qed_create_options create = { .virtual_size = SIZE };
	struct qed_open_options options;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/unit-behind.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(qed_image_create("disk.qed", &create), 0);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	assert_int_equal(qed_image_open("disk.qed", &options, &image), 0);
	atomic_store(&begun, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(qed_image_close(image), 0);
	unlink("disk.qed");
	assert_int_equal(chdir("/"), 0);
	return rmdir(dir);
}

/* Writes the first `len` bytes of the disk in steps. */
static void fill(uint64_t len, uint64_t step)
{
	static char buf[MIB];

	memset(buf, 7, sizeof(buf));
	for (uint64_t at = 0; at < len; at += step)
		assert_int_equal(qed_pwrite(image, buf, step, at), step);
}

static void not_before_a_flush(void **state)
{
	(void)state;
	fill(64 * MIB, MIB);
	assert_int_equal(begun, 0);
}

static void after_a_flush(void **state)
{
	(void)state;
	assert_int_equal(qed_fsync(image), 0);
	fill(64 * MIB, MIB);
	assert_true(begun >= 3 && begun <= 4);
}

static void not_for_small_writes(void **state)
{
	(void)state;
	assert_int_equal(qed_fsync(image), 0);
	fill(64 * MIB, 64 << 10);
	assert_int_equal(begun, 0);
}

/* A flush that does not come is not expected for ever; the next one is. */
static void not_for_ever(void **state)
{
	unsigned before;

	(void)state;
	assert_int_equal(qed_fsync(image), 0);
	for (int i = 0; i < 5; i++)
		fill(SIZE, MIB);
	before = begun;
	assert_true(before >= 64 && before <= 66);
	fill(64 * MIB, MIB);
	assert_int_equal(begun, before);
	assert_int_equal(qed_fsync(image), 0);
	fill(64 * MIB, MIB);
	assert_true(begun >= before + 3 && begun <= before + 5);
}

/* A new file is synced at its end, unless nobody wants that. */
static void while_converting(void **state)
{
	static const char *const formats[] = { "raw", "qed" };
	struct qed_convert_options options;

	(void)state;
	fill(64 * MIB, MIB);
	qed_convert_options_init(&options);
	options.sources = &image;
	options.nsources = 1;
	for (int i = 0; i < 4; i++) {
		bool safe = i / 2;

		options.format = formats[i % 2];
		options.flags = safe ? 0 : QED_CONVERT_UNSAFE;
		atomic_store(&begun, 0);
		assert_int_equal(qed_image_convert("copy", &options), 0);
		assert_int_equal(begun, safe ? 4 : 0);
		unlink("copy");
	}
}

/* A raw file with some data in it: up to a range that has no length. */
static void write_raw(const char *path, const struct range *data)
{
	static char buf[MIB];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	memset(buf, 7, sizeof(buf));
	for (; data->len; data++)
		for (off_t at = 0; at < data->len; at += (off_t)MIB) {
			off_t left = data->len - at;
			size_t len = left < (off_t)MIB ? (size_t)left : MIB;

			assert_int_equal(pwrite(fd, buf, len, data->off + at),
					 len);
		}
	assert_int_equal(ftruncate(fd, SIZE), 0);
	close(fd);
}

/*
 * What lies apart is asked for as a whole, whatever the pieces are in which it is
 * read; but neither little, nor what is near, nor what is long.
 */
static void before_reading(void **state)
{
	static const struct range data[] = {
		{ 0, MIB },
		{ 16 * MIB, 3 * MIB },
		{ 20 * MIB, MIB },
		{ 32 * MIB, 32 << 10 },
		{ 48 * MIB, 20 * MIB },
		{ 80 * MIB, 64 << 10 },
		{ 0, 0 },
	};
	struct qed_open_options raw;
	struct qed_convert_options options;
	struct qed_image *source;

	(void)state;
	write_raw("disk.raw", data);
	qed_open_options_init(&raw);
	raw.flags = QED_OPEN_RAW;
	assert_int_equal(qed_image_open("disk.raw", &raw, &source), 0);
	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.format = "qed";
	atomic_store(&nasked, 0);
	assert_int_equal(qed_image_convert("copy", &options), 0);
	assert_int_equal(nasked, 2);
	assert_int_equal(asked[0].off, 16 * MIB);
	assert_int_equal(asked[0].len, 3 * MIB);
	assert_int_equal(asked[1].off, 80 * MIB);
	assert_int_equal(asked[1].len, 64 << 10);
	assert_int_equal(qed_image_close(source), 0);
	unlink("disk.raw");
	unlink("copy");
}

/* Copies a raw disk with runs of data: to a new image, with a backing file or not. */
static void copy_runs(const char *backing)
{
	struct range data[NRUNS + 1] = { { 0, 0 } };
	struct qed_open_options raw;
	struct qed_convert_options options;
	struct qed_image *source;

	for (unsigned i = 0; i < NRUNS; i++)
		data[i] = (struct range){ (off_t)(i * EVERY), RUN };
	write_raw("disk.raw", data);
	qed_open_options_init(&raw);
	raw.flags = QED_OPEN_RAW;
	assert_int_equal(qed_image_open("disk.raw", &raw, &source), 0);
	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.nworkers = 1;
	options.format = "qed";
	options.image.backing = backing;
	options.image.backing_format = backing ? "qed" : NULL;
	memset(before_run, 0, sizeof(before_run));
	atomic_store(&nasked, 0);
	assert_int_equal(qed_image_convert("copy", &options), 0);
	assert_int_equal(qed_image_close(source), 0);
	unlink("disk.raw");
	unlink("copy");
}

/* 16 MiB of data, those that are due and what comes next, are always asked for. */
static void ahead_of_reading(void **state)
{
	unsigned ahead = (unsigned)((16 * MIB + RUN - 1) / RUN);

	(void)state;
	copy_runs(NULL);
	for (unsigned i = 0; i < NRUNS; i++)
		assert_int_equal(before_run[i] + 1,
				 i + ahead < NRUNS ? i + ahead : NRUNS);
	assert_int_equal(nasked, NRUNS - 1);
}

/* What the backing file has, too, may never be read. */
static void not_far_ahead_with_a_base(void **state)
{
	const struct qed_create_options empty = { .virtual_size = SIZE };

	(void)state;
	assert_int_equal(qed_image_create("base.qed", &empty), 0);
	copy_runs("base.qed");
	unlink("base.qed");
	for (unsigned i = 1; i < NRUNS; i++)
		assert_int_equal(before_run[i], i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(not_before_a_flush, setup,
						teardown),
		cmocka_unit_test_setup_teardown(after_a_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(not_for_small_writes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(not_for_ever, setup, teardown),
		cmocka_unit_test_setup_teardown(while_converting, setup,
						teardown),
		cmocka_unit_test_setup_teardown(before_reading, setup,
						teardown),
		cmocka_unit_test_setup_teardown(ahead_of_reading, setup,
						teardown),
		cmocka_unit_test_setup_teardown(not_far_ahead_with_a_base,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
