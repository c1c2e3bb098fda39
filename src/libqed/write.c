/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes.  One cursor walks the range.  Where clusters exist it starts a write in
 * place; where they don't it makes the table if need be, pins its slice, claims
 * the clusters, allocates them and starts the data on its way (copy.c fills what
 * the caller does not write).  Whenever something has to be waited for, the
 * cursor stops with nothing held, and looks again when it is woken.  Once its
 * data is written, a piece sets its table entries and is done.
 *
 * Of two writes into one new cluster the second waits for the first one's claim,
 * then finds the cluster there: data is merged in the order of arrival.
 */
#include "config.h"

#include "copy.h"
#include "request.h"
#include "table.h"

#include <errno.h>
#include <stdlib.h>

#define INLINE_IOVS 8

/* A caller's write; also its cursor. */
struct write {
	struct qed_image *image;
	const struct iovec *iov;
	int iovcnt;
	uint64_t disk_off, len;
	uint64_t pos;			/* the cursor */
	struct qed_waiter waiter;	/* the cursor's */
	_Atomic unsigned pending;
	_Atomic int err;
	void (*done)(void *opaque, int64_t result);
	void *opaque;
};

/* Contiguous bytes on their way into clusters that exist. */
struct piece {
	struct qed_io io;
	struct write *write;
	struct iovec iov[];
};

/* The same into new clusters. */
struct new_piece {
	struct qed_copy copy;
	struct write *write;
	struct qed_claim claim;
	struct qed_slice *slice;
	unsigned index;
	struct qed_clusters clusters;
	bool barrier;
	struct iovec iov[];
};

static void write_unref(struct write *write)
{
	void (*done)(void *, int64_t) = write->done;
	void *opaque = write->opaque;
	int64_t result;

	if (atomic_fetch_sub(&write->pending, 1) != 1)
		return;
	result = atomic_load(&write->err);
	if (!result)
		result = (int64_t)write->len;
	free(write);
	done(opaque, result);
}

static void write_fail(struct write *write, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&write->err, &none, err);
}

/* --- in place ------------------------------------------------------------ */

static void piece_end(struct piece *piece, int err)
{
	struct write *write = piece->write;

	free(piece);
	if (err)
		write_fail(write, err);
	else
		qed_meta_note_data(write->image->meta);
	write_unref(write);
}

static void piece_done(struct qed_io *io, int err)
{
	piece_end(qed_container_of(io, struct piece, io), err);
}

static int write_in_place(struct write *write, uint64_t file_off, uint64_t len)
{
	int n = qed_iov_parts(write->iov, write->iovcnt, write->pos, len);
	struct piece *piece =
		malloc(sizeof(*piece) + (size_t)n * sizeof(*piece->iov));
	int ret;

	if (!piece)
		return -ENOMEM;
	qed_iov_slice(write->iov, write->iovcnt, write->pos, len, piece->iov);
	piece->write = write;
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

/* --- new clusters --------------------------------------------------------- */

/* Drops what a new piece holds, then lets go of who waits for its clusters. */
static void new_piece_free(struct qed_image *image, struct new_piece *piece)
{
	qed_l2cache_put(image->chain.cache, piece->slice);
	qed_claims_release(&image->clusters, &piece->claim);
	free(piece);
}

static void new_piece_done(struct qed_copy *copy, int err)
{
	struct new_piece *piece =
		qed_container_of(copy, struct new_piece, copy);
	struct write *write = piece->write;
	struct qed_image *image = write->image;

	if (err) {
		write_fail(write, err);
		qed_alloc_release(&image->alloc, piece->clusters.file_off,
				  piece->clusters.n);
	} else {
		qed_meta_note_data(image->meta);
		qed_meta_map(image->meta, piece->slice, piece->index,
			     (unsigned)piece->clusters.n,
			     piece->clusters.file_off, piece->barrier);
	}
	new_piece_free(image, piece);
	write_unref(write);
}

/* Bytes of the cursor's range from `pos` on that lie in its next n clusters. */
static uint64_t bytes_in(const struct write *write, uint64_t n)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t off = write->disk_off + write->pos;

	return qed_min(write->len - write->pos,
		       (n << h->cluster_bits) - qed_in_cluster(h, off));
}

static struct new_piece *new_piece_create(struct write *write)
{
	size_t n = (size_t)qed_iov_parts(write->iov, write->iovcnt, write->pos,
					 write->len - write->pos);
	/* and what the copy puts around the caller's parts */
	struct new_piece *piece =
		malloc(sizeof(*piece) +
		       (n + QED_COPY_EXTRA_IOVS) * sizeof(*piece->iov));

	if (piece)
		piece->write = write;
	return piece;
}

/* Fills in the copy that brings the data into the new clusters; starts it. */
static void new_piece_start(struct new_piece *piece, enum qed_extent_kind kind,
			    uint64_t len)
{
	struct write *write = piece->write;
	struct qed_image *image = write->image;
	const struct qed_header *h = &image->top->header;
	uint64_t disk_off = write->disk_off + write->pos;
	bool backing = kind == QED_EXTENT_UNALLOCATED &&
		       qed_has_backing(image, qed_cluster_start(h, disk_off));

	piece->barrier = backing || !piece->clusters.fresh;
	piece->copy = (struct qed_copy){
		.image = image,
		.disk_off = disk_off,
		.len = len,
		.file_off = piece->clusters.file_off,
		.nclusters = piece->clusters.n,
		.fresh = piece->clusters.fresh,
		.backing = backing,
		.iov = piece->iov + 1,
		.iovcnt = qed_iov_slice(write->iov, write->iovcnt, write->pos,
					len, piece->iov + 1),
		.done = new_piece_done,
	};
	atomic_fetch_add(&write->pending, 1);
	write->pos += len;
	qed_copy_start(&piece->copy);
}

