/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nobody but this daemon changes what it shows, so the kernel may keep names,
 * attributes and pages for as long as it likes.  It is told when attributes it
 * has been given go out of date.
 */
#include <config.h>

#include "ops.h"
#include "features.h"
#include "handshake.h"
#include "log.h"
#include "stats.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define KEEP_SECONDS 86400.0
/* Each has a buffer for as long as it waits for the disk. */
#define MAX_BACKGROUND 64u
/*
 * Kernels that speak this minor version keep a page marked until the request
 * that writes it has been answered (Linux 6.16 began to, with an earlier one):
 * waiting for pages then means waiting for the image to have them.
 */
#define MINOR_WITH_TRUE_WRITEBACK 45u

static struct qedfs_mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/*
 * Large reads are spliced (io.c).  Writes are not: with that, every request
 * comes through a pipe, which costs the small ones more than the large ones
 * gain.  Without atomic O_TRUNC the kernel sends that flag as a separate
 * request, in which it can be ignored; AUTO_INVAL_DATA would drop pages
 * whenever a write changes mtime.
 */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct qedfs_mount *mount = userdata;
	uint64_t wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_SPLICE_WRITE |
			  QEDFS_CAP_KILLPRIV_V2;
	uint64_t unwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_MOVE |
			    FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA;

	if (mount->writeback)
		wanted |= FUSE_CAP_WRITEBACK_CACHE;
	else
		unwanted |= FUSE_CAP_WRITEBACK_CACHE;
	qedfs_features_choose(conn, wanted, unwanted);
	mount->xattrs = qedfs_features_has(conn, QEDFS_CAP_KILLPRIV_V2);
	conn->max_write = QEDFS_IO_MAX;
	conn->max_read = QEDFS_READ_MAX;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	mount->seek.can_sync = !mount->uring &&
			       conn->proto_minor >= MINOR_WITH_TRUE_WRITEBACK;
}

/*
 * Names and attributes.
 */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct qedfs_tree *tree = mount_of(req)->tree;
	struct fuse_entry_param entry;
	int ret = 0;

	memset(&entry, 0, sizeof(entry));
	entry.attr_timeout = KEEP_SECONDS;
	entry.entry_timeout = KEEP_SECONDS;
	entry.ino = qedfs_tree_lookup(tree, parent, name);
	if (entry.ino)		/* else the kernel keeps that there is none */
		ret = qedfs_tree_stat(tree, entry.ino, &entry.attr);
	if (ret)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_entry(req, &entry);
}

static void answer_attributes(fuse_req_t req, uint64_t ino)
{
	struct stat st;
	int ret = qedfs_tree_stat(mount_of(req)->tree, ino, &st);

	if (ret)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_attr(req, &st, KEEP_SECONDS);
}

static struct qedfs_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct qedfs_handle *)(uintptr_t)fi->fh;
}

/*
 * It comes with a handle when the kernel is about to read or write, not from
 * stat(2): a program that has written past the end is told (overrun.h).
 */
static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	int err = fi ? qedfs_overrun_collect(&mount->overrun, handle_of(fi)) :
		       0;

	if (err) {
		fuse_reply_err(req, err);
		return;
	}
	if (ino == mount->tree->file_ino &&
	    qedfs_overrun_hold(&mount->overrun, NULL, req, answer_attributes,
			       ino))
		return;
	answer_attributes(req, ino);
}

static void hint_at_resize(struct qedfs_mount *mount)
{
	if (!atomic_exchange(&mount->resize_logged, true))
		qedfs_log(QED_LOG_WARNING,
			  "%s: a program wants to change the size of the disk; it is fixed",
			  mount->overrun.place->mountpoint);
}

/*
 * open(2) with O_TRUNC and truncate(2) to nothing arrive without a handle and
 * are ignored, as a block device does; ftruncate(2) has one.
 */
static bool size_is_acceptable(const struct qedfs_tree *tree, uint64_t size,
			       const struct fuse_file_info *fi)
{
	return size == tree->size || (size == 0 && !fi);
}

