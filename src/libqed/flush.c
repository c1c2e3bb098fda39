/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Flush requests: a waiter of the metadata writer. */
#include "config.h"

#include "probe.h"
#include "request.h"

#include <errno.h>

struct flush {
	struct qed_waiter waiter;
	struct qed_image *image;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

static void flush_woken(struct qed_waiter *waiter, int err)
{
	struct flush *flush = qed_container_of(waiter, struct flush, waiter);
	struct flush over = *flush;

	qed_spare_put(&over.image->spares, flush, sizeof(*flush));
	qed_request_end(over.image, QED_REQUEST_FLUSH, err, over.done,
			over.opaque);
}

void qed_flush(struct qed_image *image,
	       void (*done)(void *opaque, int64_t result), void *opaque)
{
	struct flush *flush = NULL;
	int ret;

	QED_PROBE4(request_start, opaque, QED_REQUEST_FLUSH, 0, 0);
	if (image->writable)
		flush = qed_spare_get(&image->spares, sizeof(*flush));
	if (!flush) {
		qed_request_end(image, QED_REQUEST_FLUSH,
				image->writable ? -ENOMEM : 0, done, opaque);
		return;
	}
	atomic_store_explicit(&image->flushes, true, memory_order_relaxed);
	atomic_store_explicit(&image->unflushed, 0, memory_order_relaxed);
	*flush = (struct flush){ .waiter.wake = flush_woken,
				 .image = image,
				 .done = done,
				 .opaque = opaque };
	ret = qed_meta_commit(image->meta, QED_COMMIT_SYNC, &flush->waiter);
	if (ret != QED_PENDING)
		flush_woken(&flush->waiter, ret);
}
