/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* QED targets: a new image, built from the start, and one that is there. */
#include "config.h"

#include "create.h"
#include "job.h"
#include "sync.h"
#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* --- new images ------------------------------------------------------------------ */

static int new_place(struct qed_target *target, uint64_t disk_off, bool zero,
		     uint64_t *place)
{
	if (zero)
		return qed_builder_zero(&target->builder, disk_off);
	return qed_builder_place(&target->builder, disk_off, place);
}

/* The size of a disk that came as a stream is known only now. */
static int set_size(struct qed_target *target, uint64_t size)
{
	char message[QED_MESSAGE_MAX];

	target->header.image_size = size;
	if (qed_header_derive(&target->header, message) == 0)
		return 0;
	return qed_target_refuse(target, -EINVAL, "%s", message);
}

static int new_finish(struct qed_target *target, uint64_t size)
{
	const struct qed_convert_options *options = target->options;
	int ret = set_size(target, size);

	if (ret < 0)
		return ret;
	ret = qed_builder_finish(&target->builder, options->image.backing);
	if (ret < 0)
		return qed_target_fail(target, ret, "write");
	return qed_newfile_publish(&target->newfile,
				   !(options->flags & QED_CONVERT_UNSAFE));
}

static const struct qed_target_ops new_ops = { .place = new_place,
					       .write = qed_target_write,
					       .finish = new_finish };

static int make_header(struct qed_target *target, uint64_t size)
{
	struct qed_create_options image = target->options->image;

	image.log = target->options->log;
	image.virtual_size = size == UINT64_MAX ? 0 : size;
	return qed_create_header(&target->newfile, &image, &target->header);
}

int qed_target_open_new_qed(struct qed_target *target, uint64_t size)
{
	int ret = qed_newfile_begin(&target->newfile, target->path,
				    &target->options->log);

	target->ops = &new_ops;
	target->is_new = true;
	target->zeroed = true;
	if (ret == 0 && target->newfile.oldfd >= 0)
		ret = qed_target_refuse_sources(target, &target->newfile.old);
	if (ret == 0)
		ret = make_header(target, size);
	if (ret == 0)
		ret = qed_newfile_make(&target->newfile, target->engine);
	if (ret < 0)
		return ret;
	target->file = target->newfile.file;
	target->unit = target->header.cluster_size;
	target->row = target->header.table_nelems * target->unit;
	target->limit = qed_max_image_size(target->header.cluster_size,
					   target->header.table_size);
	ret = qed_builder_init(&target->builder, target->file,
			       &target->header);
	return ret < 0 ? qed_target_refuse(target, ret, "%s", strerror(-ret)) :
			 0;
}

/* --- existing ones ---------------------------------------------------------------- */

static int old_write(struct qed_target *target, const void *buf, uint64_t len,
		     uint64_t place)
{
	const uint8_t *p = buf;

	while (len > 0) {
		int64_t n = qed_pwrite(target->image, p, len, place);

		if (n <= 0)
			return n ? (int)n : -EFBIG;
		p += n;
		place += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* What reads as zeroes already stays as it is. */
static int old_zero(struct qed_target *target, uint64_t disk_off, uint64_t len)
{
	struct qed_map_extent extent;
	int ret = 0;

	while (ret == 0 && len > 0) {
		ret = qed_map(target->image, disk_off, len, &extent);
		if (ret < 0)
			break;
		if (extent.kind == QED_MAP_DATA)
			ret = qed_zero_sync(target->image, disk_off,
					    extent.len);
		disk_off += extent.len;
		len -= extent.len;
	}
	return ret;
}

/* Closing the image is what makes it clean, as well as durable. */
static int old_finish(struct qed_target *target, uint64_t size)
{
	struct qed_image *image = target->image;
	int ret;

	(void)size;
	target->image = NULL;
	target->engine = NULL;
	ret = qed_image_close(image);
	return ret < 0 ? qed_target_fail(target, ret, "close") : 0;
}

static const struct qed_target_ops old_ops = { .write = old_write,
					       .zero = old_zero,
					       .finish = old_finish };

static int check_image(const struct qed_target *target, uint64_t size)
{
	int fd = target->image->top->source.file->fd;
	int ret = qed_target_refuse_source_fd(target, fd);

	if (ret < 0)
		return ret;
	if (size == UINT64_MAX || size <= target->limit)
		return 0;
	return qed_target_refuse(target, -ENOSPC,
				 "too small: its disk has %" PRIu64 " bytes, "
				 "the one to be copied %" PRIu64 "; 'qedimg "
				 "resize' can make it larger", target->limit,
				 size);
}

/* All refusals come first: making it ready for writes may repair it. */
static int open_image(struct qed_target *target, uint64_t size,
		      struct qed_engine *engine)
{
	const struct qed_job quiet = qed_job_quiet(target->options->job);
	struct qed_image *image;
	struct qed_open_options open;
	int ret;

	qed_open_options_init(&open);
	open.flags = QED_OPEN_RDWR;
	open.log = target->options->log;
	ret = qed_image_begin(target->path, &open, engine, &image);
	if (ret < 0)
		return ret;
	target->image = image;
	target->limit = qed_round_up(image->top->size, QED_SECTOR);
	ret = check_image(target, size);
	if (ret == 0)
		ret = qed_image_require_sound(image, &quiet);
	if (ret == 0)
		ret = qed_image_finish(image, &open);
	if (ret < 0) {
		target->image = NULL;
		qed_image_discard(image);
	}
	return ret;
}

int qed_target_open_qed(struct qed_target *target, uint64_t size)
{
	struct qed_engine *engine = target->engine;
	int ret;

	target->ops = &old_ops;
	target->engine = NULL;		/* the image's, or gone */
	ret = open_image(target, size, engine);
	if (ret < 0)
		return ret;
	target->zeroed = target->options->flags & QED_CONVERT_TARGET_IS_ZERO;
	target->unit = qed_min(target->image->top->header.cluster_size,
			       UINT64_C(1) << 20);
	return 0;
}
