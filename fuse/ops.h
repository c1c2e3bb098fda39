/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The FUSE operations: each decodes its request, makes one call below and sees
 * to it that the request is answered exactly once.
 */
#ifndef QEDFS_OPS_H
#define QEDFS_OPS_H

#include "io.h"
#include "lowlevel.h"
#include "overrun.h"
#include "seek.h"
#include "tree.h"

/* One mount; the session's user data.  Set before the first request is served,
 * then constant but for what says otherwise. */
struct qedfs_mount {
	struct qedfs_tree *tree;
	struct qedfs_io io;
	struct qedfs_overrun overrun;
	struct qedfs_seek seek;
	bool writeback;
	bool discard;			/* else punching is not supported */
	bool uring;			/* requests by io_uring were asked for */
	bool xattrs;			/* set before the second request */
	_Atomic bool uring_checked;
	_Atomic bool resize_logged;
};

extern const struct fuse_lowlevel_ops qedfs_ops;

#endif
