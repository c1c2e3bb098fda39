/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asynchronous byte I/O on one host file.  Short transfers, EINTR, EAGAIN and
 * reads past the end are dealt with here and nowhere else; an engine only ever
 * makes single attempts (engine.h).
 */
#ifndef QED_FILE_H
#define QED_FILE_H

#include "engine.h"
#include "util.h"

#include <stdatomic.h>

/* A part of a file that is all data, or all hole. */
struct qed_file_part {
	uint64_t start, end;
	bool data;
};

struct qed_file {
	int fd;
	char *path;			/* as opened, for messages */
	struct qed_engine *engine;	/* shared by all files of a chain */
	struct qed_log log;
	bool writable;
	bool block_device;
	dev_t dev;
	ino_t ino;
	_Atomic int grow_mode;		/* enum in file.c; atomic, found lazily */
	_Atomic uint64_t ahead;		/* end of the last range that
					 * qed_file_read_ahead() was told of */
	_Atomic uint64_t behind;	/* bytes, for qed_file_write_behind() */
	pthread_mutex_t part_lock;	/* a leaf */
	struct qed_file_part part;	/* under part_lock; source.c's */
};

/*
 * Opens the regular file or block device at `path`, read-write if `writable`.
 * 0 with *file to be closed by qed_file_close(), or -errno with one message
 * (-EISDIR, -EMEDIUMTYPE for what is neither file nor block device).
 */
int qed_file_open(const char *path, bool writable, struct qed_engine *engine,
		  const struct qed_log *log, struct qed_file **file);
/* The same with `fd`, open read-write, which it owns, also on failure. */
int qed_file_adopt(int fd, const char *path, struct qed_engine *engine,
		   const struct qed_log *log, struct qed_file **file);
void qed_file_close(struct qed_file *file);

/* Are they one file, by whatever names? */
static inline bool qed_file_is_same(const struct qed_file *a,
				    const struct qed_file *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* The file's size in bytes now, block devices too: 0 or -errno. */
int qed_file_size(struct qed_file *file, uint64_t *size);

/*
 * Starts an operation.  The caller has filled op, file_off, len, iov, iovcnt
 * and done, and keeps the struct, the iov array (which is consumed) and the
 * memory until the operation is over.
 *   READ   moves len bytes; what lies past the end of the file reads as zeroes
 *   WRITE  moves len bytes, extending the file where needed
 *   FLUSH  fdatasync: all writes completed before are durable
 *   PUNCH  makes [file_off, file_off + len) read as zeroes and frees its space
 *   GROW   reserves [file_off, file_off + len), extending the file to its end;
 *          never shrinks it, harmless beside concurrent writes unless
 *          qed_file_grows_by_truncate()
 *   CUT    makes file_off the file's size; nobody else may use the file
 *   CLONE  shares the space of [from_off, from_off + len) of `from`
 *   COPY   copies it, or shares it, as the host sees fit
 * The last three are for the blocking functions below alone, since an engine
 * may do them on the calling thread.  Returns 0 or -errno if the operation is
 * over (`done` is not called then), or
 * QED_PENDING: `done(io, err)` will be called from an engine's thread, never
 * from inside this call.
 */
int qed_file_start(struct qed_file *file, struct qed_io *io);

/*
 * The same if it can be done at once on this thread, else -EAGAIN: the
 * operation was not started, or only in part (a read may have filled some of
 * its memory).
 */
int qed_file_try(struct qed_file *file, struct qed_io *io);

/*
 * Blocking forms, for use at open and close; never on an engine's thread.
 * 0 or -errno.
 */
int qed_file_run(struct qed_file *file, enum qed_op op, uint64_t file_off,
		 uint64_t len);
int qed_file_read(struct qed_file *file, void *buf, uint64_t len,
		  uint64_t file_off);
int qed_file_write(struct qed_file *file, const void *buf, uint64_t len,
		   uint64_t file_off);
int qed_file_flush(struct qed_file *file);
/*
 * Cuts the file to `size` bytes if it is longer, or makes it that long, with a
 * hole, if it is shorter (-ENOSPC: a block device, which is not).  Nobody else
 * may use it.
 */
int qed_file_cut(struct qed_file *file, uint64_t size);
int qed_file_lengthen(struct qed_file *file, uint64_t size);

/*
 * Makes a range read as zeroes, and frees its space where the host can; it is
 * in the file.  Blocks, as those above.  0 or -errno.
 */
int qed_file_zero(struct qed_file *file, uint64_t file_off, uint64_t len);

/*
 * Makes [file_off, file_off + len) hold what `from` has at from_off: by sharing
 * its space, or (copy) by what the host does best.  Blocks.  0, or -errno, such
 * as -EOPNOTSUPP, -EXDEV or -EINVAL where the host cannot do it with these
 * files and offsets; then some of the range may have been copied.
 */
int qed_file_clone(struct qed_file *file, uint64_t file_off, uint64_t len,
		   struct qed_file *from, uint64_t from_off);
int qed_file_copy(struct qed_file *file, uint64_t file_off, uint64_t len,
		  struct qed_file *from, uint64_t from_off);

/*
 * Where the next byte at or after `file_off` is that the host has stored, or
 * that it has not: UINT64_MAX if there is none, `file_off` for the former where
 * the host cannot tell.
 */
uint64_t qed_file_next_data(struct qed_file *file, uint64_t file_off);
uint64_t qed_file_next_hole(struct qed_file *file, uint64_t file_off);

/*
 * Whether the host's page cache has all of the range, as far as can be told
 * without reading more than a byte of it (Linux 6.5 can), and reading it would
 * not wait for a page that is under way; it is all in the file then.
 */
bool qed_file_is_cached(struct qed_file *file, uint64_t file_off, uint64_t len);

/*
 * The range will be read soon and as a whole: if that is worth a request of its
 * own, the host begins, whatever the sizes of the reads that follow.  Nothing
 * depends on it.
 */
void qed_file_read_ahead(struct qed_file *file, uint64_t file_off,
			 uint64_t len);

/*
 * `len` bytes more have been written to the page cache, of many that will be
 * flushed in the end: now and then the host begins with that, so that the disk
 * is not idle until then.  It may take a moment.
 */
void qed_file_write_behind(struct qed_file *file, uint64_t len);

/*
 * Extends the file to `size` bytes if it is shorter; see GROW for when.  No
 * engine sees it, so that an engine's thread may call it: jobs use
 * qed_file_lengthen().
 */
int qed_file_extend(struct qed_file *file, uint64_t size);

/*
 * True if GROW has to use ftruncate(2) here: then a caller must grow the file
 * over new clusters before it writes into them, with no other growth under way.
 */
bool qed_file_grows_by_truncate(struct qed_file *file);

#endif
