/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Giving an image another backing file. */
#ifndef QED_REBASE_H
#define QED_REBASE_H

#include "engine.h"

/*
 * qed_image_rebase() with an engine of the caller's, which it destroys, also on
 * failure: how tests plug theirs in.
 */
int qed_image_rebase_engine(const char *path,
			    const struct qed_rebase_options *options,
			    struct qed_engine *engine);

#endif
