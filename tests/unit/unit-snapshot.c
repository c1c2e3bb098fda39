/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots while somebody else changes names, and on hosts where a file cannot be made
 * without one.  What survives power cuts and failures is tested in jobs/job-snapshot.c.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "snapshot.h"

#include "../lib/creating.h"
#include "../lib/fake-engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMAGE "image.qed"
#define NEW   "new.qed"
#define ASIDE "aside.qed"
#define OLD   "somebody else's"


/* --- a host that can do less -------------------------------------------------------- */

static bool no_tmpfile, no_noreplace, no_proc;
static unsigned nrefused;		/* calls for that reason */

/* What openat() is for all that knows of large files. */
int __real_openat64(int at, const char *path, int flags, ...);
int __real_renameat2(int from_dir, const char *from, int to_dir, const char *to,
		     unsigned flags);
int __real_access(const char *path, int mode);
int __real_linkat(int from_dir, const char *from, int to_dir, const char *to,
		  int flags);
int __wrap_openat64(int at, const char *path, int flags, ...);
int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to,
		     unsigned flags);
int __wrap_access(const char *path, int mode);
int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to,
		  int flags);

int __wrap_openat64(int at, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		nrefused++;
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_openat64(at, path, flags, mode);
}

int __wrap_renameat2(int from_dir, const char *from, int to_dir, const char *to,
		     unsigned flags)
{
	if (no_noreplace) {
		nrefused++;
		errno = EINVAL;
		return -1;
	}
	return __real_renameat2(from_dir, from, to_dir, to, flags);
}

/* False: the path is below what is not mounted. */
static bool is_there(const char *path)
{
	if (!no_proc || strncmp(path, "/proc/", 6) != 0)
		return true;
	nrefused++;
	errno = ENOENT;
	return false;
}

int __wrap_access(const char *path, int mode)
{
	return is_there(path) ? __real_access(path, mode) : -1;
}

int __wrap_linkat(int from_dir, const char *from, int to_dir, const char *to,
		  int flags)
{
	if (!is_there(from))
		return -1;
	return __real_linkat(from_dir, from, to_dir, to, flags);
}

/* --- one snapshot ------------------------------------------------------------------- */

struct run {
	enum qed_op when;		/* at the first of these */
	void (*meddle)(void);		/* this happens */
	bool meddled;			/* under the fake's lock */
	unsigned errors, warnings;
	char last[400];
};

static struct fake_verdict decide(void *opaque, const struct fake_record *record)
{
	struct run *run = opaque;

	if (run->meddle && !run->meddled && record->op == run->when) {
		run->meddled = true;
		run->meddle();
	}
	return (struct fake_verdict){ FAKE_RUN, 0, 0 };
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	run->errors += level == QED_LOG_ERROR;
	run->warnings += level == QED_LOG_WARNING;
	snprintf(run->last, sizeof(run->last), "%s", message);
}

static int snapshot(struct run *run, uint32_t flags)
{
	const struct qed_log log = { hear, run };
	struct fake *fake = fake_create(1);
	int ret;

	fake_set_decide(fake, decide, run);
	ret = qed_image_snapshot_engine(IMAGE, NEW, flags, &log,
					fake_start(fake));
	fake_destroy(fake);
	assert_int_equal(run->meddled, run->meddle != NULL);
	assert_int_equal(run->errors, ret < 0);
	assert_int_equal(run->warnings, 0);
	return ret;
}

/* --- files -------------------------------------------------------------------------- */

static void make_image(const char *path, uint64_t size)
{
	const struct qed_create_options options = { .virtual_size = size };

	assert_int_equal(qed_image_create(path, &options), 0);
}

static void put_old(void)
{
	int fd = open(NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, OLD, sizeof(OLD)), sizeof(OLD));
	close(fd);
}

static void assert_old(void)
{
	char buf[sizeof(OLD) + 1] = "";
	int fd = open(NEW, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, buf, sizeof(buf)), sizeof(OLD));
	assert_string_equal(buf, OLD);
	close(fd);
}

static void swap_image(void)
{
	assert_int_equal(rename(IMAGE, ASIDE), 0);
	make_image(IMAGE, 1 << 20);
}

static bool is_frozen(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return !(st.st_mode & 0222);
}

