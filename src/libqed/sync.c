/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocking forms of the requests, for programs without an event loop. */
#include "config.h"

#include "sync.h"

#include <pthread.h>

struct call {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;	/* under lock */
	int64_t result;	/* under lock */
};

static void call_begin(struct call *call)
{
	pthread_mutex_init(&call->lock, NULL);
	pthread_cond_init(&call->cond, NULL);
	call->over = false;
}

static void call_done(void *opaque, int64_t result)
{
	struct call *call = opaque;

	pthread_mutex_lock(&call->lock);
	call->over = true;
	call->result = result;
	pthread_cond_signal(&call->cond);
	pthread_mutex_unlock(&call->lock);
}

static int64_t call_wait(struct call *call)
{
	pthread_mutex_lock(&call->lock);
	while (!call->over)
		pthread_cond_wait(&call->cond, &call->lock);
	pthread_mutex_unlock(&call->lock);
	pthread_cond_destroy(&call->cond);
	pthread_mutex_destroy(&call->lock);
	return call->result;
}

int64_t qed_pread(struct qed_image *image, void *buf, size_t len,
		  uint64_t offset)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct call call;

	call_begin(&call);
	qed_readv(image, &iov, 1, offset, call_done, &call);
	return call_wait(&call);
}

int64_t qed_pwrite(struct qed_image *image, const void *buf, size_t len,
		   uint64_t offset)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf,
			     .iov_len = len };
	struct call call;

	call_begin(&call);
	qed_writev(image, &iov, 1, offset, call_done, &call);
	return call_wait(&call);
}

int qed_fsync(struct qed_image *image)
{
	struct call call;

	call_begin(&call);
	qed_flush(image, call_done, &call);
	return (int)call_wait(&call);
}

int qed_zero_sync(struct qed_image *image, uint64_t offset, uint64_t len)
{
	struct call call;

	call_begin(&call);
	qed_zero(image, offset, len, call_done, &call);
	return (int)call_wait(&call);
}

int qed_preallocate_sync(struct qed_image *image, uint64_t offset, uint64_t len)
{
	struct call call;

	call_begin(&call);
	qed_preallocate(image, offset, len, call_done, &call);
	return (int)call_wait(&call);
}
