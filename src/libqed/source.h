/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where in a chain the bytes of the virtual disk come from. */
#ifndef QED_SOURCE_H
#define QED_SOURCE_H

#include "image.h"

struct qed_source {
	struct qed_file *file;		/* null: zeroes */
	uint64_t file_off;
	uint64_t len;
	bool raw;			/* a raw file, which may have holes */
};

/*
 * Finds the source of the bytes at disk offset `off`, going down from *layer;
 * at most *span bytes.  0, -errno, or QED_PENDING: `waiter` is woken and calls
 * again with *layer and *span as they were left, which keep the place.  With a
 * null `waiter` it goes only as far as memory knows, and says -EAGAIN instead.
 */
int qed_source_find(struct qed_image *image, uint64_t off, unsigned *layer,
		    uint64_t *span, struct qed_waiter *waiter,
		    struct qed_source *from);

/*
 * As far as memory knows, from the top down, without counting: whoever goes by
 * the answer does, by asking again.
 */
int qed_source_peek(struct qed_image *image, uint64_t off, uint64_t *span,
		    struct qed_source *from);

/*
 * Of a source with a file: data, or a hole of a raw file, which knows its own?
 * Shortens it to what is alike.  It asks the host, which may take a moment.
 */
bool qed_source_has_data(struct qed_source *from);

#endif
