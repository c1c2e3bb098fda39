/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef QED_COMPACT_H
#define QED_COMPACT_H

#include "engine.h"

/*
 * qed_image_compact() with an engine of the caller's, which it owns from then
 * on (also on failure): how tests plug theirs in.
 */
int qed_image_compact_engine(const char *path,
			     const struct qed_compact_options *options,
			     struct qed_engine *engine,
			     struct qed_compact_report *report);

#endif
