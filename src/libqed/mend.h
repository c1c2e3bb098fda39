/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qed_image_check() and qed_image_check_undo() with an engine of the caller's,
 * which they destroy, also on failure: how tests plug theirs in.  Otherwise as
 * in qed.h; `options` must be ones that qed_image_check() would take.
 */
#ifndef QED_MEND_H
#define QED_MEND_H

#include "engine.h"

int qed_image_check_engine(const char *path,
			   const struct qed_check_options *options,
			   struct qed_engine *engine,
			   struct qed_check_report *report);
int qed_image_check_undo_engine(const char *path, const struct qed_log *log,
				struct qed_engine *engine);

#endif
