/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The walk down a chain: a loop, so that depth costs no C stack. */
#include "config.h"

#include "probe.h"
#include "source.h"

#include <errno.h>
#include <unistd.h>

static struct qed_source data_at(const struct qed_layer *layer,
				 uint64_t file_off, uint64_t len)
{
	return (struct qed_source){ .file = layer->source.file,
				    .file_off = file_off,
				    .len = len,
				    .raw = layer->raw };
}

/* Adds a hit to *hits unless it has been counted. */
static int look_up(struct qed_layer *layer, uint64_t off, uint64_t len,
		   struct qed_waiter *waiter, struct qed_extent *extent,
		   unsigned *hits)
{
	if (waiter)
		return qed_cluster_lookup(layer, off, len, waiter, extent);
	if (!qed_cluster_peek(layer, off, len, extent))
		return -EAGAIN;
	QED_PROBE2(l2_hit, layer->source.id, off);
	++*hits;
	return 0;
}

static int walk(struct qed_image *image, uint64_t off, unsigned *layer,
		uint64_t *span, struct qed_waiter *waiter,
		struct qed_source *from, unsigned *hits)
{
	for (; *layer < image->chain.n; ++*layer) {
		struct qed_layer *l = image->chain.layers[*layer];
		struct qed_extent extent;
		int ret;

		/* What lies past a layer's end is zeroes, not below it. */
		if (off >= l->size)
			break;
		*span = qed_min(*span, l->size - off);
		if (l->raw) {
			*from = data_at(l, off, *span);
			return 0;
		}
		ret = look_up(l, off, *span, waiter, &extent, hits);
		if (ret)
			return ret;
		*span = qed_min(*span, extent.len);
		if (extent.kind == QED_EXTENT_DATA) {
			*from = data_at(l, extent.file_off, *span);
			return 0;
		}
		if (extent.kind == QED_EXTENT_ZERO)
			break;
	}
	*from = (struct qed_source){ .len = *span };
	return 0;
}

int qed_source_find(struct qed_image *image, uint64_t off, unsigned *layer,
		    uint64_t *span, struct qed_waiter *waiter,
		    struct qed_source *from)
{
	unsigned hits = 0;
	int ret = walk(image, off, layer, span, waiter, from, &hits);

	/* At once for all layers: a chain may be deep. */
	if (hits)
		qed_count(&image->counters, QED_COUNT_L2_HITS, hits);
	return ret;
}

bool qed_source_has_data(struct qed_source *from)
{
	int fd = from->file->fd;
	off_t off = (off_t)from->file_off;
	off_t data, end;

	if (!from->raw)
		return true;
	data = lseek(fd, off, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		return true;	/* it does not know: all is data */
	if (data != off) {
		if (data > off)
			from->len = qed_min(from->len, (uint64_t)(data - off));
		return false;
	}
	end = lseek(fd, off, SEEK_HOLE);
	if (end > off)
		from->len = qed_min(from->len, (uint64_t)(end - off));
	return true;
}
