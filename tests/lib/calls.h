/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Requests to an image that a test starts, looks at, and waits for. */
#ifndef CALLS_H
#define CALLS_H

#include "qed.h"

struct call {
	struct qed_image *image;
	struct iovec iov;
	bool over;			/* under the calls' lock */
	int64_t result;
};

/* A started call keeps its struct and memory until it is over. */
void call_read(struct call *call, struct qed_image *image, void *buf,
	       uint64_t len, uint64_t off);
void call_write(struct call *call, struct qed_image *image, const void *buf,
		uint64_t len, uint64_t off);
void call_zero(struct call *call, struct qed_image *image, uint64_t len,
	       uint64_t off);
void call_preallocate(struct call *call, struct qed_image *image, uint64_t len,
		      uint64_t off);
void call_flush(struct call *call, struct qed_image *image);

bool call_is_over(struct call *call);
int64_t call_wait(struct call *call);

/* Ends the process if a test takes longer: a hang is a failure. */
void calls_watchdog(unsigned seconds);

#endif
