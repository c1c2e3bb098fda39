/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SIGTERM, SIGINT and SIGHUP end a mount as umount(8) does: nothing that a
 * program has written is lost, even if it has the file open still.  SIGUSR1 has
 * the counters logged.
 */
#ifndef QEDFS_SIGNALS_H
#define QEDFS_SIGNALS_H

#include "session.h"

#include <pthread.h>
#include <stdbool.h>

/* Keeps those signals for the watcher, and SIGPIPE from everybody.  Call it
 * before the first thread is made. */
void qedfs_signals_prepare(void);

/* A thread that waits for the mount to be up, then for a signal. */
struct qedfs_watcher {
	/* set by qedfs_watcher_start(), then constant */
	struct qedfs_session *session;
	int (*ready)(void *opaque);
	void *opaque;
	pthread_t server;		/* the thread that serves the session */

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopped;			/* under lock */
	int err;			/* the watcher's until joined: why the
					 * mount did not come up, or what was
					 * lost at the end; 0 or -errno */
};

/*
 * Starts it, from the thread that will call qedfs_session_serve(): 0 or -errno.
 * `ready(opaque)` is called once, from the watcher's thread, when the mount
 * answers; if that returns an error the mount is ended.
 */
int qedfs_watcher_start(struct qedfs_watcher *watcher,
			struct qedfs_session *session,
			int (*ready)(void *opaque), void *opaque);

/* The session is not served any more: signals are of no interest. */
void qedfs_watcher_stop(struct qedfs_watcher *watcher);

/* Waits for the thread, stopped and with the session unmounted: its `err`. */
int qedfs_watcher_join(struct qedfs_watcher *watcher);

#endif
