/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing into new clusters.  The table must be there; its slice is pinned, the
 * clusters are claimed and allocated, and copy.c brings the data there with
 * what surrounds it.  Then the entries are set and the claim is released.
 *
 * Of two writes into one new cluster the second waits for the first one's
 * claim, then finds the cluster there: data is merged in the order of arrival.
 */
#include "config.h"

#include "copy.h"
#include "table.h"
#include "write.h"

#include <errno.h>

/* Contiguous bytes on their way into new clusters. */
struct new_piece {
	struct qed_copy copy;
	struct qed_write *write;
	struct qed_claim claim;
	struct qed_slice *slice;
	unsigned index;
	struct qed_clusters clusters;
	bool barrier;
	size_t bytes;			/* of this struct */
	struct iovec iov[];
};

_Static_assert(sizeof(struct new_piece) + (8 + QED_COPY_EXTRA_IOVS) *
			       sizeof(struct iovec) <= QED_SPARE_SMALL,
	       "the common case does not fit");

/* Drops what a new piece holds, then lets go of who waits for its clusters. */
static void new_piece_free(struct qed_image *image, struct new_piece *piece)
{
	qed_l2cache_put(image->chain.cache, piece->slice);
	qed_claims_release(&image->clusters, &piece->claim);
	qed_spare_put(&image->spares, piece, piece->bytes);
}

static void new_piece_done(struct qed_copy *copy, int err)
{
	struct new_piece *piece =
		qed_container_of(copy, struct new_piece, copy);
	struct qed_write *write = piece->write;
	struct qed_image *image = write->image;

	if (err) {
		qed_write_fail(write, err);
		qed_alloc_release(&image->alloc, piece->clusters.file_off,
				  piece->clusters.n);
	} else {
		qed_meta_note_data(image->meta);
		qed_meta_map(image->meta, piece->slice, piece->index,
			     (unsigned)piece->clusters.n,
			     piece->clusters.file_off, piece->barrier);
	}
	new_piece_free(image, piece);
	qed_write_unref(write);
}

static struct new_piece *new_piece_create(struct qed_write *write, uint64_t len)
{
	/* and what the copy puts around the caller's parts */
	size_t n = (size_t)qed_write_parts(write, len, NULL) +
		   QED_COPY_EXTRA_IOVS;
	size_t bytes = sizeof(struct new_piece) + n * sizeof(struct iovec);
	struct new_piece *piece = qed_spare_get(&write->image->spares, bytes);

	if (piece) {
		piece->write = write;
		piece->bytes = bytes;
	}
	return piece;
}

/* Fills in the copy that brings the data into the new clusters; starts it. */
static void new_piece_start(struct new_piece *piece, enum qed_extent_kind kind,
			    uint64_t len)
{
	struct qed_write *write = piece->write;
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
		.len = write->kind == QED_WRITE_RESERVE ? 0 : len,
		.file_off = piece->clusters.file_off,
		.nclusters = piece->clusters.n,
		.zeroed = piece->clusters.zeroed,
		.backing = backing,
		.iov = piece->iov + 1,
		.iovcnt = qed_write_parts(write, len, piece->iov + 1),
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
static int allocate_claimed(struct qed_write *write, struct new_piece *piece,
			    uint64_t len)
{
	struct qed_image *image = write->image;
	uint64_t off = write->disk_off + write->pos;
	struct qed_extent extent;
	int ret;

	ret = qed_cluster_extent(image->top, piece->slice, piece->index, off,
				 qed_write_bytes_in(write, piece->claim.n, len),
				 &extent);
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
			qed_write_bytes_in(write, piece->clusters.n, len));
	return 0;
}

/* Claims the clusters of `extent` that one pinned slice maps, as far as free. */
static int claim_clusters(struct qed_write *write, struct new_piece *piece,
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

int qed_write_fresh(struct qed_write *write, uint64_t len)
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
	qed_spare_put(&image->spares, piece, piece->bytes);
	return ret;
}
