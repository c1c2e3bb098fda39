/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "signals.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int endings[] = { SIGTERM, SIGINT, SIGHUP };
#define NENDINGS (sizeof(endings) / sizeof(endings[0]))

static void fill_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < NENDINGS; i++)
		sigaddset(set, endings[i]);
}

/* An ignored signal could not be waited for, and a shell starts background
 * commands with SIGINT ignored. */
void qedfs_signals_block(void)
{
	sigset_t set;

	for (size_t i = 0; i < NENDINGS; i++)
		signal(endings[i], SIG_DFL);
	fill_set(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/*
 * Has the kernel send what its cache has not written yet, and waits for it.
 * fsync is the quick way, and finds out whether it went well; dropping the pages
 * works even for a mount that no path leads to any more.
 */
static int write_back(struct qedfs_session *session, int fd)
{
	int ret = 0;

	/* EFBIG: a program wrote past the end; it could not be kept. */
	if (fd >= 0 && fsync(fd) < 0 && errno != EFBIG)
		ret = -errno;
	fuse_lowlevel_notify_inval_inode(session->fuse,
					 session->mount.tree->file_ino, 0, 0);
	return ret;
}

/*
 * Makes the session's loop end.  A worker looks whether it should when it has
 * done a request, so one is provoked: the kernel answers by a request when it is
 * asked for pages, of which the root has none if it is a directory.
 */
static void stop_serving(struct fuse_session *fuse)
{
	fuse_session_exit(fuse);
	fuse_lowlevel_notify_retrieve(fuse, FUSE_ROOT_ID, 1, 0, NULL);
}

/* Detached first, so that nobody new comes while the cache is written. */
static int end_mount(struct qedfs_session *session)
{
	int fd = qedfs_place_open(&session->place, O_RDONLY | O_NONBLOCK);
	int ret;

	qedfs_place_detach(&session->place);
	ret = write_back(session, fd);
	if (fd >= 0)
		close(fd);
	stop_serving(session->fuse);
	if (ret)
		qedfs_log(QED_LOG_ERROR, "%s: not everything could be written: %s",
			  session->place.mountpoint, strerror(-ret));
	return ret;
}

static int come_up(struct qedfs_watcher *watcher)
{
	int ret = qedfs_place_ping(&watcher->session->place);

	if (ret)
		qedfs_log(QED_LOG_ERROR, "cannot mount on %s: %s",
			  watcher->session->place.mountpoint, strerror(-ret));
	else
		ret = watcher->ready(watcher->opaque);
	if (ret)
		end_mount(watcher->session);
	return ret;
}

static void *watch(void *opaque)
{
	struct qedfs_watcher *watcher = opaque;
	bool ended;
	sigset_t set;
	int which;

	watcher->err = come_up(watcher);
	ended = watcher->err != 0;
	fill_set(&set);
	while (!watcher->stopping) {
		if (sigwait(&set, &which) || watcher->stopping || ended)
			continue;
		qedfs_log(QED_LOG_INFO, "%s: %s", strsignal(which),
			  watcher->session->place.mountpoint);
		watcher->err = end_mount(watcher->session);
		ended = true;
	}
	return NULL;
}

int qedfs_watcher_start(struct qedfs_watcher *watcher,
			struct qedfs_session *session,
			int (*ready)(void *opaque), void *opaque)
{
	watcher->session = session;
	watcher->ready = ready;
	watcher->opaque = opaque;
	watcher->stopping = false;
	watcher->err = 0;
	return -pthread_create(&watcher->thread, NULL, watch, watcher);
}

int qedfs_watcher_join(struct qedfs_watcher *watcher)
{
	watcher->stopping = true;
	pthread_kill(watcher->thread, SIGTERM);
	pthread_join(watcher->thread, NULL);
	return watcher->err;
}
