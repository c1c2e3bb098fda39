/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Taking a repair back by what its undo file has. */
#ifndef QED_REVERT_H
#define QED_REVERT_H

#include "undo.h"

/*
 * Are the tables those of before the repair but for the changes that the undo
 * file, which is open, has saved, each made or not?  1; 0: others have changed
 * them since; or -errno after one message.
 */
int qed_revert_fits(const struct qed_undo *undo, struct qed_layer *layer);

/*
 * Takes all changes back, durably, and removes the undo file.  The file has the
 * length then that it had, and NEED_CHECK is as it was; meanwhile it is set.
 * Interrupted at any time, it can be run again.  0; -ENOENT no undo file;
 * -ESTALE, with nothing changed, if the image has been changed since, or -errno;
 * one message on failure.  The layer is writable, its L1 table need not be
 * loaded.
 */
int qed_revert(struct qed_layer *layer);

#endif
