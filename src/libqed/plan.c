/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Cuts a disk that is to be copied into pieces, by its map.  A piece begins and
 * ends at a unit of the target, but for the end of the disk.
 *
 * Thread model: there is one plan at a time; what it changes in the copy is its
 * own.
 */
#include "config.h"

#include "convert.h"

#include <errno.h>

#define ZERO_MAX  (UINT64_C(1) << 26)	/* bytes that are zeroed at once, */
#define SHARE_MAX (UINT64_C(1) << 28)	/* and shared */
#define AHEAD_LEN (UINT64_C(1) << 24)	/* bytes of data to be asked for early */
#define AHEAD_STEPS 64u			/* extents that are looked at for that, */
#define AHEAD_MAX QED_PLAN_LEN		/* and bytes of disk */
#define BLOCK     4096u			/* hosts share space by such */

enum span_kind {
	SPAN_SKIP,			/* the target has it already */
	SPAN_ZERO,
	SPAN_DATA,
};

/* How much of an extent has to be read. */
static uint64_t data_len(const struct qed_map_extent *extent)
{
	return extent->kind == QED_MAP_DATA ? extent->len : 0;
}

static int map_at(const struct qed_conversion *copy,
		  const struct qed_convert_side *side, uint64_t pos,
		  struct qed_map_extent *extent, struct qed_file **file)
{
	return qed_origin_map(&side->origin, pos,
			      qed_min(copy->size - pos, QED_PLAN_LEN), extent,
			      file);
}

static int look(struct qed_conversion *copy, struct qed_convert_side *side,
		uint64_t pos)
{
	int ret;

	if (pos >= side->start && pos < side->end)
		return 0;
	/* Damage that was found ahead has been complained of. */
	ret = pos == side->ahead ? side->ahead_err : 0;
	if (ret == 0)
		ret = map_at(copy, side, pos, &side->extent, &side->file);
	if (ret < 0)
		return qed_convert_fail_side(copy, copy->planning, ret, side,
					     "map", pos);
	side->start = pos;
	side->end = pos + side->extent.len;
	side->passed += data_len(&side->extent);
	return 0;
}

static bool is_data(const struct qed_convert_side *side)
{
	return side->extent.kind == QED_MAP_DATA;
}

static uint64_t file_off_at(const struct qed_convert_side *side, uint64_t pos)
{
	return side->extent.file_off + (pos - side->start);
}

/* Until a try has shown that the host cannot. */
static bool may_share(const struct qed_conversion *copy)
{
	const struct qed_file *from = copy->source.file;
	const struct qed_file *to = copy->target.file;
	bool offload = copy->options->flags & QED_CONVERT_OFFLOAD;

	return copy->share != QED_SHARE_NO && from && to &&
	       !from->block_device && !to->block_device &&
	       (offload || from->dev == to->dev);
}

/*
 * What comes after what has been asked for.  Some of it is always on its way while
 * the pieces before it, from `pos` on, are copied: where runs of data lie apart,
 * nobody else asks.
 */
static void look_ahead(const struct qed_conversion *copy,
		       struct qed_convert_side *side, uint64_t pos)
{
	uint64_t left = is_data(side) ? side->end - pos : 0;
	uint64_t until = qed_min(copy->size, side->end + AHEAD_MAX);

	for (unsigned i = 0; i < AHEAD_STEPS && side->ahead < until &&
	     side->asked < side->passed - left + AHEAD_LEN; i++) {
		struct qed_map_extent extent;
		struct qed_file *file;

		/* It ends the job when it is that extent's turn. */
		if (!side->ahead_err)
			side->ahead_err = map_at(copy, side, side->ahead,
						 &extent, &file);
		if (side->ahead_err)
			return;
		if (extent.kind == QED_MAP_DATA && file)
			qed_file_read_ahead(file, extent.file_off, extent.len);
		side->asked += data_len(&extent);
		side->ahead += extent.len;
	}
}

