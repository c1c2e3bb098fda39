/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks that are written, whatever their format.
 *
 * Thread model: constant between open and close; requests and the engine do the rest.
 */
#include "config.h"

#include "lock.h"
#include "receiver.h"
#include "resize.h"
#include "sync.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static int complain(const struct qed_log *log, const char *path, int err,
		    const char *what)
{
	qed_log_write(log, QED_LOG_ERROR, "%s: %s: %s", path, what,
		      strerror(-err));
	return err;
}

/* A file that grows by fallocate(2) or by its size alone: it is sparse. */
static int lengthen_raw(struct qed_file *file, uint64_t now, uint64_t size)
{
	int ret;

	if (file->block_device) {
		qed_log_write(&file->log, QED_LOG_ERROR,
			      "%s: the device is too small: it has %" PRIu64
			      " bytes, and %" PRIu64 " are needed",
			      file->path, now, size);
		return -ENOSPC;
	}
	ret = qed_file_lengthen(file, size);
	if (ret == 0)
		ret = qed_file_flush(file);
	return ret < 0 ? complain(&file->log, file->path, ret,
				  "cannot be made longer") : 0;
}

static int open_raw(struct qed_receiver *receiver, const char *path,
		    uint64_t size, struct qed_engine *engine,
		    const struct qed_log *log)
{
	uint64_t now;
	int ret = qed_file_open(path, true, engine, log, &receiver->file);

	if (ret < 0)
		return ret;
	receiver->dev = receiver->file->dev;
	receiver->ino = receiver->file->ino;
	ret = qed_lock_take(receiver->file->fd, true, path, log);
	if (ret < 0)
		return ret;
	ret = qed_file_size(receiver->file, &now);
	if (ret < 0)
		return complain(log, path, ret, "cannot get the size");
	return now < size ? lengthen_raw(receiver->file, now, size) : 0;
}

static int open_image(struct qed_receiver *receiver, const char *path,
		      struct qed_engine *engine, const struct qed_log *log)
{
	struct qed_open_options options;
	struct qed_engine *share;
	int ret = qed_engine_share(engine, &share);

	if (ret < 0)
		return complain(log, path, ret, "cannot be opened");
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.log = *log;
	ret = qed_image_open_engine(path, &options, share, &receiver->image);
	if (ret < 0)
		return ret;
	receiver->dev = receiver->image->top->source.file->dev;
	receiver->ino = receiver->image->top->source.file->ino;
	return 0;
}

/* Durable on return. */
static int enlarge_image(const char *path, uint64_t size,
			 struct qed_engine *engine, const struct qed_log *log)
{
	const struct qed_resize_options options = { .size = size, .log = *log };
	struct qed_engine *share;
	int ret = qed_engine_share(engine, &share);

	if (ret < 0)
		return complain(log, path, ret, "cannot be made larger");
	return qed_image_resize_engine(path, &options, share);
}

static int open_qed(struct qed_receiver *receiver, const char *path,
		    uint64_t size, struct qed_engine *engine,
		    const struct qed_log *log)
{
	int ret = open_image(receiver, path, engine, log);

	if (ret < 0 || receiver->image->size >= size)
		return ret;
	/* It has to be closed for that; somebody else may get it in between. */
	ret = qed_receiver_close(receiver);
	if (ret < 0)
		return complain(log, path, ret, "cannot be closed");
	ret = enlarge_image(path, size, engine, log);
	return ret < 0 ? ret : open_image(receiver, path, engine, log);
}

int qed_receiver_open(struct qed_receiver *receiver, const char *path, bool raw,
		      uint64_t size, struct qed_engine *engine,
		      const struct qed_log *log)
{
	*receiver = (struct qed_receiver){ .image = NULL };
	return raw ? open_raw(receiver, path, size, engine, log) :
		     open_qed(receiver, path, size, engine, log);
}

int qed_receiver_close(struct qed_receiver *receiver)
{
	int ret = qed_image_close(receiver->image);

	qed_file_close(receiver->file);
	receiver->image = NULL;
	receiver->file = NULL;
	return ret;
}

static struct qed_file *file_of(const struct qed_receiver *receiver)
{
	return receiver->file ? receiver->file :
				receiver->image->top->source.file;
}

int qed_receiver_write(struct qed_receiver *receiver, const void *buf,
		       uint64_t len, uint64_t disk_off)
{
	int64_t n;

	if (receiver->file)
		return qed_file_write(receiver->file, buf, len, disk_off);
	n = qed_pwrite(receiver->image, buf, len, disk_off);
	return n < 0 ? (int)n : 0;
}

void qed_receiver_write_behind(struct qed_receiver *receiver, uint64_t len)
{
	qed_file_write_behind(file_of(receiver), len);
}

int qed_receiver_zero(struct qed_receiver *receiver, uint64_t disk_off,
		      uint64_t len)
{
	struct qed_file *file = receiver->file;

	if (!file)
		return qed_zero_sync(receiver->image, disk_off, len);
	/* A hole already? */
	if (qed_file_next_data(file, disk_off) - disk_off >= len)
		return 0;
	return qed_file_zero(file, disk_off, len);
}

int qed_receiver_sync(struct qed_receiver *receiver)
{
	return receiver->file ? qed_file_flush(receiver->file) :
				qed_meta_clean(receiver->image->meta);
}

bool qed_receiver_failed(const struct qed_receiver *receiver)
{
	return receiver->image && qed_meta_failed(receiver->image->meta);
}
