/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Thread model: qedfs_overrun_*() run in any thread that serves requests,
 * repair in its own.  One lock, held for a few instructions and never while
 * answering.
 *
 * Order within a repair, and why:
 *   1. open the file: asks for attributes perhaps, so nothing is held yet
 *   2. hold: from here stat waits.  The repair's own handle is younger than
 *      `held_below` and is never held
 *   3. tell the kernel that its attributes are out of date, so that stat asks
 *   4. answer the late writes: truncating would wait for them for ever
 *   5. truncate, close, let everything held go
 * Late writes that come during 2 to 5 are answered at once and cause another
 * repair.
 */
#include <config.h>

#include "overrun.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A request that waits to be answered. */
struct qedfs_parked {
	struct qedfs_parked *next;
	fuse_req_t req;
	void (*answer)(fuse_req_t req, uint64_t value);
	uint64_t value;
};

static struct qedfs_parked *take(struct qedfs_parked **list)
{
	struct qedfs_parked *taken = *list;

	*list = NULL;
	return taken;
}

/* Call it without the lock. */
static void answer_all(struct qedfs_parked *parked)
{
	while (parked) {
		struct qedfs_parked *next = parked->next;

		parked->answer(parked->req, parked->value);
		free(parked);
		parked = next;
	}
}

static bool park_locked(struct qedfs_parked **list, fuse_req_t req,
			void (*answer)(fuse_req_t req, uint64_t value),
			uint64_t value)
{
	struct qedfs_parked *parked = malloc(sizeof(*parked));

	if (!parked)
		return false;
	parked->req = req;
	parked->answer = answer;
	parked->value = value;
	parked->next = *list;
	*list = parked;
	return true;
}

/*
 * The repair.
 */

static int open_file(struct qedfs_overrun *overrun)
{
	int fd;

	pthread_mutex_lock(&overrun->lock);
	overrun->held_below = overrun->handles + 1;
	pthread_mutex_unlock(&overrun->lock);
	fd = qedfs_place_open(overrun->place, O_WRONLY);
	if (fd < 0)
		qedfs_log(QED_LOG_WARNING,
			  "%s: cannot put the size right after a write past the end: %s",
			  overrun->place->mountpoint, strerror(-fd));
	return fd;
}

/* Returns with the late writes answered. */
static void begin_holding(struct qedfs_overrun *overrun, bool hold)
{
	struct qedfs_parked *late;

	pthread_mutex_lock(&overrun->lock);
	overrun->holding = hold && !overrun->stopping;
	overrun->needed = false;
	late = take(&overrun->late);
	pthread_mutex_unlock(&overrun->lock);
	if (hold)
		fuse_lowlevel_notify_inval_inode(overrun->session,
						 overrun->ino, -1, 0);
	answer_all(late);
}

static void end_holding(struct qedfs_overrun *overrun)
{
	struct qedfs_parked *held;

	pthread_mutex_lock(&overrun->lock);
	overrun->holding = false;
	held = take(&overrun->held);
	pthread_mutex_unlock(&overrun->lock);
	answer_all(held);
}

static void repair(struct qedfs_overrun *overrun)
{
	int fd = open_file(overrun);

	begin_holding(overrun, fd >= 0);
	if (fd >= 0) {
		if (ftruncate(fd, (off_t)overrun->size) < 0)
			qedfs_log(QED_LOG_WARNING,
				  "%s: cannot put the size right: %s",
				  overrun->place->mountpoint, strerror(errno));
		close(fd);
	}
	end_holding(overrun);
}

static void *repair_thread(void *opaque)
{
	struct qedfs_overrun *overrun = opaque;

	pthread_mutex_lock(&overrun->lock);
	while (!overrun->stopping) {
		if (!overrun->needed) {
			pthread_cond_wait(&overrun->changed, &overrun->lock);
			continue;
		}
		pthread_mutex_unlock(&overrun->lock);
		repair(overrun);
		pthread_mutex_lock(&overrun->lock);
	}
	pthread_mutex_unlock(&overrun->lock);
	return NULL;
}