/* It will be read from `pos` on; what comes next will be if all data is. */
static void read_ahead(const struct qed_conversion *copy,
		       struct qed_convert_side *side, uint64_t pos)
{
	if (side->ahead < side->end) {
		if (is_data(side) && side->file)
			qed_file_read_ahead(side->file, file_off_at(side, pos),
					    side->end - pos);
		side->ahead = side->end;
		side->asked = side->passed;
		side->ahead_err = 0;
	}
	if (!copy->has_base && !may_share(copy))
		look_ahead(copy, side, pos);
}

/* Does the backing file's chain have it from the same place? */
static bool is_same(const struct qed_conversion *copy, uint64_t pos)
{
	const struct qed_convert_side *source = &copy->source;
	const struct qed_convert_side *base = &copy->base;

	if (!is_data(source) || !is_data(base))
		return !is_data(source) && !is_data(base);
	return source->file && base->file &&
	       qed_file_is_same(source->file, base->file) &&
	       file_off_at(source, pos) == file_off_at(base, pos);
}

/* What is at `pos`, for *len bytes. */
static int find_span(struct qed_conversion *copy, uint64_t pos,
		     enum span_kind *kind, uint64_t *len)
{
	uint64_t end;
	int ret = look(copy, &copy->source, pos);

	if (ret == 0 && copy->has_base)
		ret = look(copy, &copy->base, pos);
	if (ret < 0)
		return ret;
	end = copy->source.end;
	*kind = SPAN_DATA;
	if (copy->has_base) {
		end = qed_min(end, copy->base.end);
		if (is_same(copy, pos))
			*kind = SPAN_SKIP;
	} else if (!is_data(&copy->source) && copy->options->sparse_size) {
		*kind = copy->target.zeroed ? SPAN_SKIP : SPAN_ZERO;
	}
	*len = end - pos;
	return 0;
}

/* The whole units that the `len` bytes at `pos`, where one begins, have. */
static uint64_t whole_units(const struct qed_conversion *copy, uint64_t pos,
			    uint64_t len)
{
	if (pos + len >= copy->size)
		return copy->size - pos;
	return qed_round_down(len, copy->target.unit);
}

/* --- sharing -------------------------------------------------------------- */

/* Asks the host, with a block of the source's at `pos`. */
static bool try_share(struct qed_conversion *copy, uint64_t pos)
{
	struct qed_target *target = &copy->target;
	uint64_t to = qed_min(target->probe_off, pos);

	if (copy->options->flags & QED_CONVERT_OFFLOAD)
		return true;
	return qed_file_clone(target->file, to, BLOCK, copy->source.file,
			      file_off_at(&copy->source, pos)) == 0;
}

/* How much from `pos` on can be had without reading it. */
static uint64_t shareable(struct qed_conversion *copy, uint64_t pos,
			  uint64_t len)
{
	const struct qed_convert_side *source = &copy->source;
	const struct qed_target *target = &copy->target;
	uint64_t row_end = qed_round_down(pos, target->row) + target->row;

	if (!may_share(copy))
		return 0;
	len = qed_min(len, row_end - pos);
	len = qed_round_down(qed_min(len, copy->size - pos),
			     qed_max(target->unit, BLOCK));
	if (!len || pos % BLOCK || file_off_at(source, pos) % BLOCK)
		return 0;
	if (copy->share == QED_SHARE_UNKNOWN)
		copy->share = try_share(copy, pos) ? QED_SHARE_YES :
						     QED_SHARE_NO;
	return copy->share == QED_SHARE_YES ? qed_min(len, SHARE_MAX) : 0;
}

/* --- pieces --------------------------------------------------------------- */

static void set_piece(struct qed_conversion *copy, struct qed_piece *piece,
		      enum qed_convert_kind kind, uint64_t len)
{
	piece->disk_off = copy->pos;
	piece->len = len;
	piece->value = kind;
	copy->pos += len;
}

