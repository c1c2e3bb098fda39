/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making images: what they hold, what is refused, and what a failure leaves.
 * Every target is below a directory of the test's own: it may run as root, and
 * what it tests replaces files.
 */
#include "config.h"

#include "../lib/creating.h"
#include "format.h"
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))
#define MIB (UINT64_C(1) << 20)

static void make_file(const char *name, off_t size)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

/* Reads an image back: its header, its name, and that the L1 table is empty. */
static void read_image(const char *path, struct qed_header *header,
		       char name[QED_BACKING_NAME_MAX + 1])
{
	char message[QED_MESSAGE_MAX] = "", buf[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, buf, sizeof(buf), 0), sizeof(buf));
	if (qed_header_decode(buf, (uint64_t)st.st_size, header, message))
		fail_msg("%s: %s", path, message);
	assert_true((uint64_t)st.st_size ==
		    header->l1_table_offset + header->table_bytes);
	memset(name, 0, QED_BACKING_NAME_MAX + 1);
	if (header->features & QED_FEATURE_BACKING_FILE)
		memcpy(name, buf + header->backing_filename_offset,
		       header->backing_filename_size);
	lseek(fd, (off_t)header->l1_table_offset, SEEK_SET);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], 0);
	assert_int_equal(n, 0);
	close(fd);
}

struct geometry {
	uint32_t cluster_size, table_size;
	uint64_t asked, given;
};

static void images_have_the_geometry_asked_for(void **state)
{
	static const struct geometry cases[] = {
		{ 0, 0, 0, 0 },
		{ 0, 0, 1, 512 },
		{ 0, 0, 512, 512 },
		{ 0, 0, 513, 1024 },
		{ 4096, 1, UINT64_C(1) << 30, UINT64_C(1) << 30 },
		{ 4096, 16, MIB, MIB },
		{ 1u << 20, 1, MIB, MIB },
		{ 0, 0, UINT64_C(1) << 46, UINT64_C(1) << 46 },
		{ 1u << 23, 1, INT64_MAX - 1000, INT64_MAX - 511 },
		{ 1u << 23, 1, INT64_MAX - 511, INT64_MAX - 511 },
	};
	char name[QED_BACKING_NAME_MAX + 1];
	struct qed_header header;
	struct heard heard;

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		const struct qed_create_options options = {
			.cluster_size = cases[i].cluster_size,
			.table_size = cases[i].table_size,
			.virtual_size = cases[i].asked,
		};

		assert_int_equal(create("disk.qed", options, &heard), 0);
		assert_int_equal(heard.errors, 0);
		read_image("disk.qed", &header, name);
		assert_int_equal(header.cluster_size,
				 options.cluster_size ? options.cluster_size :
				 QED_CLUSTER_SIZE_DEFAULT);
		assert_int_equal(header.table_size,
				 options.table_size ? options.table_size :
				 QED_TABLE_SIZE_DEFAULT);
		assert_true(header.image_size == cases[i].given);
		assert_true(header.features == 0);
	}
	assert_int_equal(count_names(), 1);
}

static void bad_geometries_are_refused(void **state)
{
	static const struct geometry cases[] = {
		{ 2048, 0, MIB, 0 },
		{ 65537, 0, MIB, 0 },
		{ 1u << 27, 0, MIB, 0 },
		{ 0, 3, MIB, 0 },
		{ 0, 32, MIB, 0 },
		{ 4096, 1, (UINT64_C(1) << 30) + 1, 0 },
		{ 0, 0, (UINT64_C(1) << 46) + 1, 0 },
		{ 1u << 26, 16, INT64_MAX - 510, 0 },
		{ 1u << 26, 16, UINT64_MAX - 511, 0 },
		{ 1u << 26, 16, UINT64_MAX - 510, 0 },
		{ 1u << 26, 16, UINT64_MAX, 0 },
	};
	struct heard heard;

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		const struct qed_create_options options = {
			.cluster_size = cases[i].cluster_size,
			.table_size = cases[i].table_size,
			.virtual_size = cases[i].asked,
		};

		if (create("disk.qed", options, &heard) != -EINVAL)
			fail_msg("case %zu", i);
		assert_int_equal(heard.errors, 1);
		assert_memory_equal(heard.last, "disk.qed: ", 10);
	}
	assert_int_equal(count_names(), 0);
}

struct backing {
	const char *path;		/* of the new image */
	const char *name, *format;
	uint64_t size;			/* what the image takes over */
	int err;
	const char *message;
};

