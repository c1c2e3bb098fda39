/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Freezing an image below a new overlay. */
#ifndef QED_SNAPSHOT_H
#define QED_SNAPSHOT_H

#include "engine.h"

/*
 * qed_image_snapshot() with an engine of the caller's, which it destroys, also
 * on failure: how tests plug theirs in.
 */
int qed_image_snapshot_engine(const char *path, const char *overlay,
			      uint32_t flags, const struct qed_log *log,
			      struct qed_engine *engine);

#endif
