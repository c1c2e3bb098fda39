/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing: a chain's top made ready for requests. */
#include "config.h"

#include "check.h"
#include "image.h"
#include "ticker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

void qed_open_options_init(struct qed_open_options *options)
{
	*options = (struct qed_open_options){
		.io = QED_IO_AUTO,
		.l2_cache = QED_L2_CACHE_DEFAULT,
		.commit_seconds = QED_COMMIT_DEFAULT,
	};
}

static int check_options(const char *path,
			 const struct qed_open_options *options)
{
	const char *format = options->backing_format;
	const char *what = NULL;

	if (options->flags & QED_OPEN_RDWR &&
	    options->flags & (QED_OPEN_NO_BACKING | QED_OPEN_FORCE_SHARE))
		what = "can only be opened read-only without its backing file "
		       "or without locks";
	else if (options->backing && options->flags & QED_OPEN_NO_BACKING)
		what = "a backing file is given and refused at once";
	else if (format && strcmp(format, "raw") && strcmp(format, "qed"))
		what = "the backing format must be raw or qed";
	if (!what)
		return 0;
	qed_log_write(&options->log, QED_LOG_ERROR, "%s: %s", path, what);
	return -EINVAL;
}

/* An image that was not closed cleanly. */
static int repair(struct qed_layer *top)
{
	struct qed_check_result result;
	int ret;

	qed_log_write(&top->log, QED_LOG_INFO,
		      "%s: was not closed cleanly; checking",
		      top->source.file->path);
	ret = qed_check_repair(top, &result);
	if (ret < 0)
		return ret;
	if (result.dropped)
		qed_log_write(&top->log, QED_LOG_WARNING,
			      "%s: was not closed cleanly; the check dropped "
			      "%" PRIu64 " damaged entries",
			      top->source.file->path, result.dropped);
	if (!result.shared)
		return 0;
	qed_log_write(&top->log, QED_LOG_ERROR,
		      "%s: %" PRIu64 " clusters are used twice; writing to one "
		      "would change the other: open it read-only and copy it",
		      top->source.file->path, result.shared);
	return -EUCLEAN;
}

static void warn_need_check(struct qed_image *image)
{
	for (unsigned i = image->writable; i < image->chain.n; i++) {
		struct qed_layer *layer = image->chain.layers[i];

		if (layer->header.features & QED_FEATURE_NEED_CHECK)
			qed_log_write(&image->log, QED_LOG_WARNING,
				      "%s: was not closed cleanly and may be "
				      "inconsistent; a read-write open checks "
				      "it",
				      layer->source.file->path);
	}
}

static int make_writable(struct qed_image *image, unsigned commit_seconds)
{
	struct qed_layer *top = image->top;
	int ret = 0;

	if (top->header.features & QED_FEATURE_NEED_CHECK)
		ret = repair(top);
	if (ret == 0)
		ret = qed_layer_load_l1(top);
	if (ret < 0)
		return ret;
	qed_claims_init(&image->clusters);
	qed_claims_init(&image->tables);
	ret = qed_alloc_init(&image->alloc, top);
	if (ret == 0) {
		image->writable = true;
		qed_reclaim_init(&image->reclaim, &image->alloc);
		ret = qed_meta_create(top, &image->alloc, &image->reclaim,
				      &image->meta);
	}
	if (ret == 0 && commit_seconds)
		ret = qed_ticker_start(image->meta, commit_seconds,
				       &image->ticker);
	if (ret < 0)
		qed_log_write(&image->log, QED_LOG_ERROR, "%s: %s",
			      top->source.file->path, strerror(-ret));
	return ret;
}

/*
 * The engine goes first: its threads may still be on their way out of the
 * completion that ended the last request.
 */
static void image_free(struct qed_image *image)
{
	qed_ticker_stop(image->ticker);
	qed_engine_destroy(image->chain.engine);
	image->chain.engine = NULL;
	if (image->writable) {
		qed_meta_destroy(image->meta);
		qed_reclaim_fini(&image->reclaim);
		qed_alloc_fini(&image->alloc);
		qed_claims_fini(&image->clusters);
		qed_claims_fini(&image->tables);
	}
	qed_chain_close(&image->chain);
	free(image);
}