int qedfs_overrun_start(struct qedfs_overrun *overrun,
			struct fuse_session *session,
			const struct qedfs_place *place, fuse_ino_t ino,
			uint64_t size)
{
	int ret;

	memset(overrun, 0, sizeof(*overrun));
	overrun->session = session;
	overrun->place = place;
	overrun->ino = ino;
	overrun->size = size;
	pthread_mutex_init(&overrun->lock, NULL);
	pthread_cond_init(&overrun->changed, NULL);
	ret = pthread_create(&overrun->thread, NULL, repair_thread, overrun);
	if (ret) {
		pthread_cond_destroy(&overrun->changed);
		pthread_mutex_destroy(&overrun->lock);
	}
	return -ret;
}

void qedfs_overrun_stop(struct qedfs_overrun *overrun)
{
	struct qedfs_parked *late, *held;

	pthread_mutex_lock(&overrun->lock);
	overrun->stopping = true;
	overrun->holding = false;
	late = take(&overrun->late);
	held = take(&overrun->held);
	pthread_cond_signal(&overrun->changed);
	pthread_mutex_unlock(&overrun->lock);
	answer_all(late);
	answer_all(held);
}

void qedfs_overrun_join(struct qedfs_overrun *overrun)
{
	pthread_join(overrun->thread, NULL);
	while (overrun->open)
		qedfs_overrun_close(overrun, overrun->open);
	pthread_cond_destroy(&overrun->changed);
	pthread_mutex_destroy(&overrun->lock);
}

/*
 * What the operations call.
 */

struct qedfs_handle *qedfs_overrun_open(struct qedfs_overrun *overrun,
					bool writes)
{
	struct qedfs_handle *handle = malloc(sizeof(*handle));

	if (!handle)
		return NULL;
	handle->writes = writes;
	pthread_mutex_lock(&overrun->lock);
	handle->number = ++overrun->handles;
	handle->seen = overrun->events;
	handle->next = overrun->open;
	handle->link = &overrun->open;
	if (handle->next)
		handle->next->link = &handle->next;
	overrun->open = handle;
	pthread_mutex_unlock(&overrun->lock);
	return handle;
}

void qedfs_overrun_close(struct qedfs_overrun *overrun,
			 struct qedfs_handle *handle)
{
	pthread_mutex_lock(&overrun->lock);
	*handle->link = handle->next;
	if (handle->next)
		handle->next->link = handle->link;
	pthread_mutex_unlock(&overrun->lock);
	free(handle);
}

static void answer_write(fuse_req_t req, uint64_t size)
{
	fuse_reply_write(req, (size_t)size);
}

void qedfs_overrun_write(struct qedfs_overrun *overrun, fuse_req_t req,
			 size_t size)
{
	bool parked = false;
	bool first;

	pthread_mutex_lock(&overrun->lock);
	first = overrun->events++ == 0;
	if (!overrun->stopping) {
		overrun->needed = true;
		pthread_cond_signal(&overrun->changed);
		if (!overrun->holding)
			parked = park_locked(&overrun->late, req, answer_write,
					     size);
	}
	pthread_mutex_unlock(&overrun->lock);
	/* The next write asks for attributes again, and hears of this one. */
	fuse_lowlevel_notify_inval_inode(overrun->session, overrun->ino, -1, 0);
	if (!parked)
		answer_write(req, size);
	if (first)
		qedfs_log(QED_LOG_WARNING,
			  "%s: a program writes past the end of the disk; what does not fit is lost",
			  overrun->place->mountpoint);
}

int qedfs_overrun_collect(struct qedfs_overrun *overrun,
			  struct qedfs_handle *handle)
{
	int err = 0;

	if (!handle->writes)
		return 0;
	pthread_mutex_lock(&overrun->lock);
	if (handle->seen != overrun->events)
		err = EFBIG;
	handle->seen = overrun->events;
	pthread_mutex_unlock(&overrun->lock);
	return err;
}

bool qedfs_overrun_hold(struct qedfs_overrun *overrun,
			const struct qedfs_handle *handle, fuse_req_t req,
			void (*answer)(fuse_req_t req, uint64_t value),
			uint64_t value)
{
	bool held = false;

	pthread_mutex_lock(&overrun->lock);
	if (overrun->holding &&
	    (!handle || handle->number < overrun->held_below))
		held = park_locked(&overrun->held, req, answer, value);
	pthread_mutex_unlock(&overrun->lock);
	return held;
}
