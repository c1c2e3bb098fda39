/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening and closing: a chain's top made ready for requests. */
#include "config.h"

#include "check.h"
#include "image.h"
#include "ticker.h"
#include "undo.h"

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

	if (options->flags & QED_OPEN_RDWR && options->flags & QED_OPEN_RAW)
		what = "can only be opened read-only as a raw file";
	else if (options->flags & QED_OPEN_RAW && (options->backing || format))
		what = "a raw file has no backing file";
	else if (options->flags & QED_OPEN_RDWR &&
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

static void warn_unsound(struct qed_image *image)
{
	for (unsigned i = image->writable; i < image->chain.n; i++) {
		struct qed_layer *layer = image->chain.layers[i];

		if (layer->header.features & QED_FEATURE_NEED_CHECK)
			qed_log_write(&image->log, QED_LOG_WARNING,
				      "%s: was not closed cleanly and may be "
				      "inconsistent; a read-write open checks "
				      "it",
				      layer->source.file->path);
		qed_undo_is_pending(layer->source.file, QED_LOG_WARNING);
	}
}

static int make_writable(struct qed_image *image, unsigned commit_seconds)
{
	struct qed_layer *top = image->top;
	int ret = 0;

	if (qed_undo_is_pending(top->source.file, QED_LOG_ERROR))
		return -EUCLEAN;
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
void qed_image_discard(struct qed_image *image)
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
	qed_spares_fini(&image->spares);
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
	ret = qed_engine_start(options->io, path, &options->log, &engine);
	if (ret < 0)
		return ret;
	return qed_image_open_engine(path, options, engine, out);
}

/* Not by calloc(), which does not align for cache lines. */
static struct qed_image *image_alloc(void)
{
	struct qed_image *image =
		aligned_alloc(_Alignof(struct qed_image), sizeof(*image));

	if (!image)
		return NULL;
	memset(image, 0, sizeof(*image));
	qed_spares_init(&image->spares);
	return image;
}

/* A cluster that is copied; a raw file, whose header is empty, has none. */
static uint64_t buffer_size(const struct qed_image *image)
{
	return qed_max(image->top->header.cluster_size, QED_SLICE_BYTES);
}

int qed_image_begin(const char *path, const struct qed_open_options *options,
		    struct qed_engine *engine, struct qed_image **out)
{
	struct qed_image *image = image_alloc();
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
	image->chain.counters = &image->counters;
	ret = qed_chain_open_top(&image->chain, path, options);
	if (ret < 0) {
		qed_image_discard(image);
		return ret;
	}
	image->top = image->chain.layers[0];
	*out = image;
	return 0;
}

int qed_image_finish(struct qed_image *image,
		     const struct qed_open_options *options)
{
	int ret = qed_chain_open_rest(&image->chain, options);

	image->size = qed_round_up(image->top->size, QED_SECTOR);
	qed_spares_set_buffer(&image->spares, buffer_size(image));
	if (ret == 0 && options->flags & QED_OPEN_RDWR)
		ret = make_writable(image, options->commit_seconds);
	if (ret == 0)
		warn_unsound(image);
	return ret;
}

int qed_image_require_sound(struct qed_image *image, const struct qed_job *job)
{
	struct qed_layer *top = image->top;

	/* A repair that is to go on is more than damage. */
	if (qed_undo_is_pending(top->source.file, QED_LOG_ERROR))
		return -EUCLEAN;
	if (top->header.features & QED_FEATURE_NEED_CHECK)
		return 0;
	return qed_check_sound(top, job);
}

int qed_image_open_engine(const char *path,
			  const struct qed_open_options *options,
			  struct qed_engine *engine, struct qed_image **out)
{
	int ret = qed_image_begin(path, options, engine, out);

	if (ret < 0)
		return ret;
	ret = qed_image_finish(*out, options);
	if (ret < 0) {
		qed_image_discard(*out);
		*out = NULL;
	}
	return ret;
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
	qed_image_discard(image);
	return ret;
}

static uint64_t allocated(struct qed_image *image)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < image->chain.n && sum < image->size; i++)
		sum += qed_layer_allocated(image->chain.layers[i]);
	return qed_min(sum, image->size);
}

/* The file behind layer `i`, if it is open or known. */
static const char *backing_path(const struct qed_image *image, unsigned i)
{
	if (i + 1 < image->chain.n)
		return image->chain.layers[i + 1]->source.file->path;
	return i == 0 ? image->chain.backing_path : NULL;
}

