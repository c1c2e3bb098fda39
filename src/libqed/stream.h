/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pipe, terminal or the like, from one end to the other: bytes in order, from
 * whatever thread has its turn.  Waiting ends when the job is cancelled.
 */
#ifndef QED_STREAM_H
#define QED_STREAM_H

#include "job.h"

struct qed_stream {
	int fd;
	const struct qed_job *job;	/* or null */
};

/* Room in a pipe for as much as may be: fewer turns of whoever is at its ends. */
void qed_stream_init(struct qed_stream *stream, int fd,
		     const struct qed_job *job);

/* Up to `len` bytes, fewer only at the end: how many, or -errno. */
int64_t qed_stream_read(struct qed_stream *stream, void *buf, uint64_t len);
/* All of them: 0 or -errno; -EPIPE (and SIGPIPE) if nobody reads any more. */
int qed_stream_write(struct qed_stream *stream, const void *buf, uint64_t len);

#endif
