/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[300];

static void remove_dir(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (chdir("/") == 0)
		rmdir(dir);
}

int scratch_enter(const char *kind)
{
	const char *parent = getenv("TMPDIR");

	if (access("/dev/shm", W_OK) == 0)
		parent = "/dev/shm";
	snprintf(dir, sizeof(dir), "%s/%s.XXXXXX", parent ? parent : "/tmp",
		 kind);
	if (!mkdtemp(dir) || chdir(dir) < 0)
		return -1;
	return atexit(remove_dir) == 0 ? 0 : -1;
}

const char *scratch_dir(void)
{
	return dir;
}

bool is_env(const char *name, const char *part)
{
	const char *value = getenv(name);

	return value && strstr(value, part);
}
