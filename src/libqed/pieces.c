/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies one piece of a disk.  It is read, judged unit by unit, and written
 * side by side with others; only the places in a new image are given in the
 * disk's order.
 *
 * Thread model: a draft and a piece's buffers are the worker's; the builder and
 * last_off, last_place belong to whoever has the turn.
 */
#include "config.h"

#include "blame.h"
#include "convert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNITS_MAX  (QED_PIECE_MAX / QED_SECTOR)
#define PLACES_MAX (QED_PIECE_MAX / QED_CLUSTER_SIZE_MIN)
#define HOLE_MIN   UINT64_C(65536)	/* left out of a cluster: not less */

enum unit_kind {
	UNIT_LEAVE,			/* nothing to do */
	UNIT_ZERO,
	UNIT_DATA,
};

/* What becomes of each unit of a piece that has its data in a buffer. */
struct draft {
	uint64_t disk_off, len, unit;
	unsigned n;			/* units; the last one may be cut */
	uint8_t kind[UNITS_MAX];
	uint64_t place[PLACES_MAX];	/* of DATA, if the target has places */
};

static uint64_t unit_len(const struct draft *d, unsigned i)
{
	return qed_min(d->unit, d->len - i * d->unit);
}

static bool is_zero(const void *buf, uint64_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf,
			     .iov_len = len };

	return qed_iov_is_zero(&iov, 1, 0, len);
}

int qed_convert_fail_side(struct qed_conversion *copy,
			  const struct qed_piece *piece, int err,
			  const struct qed_convert_side *side, const char *what,
			  uint64_t pos)
{
	uint64_t off;
	struct qed_image *image = qed_origin_at(&side->origin, pos, &off);

	return qed_blame(&copy->transfer, piece, err, image, what, off);
}

static int fail_write(struct qed_conversion *copy,
		      const struct qed_piece *piece, int err, uint64_t disk_off)
{
	return err < 0 ? qed_transfer_fail(&copy->transfer, piece, err,
					   copy->target.path, "write",
					   disk_off) :
			 0;
}

static int read_side(struct qed_conversion *copy, const struct qed_piece *piece,
		     const struct qed_convert_side *side, void *buf,
		     uint64_t len, uint64_t pos)
{
	int ret = qed_origin_read(&side->origin, buf, len, pos);

	return ret < 0 ? qed_convert_fail_side(copy, piece, ret, side,
					       "read", pos) :
			 0;
}

/* --- judging -------------------------------------------------------------- */

static enum unit_kind judge_unit(const struct qed_conversion *copy,
				 const uint8_t *data, const uint8_t *base,
				 uint64_t len)
{
	if (base && memcmp(data, base, len) == 0)
		return UNIT_LEAVE;
	if (!copy->options->sparse_size || !is_zero(data, len))
		return UNIT_DATA;
	return !base && copy->target.zeroed ? UNIT_LEAVE : UNIT_ZERO;
}

/* Runs of zeroes between data that are too short to be worth a hole. */
static void fill_short_runs(const struct qed_conversion *copy, struct draft *d)
{
	uint64_t least = copy->options->sparse_size;
	unsigned from = d->n;		/* behind the last data */

	for (unsigned i = 0; i < d->n; i++) {
		if (d->kind[i] != UNIT_DATA)
			continue;
		if (i > from && (i - from) * d->unit < least)
			memset(d->kind + from, UNIT_DATA, i - from);
		from = i + 1;
	}
}

/* True if there is anything to do. */
static bool judge(const struct qed_conversion *copy, struct draft *d,
		  const uint8_t *data, const uint8_t *base)
{
	bool any = false;

	for (unsigned i = 0; i < d->n; i++) {
		uint64_t off = i * d->unit;

		d->kind[i] = (uint8_t)judge_unit(copy, data + off,
						 base ? base + off : NULL,
						 unit_len(d, i));
		any |= d->kind[i] != UNIT_LEAVE;
	}
	if (any && !base && copy->options->sparse_size > d->unit)
		fill_short_runs(copy, d);
	return any;
}

