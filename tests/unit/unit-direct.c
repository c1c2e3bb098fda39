/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which writes go past the host's page cache, and that what does not go there is
 * written all the same.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE ((unsigned)sysconf(_SC_PAGESIZE))
#define NAME "file"
#define SIZE (64u * PAGE)

/* What the host says, and does at the next attempts past its page cache. */
static struct {
	unsigned offset_align, memory_align;
	unsigned max;			/* bytes of one attempt, 0: all */
	int err;			/* of the attempts after `good` ones */
	unsigned good;
	unsigned attempts;		/* that there have been */
} host;

/*
 * Its descriptor.  The flag itself is left out: not every file system that a test may
 * lie on has such writes.
 */
static int past_fd = -1;

/* Instead of the C library's. */
int open(const char *path, int flags, ...)
{
	bool past = (flags & O_DIRECT) == O_DIRECT;
	mode_t mode = 0;
	va_list args;
	int fd;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	fd = openat(AT_FDCWD, path, past ? flags & ~O_DIRECT : flags, mode);
	if (past)
		past_fd = fd;
	return fd;
}

/* Instead of the C library's. */
int statx(int fd, const char *restrict path, int flags, unsigned mask,
	  struct statx *restrict stx)
{
	(void)fd;
	assert_string_equal(path, "");
	assert_int_equal(flags, AT_EMPTY_PATH);
	assert_int_equal(mask, STATX_DIOALIGN);
	memset(stx, 0, sizeof(*stx));
	stx->stx_mask = host.offset_align ? STATX_DIOALIGN : 0;
	stx->stx_dio_offset_align = host.offset_align;
	stx->stx_dio_mem_align = host.memory_align;
	return 0;
}

/* Instead of the C library's. */
ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	struct iovec first = iov[0];

	if (fd != past_fd)
		return pwritev2(fd, iov, n, off, 0);
	if (host.err && host.attempts++ >= host.good) {
		errno = host.err;
		return -1;
	}
	host.attempts += !host.err;
	assert_int_equal(off % PAGE, 0);
	assert_int_equal(first.iov_len % PAGE, 0);
	if (host.max && first.iov_len > host.max)
		first.iov_len = host.max;
	return pwritev2(fd, &first, 1, off, 0);
}

static char dir[200];
static uint8_t *buf;
static struct qed_engine *engine;
static struct qed_file *file;
static struct qed_direct direct;

static int setup(void **state)
{
	static const struct qed_log quiet;
	const char *parent = getenv("TMPDIR");
	int fd;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/unit-direct.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	buf = aligned_alloc(PAGE, SIZE);
	memset(buf, 1, SIZE);
	fd = open(NAME, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, buf, SIZE), SIZE);
	assert_int_equal(close(fd), 0);
	assert_int_equal(qed_engine_create(QED_IO_THREADS, &engine), 0);
	assert_int_equal(qed_file_open(NAME, true, engine, &quiet, &file), 0);
	memset(&host, 0, sizeof(host));
	host.offset_align = host.memory_align = PAGE;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	qed_direct_close(&direct);
	qed_direct_close(&direct);
	past_fd = -1;
	qed_file_close(file);
	qed_engine_destroy(engine);
	free(buf);
	unlink(NAME);
	assert_int_equal(chdir("/"), 0);
	return rmdir(dir);
}

/* Writes new bytes, from memory that lies `skew` bytes off: how it ended. */
static int put(unsigned skew, uint64_t len, uint64_t off)
{
	memset(buf, 2, SIZE);
	return qed_direct_write(&direct, buf + skew, len, off);
}

/* The range has the new bytes, and nothing else has. */
static void check_written(uint64_t off, uint64_t len)
{
	assert_int_equal(pread(file->fd, buf, SIZE, 0), SIZE);
	for (uint64_t at = 0; at < SIZE; at++)
		assert_int_equal(buf[at], at >= off && at - off < len ? 2 : 1);
}

