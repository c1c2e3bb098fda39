/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How a job's progress is shown, and how it is stopped: one for each run of a
 * command that takes long.  SIGUSR1 prints one line; SIGINT, SIGHUP and SIGTERM
 * make the job end in order; a second one of these ends the program at once.
 */
#ifndef QEDIMG_PROGRESS_H
#define QEDIMG_PROGRESS_H

#include "libqed/qed.h"

enum qedimg_progress_form {
	QEDIMG_PROGRESS_NONE,
	QEDIMG_PROGRESS_BAR,		/* on stderr, if that is a terminal */
	QEDIMG_PROGRESS_JSON,		/* an object a line on stderr */
};

/* The argument of --progress=: 0, or -EINVAL if it is not "json". */
int qedimg_progress_parse(const char *text, enum qedimg_progress_form *form);

/*
 * Sets up the signals and returns the job to hand to the library; its progress
 * is in bytes.  There is one at a time, and it is static.
 */
const struct qed_job *qedimg_progress_start(enum qedimg_progress_form form);

/*
 * Shows the end of it, if it has begun, takes the bar away and puts the signals
 * back.
 */
void qedimg_progress_end(void);

#endif