#define BOTH (QED_FEATURE_BACKING_FILE | QED_FEATURE_BACKING_FORMAT_NO_PROBE)

static const struct backing backings[] = {
	{ "new.qed", "base.raw", "raw", MIB + 512, 0, NULL },
	{ "new.qed", "file:base.raw", "raw", MIB + 512, 0, NULL },
	{ "new.qed", "./with:colon", "raw", 0, 0, NULL },
	{ "new.qed", "base.qed", "qed", 7 * MIB, 0, NULL },
	{ "sub/new.qed", "../base.qed", "qed", 7 * MIB, 0, NULL },
	{ "sub/new.qed", "inner.raw", "raw", 512, 0, NULL },

	{ "new.qed", "inner.raw", "raw", 0, -ENOENT,
	  "inner.raw: cannot open the backing file: No such file" },
	{ "sub/new.qed", "base.qed", "qed", 0, -ENOENT, "sub/base.qed: " },
	{ "new.qed", "base.raw", NULL, 0, -EINVAL, "say raw or qed" },
	{ "new.qed", "base.raw", "qcow2", 0, -EINVAL,
	  "backing format 'qcow2' is unknown" },
	{ "new.qed", "base.raw", "qed", 0, -EMEDIUMTYPE,
	  "base.raw: not a QED image" },
	{ "new.qed", "empty", "qed", 0, -EMEDIUMTYPE, "empty: not a QED" },
	{ "new.qed", "damaged.qed", "qed", 0, -EUCLEAN,
	  "damaged.qed: cluster size 7 is not" },
	{ "new.qed", "sub", "raw", 0, -EISDIR, "sub: the backing file is a" },
	{ "sub/new.qed", "/dev/null", "raw", 0, -EMEDIUMTYPE, "/dev/null: " },
	{ "new.qed", "nbd://host/disk", "raw", 0, -EINVAL,
	  "only files can back an image" },
	{ "new.qed", "json:{}", "raw", 0, -EINVAL, "only files can back" },
	{ "new.qed", "with:colon", "raw", 0, -EINVAL, "write ./NAME" },
	{ "new.qed", "", "raw", 0, -EINVAL, "name is empty" },
	{ "new.qed", "file:", "raw", 0, -EINVAL, "name is empty" },
	{ "new.qed", NULL, "raw", 0, -EINVAL, "without a backing file" },
	{ "base.qed", "base.qed", "qed", 0, -EINVAL,
	  "base.qed: an image cannot be its own backing file" },
	{ "base.qed", "sub/../base.qed", "raw", 0, -EINVAL, "its own" },
	{ "link.qed", "base.qed", "qed", 0, -EINVAL, "its own backing file" },
};

static void make_backing_files(void)
{
	struct heard heard;
	int fd;

	make_file("base.raw", MIB + 1);
	make_file("empty", 0);
	make_file("with:colon", 0);
	assert_int_equal(mkdir("sub", 0755), 0);
	make_file("sub/inner.raw", 1);
	assert_int_equal(create("base.qed", (struct qed_create_options){
				.virtual_size = 7 * MIB }, &heard), 0);
	assert_int_equal(create("damaged.qed", (struct qed_create_options){
				.virtual_size = MIB }, &heard), 0);
	fd = open("damaged.qed", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "\7\0\0\0", 4, 4), 4);
	close(fd);
	assert_int_equal(symlink("base.qed", "link.qed"), 0);
}

static void check_backing(const struct backing *b)
{
	char name[QED_BACKING_NAME_MAX + 1];
	struct qed_header header;
	struct heard heard;
	int ret = create_backed(b->path, b->name, b->format, &heard);

	if (ret != b->err)
		fail_msg("%s on %s: %d, %s", b->path, b->name, ret,
			 heard.last);
	assert_int_equal(heard.errors, b->err ? 1 : 0);
	if (b->err) {
		if (!strstr(heard.last, b->message))
			fail_msg("%s: \"%s\"", b->name, heard.last);
		return;
	}
	read_image(b->path, &header, name);
	assert_string_equal(name, b->name);
	assert_true(header.image_size == b->size);
	assert_true(header.features == (b->format[0] == 'r' ? BOTH :
					QED_FEATURE_BACKING_FILE));
	assert_int_equal(unlink(b->path), 0);
}

static void backing_files_are_checked(void **state)
{
	int names;

	(void)state;
	make_backing_files();
	names = count_names();
	for (size_t i = 0; i < ELEMS(backings); i++)
		check_backing(&backings[i]);
	assert_int_equal(count_names(), names);
}