/* Data, and what is between if that is less than a unit: what fits a buffer. */
static int gather(struct qed_conversion *copy, struct qed_piece *piece)
{
	uint64_t unit = copy->target.unit, max = qed_max(unit, QED_PIECE_MAX);
	uint64_t left = copy->size - copy->pos, len = 0;

	while (len < qed_min(max, left)) {
		enum span_kind kind;
		uint64_t n;
		int ret = find_span(copy, copy->pos + len, &kind, &n);

		if (ret < 0)
			return ret;
		if (len > 0 && kind != SPAN_DATA &&
		    qed_round_up(len, unit) + unit <= len + n)
			break;
		read_ahead(copy, &copy->source, copy->pos + len);
		if (copy->has_base)
			read_ahead(copy, &copy->base, copy->pos + len);
		len += n;
	}
	len = qed_min(qed_round_up(qed_min(len, max), unit), left);
	set_piece(copy, piece, QED_COPY_DATA, len);
	return 0;
}

static int plan_images(struct qed_conversion *copy, struct qed_piece *piece,
		       uint64_t *passed)
{
	for (unsigned i = 0; i < QED_PLAN_STEPS; i++) {
		enum span_kind kind;
		uint64_t len, whole;
		int ret;

		if (copy->pos >= copy->size)
			return QED_PIECE_NONE;
		ret = find_span(copy, copy->pos, &kind, &len);
		if (ret < 0)
			return ret;
		whole = kind == SPAN_DATA ?
				shareable(copy, copy->pos, len) :
				whole_units(copy, copy->pos, len);
		if (!whole)
			return gather(copy, piece);
		if (kind != SPAN_SKIP) {
			set_piece(copy, piece,
				  kind == SPAN_ZERO ? QED_COPY_ZERO :
						      QED_COPY_SHARE,
				  kind == SPAN_ZERO ? qed_min(whole, ZERO_MAX) :
						      whole);
			return 0;
		}
		copy->pos += whole;
		*passed += whole;
	}
	return QED_PIECE_LATER;
}

/* Of a stream it turns out only now that it is too long. */
static int refuse_long(struct qed_conversion *copy, const char *input,
		       const struct qed_piece *piece)
{
	uint64_t most = copy->options->max_size, limit = copy->target.limit;

	if (copy->pos > most) {
		copy->advice = "raise that limit";
		return qed_transfer_fail(&copy->transfer, piece, -EFBIG, input,
					 "go on, it is larger than allowed",
					 most);
	}
	if (qed_round_up(copy->pos, QED_SECTOR) > limit) {
		copy->advice = "it has to be larger";
		return qed_transfer_fail(&copy->transfer, piece, -ENOSPC,
					 copy->target.path, "write", limit);
	}
	return 0;
}

/* The next piece of a stream is read here, as that has to be done in order. */
static int plan_stream(struct qed_conversion *copy, struct qed_piece *piece)
{
	const char *name = copy->options->input_name;
	const char *input = name ? name : "standard input";
	int64_t n = qed_stream_read(&copy->input, piece->buf[0], QED_PIECE_MAX);

	if (n == -ECANCELED)
		return (int)n;
	if (n < 0)
		return qed_transfer_fail(&copy->transfer, piece, (int)n, input,
					 "read", copy->pos);
	if (n == 0)
		return QED_PIECE_NONE;
	set_piece(copy, piece, QED_COPY_STREAM, (uint64_t)n);
	copy->transfer.total = copy->pos;
	return refuse_long(copy, input, piece);
}

int qed_convert_plan(struct qed_transfer *transfer, struct qed_piece *piece,
		     uint64_t *passed)
{
	struct qed_conversion *copy = transfer->opaque;

	copy->planning = piece;
	return copy->streaming ? plan_stream(copy, piece) :
				 plan_images(copy, piece, passed);
}
