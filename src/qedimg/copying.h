/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the commands that copy disks have in common: convert and dd. */
#ifndef QEDIMG_COPYING_H
#define QEDIMG_COPYING_H

#include "common.h"

struct qedimg_copying {
	const struct qedimg_common *common;
	struct qed_image **images;
	unsigned n;
	int pipe;			/* that is read, or -1 */
};

/* `what` names it, with a capital or not: 0, or -EINVAL with a message. */
int qedimg_check_format(const char *file, const char *what, const char *format);

/* Is it "-", or a named pipe or what leads to one? */
bool qedimg_is_stream(const char *name);

/*
 * Opens the sources, or takes standard input for "-" or a named pipe, and says so in
 * *options.  The format is common's, by default qed; of these only raw.  0, or -errno
 * after a message; qedimg_copying_close() is due in either case.
 */
int qedimg_copying_open(struct qedimg_copying *copying,
			const struct qedimg_common *common, char **names,
			unsigned n, struct qed_convert_options *options);
void qedimg_copying_close(struct qedimg_copying *copying);

/* Copies, with progress: the exit status. */
int qedimg_copying_run(struct qedimg_copying *copying, const char *target,
		       struct qed_convert_options *options);

#endif
