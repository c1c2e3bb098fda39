/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file in the making: it gets its name, and takes the place of what has that
 * name now, only when it is complete and durable.  Until then it has no name at
 * all, or, where the host cannot do that, a temporary one beside the target.
 * So there is never a half-made file, whoever looks and whenever the power
 * goes.
 *
 * The target's directory is held open throughout, so that all names are
 * resolved in the same place.  For one thread; plain blocking calls.
 */
#ifndef QED_NEWFILE_H
#define QED_NEWFILE_H

#include "file.h"

#define QED_TEMP_NAME_MAX 32

struct qed_newfile {
	const char *path;		/* as the caller named it, and keeps */
	const struct qed_log *log;
	bool exclusive;			/* it replaces nothing */
	struct qed_file *file;		/* the new file, or null */
	int oldfd;			/* what it replaces, locked, or -1 */
	struct stat old;		/* valid with oldfd */
	char *target;			/* the path with symlinks followed */

	/* private to newfile.c */
	int dirfd;			/* the target's directory */
	const char *name;		/* its last part, inside `target` */
	char temp[QED_TEMP_NAME_MAX];	/* in dirfd; "" if it has no name */
};

/*
 * Finds the target, and takes QEMU's write lock on a file that is there, which
 * stays until qed_newfile_end().  Only a regular file can be replaced.  0, or
 * -errno after one message; qed_newfile_end() is due in either case.
 */
int qed_newfile_begin(struct qed_newfile *newfile, const char *path,
		      const struct qed_log *log);

/*
 * The same for a name that nothing may have, not even a symbolic link.  Whether
 * that is so is found out at the end, by qed_newfile_publish(), at one go with
 * taking it.
 */
int qed_newfile_begin_exclusive(struct qed_newfile *newfile, const char *path,
				const struct qed_log *log);

/* Makes the file, empty, its operations on `engine`: 0, or -errno after a message. */
int qed_newfile_make(struct qed_newfile *newfile, struct qed_engine *engine);

/*
 * Gives it its name and, of a file that it replaces, the permissions with, as
 * far as the host allows, owner, group and ACL.  Durable on return if `durable`: then all that was written
 * to the file is synced before, and its directory after.  0, or -errno after a
 * message; -EEXIST, without one, if the name was to be free and is not.
 */
int qed_newfile_publish(struct qed_newfile *newfile, bool durable);

/* Frees everything; a file that was not published is gone. */
void qed_newfile_end(struct qed_newfile *newfile);

/* Bytes of a path up to its last slash, this included: its directory. */
size_t qed_dir_len(const char *path);

#endif
