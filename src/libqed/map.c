/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What each range of the disk is and which layer says so.  It blocks: nothing
 * here is on a request's way.
 *
 * Thread model: the waiter is woken on an engine's thread, under the walk's own
 * lock; all else belongs to the caller's thread.
 */
#include "config.h"

#include "request.h"
#include "source.h"

#include <errno.h>

struct walk {
	struct qed_waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool woken;	/* under lock */
	int err;	/* under lock */
};

static void walk_woken(struct qed_waiter *waiter, int err)
{
	struct walk *walk = qed_container_of(waiter, struct walk, waiter);

	pthread_mutex_lock(&walk->lock);
	walk->woken = true;
	walk->err = err;
	pthread_cond_signal(&walk->cond);
	pthread_mutex_unlock(&walk->lock);
}

static int walk_wait(struct walk *walk)
{
	int err;

	pthread_mutex_lock(&walk->lock);
	while (!walk->woken)
		pthread_cond_wait(&walk->cond, &walk->lock);
	walk->woken = false;
	err = walk->err;
	pthread_mutex_unlock(&walk->lock);
	return err;
}

/* The next extent of one layer, read from its table if need be. */
static int look_up(struct walk *walk, struct qed_layer *layer, uint64_t off,
		   uint64_t len, struct qed_extent *extent)
{
	int ret;

	while ((ret = qed_cluster_lookup(layer, off, len, &walk->waiter,
					 extent)) == QED_PENDING) {
		ret = walk_wait(walk);
		if (ret < 0)
			return ret;
	}
	return ret;
}

/* Whole sectors: what a raw file lacks of its last one is a hole of it. */
static uint64_t disk_end(const struct qed_layer *layer)
{
	return qed_round_up(layer->size, QED_SECTOR);
}

static void map_raw(struct qed_layer *layer, uint64_t off, uint64_t len,
		    struct qed_map_extent *extent)
{
	struct qed_source from = { .file = layer->source.file,
				   .file_off = off,
				   .len = len,
				   .raw = true };

	extent->kind = qed_source_has_data(&from) ? QED_MAP_DATA : QED_MAP_ZERO;
	extent->placed = true;
	extent->file_off = off;
	extent->len = from.len;
}

static int map_qed(struct walk *walk, struct qed_layer *layer, uint64_t off,
		   uint64_t len, struct qed_map_extent *extent)
{
	struct qed_extent found;
	int ret = look_up(walk, layer, off, len, &found);

	if (ret < 0)
		return ret;
	extent->len = found.len;
	extent->placed = found.kind == QED_EXTENT_DATA;
	extent->file_off = extent->placed ? found.file_off : 0;
	extent->kind = found.kind == QED_EXTENT_DATA ? QED_MAP_DATA :
		       found.kind == QED_EXTENT_ZERO ? QED_MAP_ZERO :
						       QED_MAP_HOLE;
	return 0;
}

/* One look down the chain: at most `len` bytes, which lie inside the disk. */
static int map_once(struct walk *walk, const struct qed_chain *chain,
		    uint64_t off, uint64_t len, struct qed_map_extent *extent)
{
	unsigned i = 0;
	int ret;

	for (;;) {
		struct qed_layer *layer = chain->layers[i];
		uint64_t below;

		extent->depth = i++;
		if (layer->raw) {
			map_raw(layer, off, len, extent);
			return 0;
		}
		ret = map_qed(walk, layer, off, len, extent);
		if (ret < 0 || extent->kind != QED_MAP_HOLE || i == chain->n)
			return ret;
		/* What lies past the next one's end is zeroes from here. */
		below = disk_end(chain->layers[i]);
		if (off >= below)
			return 0;
		len = qed_min(extent->len, below - off);
	}
}

static bool goes_on(const struct qed_map_extent *extent,
		    const struct qed_map_extent *next)
{
	return next->kind == extent->kind && next->depth == extent->depth &&
	       next->placed == extent->placed &&
	       (!next->placed ||
		next->file_off == extent->file_off + extent->len);
}

static int map_merged(struct walk *walk, const struct qed_chain *chain,
		      uint64_t off, uint64_t len, struct qed_map_extent *extent)
{
	int ret = map_once(walk, chain, off, len, extent);

	while (ret == 0 && extent->len < len) {
		struct qed_map_extent next;

		/* An error concerns whoever asks for what follows. */
		if (map_once(walk, chain, off + extent->len, len - extent->len,
			     &next) < 0 || !goes_on(extent, &next))
			break;
		extent->len += next.len;
	}
	return ret;
}

int qed_map(struct qed_image *image, uint64_t offset, uint64_t len,
	    struct qed_map_extent *extent)
{
	struct walk walk = { .waiter.wake = walk_woken };
	int ret;

	if (offset >= image->size || len == 0)
		return -ENXIO;
	len = qed_min(len, image->size - offset);
	pthread_mutex_init(&walk.lock, NULL);
	pthread_cond_init(&walk.cond, NULL);
	ret = map_merged(&walk, &image->chain, offset, len, extent);
	if (ret < 0)
		qed_note_failed(image, extent->depth);
	pthread_cond_destroy(&walk.cond);
	pthread_mutex_destroy(&walk.lock);
	return ret;
}
