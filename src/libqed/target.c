/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which kind of target it is. */
#include "config.h"

#include "target.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int qed_target_refuse(const struct qed_target *target, int err,
		      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	qed_refusev(&target->options->log, target->path, err, format, args);
	va_end(args);
	return err;
}

int qed_target_fail(const struct qed_target *target, int err, const char *what)
{
	return qed_target_refuse(target, err, "cannot %s: %s; %s: %s", what,
				 strerror(-err),
				 target->is_new ? "nothing was made" :
						  "it is incomplete",
				 qed_next_step(err));
}

int qed_target_write(struct qed_target *target, const void *buf, uint64_t len,
		     uint64_t place)
{
	int ret = qed_file_write(target->file, buf, len, place);

	if (ret == 0 && !(target->options->flags & QED_CONVERT_UNSAFE))
		qed_file_write_behind(target->file, len);
	return ret;
}

/* --- what must not be written ---------------------------------------------- */

static bool is_file(const struct stat *st, const struct qed_file *file)
{
	struct stat other;

	if (st->st_dev == file->dev && st->st_ino == file->ino)
		return true;
	return S_ISBLK(st->st_mode) && file->block_device &&
	       fstat(file->fd, &other) == 0 && other.st_rdev == st->st_rdev;
}

static int refuse_chain(const struct qed_target *target, const struct stat *st,
			const struct qed_image *image)
{
	for (unsigned i = 0; i < image->chain.n; i++) {
		struct qed_file *file = image->chain.layers[i]->source.file;

		if (is_file(st, file))
			return qed_target_refuse(
				target, -EINVAL,
				"cannot be written: it is %s, which is read "
				"from; name another target", file->path);
	}
	return 0;
}

int qed_target_refuse_sources(const struct qed_target *target,
			      const struct stat *st)
{
	const struct qed_convert_options *options = target->options;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < options->nsources; i++)
		ret = refuse_chain(target, st, options->sources[i]);
	if (ret == 0 && target->base)
		ret = refuse_chain(target, st, target->base);
	return ret;
}

int qed_target_refuse_source_fd(const struct qed_target *target, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return qed_target_refuse(target, -errno, "cannot stat: %s",
					 strerror(errno));
	return qed_target_refuse_sources(target, &st);
}

/* --- kinds ------------------------------------------------------------------ */

static bool is_stream(const char *path, const struct stat *st)
{
	return strcmp(path, "-") == 0 || S_ISFIFO(st->st_mode) ||
	       S_ISCHR(st->st_mode);
}

static int open_qed(struct qed_target *target, const struct stat *st,
		    uint64_t size)
{
	if (is_stream(target->path, st))
		return qed_target_refuse(target, -EINVAL,
					 "a QED image cannot be written into a "
					 "pipe or character device: its tables "
					 "are complete only at the end; name a "
					 "file, or convert to raw");
	if (target->options->flags & QED_CONVERT_IN_PLACE)
		return qed_target_open_qed(target, size);
	if (S_ISBLK(st->st_mode))
		return qed_target_refuse(target, -EINVAL,
					 "cannot make a QED image on a block "
					 "device: name a file, or convert to "
					 "raw");
	return qed_target_open_new_qed(target, size);
}

int qed_target_open(struct qed_target *target, const char *path, uint64_t size,
		    const struct qed_convert_options *options,
		    const struct qed_image *base, struct qed_engine *engine)
{
	struct stat st;
	int ret;

	*target = (struct qed_target){ .path = path,
				       .options = options,
				       .base = base,
				       .engine = engine,
				       .unit = 4096,
				       .row = UINT64_C(1) << 62,
				       .claim = -1,
				       .limit = INT64_MAX,
				       .stream.fd = -1 };
	if (strcmp(path, "-") == 0 || stat(path, &st) < 0)
		memset(&st, 0, sizeof(st));
	/* What is opened is looked at again; here it can be said what is wrong,
	 * as a lock would only say that it is in use. */
	ret = qed_target_refuse_sources(target, &st);
	if (ret < 0)
		return ret;
	if (strcmp(options->format, "qed") == 0)
		return open_qed(target, &st, size);
	if (strcmp(options->format, "raw") != 0)
		return qed_target_refuse(target, -EINVAL,
					 "format '%s' is unknown: it must be "
					 "raw or qed", options->format);
	if (is_stream(path, &st))
		return qed_target_open_stream(target);
	if (S_ISBLK(st.st_mode) || options->flags & QED_CONVERT_IN_PLACE)
		return qed_target_open_raw(target, size);
	return qed_target_open_new_raw(target, size);
}

void qed_target_close(struct qed_target *target)
{
	qed_builder_fini(&target->builder);
	if (target->is_new)
		qed_newfile_end(&target->newfile);
	else
		qed_file_close(target->file);
	if (target->image)
		qed_image_close(target->image);	/* and the engine */
	else
		qed_engine_destroy(target->engine);
	if (target->claim >= 0)
		close(target->claim);
	if (target->stream.fd > STDERR_FILENO)
		close(target->stream.fd);
}
