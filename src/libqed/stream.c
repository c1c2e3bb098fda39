/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "stream.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define PIPE_BYTES (1 << 20)		/* what any user may have */
#define TICK_MS    200			/* a request to stop is seen by then */

void qed_stream_init(struct qed_stream *stream, int fd,
		     const struct qed_job *job)
{
	*stream = (struct qed_stream){ .fd = fd, .job = job };
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
}

static int wait_for(const struct qed_stream *stream, short events)
{
	const struct qed_job *job = stream->job;
	struct pollfd pollfd = { .fd = stream->fd, .events = events };

	for (;;) {
		int n = poll(&pollfd, 1, TICK_MS);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (job && job->cancelled && job->cancelled(job->opaque))
			return -ECANCELED;
	}
}

int64_t qed_stream_read(struct qed_stream *stream, void *buf, uint64_t len)
{
	uint64_t got = 0;

	while (got < len) {
		int ret = wait_for(stream, POLLIN);
		ssize_t n;

		if (ret < 0)
			return ret;
		n = read(stream->fd, (char *)buf + got, len - got);
		if (n == 0)
			break;
		if (n > 0)
			got += (uint64_t)n;
		else if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
	return (int64_t)got;
}

/*
 * One attempt that does not wait where the kernel can do that; the descriptor
 * may be shared with other programs, so it stays as it is.
 */
static ssize_t attempt(int fd, const void *buf, uint64_t len)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf,
			     .iov_len = len };
	ssize_t n = pwritev2(fd, &iov, 1, -1, RWF_NOWAIT);

	if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		n = write(fd, buf, len);
	return n;
}

int qed_stream_write(struct qed_stream *stream, const void *buf, uint64_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = attempt(stream->fd, p, len);
		int ret;

		if (n >= 0) {
			p += n;
			len -= (uint64_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		ret = wait_for(stream, POLLOUT);
		if (ret < 0)
			return ret;
	}
	return 0;
}
