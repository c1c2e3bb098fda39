/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An external snapshot: the image stays as it is, and an overlay on it gets
 * what is written from now on.
 *
 * The image is opened once, and so locked against writers until the end: the
 * size and geometry are what that descriptor's header says, and it is that
 * descriptor whose permissions change.  Its path is looked at again only to see
 * that the name that the overlay stores still leads to it.
 *
 * Order: the overlay is durable, then it gets its name, then the name is
 * durable, then the image is frozen.  So whenever the power goes there is no
 * overlay, or all of it, and an image that nobody may write has one.
 */
#include "config.h"

#include "create.h"
#include "image.h"
#include "relative.h"
#include "snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct snapshot {
	const char *path, *overlay;
	uint32_t flags;
	const struct qed_log *log;
	struct qed_engine *engine;	/* the image has a share of it */
	struct qed_image *image;
	struct qed_newfile newfile;
};

static int refuse(const struct snapshot *s, int err, const char *path,
		  const char *why)
{
	qed_log_write(s->log, QED_LOG_ERROR, "%s: %s", path, why);
	return err;
}

/* --- the overlay's place ------------------------------------------------------------ */

/* Is this one of the files that the overlay is to be based on? */
static bool in_chain(const struct snapshot *s, const struct stat *st)
{
	struct stat layer;

	for (unsigned i = 0; !qed_image_stat_layer(s->image, i, &layer); i++)
		if (layer.st_dev == st->st_dev && layer.st_ino == st->st_ino)
			return true;
	return false;
}

static int refuse_chain(const struct snapshot *s)
{
	return refuse(s, -EINVAL, s->overlay,
		      "is the image itself or one behind it: choose another "
		      "name for the overlay");
}

static int refuse_taken(const struct snapshot *s)
{
	struct stat st;

	if (stat(s->overlay, &st) == 0 && in_chain(s, &st))
		return refuse_chain(s);
	return refuse(s, -EEXIST, s->overlay,
		      "is there already; choose another name, or replace it "
		      "with --force");
}

/* Whether a name is free turns out when it is taken. */
static int begin(struct snapshot *s)
{
	struct qed_newfile *newfile = &s->newfile;
	struct stat st;
	int ret;

	if (!(s->flags & QED_SNAPSHOT_REPLACE))
		return qed_newfile_begin_exclusive(newfile, s->overlay, s->log);
	/* Files of the chain are locked: this is for the message. */
	if (stat(s->overlay, &st) == 0 && in_chain(s, &st))
		return refuse_chain(s);
	ret = qed_newfile_begin(newfile, s->overlay, s->log);
	/* On a host without locks it is not. */
	if (ret == 0 && newfile->oldfd >= 0 && in_chain(s, &newfile->old))
		ret = refuse_chain(s);
	return ret;
}

/* --- the image's name --------------------------------------------------------------- */

/* What the overlay stores, wherever links lead to it: to be freed. */
static int choose_name(const struct snapshot *s, char **name)
{
	int ret;

	if (!(s->flags & QED_SNAPSHOT_ABSOLUTE)) {
		ret = qed_relative_path(s->newfile.target, s->path, name);
	} else {
		*name = realpath(s->path, NULL);
		ret = *name ? 0 : -errno;
	}
	return ret < 0 ? refuse(s, ret, s->path, strerror(-ret)) : 0;
}

/* Another file may have got the path since the image was opened. */
static int check_name(const struct snapshot *s, const char *name)
{
	const struct qed_file *file = s->image->top->source.file;
	char *path;
	struct stat st;
	bool same;
	int ret = qed_backing_resolve(s->newfile.target, name, &path);

	if (ret < 0)
		return refuse(s, ret, s->path, strerror(-ret));
	same = stat(path, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
	free(path);
	return same ? 0 :
		      refuse(s, -ESTALE, s->path,
			     "has been moved or replaced just now, and no "
			     "overlay was made: try again");
}

/* --- the job ------------------------------------------------------------------------ */

static int open_image(struct snapshot *s)
{
	struct qed_open_options open;
	struct qed_engine *share;
	int ret = qed_engine_share(s->engine, &share);

	if (ret < 0)
		return refuse(s, ret, s->path, strerror(-ret));
	qed_open_options_init(&open);
	open.log = *s->log;
	ret = qed_image_open_engine(s->path, &open, share, &s->image);
	if (ret < 0)
		return ret;
	if (s->image->top->header.features & QED_FEATURE_NEED_CHECK)
		return refuse(s, -EUCLEAN, s->path,
			      "was not closed cleanly: an overlay would keep it "
			      "so; check it first with 'qedimg check -r all'");
	return 0;
}

static int write_overlay(struct snapshot *s, const char *name)
{
	const struct qed_header *h = &s->image->top->header;
	const struct qed_create_options options = {
		.virtual_size = h->image_size,
		.cluster_size = h->cluster_size,
		.table_size = h->table_size,
		.backing = name,
		.backing_format = "qed",
		.log = *s->log,
	};
	struct qed_header header;
	int ret = qed_create_overlay_header(&s->newfile, &options, &header);

	if (ret == 0)
		ret = qed_newfile_make(&s->newfile, s->engine);
	if (ret == 0)
		ret = qed_create_write_empty(&s->newfile, &header, name);
	return ret;
}

/* Durable on return. */
static int make_overlay(struct snapshot *s)
{
	char *name = NULL;
	int ret = begin(s);

	if (ret == 0)
		ret = choose_name(s, &name);
	if (ret == 0)
		ret = write_overlay(s, name);
	if (ret == 0)
		ret = check_name(s, name);
	if (ret == 0) {
		ret = qed_newfile_publish(&s->newfile, true);
		if (ret == -EEXIST && s->newfile.exclusive)
			ret = refuse_taken(s);
	}
	free(name);
	qed_newfile_end(&s->newfile);
	return ret;
}

static void warn(const struct snapshot *s, const char *what, int err)
{
	qed_log_write(s->log, QED_LOG_WARNING,
		      "%s: %s (%s): do not write to it any more", s->path, what,
		      strerror(err));
}

/* Only who owns the image can; the snapshot is there in any case. */
static void freeze(const struct snapshot *s)
{
	int fd = s->image->top->source.file->fd;
	struct stat st;

	if (s->flags & QED_SNAPSHOT_KEEP_MODE || fstat(fd, &st) < 0 ||
	    !(st.st_mode & 0222))
		return;
	/* What its node permits is the system's, and as before after a boot. */
	if (S_ISBLK(st.st_mode))
		qed_log_write(s->log, QED_LOG_WARNING,
			      "%s: a device keeps its write permission: do not "
			      "write to it any more", s->path);
	else if (fchmod(fd, st.st_mode & 07555) < 0)
		warn(s, "write permission cannot be taken away", errno);
	else if (fsync(fd) < 0)
		warn(s, "a power cut may give write permission back", errno);
}

int qed_image_snapshot_engine(const char *path, const char *overlay,
			      uint32_t flags, const struct qed_log *log,
			      struct qed_engine *engine)
{
	struct snapshot s = { .path = path,
			      .overlay = overlay,
			      .flags = flags,
			      .log = log,
			      .engine = engine,
			      .newfile = { .oldfd = -1, .dirfd = -1 } };
	int ret = open_image(&s);

	if (ret == 0)
		ret = make_overlay(&s);
	if (ret == 0)
		freeze(&s);
	qed_image_close(s.image);
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_snapshot(const char *path, const char *overlay, uint32_t flags,
		       const struct qed_log *log)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(QED_IO_THREADS, path, log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_snapshot_engine(path, overlay, flags, log, engine);
}
