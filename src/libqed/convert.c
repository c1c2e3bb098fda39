/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The job: what is copied where, and how it ends. */
#include "config.h"

#include "convert.h"
#include "create.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SPARSE_DEFAULT 4096u
#define SPARSE_MAX     (UINT64_C(16) << 20)

void qed_convert_options_init(struct qed_convert_options *options)
{
	*options = (struct qed_convert_options){ .input = -1,
						 .len = UINT64_MAX,
						 .format = "raw",
						 .sparse_size = SPARSE_DEFAULT,
						 .max_size = UINT64_MAX,
						 .io = QED_IO_AUTO };
}

static int refuse(const char *path, const struct qed_convert_options *options,
		  int err, const char *what)
{
	qed_log_write(&options->log, QED_LOG_ERROR, "%s: %s", path, what);
	return err;
}

static int check_options(const char *path,
			 const struct qed_convert_options *options)
{
	bool in_place = options->flags & QED_CONVERT_IN_PLACE;
	bool qed = strcmp(options->format, "qed") == 0;
	const struct qed_create_options *image = &options->image;
	const char *what = NULL;

	if (!options->nsources && options->input < 0)
		what = "there is nothing to copy";
	else if (options->flags & QED_CONVERT_TARGET_IS_ZERO && !in_place)
		what = "only a target that is there can be said to be zero";
	else if ((image->backing || image->cluster_size || image->table_size) &&
		 (in_place || !qed))
		what = "geometry and backing file are for a new QED image";
	else if (image->backing && (options->nsources != 1 || options->skip))
		what = "with a backing file exactly one image can be copied";
	else if (options->sparse_size % QED_SECTOR ||
		 options->sparse_size > SPARSE_MAX)
		what = "the least run of zeroes must be a multiple of 512 "
		       "bytes, at most 16 MiB";
	else if (options->flags & QED_CONVERT_OFFLOAD &&
		 options->flags & QED_CONVERT_SCAN)
		what = "zeroes cannot be looked for in what the host copies";
	return what ? refuse(path, options, -EINVAL, what) : 0;
}

/* --- the two sides -------------------------------------------------------- */

static int open_source(struct qed_conversion *copy, const char *path)
{
	const struct qed_convert_options *options = copy->options;
	struct qed_origin *origin = &copy->source.origin;

	if (!options->nsources) {
		copy->streaming = true;
		copy->size = UINT64_MAX;
		qed_stream_init(&copy->input, options->input, options->job);
		return 0;
	}
	if (qed_origin_init(origin, options->sources, options->nsources,
			    options->skip, options->len) < 0)
		return refuse(path, options, -EFBIG,
			      "the disks are too large together");
	copy->size = origin->size;
	copy->transfer.total = copy->size;
	if (copy->size <= options->max_size)
		return 0;
	qed_log_write(&options->log, QED_LOG_ERROR,
		      "%s: not made: the disk has %" PRIu64 " bytes, %" PRIu64
		      " are allowed", path, copy->size, options->max_size);
	return -EFBIG;
}

/* The backing file that the new image names, to compare with. */
static int open_base(struct qed_conversion *copy, const char *path)
{
	const struct qed_convert_options *options = copy->options;
	const struct qed_create_options *image = &options->image;
	struct qed_open_options open;
	char *backing;
	int ret;

	if (!image->backing)
		return 0;
	if (qed_backing_resolve(path, image->backing, &backing) < 0)
		return refuse(path, options, -EINVAL,
			      "the backing file's name is no plain file name");
	qed_open_options_init(&open);
	open.log = options->log;
	if (image->backing_format && strcmp(image->backing_format, "raw") == 0)
		open.flags |= QED_OPEN_RAW;
	ret = qed_image_open(backing, &open, &copy->backing);
	free(backing);
	if (ret == 0)
		ret = qed_origin_init(&copy->base.origin, &copy->backing, 1, 0,
				      UINT64_MAX);
	copy->has_base = ret == 0;
	return ret;
}

static void choose_units(struct qed_conversion *copy)
{
	const struct qed_convert_options *options = copy->options;
	struct qed_target *target = &copy->target;

	/* Runs as short as are asked for have to be seen. */
	if (!target->ops->place && options->sparse_size &&
	    options->sparse_size < target->unit)
		target->unit = QED_SECTOR;
	if (options->flags & QED_CONVERT_SCAN || !options->sparse_size)
		copy->share = QED_SHARE_NO;
}

static int run(struct qed_conversion *copy)
{
	struct qed_transfer *transfer = &copy->transfer;

	transfer->nworkers = copy->options->nworkers;
	transfer->nbufs = copy->has_base ? 2 : 1;
	transfer->job = copy->options->job;
	transfer->plan = qed_convert_plan;
	transfer->work = qed_convert_piece;
	transfer->opaque = copy;
	return qed_transfer_run(transfer);
}

/* What plan or a piece had to say, or what the end of the job means. */
static int report(const struct qed_conversion *copy, int err)
{
	const struct qed_target *target = &copy->target;

	if (!copy->transfer.message || err == -ECANCELED)
		return qed_target_fail(target, err, "copy");
	qed_log_write(&copy->options->log, QED_LOG_ERROR, "%s; %s%s: %s",
		      copy->transfer.message,
		      target->is_new ? "" : target->path,
		      target->is_new ? "nothing was made" : " is incomplete",
		      copy->advice ? copy->advice : qed_next_step(err));
	return err;
}

static int copy_disk(struct qed_conversion *copy)
{
	uint64_t size;
	int ret;

	choose_units(copy);
	ret = run(copy);
	if (ret < 0)
		return report(copy, ret);
	size = copy->streaming ? copy->pos : copy->size;
	return copy->target.ops->finish(&copy->target,
					qed_round_up(size, QED_SECTOR));
}

/* The caller's log, for one error: an image that failed may say more. */
struct once {
	const struct qed_log *log;
	atomic_flag said;
};

static void log_once(void *opaque, enum qed_log_level level,
		     const char *message)
{
	struct once *once = opaque;

	if (level != QED_LOG_ERROR || !atomic_flag_test_and_set(&once->said))
		qed_log_write(once->log, level, "%s", message);
}

int qed_image_convert_engine(const char *path,
			     const struct qed_convert_options *given,
			     struct qed_engine *engine)
{
	struct once once = { &given->log, ATOMIC_FLAG_INIT };
	struct qed_convert_options own = *given, *options = &own;
	struct qed_conversion copy = { .options = options,
				       .last_off = UINT64_MAX };
	int ret;

	own.log = (struct qed_log){ log_once, &once };
	ret = check_options(path, options);
	if (ret == 0)
		ret = open_source(&copy, path);
	if (ret == 0)
		ret = open_base(&copy, path);
	if (ret == 0) {
		ret = qed_target_open(&copy.target, path, copy.size, options,
				      copy.backing, engine);
		if (ret == 0)
			ret = copy_disk(&copy);
		qed_target_close(&copy.target);
	} else {
		qed_engine_destroy(engine);
	}
	qed_image_close(copy.backing);
	free(copy.transfer.message);
	return ret;
}

int qed_image_convert(const char *path,
		      const struct qed_convert_options *options)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(options->io, path, &options->log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_convert_engine(path, options, engine);
}
