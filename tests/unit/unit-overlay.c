/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images on others: what name is stored, and which files they may not replace. */
#include "config.h"

#include "../lib/creating.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))
#define MIB (UINT64_C(1) << 20)

static void make_image(const char *path, uint64_t size)
{
	const struct qed_create_options options = { .virtual_size = size };
	struct heard heard;

	assert_int_equal(create(path, options, &heard), 0);
}

/* What `name` becomes, which counts from the working directory. */
struct relative {
	const char *path;		/* of the new image */
	const char *name, *stored;	/* null: refused */
	int err;
	const char *message;
};

static const struct relative relatives[] = {
	{ "new.qed", "base.qed", "base.qed", 0, NULL },
	{ "new.qed", "./sub/../base.qed", "base.qed", 0, NULL },
	{ "new.qed", "file:base.qed", "base.qed", 0, NULL },
	{ "new.qed", "sub/inner.qed", "sub/inner.qed", 0, NULL },
	{ "sub/new.qed", "base.qed", "../base.qed", 0, NULL },
	{ "sub/new.qed", "sub/inner.qed", "inner.qed", 0, NULL },
	{ "sub/deep/new.qed", "base.qed", "../../base.qed", 0, NULL },
	{ "way/new.qed", "base.qed", "../../base.qed", 0, NULL },
	{ "new.qed", "way/../inner.qed", "sub/inner.qed", 0, NULL },
	{ "new.qed", "./with:colon", "./with:colon", 0, NULL },
	{ "new.qed", "link.qed", "link.qed", 0, NULL },
	{ "new.qed", "none.qed", NULL, -ENOENT, "none.qed: cannot open" },
	{ "new.qed", "none/base.qed", NULL, -ENOENT,
	  "none/base.qed: cannot find it or its directory" },
	{ "none/new.qed", "base.qed", NULL, -ENOENT,
	  "none/new.qed: cannot open its directory" },
	{ "base.qed", "base.qed", NULL, -EINVAL, "its own backing file" },
	{ "sub/inner.qed", "sub/deep/../inner.qed", NULL, -EINVAL, "its own" },
};

/* The size is the backing file's, and the name leads there. */
static void check_image(const struct relative *r)
{
	struct qed_open_options options;
	struct qed_image_info info;
	struct qed_image *image;

	qed_open_options_init(&options);
	assert_int_equal(qed_image_open(r->path, &options, &image), 0);
	qed_image_get_info(image, &info);
	assert_int_equal(info.nlayers, 2);
	assert_true(info.virtual_size == 7 * MIB);
	assert_string_equal(info.backing_filename, r->stored);
	qed_image_close(image);
}

static void check_relative(const struct relative *r)
{
	const struct qed_create_options options = {
		.backing = r->name,
		.backing_format = "qed",
		.flags = QED_CREATE_RELATIVE,
	};
	struct heard heard;
	int ret = create(r->path, options, &heard);

	if (ret != r->err || heard.errors != (r->err ? 1 : 0) ||
	    (r->err && !strstr(heard.last, r->message)))
		fail_msg("%s on %s: %d, %s", r->path, r->name, ret, heard.last);
	if (r->err)
		return;
	check_image(r);
	assert_int_equal(unlink(r->path), 0);
}

static void relative_names_count_from_the_image(void **state)
{
	int names;

	(void)state;
	assert_int_equal(mkdir("sub", 0755), 0);
	assert_int_equal(mkdir("sub/deep", 0755), 0);
	assert_int_equal(symlink("sub/deep", "way"), 0);
	make_image("base.qed", 7 * MIB);
	make_image("sub/inner.qed", 7 * MIB);
	make_image("./with:colon", 7 * MIB);
	assert_int_equal(symlink("base.qed", "link.qed"), 0);
	names = count_names();
	for (size_t i = 0; i < ELEMS(relatives); i++)
		check_relative(&relatives[i]);
	assert_int_equal(count_names(), names);
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_ino;
}

/* At any depth, by any name. */
static void no_file_of_the_chain_is_replaced(void **state)
{
	static const char *const names[] = { "low.raw",	 "mid.qed", "mid2.qed",
					     "hard.qed", "link.qed", "top.qed" };
	struct heard heard;

	(void)state;
	close(open("low.raw", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	assert_int_equal(create_backed("mid.qed", "low.raw", "raw", &heard), 0);
	assert_int_equal(create_backed("mid2.qed", "mid.qed", "qed", &heard),
			 0);
	assert_int_equal(create_backed("top.qed", "mid2.qed", "qed", &heard),
			 0);
	assert_int_equal(link("mid.qed", "hard.qed"), 0);
	assert_int_equal(symlink("low.raw", "link.qed"), 0);
	for (size_t i = 0; i < ELEMS(names); i++) {
		ino_t before = inode_of(names[i]);
		int ret = create_backed(names[i], "top.qed", "qed", &heard);

		if (ret != -EINVAL || heard.errors != 1 ||
		    strncmp(heard.last, names[i], strlen(names[i])) != 0)
			fail_msg("%s: %d, %s", names[i], ret, heard.last);
		assert_true(inode_of(names[i]) == before);
	}
	/* But what is on top of it may be. */
	assert_int_equal(create_backed("top.qed", "mid.qed", "qed", &heard), 0);
	assert_int_equal(count_names(), 6);
}

#define IN_DIR(test) \
	cmocka_unit_test_setup_teardown(test, creating_enter, creating_leave)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIR(relative_names_count_from_the_image),
		IN_DIR(no_file_of_the_chain_is_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
