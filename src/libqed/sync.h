/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocking forms of requests that only the library's own jobs need. */
#ifndef QED_SYNC_H
#define QED_SYNC_H

#include "qed.h"

/* As qed_zero() and qed_preallocate(); never from a `done` callback.  0 or -errno. */
int qed_zero_sync(struct qed_image *image, uint64_t offset, uint64_t len);
int qed_preallocate_sync(struct qed_image *image, uint64_t offset, uint64_t len);

#endif
