/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SEEK_DATA and SEEK_HOLE over a whole chain. */
#include "config.h"

#include "probe.h"
#include "request.h"
#include "source.h"

#include <errno.h>
#include <unistd.h>

struct seek {
	struct qed_image *image;
	bool want_data;
	uint64_t pos;
	uint64_t span;			/* of the layers above `layer` */
	unsigned layer;
	struct qed_waiter waiter;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

static void seek_end(struct seek *seek, int64_t result)
{
	struct seek over = *seek;

	qed_spare_put(&over.image->spares, seek, sizeof(*seek));
	qed_request_end(over.image, QED_REQUEST_SEEK, result, over.done,
			over.opaque);
}

static void seek_next(struct seek *seek, uint64_t advance)
{
	seek->pos += advance;
	seek->layer = 0;
	seek->span = seek->image->size - seek->pos;
}

/* Moves on until it has found what it seeks, or waits for a table. */
static void seek_run(struct seek *seek)
{
	while (seek->pos < seek->image->size) {
		struct qed_source from;
		bool data;
		int ret = qed_source_find(seek->image, seek->pos, &seek->layer,
					  &seek->span, &seek->waiter, &from);

		if (ret == QED_PENDING)
			return;
		if (ret < 0) {
			seek_end(seek, ret);
			return;
		}
		data = from.file && qed_source_has_data(&from);
		if (data == seek->want_data) {
			seek_end(seek, (int64_t)seek->pos);
			return;
		}
		seek_next(seek, from.len);
	}
	seek_end(seek, seek->want_data ? -ENXIO : (int64_t)seek->image->size);
}

static void seek_woken(struct qed_waiter *waiter, int err)
{
	struct seek *seek = qed_container_of(waiter, struct seek, waiter);

	if (err)
		seek_end(seek, err);
	else
		seek_run(seek);
}

void qed_seek(struct qed_image *image, uint64_t offset, int whence,
	      void (*done)(void *opaque, int64_t result), void *opaque)
{
	struct seek *seek = NULL;
	int ret = 0;

	QED_PROBE4(request_start, opaque, QED_REQUEST_SEEK, offset, 0);
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		ret = -EINVAL;
	else if (offset >= image->size)
		ret = -ENXIO;
	else
		seek = qed_spare_get(&image->spares, sizeof(*seek));
	if (!seek) {
		qed_request_end(image, QED_REQUEST_SEEK, ret ? ret : -ENOMEM,
				done, opaque);
		return;
	}
	*seek = (struct seek){ .image = image,
			       .want_data = whence == SEEK_DATA,
			       .pos = offset,
			       .waiter.wake = seek_woken,
			       .done = done,
			       .opaque = opaque };
	seek_next(seek, 0);
	seek_run(seek);
}
