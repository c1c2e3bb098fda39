/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a copy is made of: a window on the disks of open images, one after the
 * other, in whole sectors.  Past the window's end it reads as zeroes.
 */
#ifndef QED_ORIGIN_H
#define QED_ORIGIN_H

#include "image.h"

struct qed_origin {
	struct qed_image *const *images;	/* the caller's */
	unsigned n;
	uint64_t skip;			/* bytes of the disks before the window */
	uint64_t bytes;			/* of the window */
	uint64_t size;			/* the same in whole sectors */
};

/*
 * `skip` and `len` are cut to what there is.  0, or -EFBIG if the disks
 * together are longer than any file.
 */
int qed_origin_init(struct qed_origin *origin, struct qed_image *const *images,
		    unsigned n, uint64_t skip, uint64_t len);

/*
 * As qed_map(), at `pos` in the window; *file is the file that an extent with a
 * place has it in, else null.
 */
int qed_origin_map(const struct qed_origin *origin, uint64_t pos, uint64_t len,
		   struct qed_map_extent *extent, struct qed_file **file);

/* Reads, also past the end: 0 or -errno. */
int qed_origin_read(const struct qed_origin *origin, void *buf, uint64_t len,
		    uint64_t pos);

/* The image at `pos`, the last one past the end, and where in its disk that is. */
struct qed_image *qed_origin_at(const struct qed_origin *origin, uint64_t pos,
				uint64_t *disk_off);

#endif
