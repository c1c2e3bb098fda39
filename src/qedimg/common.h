/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The options that commands which only read an image have in common. */
#ifndef QEDIMG_COMMON_H
#define QEDIMG_COMMON_H

#include "qedimg.h"

struct qedimg_common {
	const char *format;		/* -f */
	const char *output;		/* --output; null: not given */
	bool force_share;		/* -U */
	bool help;			/* -h */
};

/* For a command's own table of long options; -f, -U and -h it adds to its string. */
#define QEDIMG_OPTION_OUTPUT 256
#define QEDIMG_COMMON_LONG_OPTIONS                                             \
	{ "force-share", no_argument, NULL, 'U' },                             \
	{ "help", no_argument, NULL, 'h' },                                    \
	{ "output", required_argument, NULL, QEDIMG_OPTION_OUTPUT }

/* Takes one of them from getopt: 0, or -EINVAL if it is none. */
int qedimg_common_option(struct qedimg_common *common, int c);

/* Their values, for an image that has to be QED: 0, or -EINVAL with a message. */
int qedimg_common_check(const struct qedimg_common *common, const char *file);

/* The default is what a person reads. */
bool qedimg_wants_json(const struct qedimg_common *common);

/* There must be no argument left: 0, or -EINVAL with a message. */
int qedimg_no_more(const char *file, const char *argument);

/* Opens an image for reading: 0, or -errno after a message. */
int qedimg_open(const char *file, const struct qedimg_common *common,
		uint32_t flags, struct qed_image **image);

#endif
