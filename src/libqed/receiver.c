/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks that are written, whatever their format.
 *
 * Thread model: constant between open and close; requests and the engine do the
 * rest.
 */
#include "config.h"

#include "blame.h"
#include "job.h"
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

/* Nothing has been changed of it yet. */
static int check_same(const struct qed_receiver_options *o,
		      const struct qed_file *file)
{
	if (file->dev == o->dev && file->ino == o->ino)
		return 0;
	qed_log_write(o->log, QED_LOG_ERROR,
		      "%s: has been replaced by another file just now: see "
		      "which is the right one, and try again", o->path);
	return -ESTALE;
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

static int open_raw(struct qed_receiver *receiver,
		    const struct qed_receiver_options *o,
		    struct qed_engine *engine)
{
	uint64_t now;
	int ret = qed_file_open(o->path, true, engine, o->log, &receiver->file);

	if (ret == 0)
		ret = check_same(o, receiver->file);
	if (ret == 0)
		ret = qed_lock_take(receiver->file->fd, true, o->path, o->log);
	if (ret < 0)
		return ret;
	ret = qed_file_size(receiver->file, &now);
	if (ret < 0)
		return complain(o->log, o->path, ret, "cannot get the size");
	if (now < o->size)
		ret = lengthen_raw(receiver->file, now, o->size);
	if (ret == 0)
		qed_direct_open(&receiver->direct, receiver->file);
	return ret;
}

static int finish_image(struct qed_image *image,
			const struct qed_open_options *open,
			const struct qed_receiver_options *o)
{
	const struct qed_job quiet = qed_job_quiet(o->job);
	const struct qed_resize_options resize = { .size = o->size,
						   .log = *o->log,
						   .job = &quiet };

	return qed_resize_finish_open(image, open, &resize);
}

static int open_qed(struct qed_receiver *receiver,
		    const struct qed_receiver_options *o,
		    struct qed_engine *engine)
{
	const struct qed_job quiet = qed_job_quiet(o->job);
	struct qed_open_options open;
	struct qed_engine *share;
	struct qed_image *image;
	int ret = qed_engine_share(engine, &share);

	if (ret < 0)
		return complain(o->log, o->path, ret, "cannot be opened");
	qed_open_options_init(&open);
	open.flags = QED_OPEN_RDWR;
	open.commit_seconds = 0;
	open.log = *o->log;
	ret = qed_image_begin(o->path, &open, share, &image);
	if (ret < 0)
		return ret;
	ret = check_same(o, image->top->source.file);
	if (ret == 0)
		ret = qed_image_require_sound(image, &quiet);
	if (ret < 0) {
		qed_image_discard(image);
		return ret;
	}
	ret = finish_image(image, &open, o);
	if (ret == 0)
		receiver->image = image;
	return ret;
}

int qed_receiver_open(struct qed_receiver *receiver,
		      const struct qed_receiver_options *options,
		      struct qed_engine *engine)
{
	*receiver = (struct qed_receiver){ .image = NULL };
	return options->raw ? open_raw(receiver, options, engine) :
			      open_qed(receiver, options, engine);
}

int qed_receiver_close(struct qed_receiver *receiver)
{
	int ret = qed_image_close(receiver->image);

	qed_direct_close(&receiver->direct);
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
		return qed_direct_write(&receiver->direct, buf, len, disk_off);
	n = qed_pwrite(receiver->image, buf, len, disk_off);
	return n < 0 ? (int)n : 0;
}

bool qed_receiver_waits(const struct qed_receiver *receiver)
{
	return receiver->direct.past;
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

const char *qed_receiver_path(const struct qed_receiver *receiver)
{
	return file_of(receiver)->path;
}

int qed_receiver_blame(struct qed_receiver *receiver,
		       struct qed_transfer *transfer,
		       const struct qed_piece *piece, int err,
		       uint64_t disk_off)
{
	if (receiver->image)
		return qed_blame(transfer, piece, err, receiver->image, "write",
				 disk_off);
	return qed_transfer_fail(transfer, piece, err, receiver->file->path,
				 "write", disk_off);
}

bool qed_receiver_failed(const struct qed_receiver *receiver)
{
	return receiver->image && qed_meta_failed(receiver->image->meta);
}
