/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * For tests that make images: a directory of each test's own, since what they test
 * replaces files and may run as root, and what the library says meanwhile.
 */
#ifndef CREATING_H
#define CREATING_H

#include "qed.h"

/* A test's set-up and teardown: an empty directory on disk, removed with all in it. */
int creating_enter(void **state);
int creating_leave(void **state);

/* Of the working directory. */
int count_names(void);

struct heard {
	int errors;
	char last[512];			/* message of any level */
};

/* qed_image_create(), with what is said going to *heard, which starts empty. */
int create(const char *path, struct qed_create_options options,
	   struct heard *heard);
int create_backed(const char *path, const char *name, const char *format,
		  struct heard *heard);

#endif
