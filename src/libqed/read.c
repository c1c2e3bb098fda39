/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads.  One cursor walks the range: at each position it goes down the layers,
 * narrowing the span, until one has data or zeroes for it; then it moves on.
 * So the depth of a chain costs no memory and no C stack.  The cursor stops
 * while a table is read; reads of data that must wait for the disk go on side
 * by side.
 */
#include "config.h"

#include "probe.h"
#include "request.h"
#include "source.h"

#include <errno.h>

#define INLINE_IOVS 8

/* One read of data that is under way. */
struct leaf {
	struct qed_io io;
	struct qed_read *read;
	unsigned layer;			/* whose data it is */
	size_t bytes;			/* of this struct */
	struct iovec iov[];
};

static void read_unref(struct qed_read *read)
{
	if (atomic_fetch_sub(&read->pending, 1) == 1)
		read->done(read, atomic_load(&read->err));
}

static void read_fail(struct qed_read *read, unsigned layer, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&read->err, &none, err);
	qed_note_failed(read->image, layer);
}

static void leaf_done(struct qed_io *io, int err)
{
	struct leaf *leaf = qed_container_of(io, struct leaf, io);
	struct qed_read *read = leaf->read;
	unsigned layer = leaf->layer;

	qed_spare_put(&read->image->spares, leaf, leaf->bytes);
	if (err)
		read_fail(read, layer, err);
	read_unref(read);
}

static int leaf_start(struct qed_read *read, const struct qed_source *from)
{
	int n = qed_iov_parts(read->iov, read->iovcnt, read->pos, from->len);
	size_t bytes = sizeof(struct leaf) + (size_t)n * sizeof(struct iovec);
	struct leaf *leaf = qed_spare_get(&read->image->spares, bytes);
	int ret;

	if (!leaf)
		return -ENOMEM;
	qed_iov_slice(read->iov, read->iovcnt, read->pos, from->len, leaf->iov);
	leaf->read = read;
	leaf->layer = read->layer;
	leaf->bytes = bytes;
	leaf->io = (struct qed_io){ .op = QED_OP_READ,
				    .file_off = from->file_off,
				    .len = from->len,
				    .iov = leaf->iov,
				    .iovcnt = n,
				    .done = leaf_done };
	atomic_fetch_add(&read->pending, 1);
	ret = qed_file_start(from->file, &leaf->io);
	if (ret == QED_PENDING)
		return 0;
	atomic_fetch_sub(&read->pending, 1);
	qed_spare_put(&read->image->spares, leaf, bytes);
	return ret;
}

/* Bytes that the page cache has: no memory, no waiting. */
static int try_leaf(const struct iovec *iov, int iovcnt, uint64_t skip,
		    const struct qed_source *from)
{
	struct iovec slice[INLINE_IOVS];
	struct qed_io io;
	int n = qed_iov_parts(iov, iovcnt, skip, from->len);

	if (n > INLINE_IOVS)
		return -EAGAIN;
	qed_iov_slice(iov, iovcnt, skip, from->len, slice);
	io = (struct qed_io){ .op = QED_OP_READ,
			      .file_off = from->file_off,
			      .len = from->len,
			      .iov = slice,
			      .iovcnt = n };
	return qed_file_try(from->file, &io);
}

static int take_source(struct qed_read *read, const struct qed_source *from)
{
	int ret;

	if (!from->file) {
		qed_iov_zero(read->iov, read->iovcnt, read->pos, from->len);
		return 0;
	}
	ret = try_leaf(read->iov, read->iovcnt, read->pos, from);
	return ret == -EAGAIN ? leaf_start(read, from) : ret;
}

static void read_next(struct qed_read *read, uint64_t advance)
{
	read->pos += advance;
	read->layer = read->first;
	read->span = read->len - read->pos;
}

/* Moves the cursor until it waits for a table or the range is issued. */
static void read_run(struct qed_read *read)
{
	struct qed_source from;
	int ret = 0;

	while (read->pos < read->len) {
		ret = qed_source_find(read->image, read->disk_off + read->pos,
				  &read->layer, &read->span, &read->waiter,
				  &from);
		if (ret == QED_PENDING)
			return;
		if (ret == 0)
			ret = take_source(read, &from);
		if (ret < 0) {
			read_fail(read, read->layer, ret);
			break;
		}
		read_next(read, from.len);
	}
	read_unref(read);
}

static void read_woken(struct qed_waiter *waiter, int err)
{
	struct qed_read *read =
		qed_container_of(waiter, struct qed_read, waiter);

	if (err) {
		read_fail(read, read->layer, err);
		read_unref(read);
		return;
	}
	read_run(read);
}

