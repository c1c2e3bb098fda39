/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Raw targets: new files, existing ones, block devices. */
#include "config.h"

#include "lock.h"
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int raw_zero(struct qed_target *target, uint64_t disk_off, uint64_t len)
{
	return qed_file_zero(target->file, disk_off, len);
}

static int fail_extend(const struct qed_target *target, int err, uint64_t size)
{
	char what[64];

	snprintf(what, sizeof(what), "extend to %" PRIu64 " bytes", size);
	return qed_target_fail(target, err, what);
}

static int finish_new(struct qed_target *target, uint64_t size)
{
	int ret = qed_file_lengthen(target->file, size);

	if (ret < 0)
		return fail_extend(target, ret, size);
	return qed_newfile_publish(&target->newfile,
				   !(target->options->flags &
				     QED_CONVERT_UNSAFE));
}

static int finish_old(struct qed_target *target, uint64_t size)
{
	int ret = 0;

	(void)size;
	if (!(target->options->flags & QED_CONVERT_UNSAFE))
		ret = qed_file_flush(target->file);
	return ret < 0 ? qed_target_fail(target, ret, "sync") : 0;
}

static const struct qed_target_ops new_ops = { .write = qed_target_write,
					       .zero = raw_zero,
					       .finish = finish_new };
static const struct qed_target_ops old_ops = { .write = qed_target_write,
					       .zero = raw_zero,
					       .finish = finish_old };

int qed_target_open_new_raw(struct qed_target *target, uint64_t size)
{
	int ret = qed_newfile_begin(&target->newfile, target->path,
				    &target->options->log);

	target->ops = &new_ops;
	target->is_new = true;
	target->zeroed = true;
	target->probe_off = UINT64_MAX;
	if (ret == 0 && target->newfile.oldfd >= 0)
		ret = qed_target_refuse_sources(target, &target->newfile.old);
	if (ret == 0)
		ret = qed_newfile_make(&target->newfile, target->engine);
	if (ret < 0)
		return ret;
	target->file = target->newfile.file;
	if (size != UINT64_MAX)
		ret = qed_file_lengthen(target->file, size);
	return ret < 0 ? fail_extend(target, ret, size) : 0;
}

static bool same_device(int fd1, int fd2)
{
	struct stat st1, st2;

	return fstat(fd1, &st1) == 0 && fstat(fd2, &st2) == 0 &&
	       st1.st_rdev == st2.st_rdev;
}

/* A mounted device, or one that is part of another, must not be written. */
static int claim_device(struct qed_target *target)
{
	target->claim = open(target->path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (target->claim >= 0 && same_device(target->claim, target->file->fd))
		return 0;
	if (target->claim >= 0)
		return qed_target_refuse(target, -EBUSY,
					 "it became another device just now");
	return qed_target_refuse(target, -errno, "cannot use the device: %s",
				 errno == EBUSY ? "it is mounted or part of "
						  "another device" :
						  strerror(errno));
}

static int check_size(struct qed_target *target, uint64_t size)
{
	int ret = qed_file_size(target->file, &target->limit);

	if (ret < 0)
		return qed_target_refuse(target, ret, "cannot get the size: %s",
					 strerror(-ret));
	if (size != UINT64_MAX && size > target->limit)
		return qed_target_refuse(target, -ENOSPC,
					 "too small: it has %" PRIu64 " bytes, "
					 "the disk %" PRIu64, target->limit,
					 size);
	return 0;
}

int qed_target_open_raw(struct qed_target *target, uint64_t size)
{
	const struct qed_convert_options *options = target->options;
	int ret = qed_file_open(target->path, true, target->engine,
				&options->log, &target->file);

	target->ops = &old_ops;
	target->zeroed = options->flags & QED_CONVERT_TARGET_IS_ZERO;
	target->probe_off = UINT64_MAX;
	if (ret == 0)
		ret = qed_target_refuse_source_fd(target, target->file->fd);
	if (ret == 0)
		ret = qed_lock_take(target->file->fd, true, target->path,
				    &options->log);
	if (ret == 0 && target->file->block_device)
		ret = claim_device(target);
	return ret < 0 ? ret : check_size(target, size);
}
