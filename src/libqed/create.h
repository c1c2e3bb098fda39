/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What makes new images have in common. */
#ifndef QED_CREATE_H
#define QED_CREATE_H

#include "format.h"
#include "newfile.h"

/*
 * qed_image_create() with an engine of the caller's, which is destroyed, also
 * on failure: how tests plug theirs in.
 */
int qed_image_create_engine(const char *path,
			    const struct qed_create_options *options,
			    struct qed_engine *engine);

/*
 * The header that the options ask for, of a file that has begun; looks at the
 * backing file.  0, or -errno after one message.
 */
int qed_create_header(const struct qed_newfile *newfile,
		      const struct qed_create_options *options,
		      struct qed_header *header);

/*
 * The same of an overlay on an image that the caller has open:
 * options->virtual_size is its disk's, and no file is looked at.
 */
int qed_create_overlay_header(const struct qed_newfile *newfile,
			      const struct qed_create_options *options,
			      struct qed_header *header);

/* Writes it, and the backing name that it says is there: 0 or -errno. */
int qed_create_write_header(struct qed_file *file,
			    const struct qed_header *header,
			    const char *backing);

/*
 * Makes an empty image of a file that has been made: header, backing name, and
 * an L1 table of zeroes.  Not durable.  0, or -errno after one message.
 */
int qed_create_write_empty(struct qed_newfile *newfile,
			   const struct qed_header *header,
			   const char *backing);

#endif
