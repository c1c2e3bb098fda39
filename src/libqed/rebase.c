/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Another backing file; qed.h states the contract.
 *
 * The image is open with its old chain, the new one beside it.  Where the image
 * has nothing of its own, and the two show different bytes, it gets what the
 * old one shows (differ.c).  When all is durable the header gets the new name.
 */
#include "config.h"

#include "backing.h"
#include "differ.h"
#include "job.h"
#include "lock.h"
#include "rebase.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rebase {
	const char *path;
	const struct qed_rebase_options *options;
	struct qed_engine *engine;	/* the images have shares of it */
	dev_t dev;			/* the image's */
	ino_t ino;
	struct qed_image *old;		/* the image with its old chain */
	struct qed_image *new;		/* null: no backing file */
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
	const struct qed_chain *chain = &r->new->chain;

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
		ret = open_image(r, path, flags, &r->new);
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
	int ret = qed_differ_copy(r->old, r->new, r->options->job);

	if (ret == 0)
		ret = qed_backing_write(r->old->top, r->options->backing,
					is_raw(r));
	return ret;
}

static int may_rebase(struct rebase *r)
{
	const struct qed_job quiet = qed_job_quiet(r->options->job);
	int ret = qed_backing_check(r->old->top, r->options->backing);

	return ret < 0 ? ret : qed_image_require_sound(r->old, &quiet);
}

static int rebase_safely(struct rebase *r)
{
	int ret = open_image(r, r->path, QED_OPEN_RDWR, &r->old), err;

	if (ret < 0)
		return ret;
	ret = may_rebase(r);
	if (ret < 0) {
		/* To close it would cut off what its last cluster has. */
		qed_image_discard(r->old);
		return ret;
	}
	ret = rebase_open(r);
	err = qed_image_close(r->old);
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
	if (ret == 0 && r->new)
		ret = refuse_loop(r);
	if (ret == 0)
		ret = r->options->flags & QED_REBASE_UNSAFE ?
			      rename_backing(r) : rebase_safely(r);
	qed_image_close(r->new);
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
