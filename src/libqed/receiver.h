/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A disk that is written: a QED image, or a raw file that exists. */
#ifndef QED_RECEIVER_H
#define QED_RECEIVER_H

#include "direct.h"
#include "image.h"
#include "transfer.h"

struct qed_receiver {
	struct qed_image *image;	/* one of the two; null both: not open */
	struct qed_file *file;
	struct qed_direct direct;	/* of the file */
};

struct qed_receiver_options {
	const char *path;
	bool raw;
	dev_t dev;			/* the file that it must be */
	ino_t ino;
	uint64_t size;			/* bytes of disk, at least */
	const struct qed_log *log;
	const struct qed_job *job;	/* or null; its progress is not reported */
};

/*
 * Opens and locks the QED image, or raw file, at `path` for writing, on a share
 * of the engine, which has to outlive it.  If its disk has less than `size`
 * bytes it is made so long, durably, and stays so; what is added reads as
 * zeroes.  0, or -errno after one error message: -ESTALE another file has the
 * path now, -ENOSPC a device is too small, -EINVAL an image cannot be as large,
 * -ECANCELED, or as qed_image_open(); it is to be closed then, too.
 */
int qed_receiver_open(struct qed_receiver *receiver,
		      const struct qed_receiver_options *options,
		      struct qed_engine *engine);
/* 0 or -errno of what closing has to do; nothing if it is not open. */
int qed_receiver_close(struct qed_receiver *receiver);

/*
 * These block, never from a `done` callback, and may be called from several
 * threads; ranges are inside the disk.  0 or -errno, not logged (but damage
 * is).  After a sync what was written is durable, and the image clean.
 */
int qed_receiver_write(struct qed_receiver *receiver, const void *buf,
		       uint64_t len, uint64_t disk_off);
int qed_receiver_zero(struct qed_receiver *receiver, uint64_t disk_off,
		      uint64_t len);
int qed_receiver_sync(struct qed_receiver *receiver);
/* Do its writes wait for the device?  Then more of them should be under way. */
bool qed_receiver_waits(const struct qed_receiver *receiver);
/* As qed_file_write_behind(). */
void qed_receiver_write_behind(struct qed_receiver *receiver, uint64_t len);

/* As qed_transfer_fail(), of a write to it that failed. */
int qed_receiver_blame(struct qed_receiver *receiver,
		       struct qed_transfer *transfer,
		       const struct qed_piece *piece, int err,
		       uint64_t disk_off);
const char *qed_receiver_path(const struct qed_receiver *receiver);

/* Has a flush of it failed?  That was logged. */
bool qed_receiver_failed(const struct qed_receiver *receiver);

#endif