/* A size of one's own may be smaller or larger than the backing file's. */
static void the_size_may_differ_from_the_backing(void **state)
{
	char name[QED_BACKING_NAME_MAX + 1];
	struct qed_header header;
	struct heard heard;

	(void)state;
	make_file("base.raw", MIB);
	for (uint64_t size = 512; size <= 4 * MIB; size += 4 * MIB - 512) {
		const struct qed_create_options options = {
			.virtual_size = size,
			.backing = "base.raw",
			.backing_format = "raw",
		};

		assert_int_equal(create("disk.qed", options, &heard), 0);
		read_image("disk.qed", &header, name);
		assert_true(header.image_size == size);
	}
}

static void long_names_fit_up_to_the_limit(void **state)
{
	char name[QED_BACKING_NAME_MAX + 2], back[QED_BACKING_NAME_MAX + 1];
	struct qed_header header;
	struct heard heard;

	(void)state;
	make_file("base.raw", 512);
	memset(name, '/', sizeof(name));
	name[0] = '.';
	strcpy(name + sizeof(name) - sizeof("base.raw"), "base.raw");
	assert_int_equal(strlen(name), QED_BACKING_NAME_MAX + 1);
	assert_int_equal(create_backed("disk.qed", name, "raw", &heard),
			 -EINVAL);
	assert_non_null(strstr(heard.last, "has 1024 bytes, the most is 1023"));
	name[1] = '.';
	assert_int_equal(create_backed("disk.qed", name + 1, "raw", &heard),
			 0);
	read_image("disk.qed", &header, back);
	assert_string_equal(back, name + 1);
}

struct target {
	const char *path;
	int err;
	const char *message;
};

