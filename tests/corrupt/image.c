/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image in memory. */
#include "config.h"

#include "corrupt.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NDATA 12
#define SPARE 24			/* clusters of memory past the end */

uint64_t image_get(const struct image *image, uint64_t off)
{
	uint64_t value;

	memcpy(&value, image->bytes + off, sizeof(value));
	return le64toh(value);
}

void image_put(struct image *image, uint64_t off, uint64_t value)
{
	value = htole64(value);
	memcpy(image->bytes + off, &value, sizeof(value));
}

static void put32(struct image *image, uint64_t off, uint64_t value)
{
	uint32_t v = htole32((uint32_t)value);

	memcpy(image->bytes + off, &v, sizeof(v));
}

static uint64_t get32(const struct image *image, uint64_t off)
{
	uint32_t v;

	memcpy(&v, image->bytes + off, sizeof(v));
	return le32toh(v);
}

static void derive(struct image *image)
{
	image->table_bytes = image->g.table * image->g.cluster;
	image->nelems = image->table_bytes / 8;
	image->span = image->nelems * image->g.cluster;
}

static void *must(void *memory)
{
	if (!memory)
		die("memory");
	return memory;
}

static void put_header(struct image *image, bool backing)
{
	static const char name[] = "base.raw";

	memcpy(image->bytes, "QED", 4);
	put32(image, 4, image->g.cluster);
	put32(image, 8, image->g.table);
	put32(image, 12, image->g.header);
	image_put(image, 40, image->l1);
	image_put(image, 48, image->disk_size);
	if (!backing)
		return;
	image_put(image, 16, 1 | 4);
	put32(image, 56, 100);
	put32(image, 60, sizeof(name) - 1);
	memcpy(image->bytes + 100, name, sizeof(name) - 1);
}

/* No two words of all the data are alike, and none is an entry that is right. */
static void fill(struct image *image, uint64_t off)
{
	for (uint64_t i = 0; i < image->g.cluster; i += 8)
		image_put(image, off + i, (off + i) << 8 | 0xa1);
}

static void put_data(struct image *image)
{
	uint64_t last = image->nelems - 1, c = image->g.cluster;
	const uint64_t entries[NDATA] = {
		image->t[0], image->t[0] + 8, image->t[0] + 5 * 8,
		image->t[0] + 6 * 8, image->t[0] + last * 8,
		image->t[1], image->t[1] + 7 * 8, image->t[1] + last * 8,
		image->t[2], image->t[2] + 2 * 8, image->t[2] + 4 * 8,
		image->t[0] + 9 * 8,
	};

	for (unsigned i = 0; i < NDATA; i++) {
		image_put(image, entries[i], image->data + i * c);
		fill(image, image->data + i * c);
	}
	image_put(image, image->t[0] + 10 * 8, 1);
	image_put(image, image->t[1] + 8, 1);
}

struct image *image_create(const struct geometry *g, bool backing)
{
	struct image *image = must(calloc(1, sizeof(*image)));
	uint64_t at = g->header + (g->apart ? 3 * g->table : 0);

	image->g = *g;
	derive(image);
	image->l1 = at * g->cluster;
	for (unsigned i = 0; i < 3; i++) {
		at = g->apart ? g->header + i * g->table : at + g->table;
		image->t[i] = at * g->cluster;
	}
	image->data = (g->header + 4 * g->table) * g->cluster;
	image->size = image->data + NDATA * g->cluster;
	image->room = image->size + SPARE * g->cluster;
	image->bytes = must(calloc(1, image->room));
	/* The last cluster is the fifth of the third table, for three sectors. */
	image->disk_size = 2 * image->span + 4 * g->cluster + 1536;
	put_header(image, backing);
	for (unsigned i = 0; i < 3; i++)
		image_put(image, image->l1 + i * 8, image->t[i]);
	put_data(image);
	return image;
}

struct image *image_copy(const struct image *image)
{
	struct image *copy = must(malloc(sizeof(*copy)));

	*copy = *image;
	copy->bytes = must(malloc(image->room));
	memcpy(copy->bytes, image->bytes, image->room);
	return copy;
}

void image_free(struct image *image)
{
	if (image)
		free(image->bytes);
	free(image);
}

struct image *image_read(const char *path)
{
	struct image *image = must(calloc(1, sizeof(*image)));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	image->size = (uint64_t)st.st_size;
	image->room = image->size + 1;
	image->bytes = must(calloc(1, image->room));
	if (pread(fd, image->bytes, image->size, 0) != (ssize_t)image->size)
		die(path);
	close(fd);
	image->g.cluster = get32(image, 4);
	image->g.table = get32(image, 8);
	image->g.header = get32(image, 12);
	image->l1 = image_get(image, 40);
	image->disk_size = image_get(image, 48);
	derive(image);
	return image;
}

void image_write(const struct image *image, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, image->bytes, image->size) !=
			      (ssize_t)image->size)
		die(path);
	close(fd);
}

void image_resize(struct image *image, uint64_t size)
{
	if (size > image->room)
		die("no room");
	if (size > image->size)
		memset(image->bytes + image->size, 0x77, size - image->size);
	else
		memset(image->bytes + size, 0, image->size - size);
	image->size = size;
}

uint64_t image_end(const struct image *image)
{
	return image->size / image->g.cluster * image->g.cluster;
}

enum kind image_judge(const struct image *image, uint64_t entry, uint64_t len)
{
	uint64_t end = image_end(image), l1_end = image->l1 + image->table_bytes;

	if (entry % 4096)
		return RESERVED_BITS;
	if (entry % image->g.cluster)
		return UNALIGNED;
	if (entry < image->g.header * image->g.cluster)
		return IN_HEADER;
	if (entry >= end || end - entry < len)
		return PAST_END;
	if (entry < l1_end && entry + len > image->l1)
		return IN_L1_TABLE;
	return GOOD;
}

/* The last cluster of a file that ends inside it can be kept. */
static bool is_cut(const struct image *image, uint64_t entry)
{
	return entry == image_end(image) && image->size > entry;
}

enum held image_held(const struct image *image, uint64_t l1_index,
		     uint64_t l2_index, uint64_t *file_off)
{
	uint64_t table = image_get(image, image->l1 + l1_index * 8), entry;

	if (!table)
		return UNALLOCATED;
	if (image_judge(image, table, image->table_bytes) != GOOD)
		return BAD;
	entry = image_get(image, table + l2_index * 8);
	if (entry <= 1)
		return entry ? ZERO : UNALLOCATED;
	*file_off = entry;
	if (image_judge(image, entry, image->g.cluster) == GOOD ||
	    is_cut(image, entry))
		return DATA;
	return BAD;
}

void image_data(const struct image *image, uint64_t file_off, uint8_t *buf)
{
	uint64_t n = image->g.cluster;

	memset(buf, 0, n);
	if (image->size - file_off < n)
		n = image->size - file_off;
	memcpy(buf, image->bytes + file_off, n);
}
