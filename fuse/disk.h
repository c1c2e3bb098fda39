/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image behind a mount. */
#ifndef QEDFS_DISK_H
#define QEDFS_DISK_H

#include "options.h"
#include "qed.h"

#include <stdatomic.h>

struct qedfs_disk {
	struct qed_image *image;
	_Atomic bool keep_error;	/* an attempt that may not matter */
	char *error;			/* kept message, or null; used while the
					 * image is opened */
};

/*
 * Opens the image read-write, or read-only if that was asked for or (with one
 * line on stderr) if it cannot be written.  0, or -errno with a message.
 */
int qedfs_disk_open(struct qedfs_disk *disk,
		    const struct qedfs_options *options);

/* Closes it: 0, or -errno with a message if something written was lost. */
int qedfs_disk_close(struct qedfs_disk *disk,
		     const struct qedfs_options *options);

#endif
