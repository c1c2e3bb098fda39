/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Two chains below one image.  What both have from the same place of the same
 * file is not read.
 *
 * Thread model: plan's fields are plan's.  Pieces are whole clusters, so no two
 * of them concern one.
 */
#include "config.h"

#include "blame.h"
#include "differ.h"
#include "sync.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One of the two chains, and the extent of it that was found last. */
struct side {
	struct qed_image *image;	/* null: no backing file, all zeroes */
	struct qed_map_extent extent;
	uint64_t start, end;		/* of extent, on the disk */
	uint64_t zero_from;		/* from here to `end` there is no data;
					 * or UINT64_MAX */
};

/* A piece's value: this side of it is zeroes by its tables. */
#define OLD_ZERO 0x1u
#define NEW_ZERO 0x2u

struct differ {
	struct qed_transfer transfer;
	struct side old, new;
	uint32_t cluster;		/* bytes, of the image */
	uint64_t size;			/* bytes of its disk */
	const struct qed_piece *planning;	/* what plan fills in, */
	uint64_t pos;			/* and from where on */
};

/* --- what differs --------------------------------------------------------------- */

static int find_extent(struct differ *d, struct side *side)
{
	uint64_t size = side->image ? side->image->size : 0;
	int ret = 0;

	if (d->pos < side->end)
		return 0;
	if (side->zero_from == UINT64_MAX || d->pos != side->end)
		side->zero_from = d->pos;
	side->start = d->pos;
	side->extent = (struct qed_map_extent){ .kind = QED_MAP_HOLE,
						.len = d->size - d->pos };
	if (d->pos < size)
		ret = qed_map(side->image, d->pos,
			      qed_min(qed_min(size, d->size) - d->pos,
				      QED_PLAN_LEN),
			      &side->extent);
	if (ret < 0)
		return qed_blame(&d->transfer, d->planning, ret, side->image,
				 "read", d->pos);
	side->end = d->pos + side->extent.len;
	if (side->extent.kind == QED_MAP_DATA)
		side->zero_from = UINT64_MAX;
	return 0;
}

/* Do both chains have the bytes at d->pos from one place of one file? */
static bool same_place(const struct differ *d)
{
	const struct side *old = &d->old, *new = &d->new;
	const struct qed_file *a, *b;

	if (old->extent.kind != QED_MAP_DATA || new->extent.kind != QED_MAP_DATA)
		return false;
	a = old->image->chain.layers[old->extent.depth]->source.file;
	b = new->image->chain.layers[new->extent.depth]->source.file;
	return qed_file_is_same(a, b) &&
	       old->extent.file_off + (d->pos - old->start) ==
		       new->extent.file_off + (d->pos - new->start);
}

/* Need the bytes at d->pos be looked at, or is it clear that nothing changes? */
static bool may_differ(const struct differ *d)
{
	const struct qed_map_extent *old = &d->old.extent;

	/* The image's own. */
	if (old->kind != QED_MAP_HOLE && old->depth == 0)
		return false;
	return (old->kind == QED_MAP_DATA ||
		d->new.extent.kind == QED_MAP_DATA) && !same_place(d);
}

/* Looks at both chains from d->pos on. */
static int look(struct differ *d, uint64_t *end)
{
	int ret = find_extent(d, &d->old);

	if (ret == 0)
		ret = find_extent(d, &d->new);
	*end = qed_min(d->old.end, d->new.end);
	return ret;
}

/* Goes on over extents that may differ, up to `limit`. */
static int pass_differences(struct differ *d, uint64_t limit)
{
	uint64_t end = qed_min(d->old.end, d->new.end);
	int ret = 0;

	do {
		d->pos = qed_min(end, limit);
		if (d->pos < limit)
			ret = look(d, &end);
	} while (ret == 0 && d->pos < limit && may_differ(d));
	return ret;
}

static bool no_data(const struct side *side, const struct qed_piece *piece)
{
	return side->zero_from <= piece->disk_off &&
	       side->end >= piece->disk_off + piece->len;
}

