/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes past the host's page cache (O_DIRECT), for a job that writes much to a
 * file and syncs it in the end: that is mostly the device's time, and what is
 * copied into the page cache first reaches the device later.
 */
#ifndef QED_DIRECT_H
#define QED_DIRECT_H

#include "file.h"

struct qed_direct {
	struct qed_file *file;		/* the usual way, the caller's */
	struct qed_file *past;		/* the other; null: the host has none */
	uint64_t offset_align, memory_align;	/* bytes, powers of two */
	pthread_mutex_t lock;		/* a leaf */
	uint64_t start, end;		/* under lock: has no hole, as seen last */
};

/*
 * Opens the file, which is open for writing and has to stay so, once more.  If
 * the host does not say how such writes have to lie (statx(2), since Linux 6.1;
 * network file systems, tmpfs), or cannot open it so, all go the usual way.
 */
void qed_direct_open(struct qed_direct *direct, struct qed_file *file);
/* Does nothing if it is not open, as one that is all zeroes. */
void qed_direct_close(struct qed_direct *direct);

/*
 * As qed_file_write(), and as durable: a flush of the file is still needed.
 * Where the host has no space for all of the range yet, or it does not lie as it
 * has to, it is written the usual way.
 */
int qed_direct_write(struct qed_direct *direct, const void *buf, uint64_t len,
		     uint64_t file_off);

#endif
