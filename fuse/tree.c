/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STAT_BLOCK 512u			/* the unit of st_blocks */

/* disk.qed is shown as disk.raw, anything else as NAME.raw. */
static char *shown_name(const char *path)
{
	const char *base = strrchr(path, '/');
	size_t len;
	char *name;

	base = base ? base + 1 : path;
	len = strlen(base);
	if (len > 4 && strcmp(base + len - 4, ".qed") == 0)
		len -= 4;
	name = malloc(len + sizeof(".raw"));
	if (!name)
		return NULL;
	memcpy(name, base, len);
	memcpy(name + len, ".raw", sizeof(".raw"));
	return name;
}

int qedfs_tree_init(struct qedfs_tree *tree, struct qed_image *image,
		    const char *path, const struct qedfs_owner *owner,
		    bool root_is_file)
{
	struct qed_image_info info;

	qed_image_get_info(image, &info);
	memset(tree, 0, sizeof(*tree));
	tree->image = image;
	tree->owner = *owner;
	tree->size = info.virtual_size;
	tree->cluster_size = info.cluster_size;
	tree->writable = info.writable;
	tree->file_ino = root_is_file ? FUSE_ROOT_ID : FUSE_ROOT_ID + 1;
	if (root_is_file)
		return 0;
	tree->name = shown_name(path);
	return tree->name ? 0 : -ENOMEM;
}

void qedfs_tree_destroy(struct qedfs_tree *tree)
{
	free(tree->name);
}

fuse_ino_t qedfs_tree_lookup(const struct qedfs_tree *tree, fuse_ino_t parent,
			     const char *name)
{
	if (parent != FUSE_ROOT_ID || !tree->name)
		return 0;
	return strcmp(name, tree->name) == 0 ? tree->file_ino : 0;
}

const char *qedfs_tree_entry(const struct qedfs_tree *tree, unsigned index,
			     fuse_ino_t *ino)
{
	*ino = index < 2 ? FUSE_ROOT_ID : tree->file_ino;
	if (index == 0)
		return ".";
	if (index == 1)
		return "..";
	return index == 2 ? tree->name : NULL;
}

static mode_t file_mode(const struct qedfs_tree *tree, mode_t image_mode)
{
	mode_t mode = image_mode & 0666;	/* a disk is no program */

	if (tree->owner.set_umask)
		mode = 0666 & ~tree->owner.umask;
	if (!tree->writable)
		mode &= ~(mode_t)0222;
	return S_IFREG | mode;
}

static mode_t directory_mode(const struct qedfs_tree *tree)
{
	mode_t mode = tree->writable ? 0755 : 0555;

	if (tree->owner.set_umask)
		mode &= ~tree->owner.umask;
	return S_IFDIR | mode;
}

/*
 * `shown` is set before `allocated` is read: what is allocated from then on
 * makes qedfs_tree_outdated() true, and the kernel ignores an answer that is
 * older than the notice it gets.
 */
static void fill_file(struct qedfs_tree *tree, struct stat *st)
{
	struct qed_image_info info;

	tree->shown = true;
	qed_image_get_info(tree->image, &info);
	tree->shown_allocated = info.allocated;
	st->st_mode = file_mode(tree, st->st_mode);
	st->st_nlink = 1;
	st->st_size = (off_t)tree->size;
	st->st_blocks = (blkcnt_t)((info.allocated + STAT_BLOCK - 1) /
				   STAT_BLOCK);
	st->st_blksize = (blksize_t)tree->cluster_size;
}

static void fill_directory(const struct qedfs_tree *tree, struct stat *st)
{
	st->st_mode = directory_mode(tree);
	st->st_nlink = 2;
	st->st_size = 0;
	st->st_blocks = 0;
	st->st_blksize = 4096;
}

int qedfs_tree_stat(struct qedfs_tree *tree, fuse_ino_t ino, struct stat *st)
{
	int ret;

	if (ino != FUSE_ROOT_ID && ino != tree->file_ino)
		return -ENOENT;
	ret = qed_image_stat(tree->image, st);
	if (ret)
		return ret;
	st->st_ino = ino;
	st->st_dev = 0;
	st->st_rdev = 0;
	if (tree->owner.set_uid)
		st->st_uid = tree->owner.uid;
	if (tree->owner.set_gid)
		st->st_gid = tree->owner.gid;
	if (ino == tree->file_ino)
		fill_file(tree, st);
	else
		fill_directory(tree, st);
	return 0;
}

/* What the image could still grow by, and the host file system has room for. */
static uint64_t free_bytes(const struct qedfs_tree *tree, uint64_t host_free)
{
	struct qed_image_info info;
	uint64_t unallocated;

	if (!tree->writable)
		return 0;
	qed_image_get_info(tree->image, &info);
	unallocated = tree->size - info.allocated;
	return host_free < unallocated ? host_free : unallocated;
}

int qedfs_tree_statfs(const struct qedfs_tree *tree, struct statvfs *st)
{
	struct statvfs host;
	uint64_t unit;
	int ret = qed_image_statvfs(tree->image, &host);

	if (ret)
		return ret;
	unit = host.f_frsize ? host.f_frsize : host.f_bsize;
	memset(st, 0, sizeof(*st));
	st->f_bsize = tree->cluster_size;
	st->f_frsize = STAT_BLOCK;
	st->f_blocks = tree->size / STAT_BLOCK;
	st->f_bfree = free_bytes(tree, host.f_bfree * unit) / STAT_BLOCK;
	st->f_bavail = free_bytes(tree, host.f_bavail * unit) / STAT_BLOCK;
	st->f_files = tree->name ? 2 : 1;
	st->f_namemax = 255;
	return 0;
}

/* Is this the first call in a new second? */
static bool second_passed(struct qedfs_tree *tree)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_load_explicit(&tree->looked, memory_order_relaxed) ==
	    (long)now.tv_sec)
		return false;
	return atomic_exchange(&tree->looked, (long)now.tv_sec) !=
	       (long)now.tv_sec;
}

bool qedfs_tree_outdated(struct qedfs_tree *tree, bool now)
{
	struct qed_image_info info;

	if (!tree->shown || (!now && !second_passed(tree)))
		return false;
	qed_image_get_info(tree->image, &info);
	if (info.allocated == tree->shown_allocated)
		return false;
	return atomic_exchange(&tree->shown, false);
}
