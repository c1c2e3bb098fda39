/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Streams as targets: everything in order, zeroes too. */
#include "config.h"

#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int stream_write(struct qed_target *target, const void *buf,
			uint64_t len, uint64_t place)
{
	(void)place;
	return qed_stream_write(&target->stream, buf, len);
}

static int stream_zero(struct qed_target *target, uint64_t disk_off,
		       uint64_t len)
{
	static const char zeroes[65536];
	int ret = 0;

	(void)disk_off;
	while (ret == 0 && len > 0) {
		uint64_t n = qed_min(len, sizeof(zeroes));

		ret = qed_stream_write(&target->stream, zeroes, n);
		len -= n;
	}
	return ret;
}

/* A pipe has nothing to sync; what a shell redirected to a file has. */
static int stream_finish(struct qed_target *target, uint64_t size)
{
	(void)size;
	if (target->options->flags & QED_CONVERT_UNSAFE ||
	    fdatasync(target->stream.fd) == 0 || errno == EINVAL ||
	    errno == EROFS)
		return 0;
	return qed_target_fail(target, -errno, "sync");
}

static const struct qed_target_ops stream_ops = { .write = stream_write,
						  .zero = stream_zero,
						  .finish = stream_finish };

int qed_target_open_stream(struct qed_target *target)
{
	int fd = STDOUT_FILENO;

	target->ops = &stream_ops;
	target->in_turn = true;
	if (strcmp(target->path, "-") == 0)
		target->path = "standard output";
	else
		fd = open(target->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return qed_target_refuse(target, -errno, "cannot open: %s",
					 strerror(errno));
	qed_stream_init(&target->stream, fd, target->options->job);
	return qed_target_refuse_source_fd(target, fd);
}
