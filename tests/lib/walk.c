/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image's structure, read the plain way. */
#include "config.h"

#include "walk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t get(const uint8_t *p, unsigned nbytes)
{
	uint64_t v = 0;

	while (nbytes--)
		v = v << 8 | p[nbytes];
	return v;
}

__attribute__((format(printf, 2, 3))) static void
complain(struct walk *walk, const char *format, ...)
{
	va_list args;

	if (walk->errors++)
		return;
	va_start(args, format);
	vsnprintf(walk->message, sizeof(walk->message), format, args);
	va_end(args);
}

static void read_all(struct walk *walk, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint64_t at = 0;

	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(path);
		abort();
	}
	walk->size = (uint64_t)st.st_size;
	walk->file = malloc(walk->size + 1);
	while (walk->file && at < walk->size) {
		ssize_t n = pread(fd, walk->file + at, walk->size - at,
				  (off_t)at);

		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	close(fd);
	if (at < walk->size) {
		perror(path);
		abort();
	}
}

static bool read_header(struct walk *walk)
{
	const uint8_t *h = walk->file;

	if (walk->size < 64 || memcmp(h, "QED", 4)) {
		complain(walk, "no header");
		return false;
	}
	walk->cluster = get(h + 4, 4);
	walk->table_bytes = get(h + 8, 4) * walk->cluster;
	walk->header_bytes = get(h + 12, 4) * walk->cluster;
	walk->nelems = walk->table_bytes / 8;
	walk->features = get(h + 16, 8);
	walk->l1_off = get(h + 40, 8);
	walk->disk_size = get(h + 48, 8);
	if (walk->cluster < 4096 || !walk->nelems ||
	    walk->l1_off + walk->table_bytes > walk->size) {
		complain(walk, "bad header");
		return false;
	}
	return true;
}

static uint64_t entry_at(const struct walk *walk, uint64_t table, uint64_t i)
{
	return get(walk->file + table + i * 8, 8);
}

/* Marks the clusters of [off, off + len), which nobody may use otherwise. */
static bool claim(struct walk *walk, uint8_t *used, uint64_t off, uint64_t len,
		  const char *what, uint64_t where)
{
	uint64_t end = walk->size / walk->cluster * walk->cluster;
	bool ok = true;

	if (off % walk->cluster || off < walk->header_bytes || off > end ||
	    end - off < len) {
		complain(walk, "%s for disk offset %" PRIu64 " is at %" PRIu64
			       ", the file has %" PRIu64 " bytes",
			 what, where, off, walk->size);
		return false;
	}
	for (uint64_t c = off / walk->cluster; c < (off + len) / walk->cluster;
	     c++) {
		if (used[c])
			ok = false;
		used[c] = 1;
	}
	if (!ok)
		complain(walk, "%s for disk offset %" PRIu64 " at %" PRIu64
			       " is used twice",
			 what, where, off);
	return ok;
}

static void judge_table(struct walk *walk, uint8_t *used, uint64_t table,
			uint64_t disk_off)
{
	for (uint64_t i = 0; i < walk->nelems; i++) {
		uint64_t entry = entry_at(walk, table, i);

		if (entry <= 1)
			continue;
		walk->ndata++;
		claim(walk, used, entry, walk->cluster, "data",
		      disk_off + i * walk->cluster);
	}
}

static void judge(struct walk *walk, uint8_t *used)
{
	uint64_t nclusters = walk->size / walk->cluster;
	uint64_t reach = walk->nelems * walk->cluster;

	memset(used, 1, walk->header_bytes / walk->cluster);
	claim(walk, used, walk->l1_off, walk->table_bytes, "the L1 table", 0);
	for (uint64_t i = 0; i < walk->nelems; i++) {
		uint64_t table = entry_at(walk, walk->l1_off, i);

		if (!table)
			continue;
		walk->ntables++;
		if (claim(walk, used, table, walk->table_bytes, "a table",
			  i * reach))
			judge_table(walk, used, table, i * reach);
	}
	for (uint64_t c = 0; c < nclusters; c++)
		walk->nleaked += !used[c];
}

struct walk *walk_open(const char *path)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	uint8_t *used;

	if (!walk)
		abort();
	read_all(walk, path);
	if (!read_header(walk))
		return walk;
	used = calloc(1, walk->size / walk->cluster +
				 walk->header_bytes / walk->cluster + 1);
	if (!used)
		abort();
	judge(walk, used);
	free(used);
	return walk;
}

void walk_close(struct walk *walk)
{
	free(walk->file);
	free(walk);
}

uint64_t walk_table(const struct walk *walk, uint64_t disk_off)
{
	return entry_at(walk, walk->l1_off,
			disk_off / walk->cluster / walk->nelems);
}

uint64_t walk_entry(const struct walk *walk, uint64_t disk_off)
{
	uint64_t table = walk_table(walk, disk_off);

	if (!table)
		return 0;
	return entry_at(walk, table, disk_off / walk->cluster % walk->nelems);
}

bool walk_is_metadata(const struct walk *walk, uint64_t file_off)
{
	if (file_off < walk->header_bytes ||
	    file_off - walk->l1_off < walk->table_bytes)
		return true;
	for (uint64_t i = 0; i < walk->nelems; i++) {
		uint64_t table = entry_at(walk, walk->l1_off, i);

		if (table && file_off >= table &&
		    file_off - table < walk->table_bytes)
			return true;
	}
	return false;
}
