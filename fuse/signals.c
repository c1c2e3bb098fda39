/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "signals.h"
#include "log.h"
#include "stats.h"
#include "syncer.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static const int endings[] = { SIGTERM, SIGINT, SIGHUP };
#define NENDINGS (sizeof(endings) / sizeof(endings[0]))
#define INTERRUPTION SIGUSR2		/* of the thread that serves */

/* What the watcher waits for. */
static void fill_set(sigset_t *set)
{
	sigemptyset(set);
	for (size_t i = 0; i < NENDINGS; i++)
		sigaddset(set, endings[i]);
	sigaddset(set, SIGUSR1);
}

static void interrupt(int which)
{
	(void)which;			/* the system call ends with EINTR */
}

/* An ignored signal could not be waited for, and a shell starts background
 * commands with SIGINT ignored. */
void qedfs_signals_prepare(void)
{
	struct sigaction action = { .sa_handler = interrupt };
	sigset_t set;

	for (size_t i = 0; i < NENDINGS; i++)
		signal(endings[i], SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
	fill_set(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaction(INTERRUPTION, &action, NULL);
}

/*
 * Has the kernel send what its cache has not written yet, waits for it, and
 * finds out whether it went well.  Without a syncer, as no path leads to the
 * mount any more, the pages have to be dropped, which writes them too.
 */
static int write_back(struct qedfs_session *session,
		      struct qedfs_syncer *syncer)
{
	int ret;

	if (!syncer)
		return fuse_lowlevel_notify_inval_inode(
			session->fuse, session->mount.tree->file_ino, 0, 0);
	ret = qedfs_syncer_sync(syncer, QEDFS_SYNC_FILE);
	qedfs_syncer_stop(syncer);
	/* A program wrote past the end; it could not be kept. */
	return ret == -EFBIG ? 0 : ret;
}

/* Waits for qedfs_watcher_stop(), but not for long; true if it was called. */
static bool wait_for_stop(struct qedfs_watcher *watcher)
{
	struct timespec until;
	bool stopped;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += 10000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	pthread_mutex_lock(&watcher->lock);
	if (!watcher->stopped)
		pthread_cond_timedwait(&watcher->changed, &watcher->lock,
				       &until);
	stopped = watcher->stopped;
	pthread_mutex_unlock(&watcher->lock);
	return stopped;
}

/*
 * Makes the session's loop end.  libfuse looks whether it should when the
 * thread that serves is interrupted in its wait; an interruption just before
 * the wait has no effect, hence the repetition.
 */
static void stop_serving(struct qedfs_watcher *watcher)
{
	fuse_session_exit(watcher->session->fuse);
	do {
		pthread_kill(watcher->server, INTERRUPTION);
	} while (!wait_for_stop(watcher));
}

/* Detached first, so that nobody new comes while the cache is written. */
static int end_mount(struct qedfs_watcher *watcher)
{
	struct qedfs_session *session = watcher->session;
	struct qedfs_syncer syncer;
	bool reachable = qedfs_syncer_start(&syncer, &session->place) == 0;
	int ret;

	qedfs_place_detach(&session->place);
	ret = write_back(session, reachable ? &syncer : NULL);
	stop_serving(watcher);
	if (ret)
		qedfs_log(QED_LOG_ERROR, "%s: not everything could be written: %s",
			  session->place.mountpoint, strerror(-ret));
	return ret;
}

static int come_up(struct qedfs_watcher *watcher)
{
	int ret = qedfs_session_come_up(watcher->session);

	if (!ret)
		ret = watcher->ready(watcher->opaque);
	if (ret)
		end_mount(watcher);
	return ret;
}

static bool is_stopped(struct qedfs_watcher *watcher)
{
	bool stopped;

	pthread_mutex_lock(&watcher->lock);
	stopped = watcher->stopped;
	pthread_mutex_unlock(&watcher->lock);
	return stopped;
}

static void take_signal(struct qedfs_watcher *watcher, int which)
{
	const struct qedfs_session *session = watcher->session;

	if (which == SIGUSR1) {
		qedfs_stats_log(session->mount.tree->image,
				session->place.mountpoint);
		return;
	}
	qedfs_log(QED_LOG_INFO, "%s: %s", session->place.mountpoint,
		  strsignal(which));
	watcher->err = end_mount(watcher);
}

/* end_mount() returns stopped: the first signal to end is the last. */
static void *watch(void *opaque)
{
	struct qedfs_watcher *watcher = opaque;
	sigset_t set;
	int which;

	watcher->err = come_up(watcher);
	fill_set(&set);
	while (!is_stopped(watcher)) {
		if (!sigwait(&set, &which) && !is_stopped(watcher))
			take_signal(watcher, which);
	}
	return NULL;
}

static void init_lock(struct qedfs_watcher *watcher)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&watcher->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watcher->changed, &attr);
	pthread_condattr_destroy(&attr);
}

static void destroy_lock(struct qedfs_watcher *watcher)
{
	pthread_cond_destroy(&watcher->changed);
	pthread_mutex_destroy(&watcher->lock);
}

int qedfs_watcher_start(struct qedfs_watcher *watcher,
			struct qedfs_session *session,
			int (*ready)(void *opaque), void *opaque)
{
	int ret;

	memset(watcher, 0, sizeof(*watcher));
	watcher->session = session;
	watcher->ready = ready;
	watcher->opaque = opaque;
	watcher->server = pthread_self();
	init_lock(watcher);
	ret = pthread_create(&watcher->thread, NULL, watch, watcher);
	if (ret)
		destroy_lock(watcher);
	return -ret;
}

void qedfs_watcher_stop(struct qedfs_watcher *watcher)
{
	pthread_mutex_lock(&watcher->lock);
	watcher->stopped = true;
	pthread_cond_signal(&watcher->changed);
	pthread_mutex_unlock(&watcher->lock);
	pthread_kill(watcher->thread, endings[0]);
}

int qedfs_watcher_join(struct qedfs_watcher *watcher)
{
	pthread_join(watcher->thread, NULL);
	destroy_lock(watcher);
	return watcher->err;
}
