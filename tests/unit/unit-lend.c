/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Lent bytes: where they are said to be they are, for as long as they are lent. */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/creating.h"
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define CLUSTER UINT64_C(65536)
#define NBYTES  ((QED_LOAN_PARTS + 4) * CLUSTER)
#define BASE_SIZE (NBYTES - 100)	/* ends inside a page */
#define SIZE    (UINT64_C(1) << 30)
#define TOP     "top.qed"
#define BASE    "base.raw"
#define SYS_CACHESTAT 451		/* Linux 6.5 */

static struct qed_image *image;
static uint8_t bytes[NBYTES], got[NBYTES];
static uint64_t busy = UINT64_MAX;	/* a byte of a file that is being read */


/* What preadv2() is for all that knows of large files. */
ssize_t __real_preadv64v2(int fd, const struct iovec *iov, int iovcnt,
			  off_t offset, int flags);
ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int iovcnt,
			  off_t offset, int flags);

ssize_t __wrap_preadv64v2(int fd, const struct iovec *iov, int iovcnt,
			  off_t offset, int flags)
{
	uint64_t first = (uint64_t)offset;

	if (flags & RWF_NOWAIT && first <= busy &&
	    busy - first < qed_iov_bytes(iov, iovcnt)) {
		errno = EAGAIN;
		return -1;
	}
	return __real_preadv64v2(fd, iov, iovcnt, offset, flags);
}

static void fill(void)
{
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 4096);
}

static int make_base(void)
{
	int fd = open(BASE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ssize_t n;

	memset(bytes, 'b', sizeof(bytes));
	n = pwrite(fd, bytes, BASE_SIZE, 0);
	return close(fd) == 0 && n == (ssize_t)BASE_SIZE ? 0 : -1;
}

static int enter(void **state)
{
	return creating_enter(state) == 0 ? make_base() : -1;
}

static void open_image(bool writable)
{
	struct qed_open_options options;

	qed_open_options_init(&options);
	options.flags = writable ? QED_OPEN_RDWR : 0;
	options.commit_seconds = 0;
	assert_int_equal(qed_image_open(TOP, &options, &image), 0);
}

static void create_top(const char *backing)
{
	const struct qed_create_options options = {
		.virtual_size = SIZE,
		.backing = backing,
		.backing_format = backing ? "raw" : NULL,
	};

	fill();
	assert_int_equal(qed_image_create(TOP, &options), 0);
	open_image(true);
}

static void close_image(void)
{
	assert_int_equal(qed_image_close(image), 0);
}

static void put(uint64_t off, uint64_t len)
{
	struct call call;

	call_write(&call, image, bytes, len, off);
	assert_int_equal(call_wait(&call), len);
}

static void flush(void)
{
	struct call call;

	call_flush(&call, image);
	assert_int_equal(call_wait(&call), 0);
}

/* Reads what is lent, as splice(2) would. */
static void fetch(const struct qed_loan *loan, uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < loan->nparts; i++) {
		const struct qed_loan_part *part = &loan->parts[i];

		assert_int_equal(pread(part->fd, got + done, part->len,
				       (off_t)part->offset), part->len);
		done += part->len;
	}
	assert_int_equal(done, len);
}

/* The range is lent in so many parts, and holds what the disk does there. */
static void lends(uint64_t off, uint64_t len, unsigned nparts,
		  const uint8_t *wanted)
{
	struct qed_loan loan;

	assert_true(qed_lend(image, off, len, &loan));
	assert_int_equal(loan.nparts, nparts);
	fetch(&loan, len);
	qed_lend_end(image, &loan, (int64_t)len);
	assert_memory_equal(got, wanted, len);
}

static void lends_not(uint64_t off, uint64_t len)
{
	struct qed_loan loan;

	assert_false(qed_lend(image, off, len, &loan));
}

