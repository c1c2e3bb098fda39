/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Do two images have the same disk?  One walk over both maps cuts the disk into
 * pieces that are alike in each; what is not data on either side, and what both
 * have from one place of one file, is stepped over.
 *
 * Thread model: plan's fields are plan's; the finding is under `lock`.
 */
#include "config.h"

#include "request.h"
#include "transfer.h"

#include <errno.h>
#include <string.h>

#define DIFFER 1			/* beside 0 and -errno */

/* One of the two images, and the extent of it that was found last. */
struct side {
	struct qed_image *image;
	struct qed_map_extent extent;
	uint64_t start, end;		/* of extent, on the disk */
};

struct compare {
	struct qed_transfer transfer;
	struct side side[2];
	uint64_t end;			/* of the longer disk */
	uint64_t pos;			/* of the next piece */
	bool strict;
	pthread_mutex_t lock;
	bool found;			/* under lock */
	struct qed_difference *difference;	/* under lock */
};

/* Keeps what was found, if nothing was that comes before it. */
static void note(struct compare *compare, const struct qed_difference *what)
{
	pthread_mutex_lock(&compare->lock);
	if (!compare->found || what->disk_off < compare->difference->disk_off)
		*compare->difference = *what;
	compare->found = true;
	pthread_mutex_unlock(&compare->lock);
}

static int find_extent(struct compare *compare, unsigned i)
{
	struct side *side = &compare->side[i];
	uint64_t pos = compare->pos;
	int ret;

	if (pos < side->end)
		return 0;
	if (pos >= side->image->size) {
		side->extent.kind = QED_MAP_HOLE;
		side->end = compare->end;
		return 0;
	}
	ret = qed_map(side->image, pos,
		      qed_min(side->image->size - pos, QED_PLAN_LEN),
		      &side->extent);
	if (ret < 0) {
		note(compare, &(struct qed_difference){ .disk_off = pos,
							.image = i,
							.mapping = true });
		return ret;
	}
	side->start = pos;
	side->end = pos + side->extent.len;
	return 0;
}

/* In strict mode the ends of the disks are alike, and kinds have to be. */
static bool kinds_differ(const struct compare *compare)
{
	return compare->strict && compare->side[0].extent.kind !=
					  compare->side[1].extent.kind;
}

static bool is_data(const struct compare *compare, unsigned i)
{
	return compare->side[i].extent.kind == QED_MAP_DATA;
}

/* Of the byte at compare->pos, in the file that side->extent is in. */
static uint64_t file_off(const struct compare *compare, const struct side *side)
{
	return side->extent.file_off + (compare->pos - side->start);
}

/* As of two overlays of one image: then the bytes are the same. */
static bool same_place(const struct compare *compare)
{
	const struct side *a = &compare->side[0], *b = &compare->side[1];

	return is_data(compare, 0) && is_data(compare, 1) &&
	       qed_file_is_same(
		       a->image->chain.layers[a->extent.depth]->source.file,
		       b->image->chain.layers[b->extent.depth]->source.file) &&
	       file_off(compare, a) == file_off(compare, b);
}

static int plan(struct qed_transfer *transfer, struct qed_piece *piece,
		uint64_t *passed)
{
	struct compare *compare = transfer->opaque;
	uint64_t len;

	for (unsigned i = 0; i < QED_PLAN_STEPS; i++, compare->pos += len) {
		int ret;

		if (compare->pos >= compare->end)
			return QED_PIECE_NONE;
		ret = find_extent(compare, 0);
		if (ret == 0)
			ret = find_extent(compare, 1);
		if (ret < 0)
			return ret;
		if (kinds_differ(compare)) {
			note(compare, &(struct qed_difference){
					      .kind = QED_DIFFERENT_KINDS,
					      .disk_off = compare->pos });
			return QED_PIECE_NONE;
		}
		len = qed_min(compare->side[0].end, compare->side[1].end) -
		      compare->pos;
		if ((is_data(compare, 0) || is_data(compare, 1)) &&
		    !same_place(compare)) {
			piece->disk_off = compare->pos;
			piece->len = qed_min(len, QED_PIECE_MAX);
			piece->value = (uint64_t)is_data(compare, 0) |
				       (uint64_t)is_data(compare, 1) << 1;
			compare->pos += piece->len;
			return 0;
		}
		*passed += len;
	}
	return QED_PIECE_LATER;
}

static int read_side(struct compare *compare, const struct qed_piece *piece,
		     unsigned i)
{
	int64_t n;

	if (!(piece->value >> i & 1))
		return 0;
	n = qed_pread(compare->side[i].image, piece->buf[i], piece->len,
		      piece->disk_off);
	if (n >= 0)
		return 0;
	note(compare, &(struct qed_difference){ .disk_off = piece->disk_off,
						.image = i });
	return (int)n;
}

/* Do `len` bytes at `at` of the piece differ?  A side without data is zeroes. */
static bool differ(const struct qed_piece *piece, uint64_t at, uint64_t len)
{
	const uint8_t *a = piece->buf[0] + at, *b = piece->buf[1] + at;

	switch (piece->value) {
	case 1:
		return !qed_is_zero(a, len);
	case 2:
		return !qed_is_zero(b, len);
	default:
		return memcmp(a, b, len) != 0;
	}
}

static int work(struct qed_transfer *transfer, struct qed_piece *piece)
{
	struct compare *compare = transfer->opaque;
	uint64_t at = 0;
	int ret = read_side(compare, piece, 0);

	if (ret == 0)
		ret = read_side(compare, piece, 1);
	if (ret < 0 || !differ(piece, 0, piece->len))
		return ret;
	while (!differ(piece, at, qed_min(QED_SECTOR, piece->len - at)))
		at += QED_SECTOR;
	note(compare, &(struct qed_difference){ .kind = QED_DIFFERENT_BYTES,
						.disk_off = piece->disk_off +
							    at });
	return DIFFER;
}

int qed_compare(struct qed_image *image1, struct qed_image *image2, bool strict,
		const struct qed_job *job, struct qed_difference *difference)
{
	struct compare compare = {
		.side = { { .image = image1 }, { .image = image2 } },
		.end = qed_max(image1->size, image2->size),
		.strict = strict,
		.difference = difference,
	};
	int ret;

	*difference = (struct qed_difference){ .kind = QED_SAME };
	if (strict && image1->size != image2->size) {
		difference->kind = QED_DIFFERENT_SIZES;
		return 0;
	}
	compare.transfer = (struct qed_transfer){ .nbufs = 2,
						  .total = compare.end,
						  .job = job,
						  .plan = plan,
						  .work = work,
						  .opaque = &compare };
	pthread_mutex_init(&compare.lock, NULL);
	ret = qed_transfer_run(&compare.transfer);
	pthread_mutex_destroy(&compare.lock);
	return ret == DIFFER ? 0 : ret;
}
