/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Do two images have the same disk?  One walk over both maps cuts the disk into
 * chunks that are alike in each; what is not data on either side is skipped.  The
 * chunks are read ahead side by side and judged in order.
 *
 * Thread model: the chunks' `pending` and `err` are under compare->lock, as reads
 * end on the engines' threads; all else belongs to the caller's thread.
 */
#include "config.h"

#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNKS      8u
#define CHUNK_BYTES (UINT64_C(1) << 20)

/* One of the two images, and the extent of it that was found last. */
struct side {
	struct qed_image *image;
	struct qed_map_extent extent;
	uint64_t end;			/* of extent, on the disk */
};

struct chunk;

struct part {
	struct chunk *chunk;
	uint8_t *buf;			/* CHUNK_BYTES */
	struct iovec iov;
	bool data;			/* otherwise zeroes */
	int err;			/* under lock */
};

struct chunk {
	struct compare *compare;
	uint64_t disk_off, len;
	struct part part[2];
	unsigned pending;		/* under lock */
};

struct compare {
	struct side side[2];
	uint64_t end;			/* of the longer disk */
	bool strict;
	struct qed_difference *difference;
	uint64_t pos;			/* of the next chunk */
	int map_err;			/* of the walk */
	bool stopped;			/* the walk has, before the end: by an
					 * error, or as kinds differ */
	unsigned first, n;		/* chunks under way: a ring */
	struct chunk chunk[CHUNKS];
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static int find_extent(struct compare *compare, unsigned i)
{
	struct side *side = &compare->side[i];
	uint64_t pos = compare->pos;
	int ret;

	if (pos < side->end)
		return 0;
	if (pos >= side->image->size) {
		side->extent.kind = QED_MAP_HOLE;
		side->end = compare->end;
		return 0;
	}
	ret = qed_map(side->image, pos, side->image->size - pos, &side->extent);
	if (ret < 0) {
		compare->difference->image = i;
		compare->difference->mapping = true;
		compare->difference->disk_off = pos;
		return ret;
	}
	side->end = pos + side->extent.len;
	return 0;
}

static void part_done(void *opaque, int64_t result)
{
	struct part *part = opaque;
	struct compare *compare = part->chunk->compare;

	pthread_mutex_lock(&compare->lock);
	if (result < 0)
		part->err = (int)result;
	if (--part->chunk->pending == 0)
		pthread_cond_signal(&compare->cond);
	pthread_mutex_unlock(&compare->lock);
}

static void start_part(struct compare *compare, struct chunk *chunk, unsigned i)
{
	struct part *part = &chunk->part[i];
	struct qed_image *image = compare->side[i].image;

	part->err = 0;
	part->data = compare->side[i].extent.kind == QED_MAP_DATA;
	if (!part->data) {
		memset(part->buf, 0, chunk->len);
		return;
	}
	part->iov = (struct iovec){ .iov_base = part->buf,
				    .iov_len = chunk->len };
	pthread_mutex_lock(&compare->lock);
	chunk->pending++;
	pthread_mutex_unlock(&compare->lock);
	qed_readv(image, &part->iov, 1, chunk->disk_off, part_done, part);
}

/* Reads the chunk at compare->pos, of which one side at least is data. */
static void start_chunk(struct compare *compare, uint64_t len)
{
	struct chunk *chunk =
		&compare->chunk[(compare->first + compare->n++) % CHUNKS];

	chunk->disk_off = compare->pos;
	chunk->len = qed_min(len, CHUNK_BYTES);
	start_part(compare, chunk, 0);
	start_part(compare, chunk, 1);
	compare->pos += chunk->len;
}

/* In strict mode the ends of the disks are alike, and kinds have to be. */
static bool kinds_differ(const struct compare *compare)
{
	return compare->strict && compare->side[0].extent.kind !=
					  compare->side[1].extent.kind;
}

/* Goes on until as many chunks are under way as may be, or there are no more. */
static void fill(struct compare *compare)
{
	while (!compare->stopped && compare->n < CHUNKS &&
	       compare->pos < compare->end) {
		uint64_t len;
		int ret = find_extent(compare, 0);

		if (ret == 0)
			ret = find_extent(compare, 1);
		if (ret < 0 || kinds_differ(compare)) {
			compare->map_err = ret;
			compare->stopped = true;
			return;
		}
		len = qed_min(compare->side[0].end, compare->side[1].end) -
		      compare->pos;
		if (compare->side[0].extent.kind != QED_MAP_DATA &&
		    compare->side[1].extent.kind != QED_MAP_DATA)
			compare->pos += len;
		else
			start_chunk(compare, len);
	}
}

static void wait_chunk(struct compare *compare, struct chunk *chunk)
{
	pthread_mutex_lock(&compare->lock);
	while (chunk->pending)
		pthread_cond_wait(&compare->cond, &compare->lock);
	pthread_mutex_unlock(&compare->lock);
}

/* The first sector that differs. */
static uint64_t first_difference(const struct chunk *chunk)
{
	uint64_t at = 0;

	while (memcmp(chunk->part[0].buf + at, chunk->part[1].buf + at,
		      qed_min(QED_SECTOR, chunk->len - at)) == 0)
		at += QED_SECTOR;
	return chunk->disk_off + at;
}

/* Judges the oldest chunk: 0 if it is alike, 1 if not, or -errno. */
static int judge(struct compare *compare)
{
	struct chunk *chunk = &compare->chunk[compare->first];
	struct qed_difference *difference = compare->difference;

	wait_chunk(compare, chunk);
	compare->first = (compare->first + 1) % CHUNKS;
	compare->n--;
	for (unsigned i = 0; i < 2; i++) {
		if (chunk->part[i].err == 0)
			continue;
		difference->image = i;
		difference->mapping = false;
		difference->disk_off = chunk->disk_off;
		return chunk->part[i].err;
	}
	if (memcmp(chunk->part[0].buf, chunk->part[1].buf, chunk->len) == 0)
		return 0;
	difference->kind = QED_DIFFERENT_BYTES;
	difference->disk_off = first_difference(chunk);
	return 1;
}

static int run(struct compare *compare)
{
	int ret = 0;

	for (fill(compare); ret == 0 && compare->n; fill(compare))
		ret = judge(compare);
	/* No buffer goes before its reads have ended. */
	for (; compare->n; compare->n--) {
		wait_chunk(compare, &compare->chunk[compare->first]);
		compare->first = (compare->first + 1) % CHUNKS;
	}
	if (ret || !compare->stopped)
		return ret < 0 ? ret : 0;
	if (compare->map_err == 0) {
		compare->difference->kind = QED_DIFFERENT_KINDS;
		compare->difference->disk_off = compare->pos;
	}
	return compare->map_err;
}

static int run_with_buffers(struct compare *compare)
{
	uint8_t *bufs = malloc(CHUNKS * 2 * CHUNK_BYTES);
	int ret;

	if (!bufs)
		return -ENOMEM;
	for (unsigned i = 0; i < CHUNKS * 2; i++) {
		struct chunk *chunk = &compare->chunk[i / 2];

		chunk->compare = compare;
		chunk->part[i % 2].chunk = chunk;
		chunk->part[i % 2].buf = bufs + i * CHUNK_BYTES;
	}
	pthread_mutex_init(&compare->lock, NULL);
	pthread_cond_init(&compare->cond, NULL);
	ret = run(compare);
	pthread_cond_destroy(&compare->cond);
	pthread_mutex_destroy(&compare->lock);
	free(bufs);
	return ret;
}

int qed_compare(struct qed_image *image1, struct qed_image *image2, bool strict,
		struct qed_difference *difference)
{
	struct compare compare = { .side = { { .image = image1 },
					     { .image = image2 } },
				   .end = qed_max(image1->size, image2->size),
				   .strict = strict,
				   .difference = difference };

	*difference = (struct qed_difference){ .kind = QED_SAME };
	if (strict && image1->size != image2->size) {
		difference->kind = QED_DIFFERENT_SIZES;
		return 0;
	}
	return run_with_buffers(&compare);
}
