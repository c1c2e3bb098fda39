/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes, and what is like them: zeroing and preallocation.  One cursor walks
 * the range.  Where clusters exist it starts a write in place; where they
 * don't, one into new clusters (fresh.c).  Whenever something has to be waited
 * for, the cursor stops with nothing held, and looks again when it is woken.
 */
#include "config.h"

#include "probe.h"
#include "unmap.h"
#include "write.h"

#include <errno.h>

#define INLINE_IOVS 8
#define BEHIND_MIN  (UINT64_C(128) << 10)	/* bytes */
#define BEHIND_MAX  (UINT64_C(1) << 30)
#define ZEROES      65536u

/* Contiguous bytes on their way into clusters that exist. */
struct piece {
	struct qed_io io;
	struct qed_write *write;
	size_t bytes;			/* of this struct */
	struct iovec iov[];
};

static void write_end(const struct qed_write *write, int64_t result)
{
	qed_request_end(write->image, (enum qed_request_kind)write->kind,
			result, write->done, write->opaque);
}

void qed_write_unref(struct qed_write *write)
{
	struct qed_write over;
	int64_t result;

	if (atomic_fetch_sub(&write->pending, 1) != 1)
		return;
	result = atomic_load(&write->err);
	if (!result && write->kind == QED_WRITE_DATA)
		result = (int64_t)write->len;
	qed_reclaim_leave(&write->image->reclaim, write->token);
	over = *write;
	qed_spare_put(&over.image->spares, write, sizeof(*write));
	write_end(&over, result);
}

void qed_write_fail(struct qed_write *write, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&write->err, &none, err);
}

int qed_write_parts(const struct qed_write *write, uint64_t len,
		    struct iovec *out)
{
	static const char zeroes[ZEROES];
	int n = 0;

	if (write->kind == QED_WRITE_RESERVE)
		return 0;
	if (write->kind == QED_WRITE_DATA)
		return out ? qed_iov_slice(write->iov, write->iovcnt,
					   write->pos, len, out) :
			     qed_iov_parts(write->iov, write->iovcnt,
					   write->pos, len);
	for (; len; n++) {
		uint64_t part = qed_min(len, ZEROES);

		if (out)
			out[n] = (struct iovec){
				.iov_base = (void *)(uintptr_t)zeroes,
				.iov_len = part,
			};
		len -= part;
	}
	return n;
}

/* --- in place ------------------------------------------------------------ */

static void piece_end(struct piece *piece, int err)
{
	struct qed_write *write = piece->write;

	qed_spare_put(&write->image->spares, piece, piece->bytes);
	if (err)
		qed_write_fail(write, err);
	else
		qed_meta_note_data(write->image->meta);
	qed_write_unref(write);
}

static void piece_done(struct qed_io *io, int err)
{
	piece_end(qed_container_of(io, struct piece, io), err);
}

static int write_in_place(struct qed_write *write, uint64_t file_off,
			  uint64_t len)
{
	int n = qed_write_parts(write, len, NULL);
	size_t bytes = sizeof(struct piece) + (size_t)n * sizeof(struct iovec);
	struct piece *piece = qed_spare_get(&write->image->spares, bytes);
	int ret;

	if (!piece)
		return -ENOMEM;
	qed_write_parts(write, len, piece->iov);
	piece->write = write;
	piece->bytes = bytes;
	piece->io = (struct qed_io){ .op = QED_OP_WRITE,
				     .file_off = file_off,
				     .len = len,
				     .iov = piece->iov,
				     .iovcnt = n,
				     .done = piece_done };
	atomic_fetch_add(&write->pending, 1);
	ret = qed_file_start(write->image->top->source.file, &piece->io);
	if (ret != QED_PENDING)
		piece_end(piece, ret);
	return 0;
}

/* --- the cursor ----------------------------------------------------------- */

/*
 * Whole clusters (the disk's last one may be cut short) among the `len` bytes
 * at offset `pos` of the write, which is the start of a cluster.
 */
static uint64_t whole_clusters(const struct qed_write *write, uint64_t pos,
			       uint64_t len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t end = write->disk_off + pos + len;

	return (len >> h->cluster_bits) +
	       (end == write->image->size && qed_in_cluster(h, len));
}

/* Is the whole cluster at `pos` nothing but zeroes? */
static bool cluster_is_zero(const struct qed_write *write, uint64_t pos)
{
	uint64_t cluster = write->image->top->header.cluster_size;
	uint64_t len = qed_min(write->len - pos, cluster);

	return whole_clusters(write, pos, len) &&
	       qed_iov_is_zero(write->iov, write->iovcnt, pos, len);
}

