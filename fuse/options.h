/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the command line asks for. */
#ifndef QEDFS_OPTIONS_H
#define QEDFS_OPTIONS_H

#include "qed.h"

/* Who the virtual disk seems to belong to; the image's where not set. */
struct qedfs_owner {
	bool set_uid, set_gid, set_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask;
};

struct qedfs_options {
	char *image;			/* absolute path */
	char *mountpoint;		/* absolute path, links resolved */
	char *pidfile;			/* absolute path, or null */
	char *backing;			/* absolute path, or null */
	char *backing_format;		/* or null */
	char *mount_options;		/* what the kernel should hear of:
					 * comma-separated, or null */
	bool read_only;
	bool no_backing;
	bool writeback;
	bool discard;
	bool detect_zeroes;
	bool uring;			/* requests by io_uring; no writeback
					 * then, see seek.h */
	uint64_t readahead;		/* bytes the kernel reads ahead; 0: its
					 * own choice */
	unsigned max_threads;		/* that take requests; 0: the default */
	bool foreground;
	bool debug;
	struct qedfs_owner owner;
	struct qed_open_options open;	/* flags and strings are not set here */
};

/*
 * Reads the command line.  Returns -1 if the program should go on, otherwise
 * the exit status it should end with (help or version printed: 0; a mistake,
 * named on stderr: 1).  qedfs_options_free() in any case.
 */
int qedfs_options_parse(struct qedfs_options *options, int argc, char **argv);
void qedfs_options_free(struct qedfs_options *options);

#endif
