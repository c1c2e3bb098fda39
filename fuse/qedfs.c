/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedfs: shows a QED disk image as a flat raw file.  The steps, in order. */
#include <config.h>

#include "disk.h"
#include "log.h"
#include "options.h"
#include "prologue.h"
#include "session.h"
#include "signals.h"
#include "start.h"
#include "tree.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

/*
 * Memory that this process asks for must not be found by writing out pages that
 * only this process can write.  Threads made later inherit it.
 */
static void avoid_own_writeback(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		qedfs_log(QED_LOG_DEBUG, "not marked as an I/O flusher: %s",
			  strerror(errno));
	else
		qedfs_log(QED_LOG_DEBUG, "marked as an I/O flusher: %d",
			  prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0));
}

/* What kind of tree goes there: 0, or -errno with a message. */
static int check_mountpoint(const char *path, bool *is_file)
{
	struct stat st;
	int ret = stat(path, &st) < 0 ? -errno : 0;

	if (!ret && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		qedfs_log(QED_LOG_ERROR,
			  "mountpoint %s: neither a directory nor a regular file",
			  path);
		return -ENOTDIR;
	}
	if (ret)
		qedfs_log(QED_LOG_ERROR, "mountpoint %s: %s", path,
			  strerror(-ret));
	else
		*is_file = S_ISREG(st.st_mode);
	return ret;
}

static int ready(void *opaque)
{
	return qedfs_start_ready(opaque);
}

/* From mount to unmount: 0 or -errno with a message. */
static int serve(const struct qedfs_options *options, struct qedfs_tree *tree,
		 struct qedfs_start *start)
{
	struct qedfs_session session;
	struct qedfs_watcher watcher;
	int lost;
	int ret = qedfs_session_mount(&session, options, tree);

	if (ret)
		return ret;
	ret = qedfs_watcher_start(&watcher, &session, ready, start);
	if (ret) {
		qedfs_log(QED_LOG_ERROR, "cannot make a thread: %s",
			  strerror(-ret));
		qedfs_session_unmount(&session);
		qedfs_session_destroy(&session);
		return ret;
	}
	ret = qedfs_session_serve(&session);
	qedfs_watcher_stop(&watcher);
	qedfs_session_unmount(&session);
	lost = qedfs_watcher_join(&watcher);
	qedfs_session_destroy(&session);
	return ret ? ret : lost;
}

static int show(const struct qedfs_options *options, struct qedfs_disk *disk,
		struct qedfs_start *start, bool root_is_file)
{
	struct qedfs_tree tree;
	int ret = qedfs_tree_init(&tree, disk->image, options->image,
				  &options->owner, root_is_file);

	if (ret)
		qedfs_log(QED_LOG_ERROR, "%s: %s", options->image,
			  strerror(-ret));
	else
		ret = serve(options, &tree, start);
	qedfs_tree_destroy(&tree);
	return ret;
}

/* All that the daemon does: the exit status. */
static int run(const struct qedfs_options *options, struct qedfs_start *start)
{
	struct qedfs_disk disk;
	bool root_is_file;
	int ret, lost;

	if (check_mountpoint(options->mountpoint, &root_is_file) ||
	    qedfs_disk_open(&disk, options))
		return 1;
	if (chdir("/") < 0)
		qedfs_log(QED_LOG_WARNING, "/: %s", strerror(errno));
	ret = show(options, &disk, start, root_is_file);
	lost = qedfs_disk_close(&disk, options);
	qedfs_start_finish(start);
	return ret || lost ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct qedfs_options options;
	struct qedfs_start start;
	int status;

	if (!begin_program())
		return 1;
	status = qedfs_options_parse(&options, argc, argv);
	if (status < 0) {
		if (options.debug)
			qedfs_log_verbose();
		qedfs_log_adopt_libfuse();
		status = qedfs_start_fork(&start, options.foreground,
					  options.pidfile);
	}
	if (status < 0) {
		qedfs_signals_prepare();
		avoid_own_writeback();
		status = run(&options, &start);
	}
	qedfs_options_free(&options);
	return status;
}
