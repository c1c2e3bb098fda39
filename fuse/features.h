/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel and libfuse can do, and what of it is asked for: FUSE_CAP_*,
 * however this libfuse wants to be told.
 */
#ifndef QEDFS_FEATURES_H
#define QEDFS_FEATURES_H

#include "lowlevel.h"

#include <stdbool.h>
#include <stdint.h>

/* For use in the operation init only.  Asks for those of `wanted` that there
 * are, and for none of `unwanted`. */
void qedfs_features_choose(struct fuse_conn_info *conn, uint64_t wanted,
			   uint64_t unwanted);

/* Has it been asked for?  0 stands for one that libfuse has no name for. */
bool qedfs_features_has(const struct fuse_conn_info *conn, uint64_t feature);

#endif
