/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a copy of a disk goes: a new QED or raw file, an existing one, a block
 * device, or a stream.  The job that copies (convert.c) decides what goes
 * where; a target does it.
 */
#ifndef QED_TARGET_H
#define QED_TARGET_H

#include "builder.h"
#include "image.h"
#include "newfile.h"
#include "stream.h"

#include <sys/stat.h>

struct qed_target {
	const struct qed_target_ops *ops;
	const char *path;		/* as the caller named it */
	const struct qed_convert_options *options;
	const struct qed_image *base;	/* the backing file's, or null */
	struct qed_engine *engine;	/* owned by the target, or by `image` */

	/* set by qed_target_open() */
	uint64_t unit;			/* bytes, a power of two: the least that
					 * has a place of its own, or is zeroed */
	uint64_t row;			/* bytes, a power of two: units of such a
					 * range get places in a row */
	bool zeroed;			/* reads as zeroes (or as its backing
					 * file) where nothing has been written */
	bool in_turn;			/* all is written in the disk's order */
	struct qed_file *file;		/* that may share space with a source, or
					 * null */
	uint64_t probe_off;		/* a place there, of 4096 bytes, that is
					 * written later whatever it has, to find
					 * out, or UINT64_MAX: any */
	uint64_t limit;			/* bytes of disk that fit */

	/* private to the kinds of targets */
	struct qed_newfile newfile;
	bool is_new;			/* newfile is there */
	struct qed_header header;
	struct qed_builder builder;
	struct qed_image *image;
	int claim;			/* a descriptor that keeps others off a
					 * block device, or -1 */
	struct qed_stream stream;
};

struct qed_target_ops {
	/*
	 * Where a unit goes that will be written, or (zero) that reads as
	 * zeroes over the backing file.  One call at a time, offsets ascending.
	 * Null: a unit's place is its offset.
	 */
	int (*place)(struct qed_target *target, uint64_t disk_off, bool zero,
		     uint64_t *place);
	/* Inside one unit, or several whose places are in a row.  Thread-safe. */
	int (*write)(struct qed_target *target, const void *buf, uint64_t len,
		     uint64_t place);
	/* Makes a range read as zeroes, where there is no `place`.  Thread-safe. */
	int (*zero)(struct qed_target *target, uint64_t disk_off, uint64_t len);
	/* All is there, of a disk of `size` bytes: makes it visible and durable. */
	int (*finish)(struct qed_target *target, uint64_t size);
};

/*
 * Opens or begins the target at `path` for a disk of `size` bytes; UINT64_MAX:
 * it is not known yet.  It owns the engine, also on failure; the image `base`,
 * which a new one is compared with, or null, stays the caller's.  A file that
 * any source or the base is read from is refused: -EINVAL.  0, or -errno after
 * one message, with nothing changed; qed_target_close() is due in either case.
 */
int qed_target_open(struct qed_target *target, const char *path, uint64_t size,
		    const struct qed_convert_options *options,
		    const struct qed_image *base, struct qed_engine *engine);

/* A new file that has not been finished is gone. */
void qed_target_close(struct qed_target *target);

/* Opens the kinds: target-file.c, target-qed.c, target-stream.c. */
int qed_target_open_new_raw(struct qed_target *target, uint64_t size);
int qed_target_open_raw(struct qed_target *target, uint64_t size);
int qed_target_open_new_qed(struct qed_target *target, uint64_t size);
int qed_target_open_qed(struct qed_target *target, uint64_t size);
int qed_target_open_stream(struct qed_target *target);

/*
 * For those: -EINVAL after a message if the file of `st`, or the one open as
 * `fd`, is one that is read from, or (another node of) the same block device.
 * To be asked about the descriptor that is written, before anything is: a path
 * may be another file's by then.
 */
int qed_target_refuse_sources(const struct qed_target *target,
			      const struct stat *st);
int qed_target_refuse_source_fd(const struct qed_target *target, int fd);

/*
 * The `write` of those that have a file.  If that is to be durable at the end
 * the host begins early with what it has, or the sync would wait for all of it.
 */
int qed_target_write(struct qed_target *target, const void *buf, uint64_t len,
		     uint64_t place);

/* Logs "PATH: message" and returns `err`. */
int qed_target_refuse(const struct qed_target *target, int err,
		      const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same of what could not be done: "cannot WHAT", why, and what to do. */
int qed_target_fail(const struct qed_target *target, int err, const char *what);

#endif
