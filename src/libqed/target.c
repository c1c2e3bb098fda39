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
		    struct qed_engine *engine)
{
	struct stat st;

	*target = (struct qed_target){ .path = path,
				       .options = options,
				       .engine = engine,
				       .unit = 4096,
				       .row = UINT64_C(1) << 62,
				       .claim = -1,
				       .limit = INT64_MAX,
				       .stream.fd = -1 };
	if (stat(path, &st) < 0)
		memset(&st, 0, sizeof(st));
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
