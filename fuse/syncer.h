/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waiting for the kernel to send what its cache of the mount's file has not
 * written yet.  Nothing ends the wait for a page but the answer of this daemon
 * or the end of its connection.  If one of its own threads waited, or had the
 * file open, a SIGKILL would end the others and not that one, which would keep
 * the connection open for ever.  So another process does it, which has nothing
 * of the daemon's open.
 */
#ifndef QEDFS_SYNCER_H
#define QEDFS_SYNCER_H

#include "place.h"

enum qedfs_sync {
	QEDFS_SYNC_PAGES,	/* sync_file_range(2): without the inode's lock,
				 * which a seeking program holds */
	QEDFS_SYNC_FILE,	/* fsync(2) */
};

struct qedfs_syncer {
	pid_t pid;
	int fd;				/* to talk to it */
};

/*
 * Starts the process, which opens the virtual disk through the mount: 0, or
 * -errno and there is none.  Requests must be served.
 */
int qedfs_syncer_start(struct qedfs_syncer *syncer,
		       const struct qedfs_place *place);

/* Has it sync, and waits: 0 or -errno.  It has the file open afterwards. */
int qedfs_syncer_sync(struct qedfs_syncer *syncer, enum qedfs_sync how);

/* It closes the file and ends. */
void qedfs_syncer_stop(struct qedfs_syncer *syncer);

#endif