/* --- carrying it out ------------------------------------------------------ */

static int place_unit(struct qed_conversion *copy, struct draft *d, unsigned i)
{
	struct qed_target *target = &copy->target;
	uint64_t off = d->disk_off + i * d->unit;

	if (d->kind[i] == UNIT_LEAVE || !target->ops->place)
		return 0;
	return target->ops->place(target, off, d->kind[i] == UNIT_ZERO,
				  &d->place[i]);
}

/* The turn stays with a piece that is written in turn until it is over. */
static int take_turn(struct qed_conversion *copy, const struct qed_piece *piece,
		     struct draft *d)
{
	struct qed_target *target = &copy->target;
	int ret;

	if (!target->ops->place && !target->in_turn)
		return 0;
	ret = qed_transfer_await_turn(&copy->transfer, piece);
	for (unsigned i = 0; ret == 0 && i < d->n; i++)
		ret = fail_write(copy, piece, place_unit(copy, d, i),
				 d->disk_off + i * d->unit);
	if (ret == 0 && !target->in_turn)
		qed_transfer_pass_turn(&copy->transfer, piece);
	return ret;
}

static uint64_t place_of(const struct qed_conversion *copy,
			 const struct draft *d, unsigned i)
{
	return copy->target.ops->place ? d->place[i] :
					 d->disk_off + i * d->unit;
}

/* Units from i on that are alike and in a row in the target. */
static unsigned run_length(const struct qed_conversion *copy,
			   const struct draft *d, unsigned i)
{
	unsigned n = 1;

	while (i + n < d->n && d->kind[i + n] == d->kind[i] &&
	       (d->kind[i] != UNIT_DATA ||
		place_of(copy, d, i + n) ==
			place_of(copy, d, i) + n * d->unit))
		n++;
	return n;
}

/*
 * Writes into a place.  In a large cluster, which reads as zeroes as yet, long
 * runs of zeroes are left out: it is allocated, but takes up less space.
 */
static int write_place(struct qed_conversion *copy, const uint8_t *buf,
		       uint64_t len, uint64_t place)
{
	struct qed_target *target = &copy->target;
	uint64_t hole = qed_max(HOLE_MIN, copy->options->sparse_size);
	uint64_t from = 0, off = 0;
	int ret = 0;

	if (!target->ops->place || target->unit <= HOLE_MIN ||
	    !copy->options->sparse_size)
		return target->ops->write(target, buf, len, place);
	while (ret == 0 && off < len) {
		uint64_t n = qed_min(hole, len - off);
		bool zero = is_zero(buf + off, n);

		if (zero && off > from)
			ret = target->ops->write(target, buf + from, off - from,
						 place + from);
		off += n;
		if (zero)
			from = off;
	}
	if (ret == 0 && off > from)
		ret = target->ops->write(target, buf + from, off - from,
					 place + from);
	return ret;
}

static int write_run(struct qed_conversion *copy, const struct draft *d,
		     unsigned i, unsigned n, const uint8_t *buf)
{
	struct qed_target *target = &copy->target;
	uint64_t from = i * d->unit, end = qed_min(from + n * d->unit, d->len);

	if (d->kind[i] == UNIT_DATA)
		return write_place(copy, buf + from, end - from,
				   place_of(copy, d, i));
	if (d->kind[i] == UNIT_ZERO && !target->ops->place)
		return target->ops->zero(target, d->disk_off + from,
					 end - from);
	return 0;
}

