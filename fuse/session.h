/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One mounted FUSE session: from mount(2) until the connection is gone. */
#ifndef QEDFS_SESSION_H
#define QEDFS_SESSION_H

#include "lowlevel.h"
#include "options.h"
#include "ops.h"
#include "place.h"

struct qedfs_session {
	struct fuse_session *fuse;
	struct qedfs_place place;
	struct qedfs_mount mount;
	uint64_t readahead;		/* bytes, or 0 */
	unsigned max_threads;		/* that serve */
	int dead_end;			/* writes to a pipe without a reader,
					 * -1 once used */
};

/*
 * Mounts `tree` as `options` say: 0 or -errno with a message.  Requests queue
 * up until qedfs_session_serve().
 */
int qedfs_session_mount(struct qedfs_session *session,
			const struct qedfs_options *options,
			struct qedfs_tree *tree);

/*
 * Waits until the mount answers and shows what it should: 0, or -errno with a
 * message.  To be called from another thread than the one that serves.
 */
int qedfs_session_come_up(struct qedfs_session *session);

/* Serves requests until the mount is gone or fuse_session_exit(): 0 or -errno
 * with a message if it could not be served. */
int qedfs_session_serve(struct qedfs_session *session);

/*
 * Takes the mount away.  Every request that was read has been answered when it
 * returns, what others still ask of the mount fails with ENOTCONN, and nothing
 * uses the image any more.
 */
void qedfs_session_unmount(struct qedfs_session *session);

/* Frees the session, unmounted, when no other thread uses it any more. */
void qedfs_session_destroy(struct qedfs_session *session);

#endif
