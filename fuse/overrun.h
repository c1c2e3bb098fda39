/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes past the end that the kernel's writeback cache has let through.
 *
 * With that cache the kernel takes a buffered write past the end of the disk
 * into its page cache, lets the file grow without asking, and only sends the
 * data later.  Then it is too late to refuse the write, and the kernel's idea
 * of the file's size has to be put right.  What is done:
 *   - The late write is answered as if it had succeeded, but remembered.  Every
 *     handle that was open for writing at the time gets EFBIG, once, from its
 *     next write, fsync or close.  (An error given to the late write itself
 *     would come out of close(2) as EIO, which is for the host's storage
 *     alone.)  A program that goes on writing gets it from write(2): before
 *     each buffered write the kernel asks, by the handle, for attributes that
 *     are out of date, and passes an error on.
 *   - A thread of its own truncates the file, through the mount, to the size
 *     that it has.  That sets the kernel's size and drops the pages.
 *   - A late write is not answered before that thread has the file open, nor a
 *     stat or close by others before it is done: who has seen the error sees
 *     the right size, and the mount is not busy on account of the repair.
 * The repair holds no answers while it opens the file, and never those to
 * requests that it makes itself: it cannot wait for itself.
 */
#ifndef QEDFS_OVERRUN_H
#define QEDFS_OVERRUN_H

#include "lowlevel.h"
#include "place.h"

#include <pthread.h>

/* What an open file remembers; in fuse_file_info.fh. */
struct qedfs_handle {
	struct qedfs_handle *next, **link; /* under overrun->lock */
	uint64_t number;		/* handles count up */
	uint64_t seen;			/* under overrun->lock: events that
					 * fsync or close have told about */
	bool writes;			/* set at open, then constant */
};

struct qedfs_parked;

struct qedfs_overrun {
	/* set by qedfs_overrun_start(), then constant */
	struct fuse_session *session;
	const struct qedfs_place *place;
	fuse_ino_t ino;
	uint64_t size;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	bool stopping;
	bool needed;			/* a repair should be made */
	bool holding;			/* a repair has the file open */
	uint64_t events;
	uint64_t handles;		/* opened so far */
	struct qedfs_handle *open;	/* those not given up yet */
	uint64_t held_below;		/* handles numbered less are held */
	struct qedfs_parked *late;	/* writes that wait for a repair's
					 * begin */
	struct qedfs_parked *held;	/* what waits for its end */
};

/*
 * Starts the thread.  `place` outlives it; `size` is the true size of the file
 * `ino`.  0 or -errno.
 */
int qedfs_overrun_start(struct qedfs_overrun *overrun,
			struct fuse_session *session,
			const struct qedfs_place *place, fuse_ino_t ino,
			uint64_t size);

/*
 * Answers everything that is parked and parks nothing more.  The thread ends
 * once the mount is disconnected; then qedfs_overrun_join().
 */
void qedfs_overrun_stop(struct qedfs_overrun *overrun);
void qedfs_overrun_join(struct qedfs_overrun *overrun);

/* A new handle, or null.  Those that nobody closes, because the mount ends with
 * files open, are freed by qedfs_overrun_join(). */
struct qedfs_handle *qedfs_overrun_open(struct qedfs_overrun *overrun,
					bool writes);
void qedfs_overrun_close(struct qedfs_overrun *overrun,
			 struct qedfs_handle *handle);

/* Takes over `req`, a late write of `size` bytes at least partly past the end,
 * whose inner part has been written. */
void qedfs_overrun_write(struct qedfs_overrun *overrun, fuse_req_t req,
			 size_t size);

/* EFBIG if there was a late write that `handle` has not told of yet, else 0. */
int qedfs_overrun_collect(struct qedfs_overrun *overrun,
			  struct qedfs_handle *handle);

/*
 * True if `req` was taken over because a repair is under way: then `answer(req,
 * value)` is called, from any thread, when it is over.  `handle` may be null.
 */
bool qedfs_overrun_hold(struct qedfs_overrun *overrun,
			const struct qedfs_handle *handle, fuse_req_t req,
			void (*answer)(fuse_req_t req, uint64_t value),
			uint64_t value);

#endif