/*
 * How many whole clusters at the cursor are to be unmapped.  If none, *len is
 * cut to the bytes before the next one that may be.
 */
static uint64_t zero_run(const struct qed_write *write, uint64_t *len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t in = qed_in_cluster(h, write->disk_off + write->pos);
	uint64_t pos = write->pos, n = 0;

	if (in) {
		*len = qed_min(*len, h->cluster_size - in);
		return 0;
	}
	if (write->kind == QED_WRITE_ZERO)
		return whole_clusters(write, pos, *len);
	while (pos < write->len && cluster_is_zero(write, pos)) {
		pos += h->cluster_size;
		n++;
	}
	while (!n && pos < write->len && !cluster_is_zero(write, pos))
		pos += h->cluster_size;
	*len = qed_min(*len, pos - write->pos);
	return n;
}

static int unmap_step(struct qed_write *write, uint64_t n)
{
	int64_t done = qed_unmap(write->image, write->disk_off + write->pos, n,
				 &write->waiter);

	if (done <= 0)
		return done ? (int)done : QED_PENDING;
	write->pos += qed_write_bytes_in(write, (uint64_t)done,
					 write->len - write->pos);
	return 0;
}

/* Does the extent at the cursor need no write, for it is as it shall be? */
static bool nothing_to_do(const struct qed_write *write,
			  const struct qed_extent *extent)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t off = write->disk_off + write->pos;

	if (write->kind == QED_WRITE_RESERVE)
		return extent->kind == QED_EXTENT_DATA;
	if (write->kind != QED_WRITE_ZERO || extent->kind == QED_EXTENT_DATA)
		return false;
	return extent->kind == QED_EXTENT_ZERO ||
	       !qed_needs_zero_entry(write->image, qed_cluster_start(h, off));
}

static int data_step(struct qed_write *write, uint64_t len)
{
	struct qed_extent extent;
	int ret = qed_cluster_lookup(write->image->top,
				     write->disk_off + write->pos, len,
				     &write->waiter, &extent);

	if (ret)
		return ret;
	if (!nothing_to_do(write, &extent)) {
		if (extent.kind != QED_EXTENT_DATA)
			return qed_write_fresh(write, extent.len);
		ret = write_in_place(write, extent.file_off, extent.len);
	}
	if (ret == 0)
		write->pos += extent.len;
	return ret;
}

/* No piece is larger than a megabyte where the bytes are not the caller's. */
static uint64_t step_len(const struct qed_write *write)
{
	uint64_t len = write->len - write->pos;

	return write->kind == QED_WRITE_DATA ? len : qed_min(len, QED_STEP_MAX);
}

static int write_step(struct qed_write *write)
{
	uint64_t len = write->len - write->pos, n = 0;
	int ret = qed_meta_admit_data(write->image->meta, &write->waiter);

	if (ret)
		return ret;
	if (write->kind == QED_WRITE_ZERO ||
	    (write->kind == QED_WRITE_DATA && write->image->detect_zeroes))
		n = zero_run(write, &len);
	if (n)
		return unmap_step(write, n);
	return data_step(write, qed_min(len, step_len(write)));
}

static void write_run(struct qed_write *write)
{
	while (write->pos < write->len) {
		int ret = write_step(write);

		if (ret == QED_PENDING)
			return;
		if (ret < 0) {
			qed_write_fail(write, ret);
			break;
		}
	}
	qed_write_unref(write);
}

static void write_woken(struct qed_waiter *waiter, int err)
{
	struct qed_write *write = qed_container_of(waiter, struct qed_write, waiter);

	if (err) {
		qed_write_fail(write, err);
		qed_write_unref(write);
		return;
	}
	write_run(write);
}

/* A write within one extent, into the page cache: no memory, no waiting. */
static int write_inline(struct qed_image *image, const struct iovec *iov,
			int iovcnt, uint64_t disk_off, uint64_t len)
{
	struct iovec slice[INLINE_IOVS];
	struct qed_extent extent;
	struct qed_io io;
	int ret;

	if (iovcnt > INLINE_IOVS || image->detect_zeroes ||
	    !qed_meta_admits_data(image->meta) ||
	    !qed_cluster_peek(image->top, disk_off, len, &extent) ||
	    extent.kind != QED_EXTENT_DATA || extent.len < len)
		return -EAGAIN;
	io = (struct qed_io){ .op = QED_OP_WRITE,
			      .file_off = extent.file_off,
			      .len = len,
			      .iov = slice,
			      .iovcnt = qed_iov_slice(iov, iovcnt, 0, len,
						      slice) };
	ret = qed_file_try(image->top->source.file, &io);
	if (ret != -EAGAIN)
		qed_cluster_count_hit(image->top, disk_off);
	if (ret == 0)
		qed_meta_note_data(image->meta);
	return ret;
}

