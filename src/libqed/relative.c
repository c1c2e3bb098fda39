/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "newfile.h"
#include "relative.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The real path of the file's directory, with a slash at the end: to be freed. */
static int real_dir(const char *file, char **dir)
{
	size_t len = qed_dir_len(file);
	char *name = len ? strndup(file, len) : strdup(".");
	char *real = name ? realpath(name, NULL) : NULL;
	int ret = real ? 0 : name ? -errno : -ENOMEM;

	*dir = NULL;
	if (real && asprintf(dir, "%s%s", real, real[1] ? "/" : "") < 0)
		ret = -ENOMEM;
	free(real);
	free(name);
	return ret;
}

/* Bytes of the directories that both paths, which end in a slash, have in common. */
static size_t common_len(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0; a[i] && a[i] == b[i]; i++)
		if (a[i] == '/')
			common = i + 1;
	return common;
}

static int join(const char *from, const char *to, const char *file, char **name)
{
	size_t common = common_len(from, to), ups = 0;
	const char *rest = to + common;
	char *out;

	for (const char *p = from + common; *p; p++)
		ups += *p == '/';
	*name = out = malloc(3 * ups + strlen(rest) + strlen(file) + 3);
	if (!out)
		return -ENOMEM;
	for (; ups; ups--)
		out = stpcpy(out, "../");
	/* What stands before a colon would count as a protocol. */
	if (out == *name && !*rest && strchr(file, ':'))
		out = stpcpy(out, "./");
	if (out == *name && strchr(rest, ':'))
		out = stpcpy(out, "./");
	strcpy(stpcpy(out, rest), file);
	return 0;
}

int qed_relative_path(const char *from, const char *path, char **name)
{
	char *from_dir, *to_dir = NULL;
	int ret = real_dir(from, &from_dir);

	*name = NULL;
	if (ret == 0)
		ret = real_dir(path, &to_dir);
	if (ret == 0)
		ret = join(from_dir, to_dir, path + qed_dir_len(path), name);
	free(from_dir);
	free(to_dir);
	return ret;
}
