/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of files as seen from other files' directories. */
#ifndef QED_RELATIVE_H
#define QED_RELATIVE_H

/*
 * How the file at `path` is called in the directory of the file `from`, which
 * need not exist.  Symbolic links on the way to both directories are followed;
 * one that is the file itself keeps its name.  0 with *name to be freed;
 * -ENOMEM, or as realpath(3).
 */
int qed_relative_path(const char *from, const char *path, char **name);

#endif
