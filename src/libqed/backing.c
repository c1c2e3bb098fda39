/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changing the backing name.  The new one is written where neither the header's
 * 64 bytes nor the old name are, and made durable; then the header, which lies
 * within one sector, changes all at once.
 *
 * There is always such a place.  If not right behind the 64 bytes, for the old
 * name begins in the first 1023 bytes from there, then behind the old name:
 * that ends before 64 + 2 * 1023, and a header has 4096 bytes at least.
 */
#include "config.h"

#include "backing.h"
#include "chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(QED_HEADER_BYTES + 3 * QED_BACKING_NAME_MAX <=
		      QED_CLUSTER_SIZE_MIN,
	      "room for a new name beside the old one");

static int refuse(const struct qed_layer *layer, int err, const char *why)
{
	qed_log_write(&layer->log, QED_LOG_ERROR, "%s: %s",
		      layer->source.file->path, why);
	return err;
}

static int check_name(const struct qed_layer *layer, const char *name)
{
	size_t len = strlen(name);
	char *path;
	int ret;

	if (len > QED_BACKING_NAME_MAX) {
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: the backing file's name has %zu bytes, the "
			      "most is %u; a relative name may be shorter",
			      layer->source.file->path, len,
			      QED_BACKING_NAME_MAX);
		return -EINVAL;
	}
	ret = qed_backing_resolve(layer->source.file->path, name, &path);
	free(path);
	if (ret == -EINVAL)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: backing file %s: only files can back an "
			      "image, not protocols (for a file whose name has "
			      "a colon, write ./NAME)",
			      layer->source.file->path, name);
	else if (ret < 0)
		return refuse(layer, ret, strerror(-ret));
	return ret;
}

int qed_backing_check(const struct qed_layer *layer, const char *name)
{
	if (layer->header.compat_features)
		return refuse(layer, -ENOTSUP,
			      "it uses compatible features that are unknown "
			      "here, so its header cannot be changed; use a "
			      "program that knows them");
	return name ? check_name(layer, name) : 0;
}

static int write_header(struct qed_file *file, const struct qed_header *header)
{
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	qed_header_encode(header, buf);
	ret = qed_file_write(file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(file);
}

static void set_fields(struct qed_header *header, uint32_t offset, uint32_t len,
		       bool raw)
{
	header->features &= ~(QED_FEATURE_BACKING_FILE |
			      QED_FEATURE_BACKING_FORMAT_NO_PROBE);
	if (len)
		header->features |= QED_FEATURE_BACKING_FILE;
	if (len && raw)
		header->features |= QED_FEATURE_BACKING_FORMAT_NO_PROBE;
	header->backing_filename_offset = len ? offset : 0;
	header->backing_filename_size = len;
}

/* Where the new name goes. */
static uint32_t place_of(const struct qed_header *header, uint32_t len)
{
	uint32_t old = header->backing_filename_offset;
	uint32_t old_len = header->backing_filename_size;

	if (!(header->features & QED_FEATURE_BACKING_FILE) ||
	    !qed_ranges_overlap(QED_HEADER_BYTES, len, old, old_len))
		return QED_HEADER_BYTES;
	return old + old_len;
}

/* Unknown bits must be gone before anything else changes. */
static int clear_autoclear(struct qed_layer *layer)
{
	if (!layer->header.autoclear_features)
		return 0;
	layer->header.autoclear_features = 0;
	return write_header(layer->source.file, &layer->header);
}

static int write_name(struct qed_layer *layer, const char *name, uint32_t len,
		      bool raw)
{
	struct qed_file *file = layer->source.file;
	uint32_t offset = place_of(&layer->header, len);
	struct qed_header header;
	int ret = clear_autoclear(layer);

	if (ret == 0 && len)
		ret = qed_file_write(file, name, len, offset);
	if (ret == 0 && len)
		ret = qed_file_flush(file);
	if (ret < 0)
		return ret;
	header = layer->header;
	set_fields(&header, offset, len, raw);
	ret = write_header(file, &header);
	if (ret == 0)
		layer->header = header;
	return ret;
}

int qed_backing_write(struct qed_layer *layer, const char *name, bool raw)
{
	char *copy = name ? strdup(name) : NULL;
	int ret = name && !copy ? -ENOMEM : 0;

	if (ret == 0)
		ret = write_name(layer, name,
				 name ? (uint32_t)strlen(name) : 0, raw);
	if (ret < 0) {
		free(copy);
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: cannot write the header: %s",
			      layer->source.file->path, strerror(-ret));
		return ret;
	}
	free(layer->backing_name);
	layer->backing_name = copy;
	return 0;
}
