/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tree that a mount shows: a directory with one file in it, or that file
 * alone.  Its shape, size and names never change while it is mounted.
 */
#ifndef QEDFS_TREE_H
#define QEDFS_TREE_H

#include "lowlevel.h"
#include "options.h"
#include "qed.h"

#include <stdatomic.h>
#include <sys/statvfs.h>

struct qedfs_tree {
	/* set by qedfs_tree_init(), then constant */
	struct qed_image *image;
	struct qedfs_owner owner;
	char *name;			/* of the file, null if it is the root */
	fuse_ino_t file_ino;
	uint64_t size;			/* bytes of virtual disk */
	uint32_t cluster_size;
	bool writable;

	_Atomic uint64_t shown_allocated; /* as in the last attributes given */
	_Atomic bool shown;		/* the kernel may still believe those */
	_Atomic long looked;		/* seconds: last compared after a write */
};

/*
 * Describes `image`, which is at `path`: a tree for a mountpoint that is a
 * regular file (root_is_file) or a directory.  0 or -ENOMEM;
 * qedfs_tree_destroy() in any case.
 */
int qedfs_tree_init(struct qedfs_tree *tree, struct qed_image *image,
		    const char *path, const struct qedfs_owner *owner,
		    bool root_is_file);
void qedfs_tree_destroy(struct qedfs_tree *tree);

/* The inode of `name` in directory `parent`, or 0. */
fuse_ino_t qedfs_tree_lookup(const struct qedfs_tree *tree, fuse_ino_t parent,
			     const char *name);

/*
 * One entry of the root directory by its index: its name and inode, or null
 * past the last.
 */
const char *qedfs_tree_entry(const struct qedfs_tree *tree, unsigned index,
			     fuse_ino_t *ino);

/* Attributes, which the kernel will hear: 0, -ENOENT or another -errno. */
int qedfs_tree_stat(struct qedfs_tree *tree, fuse_ino_t ino, struct stat *st);
int qedfs_tree_statfs(const struct qedfs_tree *tree, struct statvfs *st);

/*
 * True if the kernel should be told that the attributes it keeps are out of
 * date (the file occupies more or less than they say); once until
 * qedfs_tree_stat() is called again.  To be called after each write, when it is
 * true once a second at most, for telling costs the next write a request; with
 * `now` set it does not mind the time.
 */
bool qedfs_tree_outdated(struct qedfs_tree *tree, bool now);

#endif
