/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resizing; qed.h states the contract.  shrink.c makes disks smaller.
 *
 * To make one larger the image is opened as if it had the new size already,
 * which the header on disk does not say yet.  All that shows in the new part is
 * made zero there by ordinary requests: what a longer backing file has, what an
 * interrupted resize or another program left in the tables or in the last
 * cluster.  When that is durable and nothing is dirty any more the header gets
 * the new size.
 */
#include "config.h"

#include "image.h"
#include "job.h"
#include "resize.h"
#include "shrink.h"
#include "sync.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEP_MAX   (UINT64_C(1) << 26)	/* bytes preallocated between steps */
#define MAP_MAX    (UINT64_C(1) << 36)	/* bytes looked at between steps */
#define BUFFER_LEN (UINT64_C(1) << 20)

struct resize {
	const struct qed_resize_options *options;
	struct qed_open_options open;
	struct qed_image *image;
	const char *path;
	uint64_t old, now;		/* bytes of disk */
	bool sound;			/* its tables were found so */
	bool refused;			/* they were not; nothing was changed */
	bool cleared;			/* the new part shows zeroes */
	bool disposable;		/* a file that goes if this fails */
};

/* What fails a commit has been logged there. */
static int complain(const struct resize *r, int err, const char *what,
		    const char *now)
{
	struct qed_meta *meta = r->image->meta;

	if (!meta || !qed_meta_failed(meta))
		qed_log_write(&r->options->log, QED_LOG_ERROR,
			      "%s: %s: %s; %s: %s", r->path, what,
			      strerror(-err), now, qed_next_step(err));
	return err;
}

/* The same of a request; it may have had to read below. */
static int complain_at(const struct resize *r, int err, const char *what,
		       uint64_t disk_off)
{
	const char *below = qed_image_failed_below(r->image);

	if (!qed_meta_failed(r->image->meta))
		qed_log_write(&r->options->log, QED_LOG_ERROR,
			      "%s: cannot %s at disk offset %" PRIu64 ": %s; "
			      "the disk is as before: %s",
			      below ? below : r->path, below ? "read" : what,
			      disk_off, strerror(-err),
			      qed_next_step(err));
	return err;
}

static int refuse(const struct resize *r, const char *why)
{
	qed_log_write(&r->options->log, QED_LOG_ERROR, "%s: %s", r->path, why);
	return -EINVAL;
}

static bool new_size(const struct resize *r, uint64_t *size)
{
	const struct qed_resize_options *o = r->options;

	*size = o->size;
	if (o->by == QED_RESIZE_MORE && !qed_add(r->old, o->size, size))
		return false;
	if (o->by == QED_RESIZE_LESS)
		*size = r->old - qed_min(r->old, o->size);
	return *size <= INT64_MAX;
}

/* What is to be done, or whether it may be: fills r->old and r->now. */
static int choose_size(struct resize *r)
{
	struct qed_header header = r->image->top->header;
	char message[QED_MESSAGE_MAX];

	r->old = header.image_size;
	if (!new_size(r, &header.image_size))
		return refuse(r, "the new size is too large");
	if (header.image_size == 0)
		return refuse(r, "the new size must be greater than zero");
	header.image_size = qed_round_up(header.image_size, QED_SECTOR);
	if (qed_header_derive(&header, message) < 0)
		return refuse(r, message);
	r->now = header.image_size;
	if (r->now >= r->old)
		return 0;
	if (!(r->options->flags & QED_RESIZE_SHRINK)) {
		qed_log_write(&r->options->log, QED_LOG_ERROR,
			      "%s: shrinking from %" PRIu64 " to %" PRIu64
			      " bytes deletes all data behind the new end; make "
			      "sure that none of it matters, then use --shrink",
			      r->path, r->old, r->now);
		return -EINVAL;
	}
	if (r->options->preallocation)
		return refuse(r, "only what is added can be preallocated, and "
				 "this size is smaller");
	return 0;
}

