/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the guest sees of a file, and whether it may. */
#include "config.h"

#include "../lib/plain-engine.h"
#include "frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR UINT64_C(512)

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	if (level == QED_LOG_ERROR)
		snprintf(opaque, 300, "%s", message);
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = strlen(suffix);

	return n >= m && !strcmp(name + n - m, suffix);
}

/* What cannot be read together is read by clusters; those are bad or not. */
static bool read_disk(struct disk *disk, struct qed_image *image,
		      uint64_t cluster)
{
	if (qed_pread(image, disk->bytes, disk->size, 0) ==
	    (int64_t)disk->size)
		return true;
	for (uint64_t at = 0; at < disk->size; at += cluster) {
		uint64_t len = qed_min(cluster, disk->size - at);
		int64_t n = qed_pread(image, disk->bytes + at, len, at);

		if (n == (int64_t)len)
			continue;
		if (n != -EUCLEAN)
			return false;
		memset(disk->bytes + at, 0, len);
		memset(disk->bad + at / SECTOR, 1, (len + 511) / SECTOR);
	}
	return true;
}

/*
 * The memory of the disk that was freed last: sanitizers take long to get some.  It is
 * for disks of that size only, or they would not see what goes past an end.
 */
static struct disk spare;

static void free_memory(struct disk *disk)
{
	free(disk->bytes);
	free(disk->bad);
	memset(disk, 0, sizeof(*disk));
}

static void get_memory(struct disk *disk, uint64_t size)
{
	if (spare.room != size + 1) {
		free_memory(&spare);
		spare.room = size + 1;
		spare.bytes = malloc(size + 1);
		spare.bad = malloc(size / SECTOR + 1);
	}
	if (!spare.bytes || !spare.bad)
		die("disk");
	*disk = spare;
	memset(&spare, 0, sizeof(spare));
	disk->size = size;
	/* Not the disk that it held before. */
	memset(disk->bytes, 0xa5, size + 1);
	memset(disk->bad, 0, size / SECTOR + 1);
}

bool disk_read(struct disk *disk, const char *path, bool writable,
	       char message[700])
{
	struct qed_open_options options;
	struct qed_image_info info;
	struct qed_image *image;
	char log[300] = "";
	bool ok;

	qed_open_options_init(&options);
	options.commit_seconds = 0;
	options.log = (struct qed_log){ hear, log };
	if (ends_in(path, ".raw"))
		options.flags = QED_OPEN_RAW;
	else if (writable)
		options.flags = QED_OPEN_RDWR;
	if (plain_open(path, &options, &image) < 0)
		return wrong(message, "cannot be opened: %s", log);
	qed_image_get_info(image, &info);
	get_memory(disk, info.virtual_size);
	ok = read_disk(disk, image, info.cluster_size ? info.cluster_size :
							4096);
	if (qed_image_close(image) < 0 || !ok)
		return wrong(message, "%s cannot be read: %s", path, log);
	return true;
}

void disk_free(struct disk *disk)
{
	if (!disk->bytes)
		return;
	free_memory(&spare);
	spare = *disk;
	memset(disk, 0, sizeof(*disk));
}

/* One sector of a disk, zero past its end; null if it is bad. */
static const uint8_t *sector(const struct disk *disk, uint64_t i,
			     uint8_t buf[SECTOR])
{
	uint64_t at = i * SECTOR;

	memset(buf, 0, SECTOR);
	if (at < disk->size)
		memcpy(buf, disk->bytes + at,
		       qed_min(SECTOR, disk->size - at));
	return at < disk->size && disk->bad[i] ? NULL : buf;
}

static bool sector_same(const struct disk *a, const struct disk *b, uint64_t i)
{
	uint8_t abuf[SECTOR], bbuf[SECTOR];
	const uint8_t *x = sector(a, i, abuf), *y = sector(b, i, bbuf);

	return x && y ? !memcmp(x, y, SECTOR) : !x && !y;
}

static bool was_bad(const struct disk *before, uint64_t i)
{
	return before && i * SECTOR < before->size && before->bad[i];
}

/* The first sector that differs and was not bad before, or UINT64_MAX. */
static uint64_t difference(const struct disk *a, const struct disk *b,
			   const struct disk *before)
{
	uint64_t n = (qed_max(a->size, b->size) + SECTOR - 1) / SECTOR;

	if (a->size == b->size && !memcmp(a->bytes, b->bytes, a->size) &&
	    !memcmp(a->bad, b->bad, n))
		return UINT64_MAX;
	for (uint64_t i = 0; i < n; i++)
		if (!sector_same(a, b, i) && !was_bad(before, i))
			return i;
	return UINT64_MAX;
}

bool disk_same(const struct disk *a, const struct disk *b,
	       const struct disk *before, char message[700])
{
	uint64_t at = difference(a, b, before);

	if (a->size != b->size)
		return wrong(message, "its size is %" PRIu64 ", not %" PRIu64,
			     a->size, b->size);
	return at == UINT64_MAX ||
	       wrong(message, "the sector at %" PRIu64 " is another%s",
		     at * SECTOR, a->bad[at] ? ", unreadable" : "");
}

static bool either(const struct disk *now, const struct disk *before,
		   const struct disk *after, char message[700])
{
	uint64_t n = (now->size + SECTOR - 1) / SECTOR;

	if (now->size != before->size && now->size != after->size)
		return wrong(message, "its size is %" PRIu64, now->size);
	for (uint64_t i = 0; i < n; i++)
		if (!sector_same(now, before, i) &&
		    !sector_same(now, after, i) && !was_bad(before, i))
			return wrong(message, "the sector at %" PRIu64
				     " is neither old nor new", i * SECTOR);
	return true;
}

bool disk_allowed(const struct disk *now, const struct disk *before,
		  const struct disk *after, enum job_rule rule,
		  char message[700])
{
	if (difference(now, before, NULL) == UINT64_MAX &&
	    now->size == before->size)
		return true;
	switch (rule) {
	case JOB_UNCHANGED:
		return disk_same(now, before, NULL, message);
	case JOB_WHOLE:
		return disk_same(now, after, before, message);
	case JOB_EITHER:
		break;
	}
	return either(now, before, after, message);
}
