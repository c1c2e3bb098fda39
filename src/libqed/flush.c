/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Flush requests: a waiter of the metadata writer. */
#include "config.h"

#include "request.h"

#include <errno.h>
#include <stdlib.h>

struct flush {
	struct qed_waiter waiter;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

static void flush_woken(struct qed_waiter *waiter, int err)
{
	struct flush *flush = qed_container_of(waiter, struct flush, waiter);
	void (*done)(void *, int64_t) = flush->done;
	void *opaque = flush->opaque;

	free(flush);
	done(opaque, err);
}

void qed_flush(struct qed_image *image,
	       void (*done)(void *opaque, int64_t result), void *opaque)
{
	struct flush *flush;
	int ret;

	if (!image->writable) {
		done(opaque, 0);
		return;
	}
	flush = malloc(sizeof(*flush));
	if (!flush) {
		done(opaque, -ENOMEM);
		return;
	}
	*flush = (struct flush){ .waiter.wake = flush_woken,
				 .done = done,
				 .opaque = opaque };
	ret = qed_meta_flush(image->meta, &flush->waiter);
	if (ret != QED_PENDING)
		flush_woken(&flush->waiter, ret);
}
