/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PATH.check-undo: what tables held before a repair changed them.  A header
 * (magic, the image file's size), then records: place, length, checksum, older
 * bytes, newer bytes.  A record is durable before its change is begun; one that
 * is cut short is of a change that never was, and does not count.
 */
#ifndef QED_UNDO_H
#define QED_UNDO_H

#include "file.h"

struct qed_undo {
	struct qed_file *file;		/* null: not open */
	uint64_t end;			/* of its last whole record */
};

/*
 * Makes the undo file of `image`, or continues one that an earlier repair left,
 * durably, mode 0600.  0 or -errno after one message.  Closed by
 * qed_undo_close().
 */
int qed_undo_open(struct qed_undo *undo, struct qed_file *image);
void qed_undo_close(struct qed_undo *undo);

/* Makes a record durable of `len` bytes of the image about to become `now`. */
int qed_undo_save(struct qed_undo *undo, struct qed_file *image,
		  const void *now, uint64_t len, uint64_t file_off);

/*
 * Takes all changes back, durably, the last one first, and removes the undo
 * file: 0; -ENOENT; -ESTALE, with nothing changed, if one of the places now
 * holds something else; -EUCLEAN no undo file; or -errno.  One message on
 * failure.
 */
int qed_undo_apply(struct qed_file *image);

/*
 * Clusters are about to move: to put tables back afterwards would map what others
 * have by then, also where the places that were saved are as the repair left
 * them.  Removes the undo file, durably, if there is one: 0, after a warning if
 * so, or -errno after one message.
 */
int qed_undo_drop(struct qed_file *image);

#endif