static const char *backing_format(const struct qed_image *image, unsigned i,
				  const struct qed_header *header)
{
	if (!image->chain.layers[i]->backing_name)
		return NULL;
	if (header->features & QED_FEATURE_BACKING_FORMAT_NO_PROBE)
		return "raw";
	/* Opened without the flag: then it was found to be one. */
	return i + 1 < image->chain.n && !image->chain.layers[i + 1]->raw ?
		       "qed" :
		       NULL;
}

/* What a layer's own file says. */
static void get_layer(struct qed_image *image, unsigned i,
		      struct qed_image_info *info)
{
	const struct qed_layer *layer = image->chain.layers[i];
	struct qed_header header, *h = &header;

	if (i == 0 && image->writable)
		qed_meta_get_header(image->meta, h);
	else
		header = layer->header;
	*info = (struct qed_image_info){
		.format = layer->raw ? "raw" : "qed",
		.virtual_size = qed_round_up(layer->size, QED_SECTOR),
		.writable = i == 0 && image->writable,
		.nlayers = image->chain.n - i,
		.l2_cache = qed_l2cache_budget(image->chain.cache),
		.io_engine = image->chain.engine->ops->name,
	};
	if (layer->raw)
		return;
	info->cluster_size = h->cluster_size;
	info->table_size = h->table_size;
	info->header_size = h->header_size;
	info->features = h->features;
	info->compat_features = h->compat_features;
	info->autoclear_features = h->autoclear_features;
	info->l1_table_offset = h->l1_table_offset;
	info->backing_filename = layer->backing_name;
	info->backing_path = backing_path(image, i);
	info->backing_format = backing_format(image, i, h);
}

void qed_image_get_info(struct qed_image *image, struct qed_image_info *info)
{
	get_layer(image, 0, info);
	info->allocated = allocated(image);
	/* Resolved from the stored name, which an option may override. */
	info->backing_path = image->chain.backing_path;
}

int qed_image_get_layer_info(struct qed_image *image, unsigned layer,
			     struct qed_image_info *info)
{
	if (layer >= image->chain.n)
		return -ENOENT;
	get_layer(image, layer, info);
	info->allocated = qed_layer_allocated(image->chain.layers[layer]);
	return 0;
}

const char *qed_image_get_path(struct qed_image *image, unsigned layer)
{
	return layer < image->chain.n ?
		       image->chain.layers[layer]->source.file->path :
		       NULL;
}

const char *qed_image_failed_below(struct qed_image *image)
{
	unsigned layer = atomic_load_explicit(&image->failed_layer,
					      memory_order_relaxed);

	return layer ? qed_image_get_path(image, layer) : NULL;
}

void qed_image_get_stats(struct qed_image *image, struct qed_stats *stats)
{
	const struct qed_counters *c = &image->counters;
	struct qed_l2cache_stats cache;
	struct qed_meta_stats meta = { .commits = 0 };

	qed_l2cache_get_stats(image->chain.cache, &cache);
	if (image->writable)
		qed_meta_get_stats(image->meta, &meta);
	*stats = (struct qed_stats){
		.reads = qed_counted(c, QED_REQUEST_READ),
		.writes = qed_counted(c, QED_REQUEST_WRITE),
		.flushes = qed_counted(c, QED_REQUEST_FLUSH),
		.zeroes = qed_counted(c, QED_REQUEST_ZERO),
		.preallocations = qed_counted(c, QED_REQUEST_PREALLOCATE),
		.seeks = qed_counted(c, QED_REQUEST_SEEK),
		.bytes_read = qed_counted(c, QED_COUNT_BYTES_READ),
		.bytes_written = qed_counted(c, QED_COUNT_BYTES_WRITTEN),
		.l2_hits = qed_counted(c, QED_COUNT_L2_HITS),
		.l2_misses = cache.misses,
		.l2_loads = cache.loads,
		.allocations = qed_counted(c, QED_COUNT_ALLOCATIONS),
		.commits = meta.commits,
		.syncs = meta.syncs,
	};
}

int qed_image_stat_layer(struct qed_image *image, unsigned layer,
			 struct stat *st)
{
	if (layer >= image->chain.n)
		return -ENOENT;
	return fstat(image->chain.layers[layer]->source.file->fd, st) < 0 ?
		       -errno :
		       0;
}

int qed_image_stat(struct qed_image *image, struct stat *st)
{
	return qed_image_stat_layer(image, 0, st);
}

int qed_image_statvfs(struct qed_image *image, struct statvfs *st)
{
	return fstatvfs(image->top->source.file->fd, st) < 0 ? -errno : 0;
}
