/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that are waited for, all under one lock. */
#include "config.h"

#include "calls.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

static void done(void *opaque, int64_t result)
{
	struct call *call = opaque;

	pthread_mutex_lock(&lock);
	call->over = true;
	call->result = result;
	pthread_cond_broadcast(&cond);
	pthread_mutex_unlock(&lock);
}

static void begin(struct call *call, struct qed_image *image, const void *buf,
		  uint64_t len)
{
	memset(call, 0, sizeof(*call));
	call->image = image;
	call->iov.iov_base = (void *)(uintptr_t)buf;
	call->iov.iov_len = len;
}

void call_read(struct call *call, struct qed_image *image, void *buf,
	       uint64_t len, uint64_t off)
{
	begin(call, image, buf, len);
	qed_readv(image, &call->iov, 1, off, done, call);
}

void call_write(struct call *call, struct qed_image *image, const void *buf,
		uint64_t len, uint64_t off)
{
	begin(call, image, buf, len);
	qed_writev(image, &call->iov, 1, off, done, call);
}

void call_zero(struct call *call, struct qed_image *image, uint64_t len,
	       uint64_t off)
{
	begin(call, image, NULL, 0);
	qed_zero(image, off, len, done, call);
}

void call_preallocate(struct call *call, struct qed_image *image, uint64_t len,
		      uint64_t off)
{
	begin(call, image, NULL, 0);
	qed_preallocate(image, off, len, done, call);
}

void call_flush(struct call *call, struct qed_image *image)
{
	begin(call, image, NULL, 0);
	qed_flush(image, done, call);
}

bool call_is_over(struct call *call)
{
	bool over;

	pthread_mutex_lock(&lock);
	over = call->over;
	pthread_mutex_unlock(&lock);
	return over;
}

int64_t call_wait(struct call *call)
{
	pthread_mutex_lock(&lock);
	while (!call->over)
		pthread_cond_wait(&cond, &lock);
	pthread_mutex_unlock(&lock);
	return call->result;
}

static void hang(int signal)
{
	static const char message[] = "watchdog: the test hangs\n";
	ssize_t ignored = write(2, message, sizeof(message) - 1);

	(void)ignored;
	(void)signal;
	_exit(99);
}

void calls_watchdog(unsigned seconds)
{
	signal(SIGALRM, hang);
	alarm(seconds);
}