/*
 * Times are the image's and change by writing it; setting them, which the
 * kernel does by itself too when it delays writes, is accepted without effect.
 */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		       int to_set, struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	struct qedfs_tree *tree = mount->tree;
	int owner = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
	bool resize = (to_set & FUSE_SET_ATTR_SIZE) &&
		      !size_is_acceptable(tree, (uint64_t)attr->st_size, fi);

	if (!tree->writable) {
		fuse_reply_err(req, EROFS);
	} else if ((to_set & owner) || resize) {
		if (resize)
			hint_at_resize(mount);
		fuse_reply_err(req, EPERM);
	} else {
		answer_attributes(req, ino);
	}
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int ret = qedfs_tree_statfs(mount_of(req)->tree, &st);

	(void)ino;
	if (ret)
		fuse_reply_err(req, -ret);
	else
		fuse_reply_statfs(req, &st);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	(void)ino;
	fi->cache_readdir = 1;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	struct qedfs_tree *tree = mount_of(req)->tree;
	char buf[1024];			/* three entries always fit */
	size_t used = 0;
	const char *name;
	struct stat st;

	(void)ino;
	(void)fi;
	memset(&st, 0, sizeof(st));
	if (size > sizeof(buf))
		size = sizeof(buf);
	while ((name = qedfs_tree_entry(tree, (unsigned)off, &st.st_ino))) {
		size_t len;

		st.st_mode = st.st_ino == FUSE_ROOT_ID ? S_IFDIR : S_IFREG;
		len = fuse_add_direntry(req, buf + used, size - used, name,
					&st, ++off);
		if (len > size - used)
			break;
		used += len;
	}
	fuse_reply_buf(req, buf, used);
}

/*
 * Open files.
 */

static void give_up(struct qedfs_mount *mount, struct qedfs_handle *handle)
{
	if (handle->writes)
		qedfs_seek_count_writer(&mount->seek, -1);
	qedfs_overrun_close(&mount->overrun, handle);
}

/*
 * libfuse need not have been built for it, nor the kernel offer it; neither
 * says so where a user would see it.
 */
static void check_uring(struct qedfs_mount *mount, fuse_req_t req)
{
#ifdef FUSE_CAP_OVER_IO_URING
	if (mount->uring && !atomic_exchange(&mount->uring_checked, true) &&
	    !fuse_req_is_uring(req))
		qedfs_log(QED_LOG_WARNING,
			  "%s: option uring: requests come without io_uring (libfuse was built without it, or the parameter enable_uring of the kernel's module fuse is off)",
			  mount->overrun.place->mountpoint);
#else
	(void)mount;
	(void)req;
#endif
}

/*
 * With O_APPEND every write would be one past the end; going around the cache,
 * it is refused at once rather than at the next fsync (overrun.h).
 */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct qedfs_handle *handle;

	(void)ino;
	check_uring(mount, req);
	if (writes && !mount->tree->writable) {
		fuse_reply_err(req, EROFS);
		return;
	}
	handle = qedfs_overrun_open(&mount->overrun, writes);
	if (!handle) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)handle;
	fi->keep_cache = 1;
	fi->direct_io = (fi->flags & O_APPEND) != 0;
	if (writes)
		qedfs_seek_count_writer(&mount->seek, 1);
	if (fuse_reply_open(req, fi) < 0)
		give_up(mount, handle);	/* interrupted: no release follows */
}

static void op_release(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	(void)ino;
	give_up(mount_of(req), handle_of(fi));
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	qedfs_io_read(&mount_of(req)->io, req, size, (uint64_t)off);
}

/*
 * Not every kernel follows a write to a file opened with O_SYNC or O_DSYNC by a
 * FSYNC request, in every mode.  Where one does, its flush finds nothing to do.
 * Writes from the cache may carry any handle's flags; the kernel sees to those.
 * To an O_DIRECT write that is cut short the kernel says EIO: better refuse it
 * whole, for what it is.
 */
static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf,
		     size_t size, off_t off, struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	uint64_t disk = mount->tree->size;
	unsigned flags = 0;

	(void)ino;
	if (fi->writepage)
		flags |= QEDFS_WRITE_LATE;
	else if (fi->flags & (O_SYNC | O_DSYNC))
		flags |= QEDFS_WRITE_DURABLE;
	if (!fi->writepage && fi->flags & O_DIRECT &&
	    (size > disk || (uint64_t)off > disk - size))
		fuse_reply_err(req, EFBIG);
	else
		qedfs_io_write(&mount->io, req, buf, size, (uint64_t)off,
			       flags);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	int err = qedfs_overrun_collect(&mount->overrun, handle_of(fi));

	(void)ino;
	(void)datasync;
	qedfs_io_flush(&mount->io, req, err);
}