static void what_lies_right_goes_past(void **state)
{
	(void)state;
	qed_direct_open(&direct, file);
	assert_non_null(direct.past);
	assert_int_equal(put(0, 3 * PAGE, 5 * PAGE), 0);
	assert_int_equal(host.attempts, 1);
	check_written(5 * PAGE, 3 * PAGE);
}

static void skewed(unsigned skew, uint64_t len, uint64_t off)
{
	qed_direct_open(&direct, file);
	assert_non_null(direct.past);
	assert_int_equal(put(skew, len, off), 0);
	assert_int_equal(host.attempts, 0);
	check_written(off, len);
}

static void not_at_another_offset(void **state)
{
	(void)state;
	skewed(0, PAGE, 512);
}

static void not_of_another_length(void **state)
{
	(void)state;
	skewed(0, PAGE + 512, PAGE);
}

static void not_from_other_memory(void **state)
{
	(void)state;
	skewed(512, PAGE, PAGE);
}

static void not_into_a_hole(void **state)
{
	uint8_t byte;

	(void)state;
	assert_int_equal(ftruncate(file->fd, 2 * SIZE), 0);
	qed_direct_open(&direct, file);
	assert_non_null(direct.past);
	assert_int_equal(put(0, 2 * PAGE, SIZE - PAGE), 0);
	assert_int_equal(host.attempts, 0);
	check_written(SIZE - PAGE, PAGE);
	assert_int_equal(pread(file->fd, &byte, 1, SIZE + PAGE - 1), 1);
	assert_int_equal(byte, 2);
	assert_int_equal(pread(file->fd, &byte, 1, SIZE + PAGE), 1);
	assert_int_equal(byte, 0);
}

/* One that is reported for smaller units than pages is kept to pages. */
static void not_for_less_than_a_page(void **state)
{
	(void)state;
	host.offset_align = host.memory_align = 512;
	qed_direct_open(&direct, file);
	assert_non_null(direct.past);
	assert_int_equal(put(0, 512, PAGE), 0);
	assert_int_equal(host.attempts, 0);
	assert_int_equal(put(512, 2 * PAGE, 0), 0);
	assert_int_equal(host.attempts, 1);
	check_written(0, 2 * PAGE);
}

static void not_where_the_host_says_nothing(void **state)
{
	(void)state;
	host.offset_align = 0;
	qed_direct_open(&direct, file);
	assert_null(direct.past);
	assert_int_equal(put(0, PAGE, 0), 0);
	check_written(0, PAGE);
}

static void short_writes_go_on(void **state)
{
	(void)state;
	host.max = PAGE;
	qed_direct_open(&direct, file);
	assert_int_equal(put(0, 3 * PAGE, 0), 0);
	assert_int_equal(host.attempts, 3);
	check_written(0, 3 * PAGE);
}

/* As what is left of one that was cut short elsewhere than at a block's end. */
static void refused_ones_go_the_usual_way(void **state)
{
	(void)state;
	host.max = PAGE;
	host.good = 1;
	host.err = EINVAL;
	qed_direct_open(&direct, file);
	assert_int_equal(put(0, 3 * PAGE, 0), 0);
	assert_int_equal(host.attempts, 2);
	check_written(0, 3 * PAGE);
}

static void errors_are_told(void **state)
{
	(void)state;
	host.err = EIO;
	qed_direct_open(&direct, file);
	assert_int_equal(put(0, PAGE, 0), -EIO);
	host.err = ENOSPC;
	assert_int_equal(put(0, PAGE, 0), -ENOSPC);
	check_written(0, 0);
}

#define EACH(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(what_lies_right_goes_past),
		EACH(not_at_another_offset),
		EACH(not_of_another_length),
		EACH(not_from_other_memory),
		EACH(not_into_a_hole),
		EACH(not_for_less_than_a_page),
		EACH(not_where_the_host_says_nothing),
		EACH(short_writes_go_on),
		EACH(refused_ones_go_the_usual_way),
		EACH(errors_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
