/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies of files, in memory. */
#include "config.h"

#include "frame.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK UINT64_C(4096)

static void read_file(struct snapshot_file *file)
{
	int fd = open(file->name, O_RDONLY | O_CLOEXEC);

	file->size = scene_size(file->name);
	file->bytes = malloc(file->size + 1);
	if (fd < 0 || !file->bytes ||
	    pread(fd, file->bytes, file->size, 0) != (ssize_t)file->size)
		die(file->name);
	close(fd);
}

static bool is_zero(const uint8_t *bytes, uint64_t len)
{
	return !*bytes && !memcmp(bytes, bytes + 1, len - 1);
}

/* With holes where it is zero; anew, as what is there may not be for writing. */
void snapshot_put(const struct snapshot_file *file)
{
	int fd;

	unlink(file->name);
	fd = open(file->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)file->size) < 0)
		die(file->name);
	for (uint64_t at = 0; at < file->size; at += BLOCK) {
		uint64_t len = qed_min(BLOCK, file->size - at);

		if (!is_zero(file->bytes + at, len) &&
		    pwrite(fd, file->bytes + at, len, (off_t)at) !=
			    (ssize_t)len)
			die(file->name);
	}
	close(fd);
}

/* Calls `visit` with the name of each file there is. */
static void each_name(void (*visit)(void *opaque, const char *name),
		      void *opaque)
{
	DIR *d = opendir(".");
	struct dirent *e;

	if (!d)
		die("opendir");
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			visit(opaque, e->d_name);
	closedir(d);
}

static void take(void *opaque, const char *name)
{
	struct snapshot *snapshot = opaque;
	struct snapshot_file *file = &snapshot->files[snapshot->n++];

	if (snapshot->n > SNAPSHOT_FILES)
		die("too many files");
	if (snprintf(file->name, sizeof(file->name), "%s", name) >=
	    (int)sizeof(file->name))
		die(name);
	read_file(file);
}

void snapshot_take(struct snapshot *snapshot)
{
	memset(snapshot, 0, sizeof(*snapshot));
	each_name(take, snapshot);
}

const struct snapshot_file *snapshot_find(const struct snapshot *snapshot,
					  const char *name)
{
	for (unsigned i = 0; i < snapshot->n; i++)
		if (!strcmp(snapshot->files[i].name, name))
			return &snapshot->files[i];
	return NULL;
}

static void drop(void *opaque, const char *name)
{
	if (!snapshot_find(opaque, name) && unlink(name) < 0)
		die(name);
}

void snapshot_restore(const struct snapshot *snapshot)
{
	each_name(drop, (void *)(uintptr_t)snapshot);
	for (unsigned i = 0; i < snapshot->n; i++)
		snapshot_put(&snapshot->files[i]);
}

void snapshot_free(struct snapshot *snapshot)
{
	for (unsigned i = 0; i < snapshot->n; i++)
		free(snapshot->files[i].bytes);
	snapshot->n = 0;
}
