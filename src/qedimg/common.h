/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options that commands have in common. */
#ifndef QEDIMG_COMMON_H
#define QEDIMG_COMMON_H

#include "progress.h"
#include "qedimg.h"

#include <getopt.h>

struct qedimg_common {
	const char *format;		/* -f */
	enum qedimg_progress_form progress;	/* -p, --progress */
	bool quiet;			/* -q */
	const char *output;		/* --output; null: not given */
	bool force_share;		/* -U */
	bool help;			/* -h */
};

/*
 * For a command's own table of long options; of -f, -h, -p, -q and -U it puts
 * those that it has into its string.
 */
#define QEDIMG_OPTION_OUTPUT   256
#define QEDIMG_OPTION_PROGRESS 257
#define QEDIMG_PROGRESS_LONG_OPTION                                            \
	{ "progress", required_argument, NULL, QEDIMG_OPTION_PROGRESS }
#define QEDIMG_COMMON_LONG_OPTIONS                                             \
	{ "force-share", no_argument, NULL, 'U' },                             \
	{ "help", no_argument, NULL, 'h' },                                    \
	{ "output", required_argument, NULL, QEDIMG_OPTION_OUTPUT }

/* All that commands have which read disks, and have no long ones of their own. */
extern const struct option qedimg_disk_options[];

/*
 * Takes one of them from getopt: 0, or -EINVAL if it is none, or has a value
 * that is not known, after a message.
 */
int qedimg_common_option(struct qedimg_common *common, int c);

/*
 * qedimg_progress_start() in the form that they ask for: -q leaves out the bar of
 * -p, but not JSON.
 */
const struct qed_job *qedimg_common_job(const struct qedimg_common *common);

/* Their values, for an image that has to be QED: 0, or -EINVAL with a message. */
int qedimg_common_check(const struct qedimg_common *common, const char *file);

/* That of --output alone. */
int qedimg_output_check(const struct qedimg_common *common, const char *file);

/* The default is what a person reads. */
bool qedimg_wants_json(const struct qedimg_common *common);

/* There must be no argument left: 0, or -EINVAL with a message. */
int qedimg_no_more(const char *file, const char *argument);

/*
 * Opens an image for reading: 0, or -errno after a message, which names the option
 * that takes the file as raw, if that is not 0.
 */
int qedimg_open(const char *file, const struct qedimg_common *common,
		uint32_t flags, char raw_option, struct qed_image **image);

/*
 * The message about a request to `image`, which was opened as `file`, or a map of
 * it, that has failed with `err`, -errno: names the file of its chain that could
 * not be read.  `what` was to be done at `disk_off`.
 */
void qedimg_blame(const char *file, struct qed_image *image, const char *what,
		  uint64_t disk_off, int err);

#endif
