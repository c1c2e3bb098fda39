/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Committing an image to one that lies below it. */
#ifndef QED_MERGE_H
#define QED_MERGE_H

#include "engine.h"

/*
 * qed_image_commit() with an engine of the caller's, which it destroys, also on
 * failure: how tests plug theirs in.
 */
int qed_image_commit_engine(const char *path,
			    const struct qed_commit_options *options,
			    struct qed_engine *engine);

#endif