/* From the cluster on in which d->pos lies, which may differ. */
static int make_piece(struct differ *d, struct qed_piece *piece)
{
	uint64_t most = qed_max(QED_PIECE_MAX, d->cluster);
	int ret;

	piece->disk_off = qed_round_down(d->pos, d->cluster);
	ret = pass_differences(d, qed_min(piece->disk_off + most, d->size));
	d->pos = qed_min(qed_round_up(d->pos, d->cluster), d->size);
	piece->len = d->pos - piece->disk_off;
	piece->value = (no_data(&d->old, piece) ? OLD_ZERO : 0) |
		       (no_data(&d->new, piece) ? NEW_ZERO : 0);
	return ret;
}

static int plan(struct qed_transfer *transfer, struct qed_piece *piece,
		uint64_t *passed)
{
	struct differ *d = transfer->opaque;
	uint64_t end;

	d->planning = piece;
	for (unsigned i = 0; i < QED_PLAN_STEPS; i++) {
		uint64_t before = d->pos;
		int ret;

		if (d->pos >= d->size)
			return QED_PIECE_NONE;
		ret = look(d, &end);
		if (ret < 0)
			return ret;
		if (may_differ(d))
			return make_piece(d, piece);
		d->pos = end;
		*passed += end - before;
	}
	return QED_PIECE_LATER;
}

/* --- what is done about it ------------------------------------------------------- */

/* What is to be done with a cluster, or with a part of a large one. */
enum verdict {
	LEAVE,				/* both chains show the same */
	ZERO,				/* the old one shows zeroes */
	COPY,
};

/* Bytes of both chains; null: zeroes. */
struct bytes {
	const uint8_t *old, *new;
};

static bool is_zero(const uint8_t *buf, uint64_t len)
{
	return !buf || qed_is_zero(buf, len);
}

static enum verdict judge(const struct bytes *bytes, uint64_t at, uint64_t len)
{
	const uint8_t *old = bytes->old ? bytes->old + at : NULL;
	const uint8_t *new = bytes->new ? bytes->new + at : NULL;

	if (old && new && memcmp(old, new, len) == 0)
		return LEAVE;
	if (is_zero(old, len))
		return is_zero(new, len) ? LEAVE : ZERO;
	return COPY;
}

static int read_side(struct qed_image *image, bool zero, uint8_t *buf,
		     uint64_t disk_off, uint64_t len, const uint8_t **bytes)
{
	int64_t n;

	*bytes = NULL;
	if (zero || !image || disk_off >= image->size)
		return 0;
	n = qed_pread(image, buf, len, disk_off);
	if (n < 0)
		return (int)n;
	/* The new chain's disk may be shorter. */
	memset(buf + n, 0, len - (uint64_t)n);
	*bytes = buf;
	return 0;
}

static int read_both(struct differ *d, const struct qed_piece *piece,
		     uint64_t disk_off, uint64_t len, struct bytes *bytes)
{
	struct qed_image *image = d->old.image;
	int ret = read_side(image, piece->value & OLD_ZERO, piece->buf[0],
			    disk_off, len, &bytes->old);

	if (ret == 0) {
		image = d->new.image;
		ret = read_side(image, piece->value & NEW_ZERO, piece->buf[1],
				disk_off, len, &bytes->new);
	}
	return ret < 0 ? qed_blame(&d->transfer, piece, ret, image, "read",
				   disk_off) :
			 0;
}

static int fail_write(struct differ *d, const struct qed_piece *piece, int err,
		      uint64_t disk_off)
{
	return err < 0 ? qed_blame(&d->transfer, piece, err, d->old.image,
				   "write", disk_off) :
			 0;
}

static int carry_out(const struct differ *d, enum verdict verdict,
		     const struct bytes *bytes, uint64_t disk_off, uint64_t at,
		     uint64_t len)
{
	int64_t n = 0;

	if (verdict == ZERO)
		return qed_zero_sync(d->old.image, disk_off + at, len);
	if (verdict == COPY)
		n = qed_pwrite(d->old.image, bytes->old + at, len,
			       disk_off + at);
	if (n < 0)
		return (int)n;
	qed_file_write_behind(d->old.image->top->source.file, (uint64_t)n);
	return 0;
}