static int carry_out(struct qed_conversion *copy, const struct qed_piece *piece,
		     const struct draft *d, const uint8_t *buf)
{
	unsigned n;

	for (unsigned i = 0; i < d->n; i += n) {
		int ret;

		n = run_length(copy, d, i);
		ret = fail_write(copy, piece, write_run(copy, d, i, n, buf),
				 d->disk_off + i * d->unit);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static void draft_init(struct draft *d, uint64_t unit, uint64_t disk_off,
		       uint64_t len)
{
	d->disk_off = disk_off;
	d->len = len;
	d->unit = unit;
	d->n = (unsigned)((len + unit - 1) / unit);
}

static int write_buffer(struct qed_conversion *copy, struct qed_piece *piece,
			const uint8_t *base)
{
	struct draft d;
	int ret;

	draft_init(&d, copy->target.unit, piece->disk_off, piece->len);
	if (!judge(copy, &d, piece->buf[0], base) && !copy->target.in_turn)
		return 0;
	ret = take_turn(copy, piece, &d);
	return ret < 0 ? ret : carry_out(copy, piece, &d, piece->buf[0]);
}

/* --- the kinds of pieces -------------------------------------------------- */

/* Reads part of a piece, and of the backing file: *base is null or that. */
static int read_part(struct qed_conversion *copy, struct qed_piece *piece,
		     uint64_t off, uint64_t len, const uint8_t **base)
{
	uint64_t pos = piece->disk_off + off;
	int ret = read_side(copy, piece, &copy->source, piece->buf[0], len,
			    pos);

	*base = copy->has_base ? piece->buf[1] : NULL;
	if (ret == 0 && copy->has_base)
		ret = read_side(copy, piece, &copy->base, piece->buf[1], len,
				pos);
	return ret;
}

/* A unit larger than the buffers, part by part, to see what it is. */
static int judge_large(struct qed_conversion *copy, struct qed_piece *piece,
		       struct draft *d)
{
	bool zero = copy->options->sparse_size, differs = !copy->has_base;

	for (uint64_t off = 0; off < piece->len && (zero || !differs);
	     off += QED_PIECE_MAX) {
		uint64_t len = qed_min(QED_PIECE_MAX, piece->len - off);
		const uint8_t *base;
		int ret = read_part(copy, piece, off, len, &base);

		if (ret < 0)
			return ret;
		zero = zero && is_zero(piece->buf[0], len);
		differs = differs || memcmp(piece->buf[0], base, len) != 0;
	}
	d->kind[0] = !differs ? UNIT_LEAVE : !zero ? UNIT_DATA :
		     copy->has_base ? UNIT_ZERO : UNIT_LEAVE;
	return 0;
}

/* Copies to places that have been given, whatever the bytes are. */
static int copy_placed(struct qed_conversion *copy, struct qed_piece *piece,
		       uint64_t disk_off, uint64_t len, uint64_t place)
{
	int ret = 0;

	while (ret == 0 && len > 0) {
		uint64_t n = qed_min(len, QED_PIECE_MAX);

		ret = read_side(copy, piece, &copy->source, piece->buf[0], n,
				disk_off);
		if (ret == 0)
			ret = fail_write(copy, piece,
					 write_place(copy, piece->buf[0], n,
						     place), disk_off);
		disk_off += n;
		place += n;
		len -= n;
	}
	return ret;
}

static int do_large(struct qed_conversion *copy, struct qed_piece *piece)
{
	struct draft d;
	int ret;

	draft_init(&d, copy->target.unit, piece->disk_off, piece->len);
	ret = judge_large(copy, piece, &d);
	if (ret < 0 || d.kind[0] == UNIT_LEAVE)
		return ret;
	ret = take_turn(copy, piece, &d);
	if (ret < 0 || d.kind[0] == UNIT_ZERO)
		return ret;
	return copy_placed(copy, piece, piece->disk_off, piece->len,
			   d.place[0]);
}

static int do_data(struct qed_conversion *copy, struct qed_piece *piece)
{
	const uint8_t *base;
	int ret;

	if (copy->target.unit > QED_PIECE_MAX)
		return do_large(copy, piece);
	ret = read_part(copy, piece, 0, piece->len, &base);
	return ret < 0 ? ret : write_buffer(copy, piece, base);
}

static int do_zero(struct qed_conversion *copy, struct qed_piece *piece)
{
	struct qed_target *target = &copy->target;
	int ret = 0;

	if (target->in_turn)
		ret = qed_transfer_await_turn(&copy->transfer, piece);
	return ret < 0 ? ret :
			 fail_write(copy, piece,
				    target->ops->zero(target, piece->disk_off,
						      piece->len),
				    piece->disk_off);
}

/* The part of a stream's piece that is in one unit larger than the buffers. */
static int do_stream_large(struct qed_conversion *copy, struct qed_piece *piece)
{
	struct qed_target *target = &copy->target;
	uint64_t unit = qed_round_down(piece->disk_off, target->unit);
	uint64_t place;
	int ret;

	if (copy->options->sparse_size && is_zero(piece->buf[0], piece->len))
		return 0;
	ret = qed_transfer_await_turn(&copy->transfer, piece);
	if (ret == 0 && copy->last_off != unit) {
		ret = target->ops->place(target, unit, false,
					 &copy->last_place);
		copy->last_off = unit;
	}
	if (ret < 0)
		return fail_write(copy, piece, ret, piece->disk_off);
	place = copy->last_place + (piece->disk_off - unit);
	qed_transfer_pass_turn(&copy->transfer, piece);
	return fail_write(copy, piece,
			  write_place(copy, piece->buf[0], piece->len, place),
			  piece->disk_off);
}

static int do_stream(struct qed_conversion *copy, struct qed_piece *piece)
{
	uint64_t len = qed_round_up(piece->len, QED_SECTOR);

	/* The end of the last sector. */
	memset(piece->buf[0] + piece->len, 0, len - piece->len);
	if (copy->target.unit > QED_PIECE_MAX)
		return do_stream_large(copy, piece);
	piece->len = len;
	return write_buffer(copy, piece, NULL);
}

/* --- shared pieces -------------------------------------------------------- */

/* Shares what is in a row on both sides; copies where the host cannot. */
static int share_run(struct qed_conversion *copy, struct qed_piece *piece,
		     uint64_t disk_off, uint64_t len, uint64_t place)
{
	bool offload = copy->options->flags & QED_CONVERT_OFFLOAD;
	struct qed_file *to = copy->target.file;
	int ret = 0;

	while (ret == 0 && len > 0) {
		struct qed_map_extent extent;
		struct qed_file *from;

		ret = qed_origin_map(&copy->source.origin, disk_off, len,
				     &extent, &from);
		if (ret < 0)
			return qed_convert_fail_side(copy, piece, ret,
						     &copy->source, "map",
						     disk_off);
		if (!from || (offload ?
			      qed_file_copy(to, place, extent.len, from,
					    extent.file_off) :
			      qed_file_clone(to, place, extent.len, from,
					     extent.file_off)) < 0)
			ret = copy_placed(copy, piece, disk_off, extent.len,
					  place);
		disk_off += extent.len;
		place += extent.len;
		len -= extent.len;
	}
	return ret;
}

/* Its places are in a row: plan has seen to it. */
static int do_share(struct qed_conversion *copy, struct qed_piece *piece)
{
	struct qed_target *target = &copy->target;
	uint64_t first = piece->disk_off, place;
	int ret = 0;

	if (target->ops->place)
		ret = qed_transfer_await_turn(&copy->transfer, piece);
	for (uint64_t off = 0; ret == 0 && target->ops->place &&
	     off < piece->len; off += target->unit) {
		ret = fail_write(copy, piece,
				 target->ops->place(target,
						    piece->disk_off + off,
						    false, &place),
				 piece->disk_off + off);
		if (off == 0)
			first = place;
	}
	if (ret < 0)
		return ret;
	if (target->ops->place)
		qed_transfer_pass_turn(&copy->transfer, piece);
	return share_run(copy, piece, piece->disk_off, piece->len, first);
}

int qed_convert_piece(struct qed_transfer *transfer, struct qed_piece *piece)
{
	struct qed_conversion *copy = transfer->opaque;

	switch ((enum qed_convert_kind)piece->value) {
	case QED_COPY_DATA:
		return do_data(copy, piece);
	case QED_COPY_ZERO:
		return do_zero(copy, piece);
	case QED_COPY_SHARE:
		return do_share(copy, piece);
	case QED_COPY_STREAM:
		return do_stream(copy, piece);
	}
	return -EINVAL;
}
