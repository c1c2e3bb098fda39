/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The values of preallocation=, for the commands that make room. */
#ifndef QEDIMG_PREALLOCATION_H
#define QEDIMG_PREALLOCATION_H

#include "libqed/qed.h"

/* off, metadata, falloc or full: 0, or -EINVAL with a message. */
int qedimg_read_preallocation(const char *file, const char *text,
			      enum qed_preallocation *preallocation);

#endif