/* A piece of whole clusters: neighbours that are alike go together. */
static int work_clusters(struct differ *d, const struct qed_piece *piece)
{
	struct bytes bytes;
	uint64_t at = 0, end;
	int ret = read_both(d, piece, piece->disk_off, piece->len, &bytes);

	if (ret < 0 || judge(&bytes, 0, piece->len) == LEAVE)
		return ret;
	for (; ret == 0 && at < piece->len; at = end) {
		enum verdict verdict, next;

		end = qed_min(at + d->cluster, piece->len);
		verdict = judge(&bytes, at, end - at);
		while (end < piece->len) {
			uint64_t n = qed_min(d->cluster, piece->len - end);

			next = judge(&bytes, end, n);
			if (next != verdict)
				break;
			end += n;
		}
		ret = fail_write(d, piece,
				 carry_out(d, verdict, &bytes, piece->disk_off,
					   at, end - at),
				 piece->disk_off + at);
	}
	return ret;
}

static const uint8_t zeroes[QED_PIECE_MAX];

/*
 * One cluster that is larger than the buffers.  The first difference decides: a
 * write to a part gives all of it to the image, as the old chain shows it.
 */
static int work_large(struct differ *d, const struct qed_piece *piece)
{
	for (uint64_t at = 0; at < piece->len; at += QED_PIECE_MAX) {
		uint64_t off = piece->disk_off + at;
		uint64_t len = qed_min(QED_PIECE_MAX, piece->len - at);
		struct bytes bytes;
		enum verdict verdict;
		int ret = read_both(d, piece, off, len, &bytes);

		verdict = ret < 0 ? LEAVE : judge(&bytes, 0, len);
		if (ret < 0)
			return ret;
		if (verdict == ZERO && piece->value & OLD_ZERO)
			return fail_write(d, piece,
					  qed_zero_sync(d->old.image,
							piece->disk_off,
							piece->len),
					  piece->disk_off);
		if (verdict == LEAVE)
			continue;
		if (verdict == ZERO)
			bytes.old = zeroes;
		return fail_write(d, piece,
				  carry_out(d, COPY, &bytes, off, 0, len), off);
	}
	return 0;
}

static int work(struct qed_transfer *transfer, struct qed_piece *piece)
{
	struct differ *d = transfer->opaque;

	return d->cluster > QED_PIECE_MAX ? work_large(d, piece) :
					    work_clusters(d, piece);
}

/* --- how it ends ----------------------------------------------------------------- */

/* Damage, and a flush that failed, have been logged where they happened. */
static bool is_logged(const struct qed_image *image, int err)
{
	return err == -EUCLEAN || qed_meta_failed(image->meta);
}

static int report(const struct differ *d, int err)
{
	struct qed_image *image = d->old.image;
	const char *path = qed_image_get_path(image, 0);
	const char *message = d->transfer.message;

	if (is_logged(image, err))
		return err;
	if (!message || err == -ECANCELED)
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s: cannot be rebased: %s", path,
			      strerror(-err));
	else
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s; %s keeps its backing file: %s", message,
			      path, qed_next_step(err));
	return err;
}

static int make_durable(struct qed_image *image)
{
	int ret = qed_meta_clean(image->meta);

	if (ret < 0 && !is_logged(image, ret))
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s: what was copied cannot be made durable: %s; "
			      "it keeps its backing file: %s",
			      qed_image_get_path(image, 0), strerror(-ret),
			      qed_next_step(ret));
	return ret;
}

int qed_differ_copy(struct qed_image *image, struct qed_image *other,
		    const struct qed_job *job)
{
	struct differ d = { .old = { .image = image },
			    .new = { .image = other },
			    .cluster = image->top->header.cluster_size,
			    .size = image->size };
	int ret;

	d.transfer = (struct qed_transfer){ .nbufs = 2,
					    .total = d.size,
					    .job = job,
					    .plan = plan,
					    .work = work,
					    .opaque = &d };
	image->zero_entries = true;
	ret = qed_transfer_run(&d.transfer);
	if (ret < 0)
		ret = report(&d, ret);
	free(d.transfer.message);
	return ret < 0 ? ret : make_durable(image);
}
