/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Thread model: one lock for the list of waiting requests and the count.  A
 * request stays on the list until the cache is written, so that whoever stops
 * the thread can answer it.  The kernel lets one lseek run at a time.
 */
#include <config.h>

#include "seek.h"
#include "syncer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct qedfs_seek_request {
	struct qedfs_seek_request *next;
	fuse_req_t req;
	uint64_t offset;
	int whence;
};

/* As if there were no hole. */
static void answer_all_data(const struct qedfs_seek *seek, fuse_req_t req,
			    uint64_t offset, int whence)
{
	uint64_t size = seek->io->tree->size;

	if (offset >= size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? (off_t)offset :
							    (off_t)size);
}

static struct qedfs_seek_request *take_waiting(struct qedfs_seek *seek)
{
	struct qedfs_seek_request *taken;

	pthread_mutex_lock(&seek->lock);
	taken = seek->waiting;
	seek->waiting = NULL;
	pthread_mutex_unlock(&seek->lock);
	return taken;
}

/* `synced`: the image has everything that the cache had. */
static void answer_waiting(struct qedfs_seek *seek, bool synced)
{
	struct qedfs_seek_request *request = take_waiting(seek);

	while (request) {
		struct qedfs_seek_request *next = request->next;

		if (synced)
			qedfs_io_seek(seek->io, request->req, request->offset,
				      request->whence);
		else
			answer_all_data(seek, request->req, request->offset,
					request->whence);
		free(request);
		request = next;
	}
}

/*
 * Closing the file may want the inode's lock, which the seeking program holds:
 * hence after the answer.
 */
static void write_cache_and_answer(struct qedfs_seek *seek)
{
	struct qedfs_syncer syncer;
	bool started = qedfs_syncer_start(&syncer, seek->place) == 0;

	answer_waiting(seek, started && qedfs_syncer_sync(&syncer,
						QEDFS_SYNC_PAGES) == 0);
	if (started)
		qedfs_syncer_stop(&syncer);
}

static void *seek_thread(void *opaque)
{
	struct qedfs_seek *seek = opaque;

	pthread_mutex_lock(&seek->lock);
	while (!seek->stopping) {
		if (!seek->waiting) {
			pthread_cond_wait(&seek->changed, &seek->lock);
			continue;
		}
		pthread_mutex_unlock(&seek->lock);
		write_cache_and_answer(seek);
		pthread_mutex_lock(&seek->lock);
	}
	pthread_mutex_unlock(&seek->lock);
	return NULL;
}

int qedfs_seek_start(struct qedfs_seek *seek, struct qedfs_io *io,
		     const struct qedfs_place *place)
{
	int ret;

	memset(seek, 0, sizeof(*seek));
	seek->io = io;
	seek->place = place;
	pthread_mutex_init(&seek->lock, NULL);
	pthread_cond_init(&seek->changed, NULL);
	ret = pthread_create(&seek->thread, NULL, seek_thread, seek);
	if (ret) {
		pthread_cond_destroy(&seek->changed);
		pthread_mutex_destroy(&seek->lock);
	}
	return -ret;
}

void qedfs_seek_stop(struct qedfs_seek *seek)
{
	pthread_mutex_lock(&seek->lock);
	seek->stopping = true;
	pthread_cond_signal(&seek->changed);
	pthread_mutex_unlock(&seek->lock);
	answer_waiting(seek, false);
}

void qedfs_seek_join(struct qedfs_seek *seek)
{
	pthread_join(seek->thread, NULL);
	pthread_cond_destroy(&seek->changed);
	pthread_mutex_destroy(&seek->lock);
}

void qedfs_seek_count_writer(struct qedfs_seek *seek, int change)
{
	pthread_mutex_lock(&seek->lock);
	seek->writers += (unsigned)change;
	pthread_mutex_unlock(&seek->lock);
}

/* True if the request now waits for the thread. */
static bool enqueue_locked(struct qedfs_seek *seek, fuse_req_t req,
			   uint64_t offset, int whence)
{
	struct qedfs_seek_request *request;

	if (seek->stopping || !seek->can_sync)
		return false;
	request = malloc(sizeof(*request));
	if (!request)
		return false;
	request->req = req;
	request->offset = offset;
	request->whence = whence;
	request->next = seek->waiting;
	seek->waiting = request;
	pthread_cond_signal(&seek->changed);
	return true;
}

void qedfs_seek(struct qedfs_seek *seek, fuse_req_t req, uint64_t offset,
		int whence)
{
	bool queued = false;
	bool writers;

	pthread_mutex_lock(&seek->lock);
	writers = seek->writers > 0;
	if (writers)
		queued = enqueue_locked(seek, req, offset, whence);
	pthread_mutex_unlock(&seek->lock);
	if (!writers)
		qedfs_io_seek(seek->io, req, offset, whence);
	else if (!queued)
		answer_all_data(seek, req, offset, whence);
}
