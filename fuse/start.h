/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Going to the background.  The process forks before it does anything else (the
 * library's threads would not survive a fork); the parent stays until the child
 * says that the mount is up, or ends with the child's exit status.  Till then
 * the child has the user's stderr, so that every mistake is seen.
 */
#ifndef QEDFS_START_H
#define QEDFS_START_H

#include <stdbool.h>

struct qedfs_start {
	int fd;				/* to the parent, -1 in the foreground */
	const char *pidfile;		/* the caller's, or null */
	bool pidfile_made;
};

/* Forks unless `foreground`.  Returns -1 where the program should go on, and in
 * the parent, when it is time, the exit status. */
int qedfs_start_fork(struct qedfs_start *start, bool foreground,
		     const char *pidfile);

/*
 * The mount is up: makes the pidfile, lets go of the terminal and lets the
 * parent go.  0 or -errno with a message; then nothing has been let go.
 */
int qedfs_start_ready(struct qedfs_start *start);

/* Everything is closed: removes the pidfile. */
void qedfs_start_finish(struct qedfs_start *start);

#endif