int qed_image_open(const char *path, const struct qed_open_options *options,
		   struct qed_image **out)
{
	struct qed_engine *engine;
	int ret = check_options(path, options);

	*out = NULL;
	if (ret < 0)
		return ret;
	ret = qed_engine_create(options->io, &engine);
	if (ret < 0) {
		qed_log_write(&options->log, QED_LOG_ERROR,
			      "%s: cannot start the I/O engine: %s", path,
			      strerror(-ret));
		return ret;
	}
	return qed_image_open_engine(path, options, engine, out);
}

int qed_image_open_engine(const char *path,
			  const struct qed_open_options *options,
			  struct qed_engine *engine, struct qed_image **out)
{
	struct qed_image *image = calloc(1, sizeof(*image));
	int ret;

	*out = NULL;
	if (!image) {
		qed_engine_destroy(engine);
		qed_log_write(&options->log, QED_LOG_ERROR, "%s: %s", path,
			      strerror(ENOMEM));
		return -ENOMEM;
	}
	image->log = options->log;
	image->detect_zeroes = options->flags & QED_OPEN_DETECT_ZEROES;
	image->chain.engine = engine;
	ret = qed_chain_open(&image->chain, path, options);
	if (ret == 0) {
		image->top = image->chain.layers[0];
		image->size = image->top->size;
	}
	if (ret == 0 && options->flags & QED_OPEN_RDWR)
		ret = make_writable(image, options->commit_seconds);
	if (ret < 0) {
		image_free(image);
		return ret;
	}
	warn_need_check(image);
	*out = image;
	return 0;
}

/* Waits for the last commit, which also clears NEED_CHECK. */
static int clean(struct qed_image *image)
{
	struct qed_layer *top = image->top;
	int ret = qed_meta_clean(image->meta);

	qed_reclaim_drain(&image->reclaim);
	/* Past the last cluster in use: what was freed, or failed. */
	if (ret == 0)
		ret = qed_file_cut(top->source.file, atomic_load(&top->end));
	return ret;
}

int qed_image_close(struct qed_image *image)
{
	int ret = 0;

	if (!image)
		return 0;
	qed_ticker_stop(image->ticker);
	image->ticker = NULL;
	if (image->writable)
		ret = clean(image);
	image_free(image);
	return ret;
}

static uint64_t allocated(struct qed_image *image)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < image->chain.n && sum < image->size; i++)
		sum += qed_layer_allocated(image->chain.layers[i]);
	return qed_min(sum, image->size);
}

static const char *backing_format(const struct qed_image *image,
				  const struct qed_header *header)
{
	if (!image->top->backing_name)
		return NULL;
	if (header->features & QED_FEATURE_BACKING_FORMAT_NO_PROBE)
		return "raw";
	/* Opened without the flag: then it was found to be one. */
	return image->chain.n > 1 && !image->chain.layers[1]->raw ? "qed" :
								   NULL;
}

void qed_image_get_info(struct qed_image *image, struct qed_image_info *info)
{
	struct qed_header header, *h = &header;

	if (image->writable)
		qed_meta_get_header(image->meta, h);
	else
		header = image->top->header;
	*info = (struct qed_image_info){
		.virtual_size = image->size,
		.cluster_size = h->cluster_size,
		.table_size = h->table_size,
		.header_size = h->header_size,
		.features = h->features,
		.compat_features = h->compat_features,
		.autoclear_features = h->autoclear_features,
		.l1_table_offset = h->l1_table_offset,
		.backing_filename = image->top->backing_name,
		.backing_path = image->chain.backing_path,
		.backing_format = backing_format(image, h),
		.allocated = allocated(image),
		.writable = image->writable,
		.nlayers = image->chain.n,
	};
}

int qed_image_stat(struct qed_image *image, struct stat *st)
{
	return fstat(image->top->source.file->fd, st) < 0 ? -errno : 0;
}

int qed_image_statvfs(struct qed_image *image, struct statvfs *st)
{
	return fstatvfs(image->top->source.file->fd, st) < 0 ? -errno : 0;
}
