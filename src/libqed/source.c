/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The walk down a chain: a loop, so that depth costs no C stack. */
#include "config.h"

#include "probe.h"
#include "source.h"

#include <errno.h>
#include <unistd.h>

/* Beside QED_PENDING: the next layer knows. */
#define GO_DOWN (QED_PENDING + 1)

static struct qed_source data_at(const struct qed_layer *layer,
				 uint64_t file_off, uint64_t len)
{
	return (struct qed_source){ .file = layer->source.file,
				    .file_off = file_off,
				    .len = len,
				    .raw = layer->raw };
}

/* Adds a hit to *hits unless it has been counted, or nobody counts. */
static int look_up(struct qed_layer *layer, uint64_t off, uint64_t len,
		   struct qed_waiter *waiter, struct qed_extent *extent,
		   unsigned *hits)
{
	if (waiter)
		return qed_cluster_lookup(layer, off, len, waiter, extent);
	if (!qed_cluster_peek(layer, off, len, extent))
		return -EAGAIN;
	if (hits) {
		QED_PROBE2(l2_hit, layer->source.id, off);
		++*hits;
	}
	return 0;
}

/*
 * Asks one layer: 0 with *from, or GO_DOWN with *layer at the next, or as
 * qed_source_find().  `hits` counts tables that were in memory, or is null.
 */
static int walk_one(struct qed_image *image, uint64_t off, unsigned *layer,
		    uint64_t *span, struct qed_waiter *waiter,
		    struct qed_source *from, unsigned *hits)
{
	struct qed_layer *l = image->chain.layers[*layer];
	struct qed_extent extent = { .kind = QED_EXTENT_ZERO };
	int ret;

	/* What lies past a layer's end is zeroes, not below it. */
	if (off < l->size) {
		*span = qed_min(*span, l->size - off);
		if (l->raw) {
			*from = data_at(l, off, *span);
			return 0;
		}
		ret = look_up(l, off, *span, waiter, &extent, hits);
		if (ret)
			return ret;
		*span = qed_min(*span, extent.len);
	}
	if (extent.kind == QED_EXTENT_DATA) {
		*from = data_at(l, extent.file_off, *span);
		return 0;
	}
	if (extent.kind == QED_EXTENT_UNALLOCATED &&
	    ++*layer < image->chain.n)
		return GO_DOWN;
	*from = (struct qed_source){ .len = *span };
	return 0;
}

static int walk(struct qed_image *image, uint64_t off, unsigned *layer,
		uint64_t *span, struct qed_waiter *waiter,
		struct qed_source *from, unsigned *hits)
{
	int ret;

	if (*layer == image->chain.n) {
		*from = (struct qed_source){ .len = *span };
		return 0;
	}
	do {
		ret = walk_one(image, off, layer, span, waiter, from, hits);
	} while (ret == GO_DOWN);
	return ret;
}

/* Finds out, from memory, what is in all of a piece, if it is one thing. */
static bool learn(struct qed_image *image, uint64_t piece,
		  struct qed_hint *hint, unsigned *hits)
{
	struct qed_hints *hints = &image->chain.hints;
	uint64_t len = UINT64_C(1) << hints->shift, span = len;
	struct qed_source from;

	hint->layer = 1;
	if (walk(image, piece << hints->shift, &hint->layer, &span, NULL,
		 &from, hits) || from.len < len)
		return false;
	hint->zero = !from.file;
	hint->file_off = from.file ? from.file_off : 0;
	qed_hints_put(hints, piece, hint);
	return true;
}

/* Answers a small request below the top image by a hint. */
static bool by_hint(struct qed_image *image, uint64_t off, unsigned *layer,
		    const uint64_t *span, struct qed_source *from,
		    unsigned *hits)
{
	const struct qed_hints *hints = &image->chain.hints;
	uint64_t piece = off >> hints->shift;
	uint64_t in = off - (piece << hints->shift);
	struct qed_hint hint;

	if (!hints->slots || *layer != 1 ||
	    *span > (UINT64_C(1) << hints->shift) - in)
		return false;
	if (!qed_hints_get(hints, piece, &hint) &&
	    !learn(image, piece, &hint, hits))
		return false;
	*layer = hint.layer;
	if (hint.zero)
		*from = (struct qed_source){ .len = *span };
	else
		*from = data_at(image->chain.layers[hint.layer],
				hint.file_off + in, *span);
	return true;
}

static int find(struct qed_image *image, uint64_t off, unsigned *layer,
		uint64_t *span, struct qed_waiter *waiter,
		struct qed_source *from, unsigned *hits)
{
	if (*layer == 0) {
		int ret = walk_one(image, off, layer, span, waiter, from, hits);

		if (ret != GO_DOWN)
			return ret;
	}
	if (by_hint(image, off, layer, span, from, hits))
		return 0;
	return walk(image, off, layer, span, waiter, from, hits);
}

int qed_source_find(struct qed_image *image, uint64_t off, unsigned *layer,
		    uint64_t *span, struct qed_waiter *waiter,
		    struct qed_source *from)
{
	unsigned hits = 0;
	int ret = find(image, off, layer, span, waiter, from, &hits);

	/* At once for all layers: a chain may be deep. */
	if (hits)
		qed_count(&image->counters, QED_COUNT_L2_HITS, hits);
	return ret;
}

int qed_source_peek(struct qed_image *image, uint64_t off, uint64_t *span,
		    struct qed_source *from)
{
	unsigned layer = 0;

	return find(image, off, &layer, span, NULL, from, NULL);
}

/* Asks the host what is at an offset of a file, and how far that goes. */
static void find_part(const struct qed_file *file, uint64_t file_off,
		      struct qed_file_part *part)
{
	off_t off = (off_t)file_off, data, end;

	*part = (struct qed_file_part){ .start = file_off,
					.end = UINT64_MAX,
					.data = true };
	data = lseek(file->fd, off, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return;		/* it does not know: all is data */
	if (data != off) {
		part->data = false;
		if (data > off)
			part->end = (uint64_t)data;
		return;
	}
	end = lseek(file->fd, off, SEEK_HOLE);
	if (end > off)
		part->end = (uint64_t)end;
}

/*
 * On some file systems this takes the host a while in a large file, and pieces
 * of it are asked for one after the other: the last answer is kept, unless we
 * write it.
 */
static void get_part(struct qed_file *file, uint64_t file_off,
		     struct qed_file_part *part)
{
	pthread_mutex_lock(&file->part_lock);
	if (file->writable || file_off < file->part.start ||
	    file_off >= file->part.end)
		find_part(file, file_off, &file->part);
	*part = file->part;
	pthread_mutex_unlock(&file->part_lock);
}

bool qed_source_has_data(struct qed_source *from)
{
	struct qed_file_part part;

	if (!from->raw)
		return true;
	get_part(from->file, from->file_off, &part);
	from->len = qed_min(from->len, part.end - from->file_off);
	return part.data;
}