static void answer_error(fuse_req_t req, uint64_t err)
{
	fuse_reply_err(req, (int)err);
}

/* close(2), which promises nothing about durability. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	struct qedfs_handle *handle = handle_of(fi);
	int err = qedfs_overrun_collect(&mount->overrun, handle);

	(void)ino;
	if (handle->writes)
		qedfs_io_closed(&mount->io);
	if (!qedfs_overrun_hold(&mount->overrun, handle, req, answer_error,
				(uint64_t)err))
		fuse_reply_err(req, err);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	if (whence == SEEK_DATA || whence == SEEK_HOLE)
		qedfs_seek(&mount_of(req)->seek, req, (uint64_t)off, whence);
	else
		fuse_reply_err(req, EINVAL);
}

/* How a mode of fallocate(2) is done; false if not at all. */
static bool range_of_mode(const struct qedfs_mount *mount, int mode,
			  enum qedfs_range *how)
{
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		*how = QEDFS_RANGE_RESERVE;
		return true;
	case FALLOC_FL_ZERO_RANGE:
		*how = QEDFS_RANGE_ZERO;
		return true;
	case FALLOC_FL_PUNCH_HOLE:
		*how = QEDFS_RANGE_ZERO;
		return mount->discard;
	default:
		return false;
	}
}

/*
 * Where a hole is made no space needs to be kept: zeroing and punching are one.
 * The kernel has written out and dropped its pages of the range.
 */
static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
			 off_t length, struct fuse_file_info *fi)
{
	struct qedfs_mount *mount = mount_of(req);
	uint64_t size = mount->tree->size, at = (uint64_t)offset;
	uint64_t len = (uint64_t)length;
	enum qedfs_range how;

	(void)ino;
	(void)fi;
	if (!range_of_mode(mount, mode, &how)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (at > size || len > size - at) {
		if (!(mode & FALLOC_FL_KEEP_SIZE)) {
			fuse_reply_err(req, EFBIG);
			return;
		}
		len = at < size ? size - at : 0;
	}
	qedfs_io_allocate(&mount->io, req, how, at < size ? at : size, len);
}

/*
 * The tree is fixed.  On a read-only mount the kernel says EROFS by itself.
 */

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		      mode_t mode, struct fuse_file_info *fi)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)fi;
	fuse_reply_err(req, EPERM);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode, dev_t rdev)
{
	(void)parent;
	(void)name;
	(void)mode;
	(void)rdev;
	fuse_reply_err(req, EPERM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name,
		     mode_t mode)
{
	(void)parent;
	(void)name;
	(void)mode;
	fuse_reply_err(req, EPERM);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent,
		       const char *name)
{
	(void)link;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		      fuse_ino_t newparent, const char *newname, unsigned flags)
{
	(void)parent;
	(void)name;
	(void)newparent;
	(void)newname;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent,
		    const char *newname)
{
	(void)ino;
	(void)newparent;
	(void)newname;
	fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops qedfs_ops = {
	.init		= op_init,
	.lookup		= op_lookup,
	.getattr	= op_getattr,
	.setattr	= op_setattr,
	.statfs		= op_statfs,
	.opendir	= op_opendir,
	.readdir	= op_readdir,
	.open		= op_open,
	.release	= op_release,
	.read		= op_read,
	.write		= op_write,
	.fsync		= op_fsync,
	.flush		= op_flush,
	.lseek		= op_lseek,
	.fallocate	= op_fallocate,
	.getxattr	= qedfs_stats_getxattr,
	.listxattr	= qedfs_stats_listxattr,
	.create		= op_create,
	.mknod		= op_mknod,
	.mkdir		= op_mkdir,
	.unlink		= op_unlink,
	.rmdir		= op_unlink,
	.symlink	= op_symlink,
	.rename		= op_rename,
	.link		= op_link,
};
