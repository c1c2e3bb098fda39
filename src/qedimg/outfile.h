/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file that a command writes for people, such as a picture.  A regular file has
 * another name until it is complete, so that what had its name before stays until
 * then: whatever goes wrong, there is the old file or the new one.  Not durable
 * when it is done.  For one thread; SIGHUP, SIGINT and SIGTERM wait meanwhile.
 */
#ifndef QEDIMG_OUTFILE_H
#define QEDIMG_OUTFILE_H

#include "libqed/qed.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

struct qedimg_outfile {
	const char *name;		/* as the user gave it */
	FILE *out;
	int fd;				/* until there is that */
	bool replaces;
	struct stat old;		/* if it does */
	char *target;			/* with temp: symbolic links followed */
	char *temp;			/* beside it; null: written in place */
	bool made;			/* there is something under that name */
	sigset_t mask;			/* as it was before that */
};

/*
 * Begins the file of that name, which must stay there; it must not be one of the
 * image's chain.  Returns where to write to, null after a message.
 */
FILE *qedimg_outfile_begin(struct qedimg_outfile *outfile, const char *name,
			   struct qed_image *image);

/*
 * To be called in either case: the file gets its name, if all was written.  False,
 * after a message, if it has not; then nothing is left of it.
 */
bool qedimg_outfile_end(struct qedimg_outfile *outfile);

#endif
