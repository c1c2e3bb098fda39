/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "origin.h"

#include <errno.h>
#include <string.h>

int qed_origin_init(struct qed_origin *origin, struct qed_image *const *images,
		    unsigned n, uint64_t skip, uint64_t len)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < n; i++)
		if (!qed_add(total, images[i]->size, &total) ||
		    total > (uint64_t)INT64_MAX - QED_SECTOR)
			return -EFBIG;
	skip = qed_min(skip, total);
	len = qed_min(len, total - skip);
	*origin = (struct qed_origin){ .images = images,
				       .n = n,
				       .skip = skip,
				       .bytes = len,
				       .size = qed_round_up(len, QED_SECTOR) };
	return 0;
}

struct qed_image *qed_origin_at(const struct qed_origin *origin, uint64_t pos,
				uint64_t *disk_off)
{
	uint64_t off = origin->skip + pos;
	unsigned i = 0;

	while (i + 1 < origin->n && off >= origin->images[i]->size)
		off -= origin->images[i++]->size;
	*disk_off = off;
	return origin->images[i];
}

int qed_origin_map(const struct qed_origin *origin, uint64_t pos, uint64_t len,
		   struct qed_map_extent *extent, struct qed_file **file)
{
	struct qed_image *image;
	uint64_t off;
	int ret;

	*file = NULL;
	if (pos >= origin->bytes) {
		*extent = (struct qed_map_extent){ .kind = QED_MAP_HOLE,
						   .len = len };
		return 0;
	}
	image = qed_origin_at(origin, pos, &off);
	ret = qed_map(image, off, qed_min(len, origin->bytes - pos), extent);
	if (ret == 0 && extent->placed)
		*file = image->chain.layers[extent->depth]->source.file;
	return ret;
}

int qed_origin_read(const struct qed_origin *origin, void *buf, uint64_t len,
		    uint64_t pos)
{
	uint8_t *p = buf;

	while (len > 0 && pos < origin->bytes) {
		uint64_t off;
		struct qed_image *image = qed_origin_at(origin, pos, &off);
		int64_t n = qed_pread(image, p,
				      qed_min(len, origin->bytes - pos), off);

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;	/* not inside the disk */
		p += n;
		pos += (uint64_t)n;
		len -= (uint64_t)n;
	}
	memset(p, 0, len);
	return 0;
}
