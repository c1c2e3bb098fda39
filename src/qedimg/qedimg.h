/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the subcommands of qedimg share: how each presents itself, how messages
 * and names are printed.  Everything about images is libqed's business.
 */
#ifndef QEDIMG_H
#define QEDIMG_H

#include "libqed/qed.h"

#include <stdio.h>

/* A subcommand; qedimg.c holds the table of them. */
struct qedimg_command {
	const char *name;
	const char *summary;		/* one line of `qedimg --help` */
	const char *help;		/* all of `qedimg help NAME` */
	/*
	 * Runs it: argv[0] is "qedimg NAME", to begin getopt's messages.
	 * Returns the exit status; every failure has been reported.
	 */
	int (*run)(int argc, char **argv);
};

extern const struct qedimg_command qedimg_check;	/* check.c */
extern const struct qedimg_command qedimg_commit;	/* commit.c */
extern const struct qedimg_command qedimg_compact;	/* compact.c */
extern const struct qedimg_command qedimg_compare;	/* compare.c */
extern const struct qedimg_command qedimg_convert;	/* convert.c */
extern const struct qedimg_command qedimg_create;	/* create.c */
extern const struct qedimg_command qedimg_dd;		/* dd.c */
extern const struct qedimg_command qedimg_info;		/* info.c */
extern const struct qedimg_command qedimg_list;		/* list.c */
extern const struct qedimg_command qedimg_map;		/* map.c */
extern const struct qedimg_command qedimg_measure;	/* measure.c */
extern const struct qedimg_command qedimg_rebase;	/* rebase.c */
extern const struct qedimg_command qedimg_resize;	/* resize.c */
extern const struct qedimg_command qedimg_snapshot;	/* snapshot.c */

/* Prints the command's help: exit status 0. */
int qedimg_help(const struct qedimg_command *command);
/* Points at the command's help after a usage error: exit status 1. */
int qedimg_usage_error(const struct qedimg_command *command);

/*
 * create.c: reads the argument of an -o for an image whose size another one gives:
 * geometry and backing file.  What is not given stays as it is; `list` is changed,
 * and has to live as long as *image.  0, or -EINVAL after a message.
 */
int qedimg_read_image_options(const char *file, char *list,
			      struct qed_create_options *image);
/* If the list is "help", prints what may be in one, with a backing file or not. */
bool qedimg_image_options_help(const char *list, bool backing);

/* text.c: what goes to a terminal or into JSON, whatever a name is made of. */

/*
 * Prints `text` with every byte that is not part of a printable character of
 * the user's locale as \xHH, so that a name cannot drive a terminal.
 */
void qedimg_put(FILE *out, const char *text);

/*
 * One line on stderr, made safe as qedimg_put() does: "qedimg: FILE: message",
 * without the file if it is null.
 */
void qedimg_error(const char *file, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Errors and warnings of the library to stderr. */
extern const struct qed_log qedimg_log;
/* Errors alone: for what is opened again, and has been warned of. */
extern const struct qed_log qedimg_error_log;

/*
 * A copy of `text` that is valid UTF-8, each byte that was not so replaced by
 * U+FFFD.  The caller frees it; null if memory is short.
 */
char *qedimg_utf8(const char *text);

#endif