/*
 * With the slice pinned and the clusters claimed nobody else changes their
 * entries: takes clusters and starts.  -EAGAIN if the entries are not what they
 * were, 0 or -errno.
 */
static int allocate_claimed(struct write *write, struct new_piece *piece)
{
	struct qed_image *image = write->image;
	uint64_t off = write->disk_off + write->pos;
	struct qed_extent extent;
	int ret;

	ret = qed_cluster_extent(image->top, piece->slice, piece->index, off,
				 bytes_in(write, piece->claim.n), &extent);
	if (ret < 0)
		return ret;
	if (extent.kind == QED_EXTENT_DATA)
		return -EAGAIN;
	ret = qed_alloc_data(&image->alloc,
			     ((qed_in_cluster(&image->top->header, off) +
			       extent.len - 1) >>
			      image->top->header.cluster_bits) +
				     1,
			     &piece->clusters);
	if (ret < 0)
		return ret;
	new_piece_start(piece, extent.kind,
			bytes_in(write, piece->clusters.n));
	return 0;
}

/* Claims the clusters of `extent` that one pinned slice maps, as far as free. */
static int claim_clusters(struct write *write, struct new_piece *piece,
			  uint64_t len)
{
	struct qed_image *image = write->image;
	const struct qed_header *h = &image->top->header;
	uint64_t off = write->disk_off + write->pos;
	uint64_t n = ((qed_in_cluster(h, off) + len - 1) >> h->cluster_bits) + 1;

	n = qed_min(n, QED_SLICE_ENTRIES - piece->index);
	return qed_claims_take(&image->clusters, &piece->claim,
			       off >> h->cluster_bits, &n, &write->waiter);
}

/*
 * Starts a write of at most `len` bytes at the cursor into new clusters.  0: the
 * cursor has moved, or looks again; QED_PENDING: it is woken; or -errno.
 */
static int write_allocate(struct write *write, uint64_t len)
{
	struct qed_image *image = write->image;
	uint64_t off = write->disk_off + write->pos;
	struct new_piece *piece;
	int ret = qed_meta_admit_map(image->meta, &write->waiter);

	if (ret)
		return ret;
	ret = qed_table_require(image, off, &write->waiter);
	if (ret)
		return ret;
	piece = new_piece_create(write);
	if (!piece)
		return -ENOMEM;
	ret = qed_cluster_pin(image->top, off, &write->waiter, &piece->slice,
			      &piece->index);
	if (ret)
		goto out_free;
	ret = claim_clusters(write, piece, len);
	if (ret)
		goto out_unpin;
	ret = allocate_claimed(write, piece);
	if (ret == 0)
		return 0;
	new_piece_free(image, piece);
	return ret == -EAGAIN ? 0 : ret;

out_unpin:
	qed_l2cache_put(image->chain.cache, piece->slice);
out_free:
	free(piece);
	return ret;
}

/* --- the cursor ----------------------------------------------------------- */

static int write_step(struct write *write)
{
	struct qed_extent extent;
	int ret = qed_meta_admit_data(write->image->meta, &write->waiter);

	if (ret == 0)
		ret = qed_cluster_lookup(write->image->top,
					 write->disk_off + write->pos,
					 write->len - write->pos,
					 &write->waiter, &extent);
	if (ret)
		return ret;
	if (extent.kind != QED_EXTENT_DATA)
		return write_allocate(write, extent.len);
	ret = write_in_place(write, extent.file_off, extent.len);
	if (ret == 0)
		write->pos += extent.len;
	return ret;
}

static void write_run(struct write *write)
{
	while (write->pos < write->len) {
		int ret = write_step(write);

		if (ret == QED_PENDING)
			return;
		if (ret < 0) {
			write_fail(write, ret);
			break;
		}
	}
	write_unref(write);
}

static void write_woken(struct qed_waiter *waiter, int err)
{
	struct write *write = qed_container_of(waiter, struct write, waiter);

	if (err) {
		write_fail(write, err);
		write_unref(write);
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

	if (iovcnt > INLINE_IOVS || !qed_meta_admits_data(image->meta) ||
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
	if (ret == 0)
		qed_meta_note_data(image->meta);
	return ret;
}

static int write_begin(struct qed_image *image, const struct iovec *iov,
		       int iovcnt, uint64_t disk_off, uint64_t len,
		       void (*done)(void *opaque, int64_t result), void *opaque)
{
	struct write *write = malloc(sizeof(*write));

	if (!write)
		return -ENOMEM;
	*write = (struct write){ .image = image,
				 .iov = iov,
				 .iovcnt = iovcnt,
				 .disk_off = disk_off,
				 .len = len,
				 .waiter.wake = write_woken,
				 .done = done,
				 .opaque = opaque };
	atomic_init(&write->pending, 1);
	write_run(write);
	return QED_PENDING;
}

void qed_writev(struct qed_image *image, const struct iovec *iov, int iovcnt,
		uint64_t offset, void (*done)(void *opaque, int64_t result),
		void *opaque)
{
	uint64_t len = qed_iov_bytes(iov, iovcnt);
	int ret = 0;

	if (!image->writable)
		ret = -EROFS;
	else if (qed_meta_failed(image->meta))
		ret = -EIO;
	else if (len && offset >= image->size)
		ret = -EFBIG;
	if (ret == 0 && len) {
		len = qed_min(len, image->size - offset);
		ret = write_inline(image, iov, iovcnt, offset, len);
		if (ret == -EAGAIN)
			ret = write_begin(image, iov, iovcnt, offset, len,
					  done, opaque);
	}
	if (ret != QED_PENDING)
		done(opaque, ret < 0 ? ret : (int64_t)len);
}
