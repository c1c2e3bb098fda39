/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SEEK_DATA and SEEK_HOLE over a whole chain. */
#include "config.h"

#include "request.h"
#include "source.h"

#include <errno.h>
#include <stdlib.h>
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
	void (*done)(void *, int64_t) = seek->done;
	void *opaque = seek->opaque;

	free(seek);
	done(opaque, result);
}

/* A raw file knows its own holes: narrows `from` to what is alike. */
static bool raw_has_data(struct qed_source *from)
{
	int fd = from->file->fd;
	off_t off = (off_t)from->file_off;
	off_t data = lseek(fd, off, SEEK_DATA), end;

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
		data = from.file && (!from.raw || raw_has_data(&from));
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
	struct seek *seek;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		done(opaque, -EINVAL);
		return;
	}
	if (offset >= image->size) {
		done(opaque, -ENXIO);
		return;
	}
	seek = malloc(sizeof(*seek));
	if (!seek) {
		done(opaque, -ENOMEM);
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
