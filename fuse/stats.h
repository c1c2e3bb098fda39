/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the daemon tells about an image and what it has done with it: as
 * extended attributes user.qedfs.NAME of the virtual disk, and in the log.
 */
#ifndef QEDFS_STATS_H
#define QEDFS_STATS_H

#include "lowlevel.h"
#include "qed.h"

#include <stddef.h>

/* FUSE operations. */
void qedfs_stats_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			  size_t size);
void qedfs_stats_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

/* Logs the counters, as one line that begins with `mountpoint`. */
void qedfs_stats_log(struct qed_image *image, const char *mountpoint);

#endif