static unsigned count_files(void)
{
	DIR *d = opendir(".");
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

/* A disk of 2 MiB by way of the image. */
static void assert_overlay(void)
{
	struct qed_open_options options;
	struct qed_image_info info;
	struct qed_image *image;

	qed_open_options_init(&options);
	assert_int_equal(qed_image_open(NEW, &options, &image), 0);
	qed_image_get_info(image, &info);
	assert_int_equal(info.nlayers, 2);
	assert_int_equal(info.virtual_size, 2 << 20);
	assert_string_equal(info.backing_filename, IMAGE);
	qed_image_close(image);
}

static int setup(void **state)
{
	no_tmpfile = no_noreplace = no_proc = false;
	nrefused = 0;
	if (creating_enter(state) < 0)
		return -1;
	make_image(IMAGE, 2 << 20);
	return 0;
}

/* --- the tests ---------------------------------------------------------------------- */

static void a_name_taken_meanwhile_stays(void **state)
{
	struct run run = { .when = QED_OP_FLUSH, .meddle = put_old };

	(void)state;
	assert_int_equal(snapshot(&run, 0), -EEXIST);
	assert_non_null(strstr(run.last, NEW ": is there already; choose"));
	assert_old();
	assert_false(is_frozen(IMAGE));
	assert_int_equal(count_files(), 2);
}

/* Even one that leads nowhere. */
static void a_link_has_the_name(void **state)
{
	struct run run = { .meddle = NULL };

	(void)state;
	assert_int_equal(symlink("nowhere", NEW), 0);
	assert_int_equal(snapshot(&run, 0), -EEXIST);
	assert_int_equal(count_files(), 2);
}

static void the_image_has_the_name(void **state)
{
	struct run run = { .meddle = NULL };

	(void)state;
	assert_int_equal(link(IMAGE, NEW), 0);
	for (uint32_t flags = 0; flags <= QED_SNAPSHOT_REPLACE; flags++) {
		run.errors = 0;
		assert_int_equal(snapshot(&run, flags), -EINVAL);
		assert_non_null(strstr(run.last, NEW ": is the image itself"));
	}
	assert_false(is_frozen(IMAGE));
}

/* The overlay would be based on the other one. */
static void an_image_replaced_meanwhile_gets_no_overlay(void **state)
{
	struct run run = { .when = QED_OP_WRITE, .meddle = swap_image };

	(void)state;
	assert_int_equal(snapshot(&run, 0), -ESTALE);
	assert_non_null(strstr(run.last, IMAGE ": has been moved or replaced"));
	assert_false(is_frozen(IMAGE) || is_frozen(ASIDE));
	assert_int_equal(count_files(), 2);
}

static void the_image_that_was_opened_is_frozen(void **state)
{
	struct run run = { .when = QED_OP_FLUSH, .meddle = swap_image };

	(void)state;
	assert_int_equal(snapshot(&run, 0), 0);
	assert_true(is_frozen(ASIDE));
	assert_false(is_frozen(IMAGE));
}

static void do_all(void)
{
	struct run first = { .meddle = NULL }, second = { .meddle = NULL };
	struct run race = { .when = QED_OP_FLUSH, .meddle = put_old };

	assert_int_equal(snapshot(&race, 0), -EEXIST);
	assert_old();
	assert_int_equal(count_files(), 2);
	assert_int_equal(snapshot(&first, QED_SNAPSHOT_REPLACE), 0);
	assert_overlay();
	assert_int_equal(unlink(NEW), 0);
	assert_int_equal(snapshot(&second, 0), 0);
	assert_overlay();
	assert_true(is_frozen(IMAGE));
	assert_int_equal(count_files(), 2);
}

static void hosts_without_nameless_files_do(void **state)
{
	(void)state;
	do_all();
	assert_int_equal(nrefused, 0);
	no_tmpfile = true;
	assert_int_equal(unlink(NEW), 0);
	do_all();
	assert_int_equal(nrefused, 3);
	no_noreplace = true;
	assert_int_equal(unlink(NEW), 0);
	do_all();
	assert_int_equal(nrefused, 3 + 3 + 2);
}

/* It is found out before a byte is written. */
static void hosts_without_proc_do(void **state)
{
	(void)state;
	no_proc = true;
	do_all();
	assert_int_equal(nrefused, 3);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, setup, creating_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(a_name_taken_meanwhile_stays),
		IN_DIR(a_link_has_the_name),
		IN_DIR(the_image_has_the_name),
		IN_DIR(an_image_replaced_meanwhile_gets_no_overlay),
		IN_DIR(the_image_that_was_opened_is_frozen),
		IN_DIR(hosts_without_nameless_files_do),
		IN_DIR(hosts_without_proc_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
