/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes, and what is like them: zeroing and preallocation.  One cursor walks the
 * range.  Where clusters exist it starts a write in
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
#include "probe.h"
#include "request.h"
#include "table.h"
#include "unmap.h"

#include <errno.h>
#include <stdlib.h>

#define INLINE_IOVS 8
#define ZEROES      65536u

enum write_kind {
	WRITE_DATA = QED_REQUEST_WRITE,
	WRITE_ZERO = QED_REQUEST_ZERO,	/* no list: all bytes are zero */
	WRITE_RESERVE = QED_REQUEST_PREALLOCATE, /* whole clusters keep what
						  * they show */
};

/* A caller's write; also its cursor. */
struct write {
	struct qed_image *image;
	enum write_kind kind;
	unsigned token;			/* of the reclaim room */
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

static void write_end(const struct write *write, int64_t result)
{
	qed_request_end(write->image, (enum qed_request_kind)write->kind,
			result, write->done, write->opaque);
}

static void write_unref(struct write *write)
{
	struct write over;
	int64_t result;

	if (atomic_fetch_sub(&write->pending, 1) != 1)
		return;
	result = atomic_load(&write->err);
	if (!result && write->kind == WRITE_DATA)
		result = (int64_t)write->len;
	qed_reclaim_leave(&write->image->reclaim, write->token);
	over = *write;
	free(write);
	write_end(&over, result);
}

static void write_fail(struct write *write, int err)
{
	int none = 0;

	atomic_compare_exchange_strong(&write->err, &none, err);
}

/* The parts of the next `len` bytes; into `out` if it is not null. */
static int next_parts(const struct write *write, uint64_t len,
		      struct iovec *out)
{
	static const char zeroes[ZEROES];
	int n = 0;

	if (write->kind == WRITE_RESERVE)
		return 0;
	if (write->kind == WRITE_DATA)
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
	int n = next_parts(write, len, NULL);
	struct piece *piece =
		malloc(sizeof(*piece) + (size_t)n * sizeof(*piece->iov));
	int ret;

	if (!piece)
		return -ENOMEM;
	next_parts(write, len, piece->iov);
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

/* How many of the next `len` bytes at the cursor lie in its next n clusters. */
static uint64_t bytes_in(const struct write *write, uint64_t n, uint64_t len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t off = write->disk_off + write->pos;

	return qed_min(len, (n << h->cluster_bits) - qed_in_cluster(h, off));
}

static struct new_piece *new_piece_create(struct write *write, uint64_t len)
{
	size_t n = (size_t)next_parts(write, len, NULL);
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
	bool below = qed_has_backing(image, qed_cluster_start(h, disk_off));
	bool backing = below && kind == QED_EXTENT_UNALLOCATED;

