/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that jobs make. */
#include "config.h"

#include "frame.h"

#include <dirent.h>
#include <string.h>

bool made_same_disk(const char *path, const char *other, char message[700])
{
	struct disk one = { .size = 0 }, two = { .size = 0 };
	bool ok = disk_read(&one, other, false, message) &&
		  disk_read(&two, path, false, message) &&
		  disk_same(&two, &one, NULL, message);

	disk_free(&one);
	disk_free(&two);
	return ok;
}

bool made_has_data(const char *path)
{
	struct walk *walk = walk_open(path);
	bool data = walk->ndata > 0;

	walk_close(walk);
	return data;
}

bool made_nothing_else(char message[700])
{
	DIR *d = opendir(".");
	struct dirent *e;
	bool ok = true;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, ".qed-", 5))
			ok = wrong(message, "%s is left", e->d_name);
	if (d)
		closedir(d);
	return ok;
}
