/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image's tables say, as one number: it differs, as good as surely, if
 * any entry does, or the geometry, but not if data has been written in place.
 */
#ifndef QED_FINGERPRINT_H
#define QED_FINGERPRINT_H

#include "undo.h"

/*
 * That of the tables as they would be without the changes of undo->entries, in a
 * file that is undo->image_size bytes long.  They may be damaged.  Reads all of
 * them.  0, or -errno after one message.
 */
int qed_fingerprint(struct qed_layer *layer, const struct qed_undo *undo,
		    uint64_t *fingerprint);

#endif
