/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An external snapshot: the image stays as it is, and an overlay on it gets what is
 * written from now on.  The image is open, and so locked against writers, until the
 * overlay is durable and its permissions say that it is not to be written.
 */
#include "config.h"

#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct snapshot {
	const char *path, *overlay;
	uint32_t flags;
	const struct qed_log *log;
	struct qed_image *image;
};

static int refuse(const struct snapshot *s, int err, const char *path,
		  const char *why)
{
	qed_log_write(s->log, QED_LOG_ERROR, "%s: %s", path, why);
	return err;
}

/* Is this one of the files that the overlay is to be based on? */
static bool in_chain(const struct snapshot *s, const struct stat *st)
{
	struct stat layer;

	for (unsigned i = 0; !qed_image_stat_layer(s->image, i, &layer); i++)
		if (layer.st_dev == st->st_dev && layer.st_ino == st->st_ino)
			return true;
	return false;
}

static int check(const struct snapshot *s)
{
	struct stat st;

	if (stat(s->overlay, &st) == 0 && in_chain(s, &st))
		return refuse(s, -EINVAL, s->overlay,
			      "is the image itself or one behind it: choose "
			      "another name for the overlay");

	if (s->image->top->header.features & QED_FEATURE_NEED_CHECK)
		return refuse(s, -EUCLEAN, s->path,
			      "was not closed cleanly: an overlay would keep it "
			      "so; check it first with 'qedimg check -r all'");
	if (!(s->flags & QED_SNAPSHOT_REPLACE) && lstat(s->overlay, &st) == 0)
		return refuse(s, -EEXIST, s->overlay,
			      "is there already; choose another name, or replace "
			      "it with --force");
	return 0;
}

static int make_overlay(const struct snapshot *s)
{
	const struct qed_header *h = &s->image->top->header;
	struct qed_create_options options = {
		.virtual_size = h->image_size,
		.cluster_size = h->cluster_size,
		.table_size = h->table_size,
		.backing = s->path,
		.backing_format = "qed",
		.flags = QED_CREATE_RELATIVE,
		.log = *s->log,
	};
	char *name = NULL;
	int ret;

	if (s->flags & QED_SNAPSHOT_ABSOLUTE) {
		name = realpath(s->path, NULL);
		if (!name)
			return refuse(s, -errno, s->path, strerror(errno));
		options.flags = 0;
	} else if (asprintf(&name, "%s%s", *s->path == '/' ? "" : "./",
			    s->path) < 0) {
		/* "file:x" is a file's name here, no prefix to be cut off. */
		return refuse(s, -ENOMEM, s->path, strerror(ENOMEM));
	}
	options.backing = name;
	ret = qed_image_create(s->overlay, &options);
	free(name);
	return ret;
}

/* Only who owns the image can; the snapshot is there in any case. */
static void freeze(const struct snapshot *s)
{
	int fd = s->image->top->source.file->fd;
	struct stat st;

	if (s->flags & QED_SNAPSHOT_KEEP_MODE || fstat(fd, &st) < 0 ||
	    S_ISBLK(st.st_mode) || !(st.st_mode & 0222))
		return;
	if (fchmod(fd, st.st_mode & 07555) < 0)
		qed_log_write(s->log, QED_LOG_WARNING,
			      "%s: write permission cannot be taken away (%s): "
			      "do not write to it any more", s->path,
			      strerror(errno));
}

int qed_image_snapshot(const char *path, const char *overlay, uint32_t flags,
		       const struct qed_log *log)
{
	struct snapshot s = { .path = path,
			      .overlay = overlay,
			      .flags = flags,
			      .log = log };
	struct qed_open_options open;
	int ret;

	qed_open_options_init(&open);
	open.log = *log;
	ret = qed_image_open(path, &open, &s.image);
	if (ret < 0)
		return ret;
	ret = check(&s);
	if (ret == 0)
		ret = make_overlay(&s);
	if (ret == 0)
		freeze(&s);
	qed_image_close(s.image);
	return ret;
}
