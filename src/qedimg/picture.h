/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Extents of a disk: one walk over them, and pictures of what it finds. */
#ifndef QEDIMG_PICTURE_H
#define QEDIMG_PICTURE_H

#include "progress.h"

/* A part of an open image's disk. */
struct qedimg_range {
	const char *file;		/* the image's name, for messages */
	struct qed_image *image;
	uint64_t start, end;		/* disk offsets, start <= end */
	enum qedimg_progress_form progress;	/* of walking it */
};

/*
 * Calls `visit` for the extents of the range, in order, and shows progress: exit
 * status 0, or 1 after a message.
 */
int qedimg_walk(const struct qedimg_range *range,
		void (*visit)(void *opaque, uint64_t disk_off,
			      const struct qed_map_extent *extent),
		void *opaque);

/*
 * Prints the range as lines of characters, each for a block of the disk: exit
 * status 0, or 1 after a message.
 */
int qedimg_print_blocks(const struct qedimg_range *range);

/*
 * Draws into the file `svg` where the clusters of the range lie.  What is there
 * is replaced once the picture is complete, but not a file of the image's own
 * chain; what is not a regular file is written to.  Exit status 0, or 1 after a
 * message.
 */
int qedimg_draw_svg(const struct qedimg_range *range, const char *svg);

#endif
