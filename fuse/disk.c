/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "disk.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * The library's messages, for as long as the image is open.  The error of an
 * attempt to open it for writing is kept back until it is clear whether
 * another, for reading only, follows.
 */
static void message(void *opaque, enum qed_log_level level, const char *text)
{
	struct qedfs_disk *disk = opaque;

	if (level != QED_LOG_ERROR || !disk->keep_error) {
		qedfs_log(level, "%s", text);
		return;
	}
	free(disk->error);
	disk->error = strdup(text);
}

static int try_open(struct qedfs_disk *disk,
		    const struct qedfs_options *options, bool writable)
{
	struct qed_open_options open = options->open;
	int ret;

	if (writable)
		open.flags |= QED_OPEN_RDWR;
	if (options->detect_zeroes)
		open.flags |= QED_OPEN_DETECT_ZEROES;
	if (options->no_backing)
		open.flags |= QED_OPEN_NO_BACKING;
	open.backing = options->backing;
	open.backing_format = options->backing_format;
	open.log.write = message;
	open.log.opaque = disk;
	disk->keep_error = writable;
	ret = qed_image_open(options->image, &open, &disk->image);
	disk->keep_error = false;
	return ret;
}

static bool cannot_be_written(int ret)
{
	return ret == -EACCES || ret == -EPERM || ret == -EROFS ||
	       ret == -ETXTBSY;
}

int qedfs_disk_open(struct qedfs_disk *disk,
		    const struct qedfs_options *options)
{
	int why = 0;
	int ret;

	memset(disk, 0, sizeof(*disk));
	ret = try_open(disk, options, !options->read_only);
	if (!options->read_only && cannot_be_written(ret)) {
		why = ret;
		ret = try_open(disk, options, false);
	} else if (disk->error) {
		qedfs_log(QED_LOG_ERROR, "%s", disk->error);
	}
	free(disk->error);
	disk->error = NULL;
	if (why && !ret)
		qedfs_log(QED_LOG_WARNING,
			  "%s: read-only, as it cannot be written: %s",
			  options->image, strerror(-why));
	return ret;
}

int qedfs_disk_close(struct qedfs_disk *disk,
		     const struct qedfs_options *options)
{
	int ret = qed_image_close(disk->image);

	if (ret)
		qedfs_log(QED_LOG_ERROR, "%s: not everything could be written: %s",
			  options->image, strerror(-ret));
	return ret;
}