static void read_init(struct qed_read *read)
{
	atomic_init(&read->pending, 1);
	atomic_init(&read->err, 0);
	read->waiter.wake = read_woken;
}

void qed_read_start(struct qed_read *read)
{
	read_init(read);
	read->pos = 0;
	read_next(read, 0);
	read_run(read);
}

/* Where a read stopped that could not be answered inline. */
struct stop {
	uint64_t pos, span;
	unsigned layer;
	struct qed_source from;		/* of the bytes at pos; no length: not
					 * found yet */
};

/*
 * Answers what tables in memory and the page cache know: 0 for all of the
 * range, -EAGAIN with the place where it had to stop, or another -errno.
 */
static int read_inline(struct qed_image *image, const struct iovec *iov,
		       int iovcnt, uint64_t disk_off, uint64_t len,
		       struct stop *stop)
{
	int ret = 0;

	for (stop->pos = 0; stop->pos < len; stop->pos += stop->from.len) {
		stop->layer = 0;
		stop->span = len - stop->pos;
		stop->from.len = 0;
		ret = qed_source_find(image, disk_off + stop->pos,
				      &stop->layer, &stop->span, NULL,
				      &stop->from);
		if (ret == 0 && stop->from.file)
			ret = try_leaf(iov, iovcnt, stop->pos, &stop->from);
		else if (ret == 0)
			qed_iov_zero(iov, iovcnt, stop->pos, stop->from.len);
		if (ret < 0)
			break;
	}
	if (ret < 0 && ret != -EAGAIN)
		qed_note_failed(image, stop->layer);
	return ret;
}

/*
 * A caller's read that could not be answered inline.  Only the top image's
 * clusters can ever be freed, so only a caller's read counts as one that may
 * have seen a mapping.
 */
struct request {
	struct qed_read read;
	unsigned token;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

static void request_done(struct qed_read *read, int err)
{
	struct request *request =
		qed_container_of(read, struct request, read);
	void (*done)(void *, int64_t) = request->done;
	void *opaque = request->opaque;
	struct qed_image *image = read->image;
	int64_t result = err ? err : (int64_t)read->len;

	qed_request_leave(image, request->token);
	qed_spare_put(&image->spares, request, sizeof(*request));
	qed_request_end(image, QED_REQUEST_READ, result, done, opaque);
}

/* Goes on from where a read stopped; what was found there is not looked up anew. */
static void read_resume(struct qed_read *read, const struct stop *stop)
{
	int ret = 0;

	read_init(read);
	read->pos = stop->pos;
	read->span = stop->span;
	read->layer = stop->layer;
	if (stop->from.len)
		ret = leaf_start(read, &stop->from);
	if (stop->from.len && ret == 0)
		read_next(read, stop->from.len);
	if (ret < 0) {
		read_fail(read, read->layer, ret);
		read_unref(read);
		return;
	}
	read_run(read);
}

static int read_begin_request(struct qed_image *image, const struct iovec *iov,
			      int iovcnt, uint64_t disk_off, uint64_t len,
			      const struct stop *stop, unsigned token,
			      void (*done)(void *opaque, int64_t result),
			      void *opaque)
{
	struct request *request =
		qed_spare_get(&image->spares, sizeof(*request));

	if (!request)
		return -ENOMEM;
	request->token = token;
	request->done = done;
	request->opaque = opaque;
	request->read = (struct qed_read){ .image = image,
					   .iov = iov,
					   .iovcnt = iovcnt,
					   .disk_off = disk_off,
					   .len = len,
					   .done = request_done };
	read_resume(&request->read, stop);
	return QED_PENDING;
}

void qed_readv(struct qed_image *image, const struct iovec *iov, int iovcnt,
	       uint64_t offset, void (*done)(void *opaque, int64_t result),
	       void *opaque)
{
	uint64_t len = qed_iov_bytes(iov, iovcnt);
	unsigned token = qed_request_enter(image);
	struct stop stop;
	int ret;

	QED_PROBE4(request_start, opaque, QED_REQUEST_READ, offset, len);
	len = offset < image->size ? qed_min(len, image->size - offset) : 0;
	ret = read_inline(image, iov, iovcnt, offset, len, &stop);
	if (ret == -EAGAIN)
		ret = read_begin_request(image, iov, iovcnt, offset, len,
					 &stop, token, done, opaque);
	if (ret == QED_PENDING)
		return;
	qed_request_leave(image, token);
	qed_request_end(image, QED_REQUEST_READ,
			ret < 0 ? ret : (int64_t)len, done, opaque);
}
