/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the engines have in common, and the choice between them. */
#include "config.h"

#include "engine.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * Set in threads that carry completions: one of them must not wait for a write
 * while others depend on it to go on.
 */
static _Thread_local bool on_engine_thread;

void qed_engine_enter_thread(void)
{
	on_engine_thread = true;
}

int qed_engine_fd(const struct qed_io *io)
{
	return io->file->fd;
}

int qed_engine_iovcnt(const struct qed_io *io)
{
	return io->iovcnt < IOV_MAX ? io->iovcnt : IOV_MAX;
}

static int64_t result_of(int64_t ret)
{
	return ret < 0 ? -errno : ret;
}

static int64_t attempt_clone(const struct qed_io *io)
{
	struct file_clone_range range = { .src_fd = io->from->fd,
					  .src_offset = io->from_off,
					  .src_length = io->len,
					  .dest_offset = io->file_off };

	return result_of(ioctl(qed_engine_fd(io), FICLONERANGE, &range));
}

static int64_t attempt_copy(const struct qed_io *io)
{
	off_t from = (off_t)io->from_off, to = (off_t)io->file_off;

	return result_of(copy_file_range(io->from->fd, &from, qed_engine_fd(io),
					 &to, io->left, 0));
}

int64_t qed_engine_attempt(const struct qed_io *io)
{
	int fd = qed_engine_fd(io);
	off_t off = (off_t)io->file_off;

	switch (io->op) {
	case QED_OP_READ:
		return result_of(preadv(fd, io->iov, qed_engine_iovcnt(io),
					off));
	case QED_OP_WRITE:
		return result_of(pwritev(fd, io->iov, qed_engine_iovcnt(io),
					 off));
	case QED_OP_FLUSH:
		return result_of(fdatasync(fd));
	case QED_OP_PUNCH:
		return result_of(fallocate(fd,
					   FALLOC_FL_PUNCH_HOLE |
						   FALLOC_FL_KEEP_SIZE,
					   off, (off_t)io->len));
	case QED_OP_GROW:
		return result_of(fallocate(fd, 0, off, (off_t)io->len));
	case QED_OP_CUT:
		return result_of(ftruncate(fd, off));
	case QED_OP_CLONE:
		return attempt_clone(io);
	case QED_OP_COPY:
		return attempt_copy(io);
	}
	return -EINVAL;
}

int64_t qed_engine_try_now(struct qed_engine *engine, struct qed_io *io)
{
	int64_t ret;

	(void)engine;
	/* Only blocking callers do these: they need not go through a ring. */
	if (io->op == QED_OP_CUT || io->op == QED_OP_CLONE ||
	    io->op == QED_OP_COPY)
		return qed_engine_attempt(io);
	/* Growing costs no more than a write that extends the file. */
	if ((io->op == QED_OP_WRITE || io->op == QED_OP_GROW) &&
	    !on_engine_thread)
		return qed_engine_attempt(io);
	if (io->op != QED_OP_READ)
		return -EAGAIN;
	ret = result_of(preadv2(qed_engine_fd(io), io->iov,
				qed_engine_iovcnt(io), (off_t)io->file_off,
				RWF_NOWAIT));
	return ret == -EOPNOTSUPP ? -EAGAIN : ret;
}

int qed_engine_create(enum qed_io_engine which, struct qed_engine **engine)
{
	int ret;

	*engine = NULL;
	if (which == QED_IO_THREADS)
		return qed_engine_threads_create(engine);
	ret = qed_engine_uring_create(engine);
	if (ret < 0 && which == QED_IO_AUTO)
		ret = qed_engine_threads_create(engine);
	return ret;
}

int qed_engine_start(enum qed_io_engine which, const char *path,
		     const struct qed_log *log, struct qed_engine **engine)
{
	int ret = qed_engine_create(which, engine);

	if (ret < 0)
		qed_log_write(log, QED_LOG_ERROR,
			      "%s: cannot start the I/O engine: %s", path,
			      strerror(-ret));
	return ret;
}

void qed_engine_destroy(struct qed_engine *engine)
{
	if (engine)
		engine->ops->destroy(engine);
}
