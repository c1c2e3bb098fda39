/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* libfuse's low-level interface, in the one version that all files use. */
#ifndef QEDFS_LOWLEVEL_H
#define QEDFS_LOWLEVEL_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

#endif
