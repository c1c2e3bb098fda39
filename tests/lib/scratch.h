/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where a program that tests has its files, and what it is told of its run. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>

/*
 * Makes a directory of that kind, in memory where there is such a place, and goes
 * there.  Its files, but none in directories below, go with it at exit.  0, or -1
 * with errno.  Once in a program.
 */
int scratch_enter(const char *kind);
/* Its path; static. */
const char *scratch_dir(void);

/* Has the environment this variable, with such a part in its value? */
bool is_env(const char *name, const char *part);

#endif