/* The new part is gone through once, or twice if it is preallocated. */
static int step(const struct resize *r, uint64_t disk_off)
{
	uint64_t len = r->now - r->old, done = disk_off - r->old;
	int ret;

	if (r->options->preallocation)
		done = done / 2 + (r->cleared ? len / 2 : 0);
	ret = qed_job_step(r->options->job, done, len);

	return ret < 0 ? complain(r, ret, "resize", "the disk is as before") : 0;
}

/* Whole clusters become zero clusters or none; in the last old one bytes do. */
static int clear_extent(struct resize *r, const struct qed_map_extent *extent,
			uint64_t disk_off, uint64_t *end)
{
	const struct qed_header *h = &r->image->top->header;
	uint64_t start = qed_max(qed_cluster_start(h, disk_off), r->old);

	*end = disk_off + extent->len;
	if (extent->depth == 0 && start == r->old && qed_in_cluster(h, start)) {
		*end = qed_min(*end, qed_round_up(start, h->cluster_size));
		return qed_file_zero(r->image->top->source.file,
				     extent->file_off, *end - disk_off);
	}
	*end = qed_min(qed_round_up(*end, h->cluster_size), r->now);
	return qed_zero_sync(r->image, start, *end - start);
}

/* Once, before the file may grow; a new image cannot be damaged. */
static int require_sound(struct resize *r)
{
	const struct qed_job quiet = qed_job_quiet(r->options->job);
	int ret = 0;

	if (!r->sound && !r->disposable)
		ret = qed_image_require_sound(r->image, &quiet);
	r->sound = ret == 0;
	r->refused = ret < 0;
	return ret;
}

static int clear_new_part(struct resize *r)
{
	uint64_t off = r->old, end;
	int ret = 0;

	while (ret == 0 && off < r->now) {
		struct qed_map_extent extent;

		ret = qed_map(r->image, off, qed_min(MAP_MAX, r->now - off),
			      &extent);
		if (ret < 0)
			break;
		end = off + extent.len;
		if (extent.kind == QED_MAP_DATA) {
			ret = require_sound(r);
			if (ret < 0)
				return ret;
			ret = clear_extent(r, &extent, off, &end);
		}
		if (ret < 0)
			break;
		off = end;
		if (step(r, off) < 0)
			return -ECANCELED;
	}
	/* Damage has been logged where it was found. */
	return ret < 0 && ret != -EUCLEAN ?
		       complain_at(r, ret, "clear the new part", off) : ret;
}

static int write_zeroes(struct resize *r, void *zeroes, uint64_t off,
			uint64_t len)
{
	int64_t ret = 0;

	for (uint64_t at = 0; ret >= 0 && at < len; at += BUFFER_LEN)
		ret = qed_pwrite(r->image, zeroes, qed_min(BUFFER_LEN, len - at),
				 off + at);
	return ret < 0 ? (int)ret : 0;
}

static int preallocate(struct resize *r)
{
	enum qed_preallocation how = r->options->preallocation;
	uint64_t off = r->old, len = 0;
	void *zeroes = NULL;
	int ret = 0;

	if (how == QED_PREALLOCATION_OFF)
		return 0;
	if (how == QED_PREALLOCATION_FULL) {
		zeroes = calloc(1, BUFFER_LEN);
		if (!zeroes)
			ret = -ENOMEM;
	}
	r->image->sparse = how == QED_PREALLOCATION_METADATA;
	for (off = r->old; ret == 0 && off < r->now; off += len) {
		len = qed_min(STEP_MAX, r->now - off);
		ret = qed_preallocate_sync(r->image, off, len);
		if (ret == 0 && zeroes)
			ret = write_zeroes(r, zeroes, off, len);
		if (ret == 0 && step(r, off + len) < 0) {
			free(zeroes);
			return -ECANCELED;
		}
	}
	free(zeroes);
	return ret < 0 ? complain_at(r, ret, "preallocate", off - len) : 0;
}

/* With everything durable that the new size needs, and nothing dirty. */
static int set_size(struct resize *r)
{
	struct qed_layer *top = r->image->top;
	int ret = qed_meta_clean(r->image->meta);

	/* What was not a request's doing: the last cluster's tail. */
	if (ret == 0)
		ret = qed_file_flush(top->source.file);
	if (ret == 0) {
		top->header.image_size = r->now;
		top->header.autoclear_features = 0;
		ret = qed_layer_write_header(top);
	}
	return ret < 0 ? complain(r, ret, "cannot write the new size",
				  "'qedimg info' tells which one it has") :
			 0;
}

