/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "session.h"
#include "handshake.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * More of them than can run cost each other time, as the kernel wakes whichever
 * has slept longest; a few wait for the disk now and then.  For each libfuse
 * keeps a buffer as large as the largest request.
 */
#define MIN_THREADS 4u
#define MAX_THREADS 12u
/* What mount tables show of a longer path is its last component alone. */
#define FSNAME_MAX 1024u

#ifdef FUSE_CAP_OVER_IO_URING
#define CAN_USE_URING 1
#else
#define CAN_USE_URING 0
#endif

static const char *source_name(const char *image)
{
	const char *slash = strrchr(image, '/');

	return strlen(image) > FSNAME_MAX && slash ? slash + 1 : image;
}

/* The options for libfuse as one string, to be freed, or null. */
static char *mount_options(const struct qedfs_options *options,
			   const struct qedfs_tree *tree)
{
	static const char fixed[] =
		"default_permissions,nosuid,nodev,subtype=qedfs";
	char source[FSNAME_MAX + sizeof("fsname=")];
	char largest_read[sizeof("max_read=") + 10];
	char *list = NULL;

	snprintf(source, sizeof(source), "fsname=%s",
		 source_name(options->image));
	snprintf(largest_read, sizeof(largest_read), "max_read=%u",
		 QEDFS_READ_MAX);
	if (fuse_opt_add_opt(&list, fixed) ||
	    fuse_opt_add_opt(&list, largest_read) ||
	    fuse_opt_add_opt_escaped(&list, source) ||
	    fuse_opt_add_opt(&list, tree->writable ? "rw" : "ro") ||
	    (options->mount_options &&
	     fuse_opt_add_opt(&list, options->mount_options)) ||
	    (options->uring && fuse_opt_add_opt(&list, "io_uring")) ||
	    (options->debug && fuse_opt_add_opt(&list, "debug"))) {
		free(list);
		return NULL;
	}
	return list;
}

static int create(struct qedfs_session *session,
		  const struct qedfs_options *options,
		  const struct qedfs_tree *tree)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char *list = mount_options(options, tree);

	if (list && !fuse_opt_add_arg(&args, "qedfs") &&
	    !fuse_opt_add_arg(&args, "-o") && !fuse_opt_add_arg(&args, list))
		session->fuse = fuse_session_new(&args, &qedfs_ops,
						 sizeof(qedfs_ops),
						 &session->mount);
	fuse_opt_free_args(&args);
	free(list);
	return session->fuse ? 0 : -ENOMEM;
}

/* One line says what is wrong, whichever of the three has found it out. */
static int attach(struct qedfs_session *session, const char *mountpoint)
{
	char reason[512];
	int ret;

	qedfs_log_capture();
	ret = fuse_session_mount(session->fuse, mountpoint);
	qedfs_log_release(reason, sizeof(reason));
	if (ret == 0)
		return 0;
	if (reason[0])
		qedfs_log(QED_LOG_ERROR, "cannot mount on %s: %s", mountpoint,
			  reason);
	else			/* fusermount3 has said why */
		qedfs_log(QED_LOG_ERROR, "cannot mount on %s", mountpoint);
	return -EIO;
}

/*
 * To unmount, libfuse closes its descriptor and takes off whatever is at the
 * mountpoint, which need not be ours any longer.  It does not if polling the
 * descriptor gives an error, as it does after an unmount; so does the writing
 * end of a pipe that nobody reads.  Made early, as it must not fail at the end.
 */
static int make_dead_end(struct qedfs_session *session)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	close(ends[0]);
	session->dead_end = ends[1];
	return 0;
}

/* Closes the connection; the descriptor stays valid for other threads. */
static void cut_connection(struct qedfs_session *session)
{
	dup3(session->dead_end, fuse_session_fd(session->fuse), O_CLOEXEC);
	close(session->dead_end);
	session->dead_end = -1;
}

static int start_rooms(struct qedfs_session *session, struct qedfs_tree *tree)
{
	struct qedfs_mount *mount = &session->mount;
	int ret = qedfs_place_learn(&session->place);

	if (!ret)
		ret = qedfs_overrun_start(&mount->overrun, session->fuse,
					  &session->place, tree->file_ino,
					  tree->size);
	if (ret)
		return ret;
	qedfs_io_init(&mount->io, tree, session->fuse, &mount->overrun);
	ret = qedfs_seek_start(&mount->seek, &mount->io, &session->place);
	if (ret) {
		qedfs_io_finish(&mount->io);
		qedfs_overrun_stop(&mount->overrun);
		qedfs_overrun_join(&mount->overrun);
	}
	return ret;
}

/*
 * Where the file itself is the root, the writeback cache needs a process that
 * may open it for writing (correct_root_size()): with an owner that was made up
 * this one may not be allowed to.
 */
static bool can_correct_root(const struct qedfs_options *options,
			     const struct qedfs_tree *tree)
{
	const struct qedfs_owner *owner = &options->owner;

	return tree->name || geteuid() == 0 ||
	       !(owner->set_uid || owner->set_gid || owner->set_umask);
}