static void only_files_are_replaced(void **state)
{
	static const struct target cases[] = {
		{ "sub", -EISDIR, "a directory is in the way" },
		{ "sub/", -EISDIR, "a directory is in the way" },
		{ "none/", -EISDIR, "this is no file name" },
		{ "", -ENOENT, "no file name" },
		{ "none/disk.qed", -ENOENT, "cannot open its directory" },
		{ "file/disk.qed", -ENOTDIR, "" },
		{ "fifo", -EINVAL, "a device or special file" },
		{ "dangling", -ENOENT, "a dangling symbolic link" },
		{ "circle", -ELOOP, "" },
	};
	const struct qed_create_options options = { .virtual_size = MIB };
	struct heard heard;

	(void)state;
	assert_int_equal(mkdir("sub", 0755), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	assert_int_equal(symlink("circle", "circle"), 0);
	make_file("file", 3);
	for (size_t i = 0; i < ELEMS(cases); i++) {
		int ret = create(cases[i].path, options, &heard);

		if (ret != cases[i].err || heard.errors != 1 ||
		    !strstr(heard.last, cases[i].message))
			fail_msg("%s: %d, %s", cases[i].path, ret, heard.last);
	}
	assert_int_equal(count_names(), 5);
}

static void a_link_keeps_pointing(void **state)
{
	char name[QED_BACKING_NAME_MAX + 1];
	struct qed_header header;
	struct heard heard;
	struct stat st;

	(void)state;
	make_file("real", 3);
	assert_int_equal(symlink("real", "link"), 0);
	assert_int_equal(create("link", (struct qed_create_options){
				.virtual_size = MIB }, &heard), 0);
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	read_image("real", &header, name);
}

static void an_image_in_use_stays(void **state)
{
	const struct qed_create_options options = { .virtual_size = MIB };
	const struct qed_log silent = { NULL, NULL };
	struct stat before, after;
	struct heard heard;
	int fd;

	(void)state;
	make_file("disk.qed", 3);
	fd = open("disk.qed", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(qed_lock_take(fd, false, "disk.qed", &silent), 0);
	assert_int_equal(create("disk.qed", options, &heard), -EBUSY);
	assert_int_equal(heard.errors, 1);
	assert_non_null(strstr(heard.last, "disk.qed: in use"));
	assert_int_equal(stat("disk.qed", &after), 0);
	assert_true(before.st_ino == after.st_ino && after.st_size == 3);
	close(fd);
	assert_int_equal(create("disk.qed", options, &heard), 0);
	assert_int_equal(count_names(), 1);
}

static void the_umask_decides_about_the_mode(void **state)
{
	static const mode_t masks[] = { 0, 022, 027, 077 };
	const struct qed_create_options options = { .virtual_size = MIB };
	struct heard heard;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ELEMS(masks); i++) {
		mode_t old = umask(masks[i]);
		int ret = create("disk.qed", options, &heard);

		umask(old);
		assert_int_equal(ret, 0);
		assert_int_equal(stat("disk.qed", &st), 0);
		assert_int_equal(st.st_mode & 07777, 0666 & ~masks[i]);
		assert_int_equal(unlink("disk.qed"), 0);
	}
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* Frozen, too: what it held is gone, and the new image is to be written. */
static void what_is_replaced_keeps_its_mode(void **state)
{
	static const mode_t modes[][2] = {
		{ 0600, 0600 }, { 0640, 0640 }, { 0666, 0666 },
		{ 0604, 0604 }, { 0444, 0644 }, { 0400, 0600 },
	};
	const struct qed_create_options options = { .virtual_size = MIB };
	struct heard heard;

	(void)state;
	for (size_t i = 0; i < 2 * ELEMS(modes); i++) {
		mode_t old = umask(i % 2 ? 077 : 0);

		make_file("disk.qed", 3);
		assert_int_equal(chmod("disk.qed", modes[i / 2][0]), 0);
		assert_int_equal(create("disk.qed", options, &heard), 0);
		assert_int_equal(mode_of("disk.qed"), modes[i / 2][1]);
		assert_int_equal(unlink("disk.qed"), 0);
		umask(old);
	}
}

#define ACL "system.posix_acl_access"

/* "u::rw,u:12345:r,g::-,m::r,o::-": what there is for others is in the ACL. */
static const uint8_t acl[] = {
	2, 0, 0, 0,
	0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
	0x02, 0, 4, 0, 0x39, 0x30, 0, 0,
	0x04, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
	0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
};

static void an_acl_is_kept(void **state)
{
	const struct qed_create_options options = { .virtual_size = MIB };
	char got[sizeof(acl) + 1];
	struct heard heard;

	(void)state;
	make_file("disk.qed", 3);
	if (setxattr("disk.qed", ACL, acl, sizeof(acl), 0) < 0)
		skip();		/* this file system has none */
	assert_int_equal(create("disk.qed", options, &heard), 0);
	assert_int_equal(mode_of("disk.qed"), 0640);
	assert_int_equal(getxattr("disk.qed", ACL, got, sizeof(got)), sizeof(acl));
	assert_memory_equal(got, acl, sizeof(acl));
}

static void none_comes_from_the_directory(void **state)
{
	const struct qed_create_options options = { .virtual_size = MIB };
	char got[sizeof(acl) + 1];
	struct heard heard;

	(void)state;
	make_file("disk.qed", 3);
	if (setxattr(".", "system.posix_acl_default", acl, sizeof(acl), 0) < 0)
		skip();
	assert_int_equal(create("disk.qed", options, &heard), 0);
	assert_int_equal(mode_of("disk.qed"), 0644);
	assert_true(getxattr("disk.qed", ACL, got, sizeof(got)) < 0);
	assert_int_equal(create("new.qed", options, &heard), 0);
	assert_int_equal(getxattr("new.qed", ACL, got, sizeof(got)), sizeof(acl));
}

/* A file size limit stands for a full disk. */
static void a_failure_leaves_what_was(void **state)
{
	const struct qed_create_options options = { .virtual_size = MIB };
	struct rlimit unlimited, limit;
	struct heard heard;
	struct stat st;
	int ret;

	(void)state;
	make_file("disk.qed", 3);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	signal(SIGXFSZ, SIG_IGN);
	limit = unlimited;
	limit.rlim_cur = 65536;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ret = create("disk.qed", options, &heard);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	assert_int_equal(ret, -EFBIG);
	assert_int_equal(heard.errors, 1);
	assert_non_null(strstr(heard.last, "disk.qed: cannot write: "));
	assert_int_equal(stat("disk.qed", &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(count_names(), 1);
}

#define IN_DIR(test) \
	cmocka_unit_test_setup_teardown(test, creating_enter, creating_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(images_have_the_geometry_asked_for),
		IN_DIR(bad_geometries_are_refused),
		IN_DIR(backing_files_are_checked),
		IN_DIR(the_size_may_differ_from_the_backing),
		IN_DIR(long_names_fit_up_to_the_limit),
		IN_DIR(only_files_are_replaced),
		IN_DIR(a_link_keeps_pointing),
		IN_DIR(an_image_in_use_stays),
		IN_DIR(the_umask_decides_about_the_mode),
		IN_DIR(what_is_replaced_keeps_its_mode),
		IN_DIR(an_acl_is_kept),
		IN_DIR(none_comes_from_the_directory),
		IN_DIR(a_failure_leaves_what_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