/* The new part is nobody's: gives back what it got; what failed has been said. */
static void undo(struct resize *r)
{
	struct qed_layer *top = r->image->top;
	uint64_t start = qed_round_up(r->old, top->header.cluster_size);

	top->log = (struct qed_log){ .write = NULL };
	if (start < r->now)
		(void)qed_zero_sync(r->image, start, r->now - start);
}

/* As if it had the new size; on failure the image is not open any more. */
static int finish(struct resize *r)
{
	struct qed_layer *top = r->image->top;
	struct qed_header header = top->header;
	char message[QED_MESSAGE_MAX];
	int ret;

	header.image_size = r->now;
	ret = qed_header_derive(&header, message);
	assert(ret == 0);	/* choose_size() has done it once */
	top->size = r->now;
	top->header.l1_used = header.l1_used;
	ret = qed_image_finish(r->image, &r->open);
	if (ret < 0)
		qed_image_discard(r->image);
	return ret;
}

/* Leaves the image open, ready for requests; but not on failure. */
static int grow_open(struct resize *r)
{
	int ret = finish(r);

	if (ret < 0)
		return ret;
	ret = clear_new_part(r);
	r->cleared = true;
	if (ret == 0)
		ret = preallocate(r);
	if (ret < 0 && !r->disposable && !r->refused)
		undo(r);
	if (ret == 0)
		ret = set_size(r);
	if (ret == 0)
		return 0;
	/* To close it would cut off what its last cluster has. */
	if (r->disposable || r->refused)
		qed_image_discard(r->image);
	else
		qed_image_close(r->image);	/* what failed has been said */
	return ret;
}

static int grow(struct resize *r)
{
	int ret = grow_open(r);

	if (ret < 0)
		return ret;
	ret = qed_image_close(r->image);
	if (ret < 0)
		qed_log_write(&r->options->log, QED_LOG_ERROR,
			      "%s: resized, but cannot close it well: %s",
			      r->path, strerror(-ret));
	return ret;
}

int qed_resize_finish_open(struct qed_image *image,
			   const struct qed_open_options *open,
			   const struct qed_resize_options *options)
{
	struct resize r = { .options = options,
			    .open = *open,
			    .image = image,
			    .path = image->top->source.file->path };
	int ret = 0;

	r.old = r.now = image->top->header.image_size;
	r.sound = true;
	if (r.old < options->size)
		ret = choose_size(&r);
	if (ret == 0)
		return r.now > r.old ? grow_open(&r) : finish(&r);
	qed_image_discard(image);
	return ret;
}

static int resize(struct resize *r, struct qed_engine *engine)
{
	int ret;

	qed_open_options_init(&r->open);
	r->open.flags = QED_OPEN_RDWR;
	r->open.commit_seconds = 0;
	r->open.log = r->options->log;
	ret = qed_image_begin(r->path, &r->open, engine, &r->image);
	if (ret < 0)
		return ret;
	ret = choose_size(r);
	if (ret == 0 && r->now > r->old && r->options->preallocation)
		ret = require_sound(r);
	if (ret == 0 && r->now > r->old)
		return grow(r);
	if (ret == 0 && r->options->flags & QED_RESIZE_SHRINK)
		ret = qed_shrink(r->image->top, r->now, r->options->job);
	qed_image_discard(r->image);
	return ret;
}

int qed_image_resize_engine(const char *path,
			    const struct qed_resize_options *options,
			    struct qed_engine *engine)
{
	struct resize r = { .options = options, .path = path };

	return resize(&r, engine);
}

int qed_image_resize_disposable(const char *path,
				const struct qed_resize_options *options,
				struct qed_engine *engine)
{
	struct resize r = { .options = options,
			    .path = path,
			    .disposable = true };

	return resize(&r, engine);
}

int qed_image_resize(const char *path, const struct qed_resize_options *options)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(options->io, path, &options->log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_resize_engine(path, options, engine);
}