static unsigned default_threads(void)
{
	long wanted = sysconf(_SC_NPROCESSORS_ONLN) + 2;

	if (wanted < (long)MIN_THREADS)
		return MIN_THREADS;
	return wanted > (long)MAX_THREADS ? MAX_THREADS : (unsigned)wanted;
}

static void describe(struct qedfs_session *session,
		     const struct qedfs_options *options,
		     struct qedfs_tree *tree)
{
	memset(session, 0, sizeof(*session));
	session->mount.tree = tree;
	session->mount.writeback = options->writeback && tree->writable &&
				   can_correct_root(options, tree);
	session->mount.discard = options->discard;
	session->mount.uring = options->uring;
	session->readahead = options->readahead;
	session->max_threads = options->max_threads ? options->max_threads :
						      default_threads();
	session->place.mountpoint = options->mountpoint;
	session->place.name = tree->name;
	session->dead_end = -1;
}

int qedfs_session_mount(struct qedfs_session *session,
			const struct qedfs_options *options,
			struct qedfs_tree *tree)
{
	int ret;

	if (options->uring && !CAN_USE_URING) {
		qedfs_log(QED_LOG_ERROR,
			  "option uring: this qedfs was built with a libfuse older than 3.18");
		return -ENOTSUP;
	}
	describe(session, options, tree);
	ret = make_dead_end(session);
	if (!ret)
		ret = create(session, options, tree);
	if (ret)
		qedfs_log(QED_LOG_ERROR, "cannot mount on %s: %s",
			  options->mountpoint, strerror(-ret));
	else
		ret = attach(session, options->mountpoint);
	if (ret)
		goto out_destroy;
	ret = start_rooms(session, tree);
	if (!ret) {
		qedfs_handshake(session->fuse, &session->mount.xattrs);
		return 0;
	}
	qedfs_log(QED_LOG_ERROR, "cannot mount on %s: %s",
		  options->mountpoint, strerror(-ret));
	qedfs_place_detach(&session->place);
	cut_connection(session);
	fuse_session_unmount(session->fuse);
out_destroy:
	if (session->fuse)
		fuse_session_destroy(session->fuse);
	if (session->dead_end >= 0)
		close(session->dead_end);
	return ret;
}

int qedfs_session_serve(struct qedfs_session *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int ret;

	if (!config) {
		ret = -ENOMEM;
	} else {
		fuse_loop_cfg_set_clone_fd(config, 1);
		fuse_loop_cfg_set_max_threads(config, session->max_threads);
		ret = fuse_session_loop_mt(session->fuse, config);
		fuse_loop_cfg_destroy(config);
	}
	/*
	 * The connection's end shows as ENODEV, which libfuse knows; as this if
	 * it came while a request was being taken.
	 */
	if (ret >= 0 || ret == -ECONNABORTED)
		return 0;
	qedfs_log(QED_LOG_ERROR, "%s: cannot serve requests: %s",
		  session->place.mountpoint, strerror(-ret));
	return ret;
}

/*
 * With its writeback cache the kernel believes nobody but itself about the size
 * of a regular file, and takes that of the root for 0 until it is truncated.
 */
static int correct_root_size(struct qedfs_session *session)
{
	if (session->place.name || !session->mount.writeback)
		return 0;
	return qedfs_place_truncate(&session->place,
				    session->mount.tree->size);
}

/* Without it the mount is as good, only slower. */
static void set_readahead(const struct qedfs_session *session)
{
	int ret = 0;

	if (session->readahead)
		ret = qedfs_place_set_readahead(&session->place,
						session->readahead);
	if (ret)
		qedfs_log(QED_LOG_WARNING, "%s: readahead cannot be set: %s",
			  session->place.mountpoint, strerror(-ret));
}

int qedfs_session_come_up(struct qedfs_session *session)
{
	int ret = qedfs_place_ping(&session->place);

	if (!ret)
		qedfs_log(QED_LOG_DEBUG, "extended attributes: %s",
			  session->mount.xattrs ?
				  "on" : "off, they would slow writes down");
	if (!ret)
		ret = correct_root_size(session);
	if (!ret)
		set_readahead(session);
	else
		qedfs_log(QED_LOG_ERROR, "cannot mount on %s: %s",
			  session->place.mountpoint, strerror(-ret));
	return ret;
}

/*
 * The order matters: a request that is not answered keeps the connection alive,
 * and the rooms' own threads may wait for its end.
 */
void qedfs_session_unmount(struct qedfs_session *session)
{
	qedfs_place_detach(&session->place);
	qedfs_overrun_stop(&session->mount.overrun);
	qedfs_seek_stop(&session->mount.seek);
	qedfs_io_drain(&session->mount.io);
	cut_connection(session);
}

void qedfs_session_destroy(struct qedfs_session *session)
{
	qedfs_overrun_join(&session->mount.overrun);
	qedfs_seek_join(&session->mount.seek);
	qedfs_io_finish(&session->mount.io);
	fuse_session_unmount(session->fuse);
	fuse_session_destroy(session->fuse);
}
