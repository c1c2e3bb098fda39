/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Another backing file; qed.h states the contract.
 *
 * The image is open with its old chain, the new one beside it.  Where the image
 * has nothing of its own, and the two show different bytes, it gets what the
 * old one shows: ordinary writes, which change nothing that the guest sees,
 * whenever the job ends.  What both have from the same place of the same file
 * is not read.  When all is durable the header gets the new name.
 *
 * Thread model: plan's fields are plan's.  Pieces are whole clusters, so no two
 * of them concern one.
 */
#include "config.h"

#include "backing.h"
#include "image.h"
#include "lock.h"
#include "rebase.h"
#include "sync.h"
#include "transfer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

struct rebase {
	const char *path;
	const struct qed_rebase_options *options;
	struct qed_engine *engine;	/* the images have shares of it */
	dev_t dev;			/* the image's */
	ino_t ino;
	struct side old, new;
	uint32_t cluster;		/* bytes, of the image */
	uint64_t size;			/* bytes of its disk */
	uint64_t pos;			/* of the next piece */
};

static int complain(const struct rebase *r, int err, const char *what)
{
	qed_log_write(&r->options->log, QED_LOG_ERROR, "%s: %s: %s", r->path,
		      what, strerror(-err));
	return err;
}

static int refuse(const struct rebase *r, int err, const char *why)
{
	qed_log_write(&r->options->log, QED_LOG_ERROR, "%s: %s", r->path, why);
	return err;
}

/* --- what differs --------------------------------------------------------------- */

static int find_extent(const struct rebase *r, struct side *side)
{
	uint64_t size = side->image ? side->image->size : 0;
	int ret = 0;

	if (r->pos < side->end)
		return 0;
	if (side->zero_from == UINT64_MAX || r->pos != side->end)
		side->zero_from = r->pos;
	side->start = r->pos;
	side->extent = (struct qed_map_extent){ .kind = QED_MAP_HOLE,
						.len = r->size - r->pos };
	if (r->pos < size)
		ret = qed_map(side->image, r->pos,
			      qed_min(size, r->size) - r->pos, &side->extent);
	side->end = r->pos + side->extent.len;
	if (side->extent.kind == QED_MAP_DATA)
		side->zero_from = UINT64_MAX;
	return ret;
}

/* Do both chains have the bytes at r->pos from one place of one file? */
static bool same_place(const struct rebase *r)
{
	const struct side *old = &r->old, *new = &r->new;
	const struct qed_file *a, *b;

	if (old->extent.kind != QED_MAP_DATA || new->extent.kind != QED_MAP_DATA)
		return false;
	a = old->image->chain.layers[old->extent.depth]->source.file;
	b = new->image->chain.layers[new->extent.depth]->source.file;
	return a->dev == b->dev && a->ino == b->ino &&
	       old->extent.file_off + (r->pos - old->start) ==
		       new->extent.file_off + (r->pos - new->start);
}

/* Need the bytes at r->pos be looked at, or is it clear that nothing changes? */
static bool may_differ(const struct rebase *r)
{
	const struct qed_map_extent *old = &r->old.extent;

	/* The image's own. */
	if (old->kind != QED_MAP_HOLE && old->depth == 0)
		return false;
	return (old->kind == QED_MAP_DATA ||
		r->new.extent.kind == QED_MAP_DATA) && !same_place(r);
}

/* Looks at both chains from r->pos on: 0 or -errno, logged. */
static int look(struct rebase *r, uint64_t *end)
{
	int ret = find_extent(r, &r->old);

	if (ret == 0)
		ret = find_extent(r, &r->new);
	*end = qed_min(r->old.end, r->new.end);
	return ret;
}

/* Goes on over extents that may differ, up to `limit`. */
static int pass_differences(struct rebase *r, uint64_t limit)
{
	uint64_t end = qed_min(r->old.end, r->new.end);
	int ret = 0;

	do {
		r->pos = qed_min(end, limit);
		if (r->pos < limit)
			ret = look(r, &end);
	} while (ret == 0 && r->pos < limit && may_differ(r));
	return ret;
}

static bool no_data(const struct side *side, const struct qed_piece *piece)
{
	return side->zero_from <= piece->disk_off &&
	       side->end >= piece->disk_off + piece->len;
}

