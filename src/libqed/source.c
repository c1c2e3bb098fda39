/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The walk down a chain: a loop, so that depth costs no C stack. */
#include "config.h"

#include "source.h"

#include <errno.h>

static struct qed_source data_at(const struct qed_layer *layer,
				 uint64_t file_off, uint64_t len)
{
	return (struct qed_source){ .file = layer->source.file,
				    .file_off = file_off,
				    .len = len,
				    .raw = layer->raw };
}

static int look_up(struct qed_layer *layer, uint64_t off, uint64_t len,
		   struct qed_waiter *waiter, struct qed_extent *extent)
{
	if (qed_cluster_peek(layer, off, len, extent))
		return 0;
	return waiter ? qed_cluster_lookup(layer, off, len, waiter, extent) :
			-EAGAIN;
}

int qed_source_find(struct qed_image *image, uint64_t off, unsigned *layer,
		    uint64_t *span, struct qed_waiter *waiter,
		    struct qed_source *from)
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
		ret = look_up(l, off, *span, waiter, &extent);
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