static void neighbours(void **state)
{
	(void)state;
	create_top(NULL);
	put(0, 4 * CLUSTER);
	lends(0, 4 * CLUSTER, 1, bytes);
	lends(1000, CLUSTER, 1, bytes + 1000);
	lends(CLUSTER, CLUSTER, 1, bytes + CLUSTER);
	put(SIZE - 4096, 4096);
	lends(SIZE - 4096, 4096, 1, bytes);
	close_image();
}

/* Cluster by cluster from the last to the first: each is a part of its own. */
static void scattered(void **state)
{
	const uint64_t n = QED_LOAN_PARTS;

	(void)state;
	create_top(NULL);
	for (uint64_t i = n + 1; i-- > 0;)
		put(i * CLUSTER, CLUSTER);
	for (uint64_t i = 0; i <= n; i++)
		lends(i * CLUSTER, CLUSTER, 1, bytes);
	for (uint64_t i = 1; i < n; i++)
		memcpy(bytes + i * CLUSTER, bytes, CLUSTER);
	lends(0, n * CLUSTER, (unsigned)n, bytes);
	lends_not(0, n * CLUSTER + 1);
	close_image();
}

static void not_data(void **state)
{
	struct call call;

	(void)state;
	create_top(NULL);
	put(0, 2 * CLUSTER);
	put(3 * CLUSTER, CLUSTER);
	lends_not(0, 3 * CLUSTER);	/* not allocated */
	lends_not(2 * CLUSTER, CLUSTER);
	lends_not(SIZE - 1, 2);		/* past the end */
	lends_not(SIZE, 1);
	lends_not(UINT64_MAX, 1);
	lends_not(1, UINT64_MAX);
	call_zero(&call, image, CLUSTER, 0);
	assert_int_equal(call_wait(&call), 0);
	lends_not(0, 2 * CLUSTER);
	lends(CLUSTER, CLUSTER, 1, bytes + CLUSTER);
	close_image();
}

/* Until the next commit the file ends where the last cluster's bytes do. */
static void not_in_the_file(void **state)
{
	struct call call;

	(void)state;
	create_top(NULL);
	put(0, CLUSTER + 512);
	lends(0, CLUSTER + 512, 1, bytes);
	lends_not(0, CLUSTER + 513);
	lends_not(0, CLUSTER + 4096);
	flush();
	call_read(&call, image, got, 2 * CLUSTER, 0);
	assert_int_equal(call_wait(&call), 2 * CLUSTER);
	memset(bytes + CLUSTER + 512, 0, CLUSTER - 512);
	lends(0, 2 * CLUSTER, 1, bytes);
	close_image();
}

/* A zero cluster over a backing file; behind it the backing file's own bytes. */
static void chain(void **state)
{
	static uint8_t wanted[4 * CLUSTER];
	struct call call;

	(void)state;
	create_top(BASE);
	memset(wanted, 'b', sizeof(wanted));
	lends(BASE_SIZE - 1000, 1000, 1, wanted);
	lends_not(BASE_SIZE - 1000, 1001); /* from there on zeroes */
	lends(CLUSTER, 4 * CLUSTER, 1, wanted);
	put(2 * CLUSTER, CLUSTER);
	memcpy(wanted + CLUSTER, bytes, CLUSTER);
	lends(CLUSTER, 4 * CLUSTER, 3, wanted);
	call_zero(&call, image, CLUSTER, 3 * CLUSTER);
	assert_int_equal(call_wait(&call), 0);
	lends_not(CLUSTER, 4 * CLUSTER);
	lends(CLUSTER, 2 * CLUSTER, 2, wanted);
	close_image();
}