/* Starts the cursor of a write that the caller has described in `from`. */
static int write_begin(const struct qed_write *from)
{
	struct qed_write *write =
		qed_spare_get(&from->image->spares, sizeof(*write));

	if (!write)
		return -ENOMEM;
	*write = *from;
	write->waiter.wake = write_woken;
	atomic_init(&write->pending, 1);
	atomic_init(&write->err, 0);
	write_run(write);
	return QED_PENDING;
}

static int check_writable(const struct qed_image *image)
{
	if (!image->writable)
		return -EROFS;
	return qed_meta_failed(image->meta) ? -EIO : 0;
}

/*
 * Who has asked for a flush will ask again: let the host begin with what comes
 * in large writes, so that the disk works meanwhile.  Not for small ones, which
 * may be overwritten before, and not for ever.
 */
static void write_behind(struct qed_image *image, uint64_t len)
{
	if (len < BEHIND_MIN ||
	    !atomic_load_explicit(&image->flushes, memory_order_relaxed) ||
	    atomic_fetch_add_explicit(&image->unflushed, len,
				      memory_order_relaxed) > BEHIND_MAX)
		return;
	qed_file_write_behind(image->top->source.file, len);
}

void qed_writev(struct qed_image *image, const struct iovec *iov, int iovcnt,
		uint64_t offset, void (*done)(void *opaque, int64_t result),
		void *opaque)
{
	struct qed_write write = { .image = image,
			       .kind = QED_WRITE_DATA,
			       .iov = iov,
			       .iovcnt = iovcnt,
			       .disk_off = offset,
			       .len = qed_iov_bytes(iov, iovcnt),
			       .done = done,
			       .opaque = opaque };
	int ret = check_writable(image);

	QED_PROBE4(request_start, opaque, QED_WRITE_DATA, offset, write.len);
	if (ret == 0 && write.len && offset >= image->size)
		ret = -EFBIG;
	if (ret < 0 || !write.len) {
		write_end(&write, ret);
		return;
	}
	write.len = qed_min(write.len, image->size - offset);
	write.token = qed_reclaim_enter(&image->reclaim);
	write_behind(image, write.len);
	ret = write_inline(image, iov, iovcnt, offset, write.len);
	if (ret == -EAGAIN)
		ret = write_begin(&write);
	if (ret == QED_PENDING)
		return;
	qed_reclaim_leave(&image->reclaim, write.token);
	write_end(&write, ret < 0 ? ret : (int64_t)write.len);
}

/* A range request: `len` is inside the disk. */
static void range_begin(struct qed_write *write)
{
	int ret = check_writable(write->image);

	if (ret == 0 && write->len) {
		write->token = qed_reclaim_enter(&write->image->reclaim);
		ret = write_begin(write);
		if (ret == QED_PENDING)
			return;
		qed_reclaim_leave(&write->image->reclaim, write->token);
	}
	write_end(write, ret);
}

void qed_zero(struct qed_image *image, uint64_t offset, uint64_t len,
	      void (*done)(void *opaque, int64_t result), void *opaque)
{
	struct qed_write write = { .image = image,
			       .kind = QED_WRITE_ZERO,
			       .disk_off = offset,
			       .done = done,
			       .opaque = opaque };

	QED_PROBE4(request_start, opaque, QED_WRITE_ZERO, offset, len);
	if (offset < image->size)
		write.len = qed_min(len, image->size - offset);
	range_begin(&write);
}

void qed_preallocate(struct qed_image *image, uint64_t offset, uint64_t len,
		     void (*done)(void *opaque, int64_t result), void *opaque)
{
	const struct qed_header *h = &image->top->header;
	struct qed_write write = { .image = image,
			       .kind = QED_WRITE_RESERVE,
			       .done = done,
			       .opaque = opaque };
	uint64_t end;

	QED_PROBE4(request_start, opaque, QED_WRITE_RESERVE, offset, len);
	if (!qed_add(offset, len, &end) || end > image->size) {
		write_end(&write, -EFBIG);
		return;
	}
	write.disk_off = qed_cluster_start(h, offset);
	end = qed_min(qed_round_up(end, h->cluster_size), image->size);
	if (len)
		write.len = end - write.disk_off;
	range_begin(&write);
}