	/* A zero cluster too: a check that drops the new entry bares the data. */
	piece->barrier = below || piece->clusters.reused;
	piece->copy = (struct qed_copy){
		.image = image,
		.disk_off = disk_off,
		.len = write->kind == WRITE_RESERVE ? 0 : len,
		.file_off = piece->clusters.file_off,
		.nclusters = piece->clusters.n,
		.zeroed = piece->clusters.zeroed,
		.backing = backing,
		.iov = piece->iov + 1,
		.iovcnt = next_parts(write, len, piece->iov + 1),
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
static int allocate_claimed(struct write *write, struct new_piece *piece,
			    uint64_t len)
{
	struct qed_image *image = write->image;
	uint64_t off = write->disk_off + write->pos;
	struct qed_extent extent;
	int ret;

	ret = qed_cluster_extent(image->top, piece->slice, piece->index, off,
				 bytes_in(write, piece->claim.n, len), &extent);
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
			bytes_in(write, piece->clusters.n, len));
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
	piece = new_piece_create(write, len);
	if (!piece)
		return -ENOMEM;
	ret = qed_cluster_pin(image->top, off, &write->waiter, &piece->slice,
			      &piece->index);
	if (ret)
		goto out_free;
	ret = claim_clusters(write, piece, len);
	if (ret)
		goto out_unpin;
	ret = allocate_claimed(write, piece, len);
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

/*
 * Whole clusters (the disk's last one may be cut short) among the `len` bytes at
 * offset `pos` of the write, which is the start of a cluster.
 */
static uint64_t whole_clusters(const struct write *write, uint64_t pos,
			       uint64_t len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t end = write->disk_off + pos + len;

	return (len >> h->cluster_bits) +
	       (end == write->image->size && qed_in_cluster(h, len));
}

/* Is the whole cluster at `pos` nothing but zeroes? */
static bool cluster_is_zero(const struct write *write, uint64_t pos)
{
	uint64_t cluster = write->image->top->header.cluster_size;
	uint64_t len = qed_min(write->len - pos, cluster);

	return whole_clusters(write, pos, len) &&
	       qed_iov_is_zero(write->iov, write->iovcnt, pos, len);
}

/*
 * How many whole clusters at the cursor are to be unmapped.  If none, *len is cut
 * to the bytes before the next one that may be.
 */
static uint64_t zero_run(const struct write *write, uint64_t *len)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t in = qed_in_cluster(h, write->disk_off + write->pos);
	uint64_t pos = write->pos, n = 0;

	if (in) {
		*len = qed_min(*len, h->cluster_size - in);
		return 0;
	}
	if (write->kind == WRITE_ZERO)
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

static int unmap_step(struct write *write, uint64_t n)
{
	int64_t done = qed_unmap(write->image, write->disk_off + write->pos, n,
				 &write->waiter);

	if (done <= 0)
		return done ? (int)done : QED_PENDING;
	write->pos += bytes_in(write, (uint64_t)done, write->len - write->pos);
	return 0;
}

/* Does the extent at the cursor need no write, for it is as it shall be? */
static bool nothing_to_do(const struct write *write,
			  const struct qed_extent *extent)
{
	const struct qed_header *h = &write->image->top->header;
	uint64_t off = write->disk_off + write->pos;

	if (write->kind == WRITE_RESERVE)
		return extent->kind == QED_EXTENT_DATA;
	if (write->kind != WRITE_ZERO || extent->kind == QED_EXTENT_DATA)
		return false;
	return extent->kind == QED_EXTENT_ZERO ||
	       !qed_has_backing(write->image, qed_cluster_start(h, off));
}

static int data_step(struct write *write, uint64_t len)
{
	struct qed_extent extent;
	int ret = qed_cluster_lookup(write->image->top,
				     write->disk_off + write->pos, len,
				     &write->waiter, &extent);

	if (ret)
		return ret;
	if (!nothing_to_do(write, &extent)) {
		if (extent.kind != QED_EXTENT_DATA)
			return write_allocate(write, extent.len);
		ret = write_in_place(write, extent.file_off, extent.len);
	}
	if (ret == 0)
		write->pos += extent.len;
	return ret;
}

/* No piece is larger than a megabyte where the bytes are not the caller's. */
static uint64_t step_len(const struct write *write)
{
	uint64_t len = write->len - write->pos;

	return write->kind == WRITE_DATA ? len : qed_min(len, QED_STEP_MAX);
}

static int write_step(struct write *write)
{
	uint64_t len = write->len - write->pos, n = 0;
	int ret = qed_meta_admit_data(write->image->meta, &write->waiter);

	if (ret)
		return ret;
	if (write->kind == WRITE_ZERO ||
	    (write->kind == WRITE_DATA && write->image->detect_zeroes))
		n = zero_run(write, &len);
	if (n)
		return unmap_step(write, n);
	return data_step(write, qed_min(len, step_len(write)));
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
static int write_begin(const struct write *from)
{
	struct write *write = malloc(sizeof(*write));

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

void qed_writev(struct qed_image *image, const struct iovec *iov, int iovcnt,
		uint64_t offset, void (*done)(void *opaque, int64_t result),
		void *opaque)
{
	struct write write = { .image = image,
			       .kind = WRITE_DATA,
			       .iov = iov,
			       .iovcnt = iovcnt,
			       .disk_off = offset,
			       .len = qed_iov_bytes(iov, iovcnt),
			       .done = done,
			       .opaque = opaque };
	int ret = check_writable(image);

	QED_PROBE4(request_start, opaque, WRITE_DATA, offset, write.len);
	if (ret == 0 && write.len && offset >= image->size)
		ret = -EFBIG;
	if (ret < 0 || !write.len) {
		write_end(&write, ret);
		return;
	}
	write.len = qed_min(write.len, image->size - offset);
	write.token = qed_reclaim_enter(&image->reclaim);
	ret = write_inline(image, iov, iovcnt, offset, write.len);
	if (ret == -EAGAIN)
		ret = write_begin(&write);
	if (ret == QED_PENDING)
		return;
	qed_reclaim_leave(&image->reclaim, write.token);
	write_end(&write, ret < 0 ? ret : (int64_t)write.len);
}

/* A range request: `len` is inside the disk. */
static void range_begin(struct write *write)
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
	struct write write = { .image = image,
			       .kind = WRITE_ZERO,
			       .disk_off = offset,
			       .done = done,
			       .opaque = opaque };

	QED_PROBE4(request_start, opaque, WRITE_ZERO, offset, len);
	if (offset < image->size)
		write.len = qed_min(len, image->size - offset);
	range_begin(&write);
}

void qed_preallocate(struct qed_image *image, uint64_t offset, uint64_t len,
		     void (*done)(void *opaque, int64_t result), void *opaque)
{
	const struct qed_header *h = &image->top->header;
	struct write write = { .image = image,
			       .kind = WRITE_RESERVE,
			       .done = done,
			       .opaque = opaque };
	uint64_t end;

	QED_PROBE4(request_start, opaque, WRITE_RESERVE, offset, len);
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