/* Neither tables nor data are fetched from the disk. */
static void not_in_memory(void **state)
{
	struct call call;
	int fd;

	(void)state;
	create_top(NULL);
	put(0, 4 * CLUSTER);
	close_image();
	open_image(false);
	lends_not(0, CLUSTER);
	call_read(&call, image, got, 1, 0);
	assert_int_equal(call_wait(&call), 1);
	lends(0, 4 * CLUSTER, 1, bytes);
	fd = open(TOP, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fdatasync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	lends_not(0, 4 * CLUSTER);
	call_read(&call, image, got, CLUSTER, 0);
	assert_int_equal(call_wait(&call), CLUSTER);
	lends(0, CLUSTER, 1, bytes);
	close(fd);
	close_image();
}

/* The kernel counts a page as soon as it has asked the disk for it. */
static void on_its_way(void **state)
{
	struct qed_loan loan;

	(void)state;
	create_top(NULL);
	put(0, 4 * CLUSTER);
	assert_true(qed_lend(image, 0, 4 * CLUSTER, &loan));
	qed_lend_end(image, &loan, 4 * CLUSTER);
	busy = loan.parts[0].offset + 4 * CLUSTER - 1;
	lends_not(0, 4 * CLUSTER);
	lends_not(3 * CLUSTER, CLUSTER);
	lends(0, 3 * CLUSTER, 1, bytes);
	busy = UINT64_MAX;
	lends(0, 4 * CLUSTER, 1, bytes);
	close_image();
}

/* Clusters that are given back keep their bytes until the loan is over. */
static void kept(void **state)
{
	struct qed_loan loan;
	struct call call;

	(void)state;
	create_top(NULL);
	put(0, 8 * CLUSTER);
	flush();
	assert_true(qed_lend(image, 0, 8 * CLUSTER, &loan));
	call_zero(&call, image, 8 * CLUSTER, 0);
	assert_int_equal(call_wait(&call), 0);
	flush();
	memset(bytes, 'n', 8 * CLUSTER);
	put(16 * CLUSTER, 8 * CLUSTER);	/* in new clusters */
	flush();
	fetch(&loan, 8 * CLUSTER);
	qed_lend_end(image, &loan, 8 * CLUSTER);
	fill();
	assert_memory_equal(got, bytes, 8 * CLUSTER);
	close_image();
}

static void counted(void **state)
{
	struct qed_stats before, after;
	struct qed_loan loan;
	struct call call;

	(void)state;
	create_top(NULL);
	put(0, CLUSTER);
	qed_image_get_stats(image, &before);
	lends(0, CLUSTER, 1, bytes);
	assert_true(qed_lend(image, 0, CLUSTER, &loan));
	qed_lend_end(image, &loan, -EIO);
	qed_image_get_stats(image, &after);
	assert_int_equal(after.reads - before.reads, 2);
	assert_int_equal(after.bytes_read - before.bytes_read, CLUSTER);
	assert_int_equal(after.l2_hits - before.l2_hits, 2);
	lends_not(0, 2 * CLUSTER);
	busy = loan.parts[0].offset;
	lends_not(0, 1);
	busy = UINT64_MAX;
	qed_image_get_stats(image, &before);
	assert_memory_equal(&before, &after, sizeof(after));
	call_read(&call, image, got, 2 * CLUSTER, 0);
	assert_int_equal(call_wait(&call), 2 * CLUSTER);
	qed_image_get_stats(image, &after);
	assert_int_equal(after.reads - before.reads, 1);
	assert_int_equal(after.l2_hits - before.l2_hits, 2);
	close_image();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(neighbours),
		cmocka_unit_test(scattered),
		cmocka_unit_test(not_data),
		cmocka_unit_test(not_in_the_file),
		cmocka_unit_test(chain),
		cmocka_unit_test(not_in_memory),
		cmocka_unit_test(on_its_way),
		cmocka_unit_test(kept),
		cmocka_unit_test(counted),
	};

	calls_watchdog(300);
	if (syscall(SYS_CACHESTAT, -1, NULL, NULL, 0) < 0 && errno == ENOSYS) {
		printf("skipped: this kernel does not say what it has cached\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, enter, creating_leave);
}