/* From the cluster on in which r->pos lies, which may differ. */
static int make_piece(struct rebase *r, struct qed_piece *piece)
{
	uint64_t most = qed_max(QED_PIECE_MAX, r->cluster);
	int ret;

	piece->disk_off = qed_round_down(r->pos, r->cluster);
	ret = pass_differences(r, qed_min(piece->disk_off + most, r->size));
	r->pos = qed_min(qed_round_up(r->pos, r->cluster), r->size);
	piece->len = r->pos - piece->disk_off;
	piece->value = (no_data(&r->old, piece) ? OLD_ZERO : 0) |
		       (no_data(&r->new, piece) ? NEW_ZERO : 0);
	return ret;
}

static int plan(struct qed_transfer *transfer, struct qed_piece *piece,
		uint64_t *passed)
{
	struct rebase *r = transfer->opaque;
	uint64_t end;

	while (r->pos < r->size) {
		uint64_t before = r->pos;
		int ret = look(r, &end);

		if (ret < 0)
			return ret;
		if (may_differ(r))
			return make_piece(r, piece);
		r->pos = end;
		*passed += end - before;
	}
	return QED_PIECE_NONE;
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

static int read_both(const struct rebase *r, const struct qed_piece *piece,
		     uint64_t disk_off, uint64_t len, struct bytes *bytes)
{
	int ret = read_side(r->old.image, piece->value & OLD_ZERO,
			    piece->buf[0], disk_off, len, &bytes->old);

	if (ret == 0)
		ret = read_side(r->new.image, piece->value & NEW_ZERO,
				piece->buf[1], disk_off, len, &bytes->new);
	return ret;
}

static int carry_out(const struct rebase *r, enum verdict verdict,
		     const struct bytes *bytes, uint64_t disk_off, uint64_t at,
		     uint64_t len)
{
	int64_t n = 0;

	if (verdict == ZERO)
		return qed_zero_sync(r->old.image, disk_off + at, len);
	if (verdict == COPY)
		n = qed_pwrite(r->old.image, bytes->old + at, len,
			       disk_off + at);
	if (n < 0)
		return (int)n;
	qed_file_write_behind(r->old.image->top->source.file, (uint64_t)n);
	return 0;
}

/* A piece of whole clusters: neighbours that are alike go together. */
static int work_clusters(const struct rebase *r, const struct qed_piece *piece)
{
	struct bytes bytes;
	uint64_t at = 0, end;
	int ret = read_both(r, piece, piece->disk_off, piece->len, &bytes);

	if (ret < 0 || judge(&bytes, 0, piece->len) == LEAVE)
		return ret;
	for (; ret == 0 && at < piece->len; at = end) {
		enum verdict verdict, next;

		end = qed_min(at + r->cluster, piece->len);
		verdict = judge(&bytes, at, end - at);
		while (end < piece->len) {
			uint64_t n = qed_min(r->cluster, piece->len - end);

			next = judge(&bytes, end, n);
			if (next != verdict)
				break;
			end += n;
		}
		ret = carry_out(r, verdict, &bytes, piece->disk_off, at,
				end - at);
	}
	return ret;
}

static const uint8_t zeroes[QED_PIECE_MAX];

/*
 * One cluster that is larger than the buffers.  The first difference decides: a
 * write to a part gives all of it to the image, as the old chain shows it.
 */
static int work_large(const struct rebase *r, const struct qed_piece *piece)
{
	for (uint64_t at = 0; at < piece->len; at += QED_PIECE_MAX) {
		uint64_t off = piece->disk_off + at;
		uint64_t len = qed_min(QED_PIECE_MAX, piece->len - at);
		struct bytes bytes;
		enum verdict verdict;
		int ret = read_both(r, piece, off, len, &bytes);

		verdict = ret < 0 ? LEAVE : judge(&bytes, 0, len);
		if (ret < 0)
			return ret;
		if (verdict == ZERO && piece->value & OLD_ZERO)
			return qed_zero_sync(r->old.image, piece->disk_off,
					     piece->len);
		if (verdict == LEAVE)
			continue;
		if (verdict == ZERO)
			bytes.old = zeroes;
		return carry_out(r, COPY, &bytes, off, 0, len);
	}
	return 0;
}

static int work(struct qed_transfer *transfer, struct qed_piece *piece)
{
	const struct rebase *r = transfer->opaque;

	return r->cluster > QED_PIECE_MAX ? work_large(r, piece) :
					    work_clusters(r, piece);
}

static int copy_differences(struct rebase *r)
{
	struct qed_transfer transfer = { .nbufs = 2,
					 .total = r->size,
					 .job = r->options->job,
					 .plan = plan,
					 .work = work,
					 .opaque = r };
	int ret;

	r->old.image->zero_entries = true;
	ret = qed_transfer_run(&transfer);
	if (ret == 0)
		ret = qed_meta_clean(r->old.image->meta);
	/* Damage, and a flush that failed, have been logged where they happened. */
	if (ret == -EUCLEAN || qed_meta_failed(r->old.image->meta))
		return ret;
	return ret < 0 ? complain(r, ret, "cannot be rebased") : 0;
}

/* --- what is refused ------------------------------------------------------------- */

static int check_options(const struct rebase *r)
{
	const struct qed_rebase_options *o = r->options;
	const char *format = o->backing_format;

	if (o->backing && !*o->backing)
		return refuse(r, -EINVAL, "the backing file's name is empty");
	if (o->backing && !format)
		return refuse(r, -EINVAL,
			      "the backing file's format is missing: -F raw or "
			      "-F qed; it is never guessed");
	if (!o->backing && format)
		return refuse(r, -EINVAL,
			      "a backing format is given without a backing "
			      "file");
	if (format && strcmp(format, "raw") && strcmp(format, "qed"))
		return refuse(r, -EINVAL,
			      "the backing format must be raw or qed");
	if (o->flags & QED_REBASE_MISSING && !(o->flags & QED_REBASE_UNSAFE))
		return refuse(r, -EINVAL,
			      "a backing file that is missing cannot be "
			      "compared with");
	return 0;
}

static bool is_raw(const struct rebase *r)
{
	return r->options->backing && !strcmp(r->options->backing_format, "raw");
}

/* Is the image part of the chain that is to lie below it? */
static int refuse_loop(const struct rebase *r)
{
	const struct qed_chain *chain = &r->new.image->chain;

	for (unsigned i = 0; i < chain->n; i++) {
		const struct qed_file *other = chain->layers[i]->source.file;

		if (other->dev != r->dev || other->ino != r->ino)
			continue;
		qed_log_write(&r->options->log, QED_LOG_ERROR,
			      "%s: cannot be its own backing file: %s is the "
			      "same file, in the chain of %s",
			      r->path, other->path, r->options->backing);
		return -ELOOP;
	}
	if (chain->n <= QED_SOURCE_MAX)
		return 0;
	qed_log_write(&r->options->log, QED_LOG_ERROR,
		      "%s: the chain would be deeper than %u images", r->path,
		      QED_SOURCE_MAX + 1);
	return -ELOOP;
}

static int open_image(const struct rebase *r, const char *path, uint32_t flags,
		      struct qed_image **image)
{
	struct qed_open_options options;
	struct qed_engine *share;
	int ret = qed_engine_share(r->engine, &share);

	if (ret < 0)
		return complain(r, ret, "rebase");
	qed_open_options_init(&options);
	options.flags = flags;
	options.commit_seconds = 0;
	options.log = r->options->log;
	return qed_image_open_engine(path, &options, share, image);
}

static int require_file(const struct rebase *r, const char *path)
{
	if (!(r->options->flags & QED_REBASE_UNSAFE) || access(path, F_OK) == 0 ||
	    errno != ENOENT)
		return 0;
	qed_log_write(&r->options->log, QED_LOG_ERROR,
		      "%s: the backing file %s does not exist; if it will when "
		      "the image is used, say --allow-missing", r->path, path);
	return -ENOENT;
}

/*
 * Opens the new chain.  Its names are relative to the image's; what is wrong
 * with it is said before anything is changed.
 */
static int open_new(struct rebase *r)
{
	uint32_t flags = is_raw(r) ? QED_OPEN_RAW : 0;
	char *path;
	int ret;

	if (!r->options->backing)
		return 0;
	/* Only the name is wanted: who else uses it does not matter. */
	if (r->options->flags & QED_REBASE_UNSAFE)
		flags |= QED_OPEN_FORCE_SHARE;
	ret = qed_backing_resolve(r->path, r->options->backing, &path);
	if (ret < 0)
		return refuse(r, ret, "the backing file's name is not a plain "
				      "file name");
	ret = require_file(r, path);
	if (ret == 0)
		ret = open_image(r, path, flags, &r->new.image);
	free(path);
	return ret;
}

/* Will a file that is not there now be there when it is needed? */
static int open_new_or_none(struct rebase *r)
{
	static const struct qed_log silent = { .write = NULL };
	const struct qed_rebase_options *options = r->options;
	struct qed_rebase_options quiet = *options;
	int ret;

	if (!(options->flags & QED_REBASE_MISSING))
		return open_new(r);
	quiet.log = silent;
	r->options = &quiet;
	ret = open_new(r);
	r->options = options;
	return ret == 0 || ret == -ENOENT ? 0 : open_new(r);
}

/*
 * What can be said of the image before other files are opened.  It is not
 * locked: the lock would hide a loop.
 */
static int examine(struct rebase *r)
{
	struct qed_layer *layer;
	struct qed_file *file;
	int ret = qed_file_open(r->path, false, r->engine, &r->options->log,
				&file);

	if (ret == 0) {
		r->dev = file->dev;
		r->ino = file->ino;
		/* It owns the file, whatever happens. */
		ret = qed_layer_create(file, 0, false, NULL, &layer);
	}
	if (ret == 0) {
		ret = qed_backing_check(layer, r->options->backing);
		qed_layer_destroy(layer);
	}
	return ret;
}

/* --- the two modes --------------------------------------------------------------- */

static int rename_backing(const struct rebase *r)
{
	struct qed_layer *layer;
	struct qed_file *file;
	int ret = qed_file_open(r->path, true, r->engine, &r->options->log,
				&file);

	if (ret < 0)
		return ret;
	ret = qed_lock_take(file->fd, true, r->path, &r->options->log);
	if (ret < 0) {
		qed_file_close(file);
		return ret;
	}
	ret = qed_layer_create(file, 0, false, NULL, &layer);
	if (ret < 0)
		return ret;
	ret = qed_backing_check(layer, r->options->backing);
	if (ret == 0)
		ret = qed_backing_write(layer, r->options->backing, is_raw(r));
	qed_layer_destroy(layer);
	return ret;
}

static int rebase_open(struct rebase *r)
{
	struct qed_layer *top = r->old.image->top;
	int ret = qed_backing_check(top, r->options->backing);

	if (ret < 0)
		return ret;
	r->cluster = top->header.cluster_size;
	r->size = r->old.image->size;
	ret = copy_differences(r);
	if (ret == 0)
		ret = qed_backing_write(top, r->options->backing, is_raw(r));
	return ret;
}

static int rebase_safely(struct rebase *r)
{
	int ret = open_image(r, r->path, QED_OPEN_RDWR, &r->old.image), err;

	if (ret < 0)
		return ret;
	ret = rebase_open(r);
	err = qed_image_close(r->old.image);
	if (ret == 0 && err < 0)
		ret = complain(r, err, "cannot close it well");
	return ret;
}

static int rebase(struct rebase *r)
{
	int ret = check_options(r);

	if (ret == 0)
		ret = examine(r);
	if (ret == 0)
		ret = open_new_or_none(r);
	if (ret == 0 && r->new.image)
		ret = refuse_loop(r);
	if (ret == 0)
		ret = r->options->flags & QED_REBASE_UNSAFE ?
			      rename_backing(r) : rebase_safely(r);
	qed_image_close(r->new.image);
	return ret;
}

int qed_image_rebase_engine(const char *path,
			    const struct qed_rebase_options *options,
			    struct qed_engine *engine)
{
	struct rebase r = { .path = path, .options = options, .engine = engine };
	int ret = rebase(&r);

	qed_engine_destroy(engine);
	return ret;
}

int qed_image_rebase(const char *path, const struct qed_rebase_options *options)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(options->io, path, &options->log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_rebase_engine(path, options, engine);
}
