/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "creating.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[4096];

int creating_enter(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	snprintf(dir, sizeof(dir), "%s/creating.XXXXXX",
		 parent ? parent : "/tmp");
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int creating_leave(void **state)
{
	(void)state;
	if (chdir("/") < 0)
		return -1;
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int count_names(void)
{
	DIR *d = opendir(".");
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;			/* "." and ".." */
}

static void listen(void *opaque, enum qed_log_level level, const char *message)
{
	struct heard *heard = opaque;

	heard->errors += level == QED_LOG_ERROR;
	snprintf(heard->last, sizeof(heard->last), "%s", message);
}

int create(const char *path, struct qed_create_options options,
	   struct heard *heard)
{
	memset(heard, 0, sizeof(*heard));
	options.log = (struct qed_log){ listen, heard };
	return qed_image_create(path, &options);
}

int create_backed(const char *path, const char *name, const char *format,
		  struct heard *heard)
{
	const struct qed_create_options options = {
		.backing = name,
		.backing_format = format,
	};

	return create(path, options, heard);
}
