/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saving what a repair changes; undo.h states the contracts and the layout. */
#include "config.h"

#include "format.h"
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct undo_header {
	uint8_t magic[8];
	struct qed_le64 file_size;
	struct qed_le64 fingerprint;
	struct qed_le64 need_check;	/* 0 or 1 */
	struct qed_le64 over;		/* 0 or 1 */
	struct qed_le64 sum;		/* of all of the header but this */
};

struct undo_record {
	struct qed_le64 file_off;
	struct qed_le64 len;
	struct qed_le64 sum;		/* of all of the record but this */
};

#define RECORD_MAX (UINT64_C(1) << 20)
#define SUM_START  UINT64_C(14695981039346656037)

static const uint8_t undo_magic[8] = "QEDUND3";

static int complain(const struct qed_undo *undo, int err, const char *what)
{
	qed_log_write(&undo->file->log, QED_LOG_ERROR, "%s: %s: %s",
		      undo->file->path, what, strerror(-err));
	return err;
}

int qed_undo_complain_at(const struct qed_file *file, int err, const char *what,
			 uint64_t file_off)
{
	qed_log_write(&file->log, QED_LOG_ERROR,
		      "%s: cannot %s at file offset %" PRIu64 ": %s",
		      file->path, what, file_off, strerror(-err));
	return err;
}

static uint64_t sum_bytes(uint64_t sum, const void *bytes, uint64_t len)
{
	const uint8_t *p = bytes;

	for (uint64_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * UINT64_C(1099511628211);
	return sum;
}

static struct qed_le64 sum_header(const struct undo_header *head)
{
	return qed_le64_put(sum_bytes(SUM_START, head,
				      offsetof(struct undo_header, sum)));
}

static struct qed_le64 sum_record(const struct undo_record *head,
				  const uint8_t *bytes, uint64_t len)
{
	uint64_t sum = SUM_START;

	sum = sum_bytes(sum, &head->file_off, sizeof(head->file_off));
	sum = sum_bytes(sum, &head->len, sizeof(head->len));
	return qed_le64_put(sum_bytes(sum, bytes, 2 * len));
}

static char *undo_path(const struct qed_file *image)
{
	char *path;

	return asprintf(&path, "%s.check-undo", image->path) < 0 ? NULL : path;
}

static int refuse_other(const char *path, const struct qed_file *image, int err)
{
	qed_log_write(&image->log, QED_LOG_ERROR,
		      "%s: not an undo file of a check, which has to have that "
		      "name: move it away", path);
	return err;
}

/* No link, nothing but a regular file: it may lie where others can write. */
static int open_file(struct qed_undo *undo, const char *path,
		     struct qed_file *image)
{
	struct stat st;
	int ret = lstat(path, &st) < 0 ? -errno : 0;

	if (ret == 0 && !S_ISREG(st.st_mode))
		return refuse_other(path, image, -EEXIST);
	if (ret < 0 && ret != -ENOENT)
		qed_log_write(&image->log, QED_LOG_ERROR, "%s: %s", path,
			      strerror(-ret));
	if (ret < 0)
		return ret;
	return qed_file_open(path, true, image->engine, &image->log,
			     &undo->file);
}

/* --- reading --------------------------------------------------------------------- */

static int add_entry(struct qed_undo *undo, const struct qed_undo_entry *entry)
{
	if (undo->nentries == undo->max) {
		uint64_t max = undo->max * 2 + 64;
		struct qed_undo_entry *entries =
			realloc(undo->entries, max * sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		undo->entries = entries;
		undo->max = max;
	}
	undo->entries[undo->nentries++] = *entry;
	return 0;
}

/* What a record of `len` bytes changed. */
static int add_entries(struct qed_undo *undo, uint64_t file_off, uint64_t len,
		       const uint8_t *bytes)
{
	const struct qed_le64 *older = (const struct qed_le64 *)bytes;
	const struct qed_le64 *newer = older + len / QED_ENTRY_BYTES;
	int ret = 0;

	for (uint64_t i = 0; ret == 0 && i < len / QED_ENTRY_BYTES; i++) {
		struct qed_undo_entry entry = {
			.file_off = file_off + i * QED_ENTRY_BYTES,
			.order = undo->nentries,
			.older = qed_le64_get(older[i]),
			.newer = qed_le64_get(newer[i]),
		};

		if (entry.older != entry.newer)
			ret = add_entry(undo, &entry);
	}
	return ret;
}

/*
 * Reads the record at undo->end into `bytes`, which has room for the longest,
 * and moves on: 1, 0 if there is no whole one, or -errno.
 */
static int next_record(struct qed_undo *undo, uint64_t size, uint8_t *bytes)
{
	struct undo_record head;
	uint64_t len, file_off;
	struct qed_le64 sum;
	int ret = qed_file_read(undo->file, &head, sizeof(head), undo->end);

	if (ret < 0)
		return ret;
	len = qed_le64_get(head.len);
	file_off = qed_le64_get(head.file_off);
	if (!len || len > RECORD_MAX || len % QED_ENTRY_BYTES ||
	    file_off % QED_ENTRY_BYTES || file_off > INT64_MAX ||
	    undo->end + sizeof(head) + 2 * len > size)
		return 0;
	ret = qed_file_read(undo->file, bytes, 2 * len,
			    undo->end + sizeof(head));
	if (ret < 0)
		return ret;
	sum = sum_record(&head, bytes, len);
	if (memcmp(&sum, &head.sum, sizeof(sum)) != 0)
		return 0;
	undo->end += sizeof(head) + 2 * len;
	ret = add_entries(undo, file_off, len, bytes);
	return ret < 0 ? ret : 1;
}

static int by_place(const void *a, const void *b)
{
	const struct qed_undo_entry *x = a, *y = b;

	if (x->file_off != y->file_off)
		return x->file_off < y->file_off ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int read_records(struct qed_undo *undo, uint64_t size)
{
	uint8_t *bytes = malloc(2 * RECORD_MAX);
	int ret = bytes ? 1 : -ENOMEM;

	undo->end = sizeof(struct undo_header);
	while (ret > 0)
		ret = next_record(undo, size, bytes);
	free(bytes);
	/* A record that is cut short gives way to the next one. */
	if (ret == 0)
		ret = qed_file_cut(undo->file, undo->end);
	if (ret < 0)
		return qed_undo_complain_at(undo->file, ret, "read", undo->end);
	if (undo->nentries)
		qsort(undo->entries, undo->nentries, sizeof(*undo->entries),
		      by_place);
	return 0;
}

/*
 * An interruption can leave a file without its header, or with one of zeroes:
 * then nothing has been changed yet.
 */
static int read_header(struct qed_undo *undo, struct qed_file *image,
		       uint64_t size)
{
	static const struct undo_header zero;
	struct undo_header head;
	struct qed_le64 sum;
	int ret = qed_file_read(undo->file, &head, sizeof(head), 0);

	if (ret < 0)
		return qed_undo_complain_at(undo->file, ret, "read", 0);
	if (size <= sizeof(head) && !memcmp(&head, &zero, sizeof(head)))
		return 0;
	sum = sum_header(&head);
	if (size < sizeof(head) || memcmp(&sum, &head.sum, sizeof(sum)) ||
	    memcmp(head.magic, undo_magic, sizeof(undo_magic)))
		return refuse_other(undo->file->path, image, -EUCLEAN);
	undo->image_size = qed_le64_get(head.file_size);
	undo->fingerprint = qed_le64_get(head.fingerprint);
	undo->need_check = qed_le64_get(head.need_check);
	undo->over = qed_le64_get(head.over);
	undo->begun = true;
	return 0;
}

int qed_undo_open(struct qed_undo *undo, struct qed_file *image)
{
	char *path = undo_path(image);
	uint64_t size;
	int ret = path ? open_file(undo, path, image) : -ENOMEM;

	free(path);
	if (ret < 0)
		return ret;
	ret = qed_file_size(undo->file, &size);
	if (ret < 0)
		return complain(undo, ret, "cannot get its size");
	ret = read_header(undo, image, size);
	return ret == 0 && undo->begun ? read_records(undo, size) : ret;
}

void qed_undo_close(struct qed_undo *undo)
{
	qed_file_close(undo->file);
	free(undo->entries);
	*undo = (struct qed_undo){ .file = NULL };
}

uint64_t qed_undo_find(const struct qed_undo *undo, uint64_t file_off)
{
	uint64_t low = 0, high = undo->nentries;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (undo->entries[mid].file_off < file_off)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t qed_undo_next(const struct qed_undo *undo, uint64_t i)
{
	uint64_t file_off = undo->entries[i].file_off;

	while (i < undo->nentries && undo->entries[i].file_off == file_off)
		i++;
	return i;
}

static bool has_value(const struct qed_undo *undo, uint64_t file_off,
		      uint64_t value, bool older)
{
	for (uint64_t i = qed_undo_find(undo, file_off); i < undo->nentries; i++) {
		const struct qed_undo_entry *entry = &undo->entries[i];

		if (entry->file_off != file_off)
			break;
		if (entry->newer == value || (older && entry->older == value))
			return true;
	}
	return false;
}

bool qed_undo_made(const struct qed_undo *undo, uint64_t file_off,
		   uint64_t value)
{
	return has_value(undo, file_off, value, false);
}

bool qed_undo_knows(const struct qed_undo *undo, uint64_t file_off,
		    uint64_t value)
{
	return has_value(undo, file_off, value, true);
}

/* --- writing --------------------------------------------------------------------- */

static int sync_dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) :
			    strdup(".");
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int ret = fd < 0 || (fsync(fd) < 0 && errno != EINVAL) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	free(dir);
	return ret;
}

static int write_header(struct qed_undo *undo)
{
	struct undo_header head = {
		.file_size = qed_le64_put(undo->image_size),
		.fingerprint = qed_le64_put(undo->fingerprint),
		.need_check = qed_le64_put(undo->need_check),
		.over = qed_le64_put(undo->over),
	};
	int ret;

	memcpy(head.magic, undo_magic, sizeof(undo_magic));
	head.sum = sum_header(&head);
	ret = qed_file_write(undo->file, &head, sizeof(head), 0);
	if (ret == 0)
		ret = qed_file_flush(undo->file);
	if (ret == 0)
		ret = sync_dir_of(undo->file->path);
	return ret < 0 ? qed_undo_complain_at(undo->file, ret, "write", 0) : 0;
}

int qed_undo_set_over(struct qed_undo *undo, bool over)
{
	bool before = undo->over;
	int ret;

	if (before == over)
		return 0;
	undo->over = over;
	ret = write_header(undo);
	if (ret < 0)
		undo->over = before;
	return ret;
}

static int make_file(const char *path, struct qed_file *image)
{
	int ret = unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	int fd = ret < 0 ? -1 : open(path, O_RDWR | O_CREAT | O_EXCL |
					   O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	ret = ret < 0 ? ret : -errno;
	qed_log_write(&image->log, QED_LOG_ERROR, "%s: cannot save tables "
		      "before they are changed: %s", path, strerror(-ret));
	return ret;
}

int qed_undo_create(struct qed_undo *undo, struct qed_file *image)
{
	char *path = undo_path(image);
	int ret = path ? make_file(path, image) : -ENOMEM;

	if (ret == 0)
		ret = open_file(undo, path, image);
	if (ret == 0)
		ret = write_header(undo);
	undo->end = sizeof(struct undo_header);
	undo->begun = ret == 0;
	free(path);
	return ret;
}

int qed_undo_save(struct qed_undo *undo, struct qed_file *image,
		  const void *now, uint64_t len, uint64_t file_off)
{
	struct undo_record *head = malloc(sizeof(*head) + 2 * len);
	uint8_t *bytes = (uint8_t *)(head + 1);
	int ret;

	if (!head)
		return -ENOMEM;
	ret = qed_file_read(image, bytes, len, file_off);
	if (ret < 0) {
		free(head);
		return qed_undo_complain_at(image, ret, "read a table", file_off);
	}
	memcpy(bytes + len, now, len);
	head->file_off = qed_le64_put(file_off);
	head->len = qed_le64_put(len);
	head->sum = sum_record(head, bytes, len);
	ret = qed_file_write(undo->file, head, sizeof(*head) + 2 * len,
			     undo->end);
	if (ret == 0)
		ret = qed_file_flush(undo->file);
	free(head);
	if (ret < 0)
		return qed_undo_complain_at(undo->file, ret, "write", undo->end);
	undo->end += sizeof(*head) + 2 * len;
	return 0;
}

/* --- removing -------------------------------------------------------------------- */

int qed_undo_remove(struct qed_undo *undo)
{
	const char *path = undo->file->path;
	int ret = unlink(path) < 0 ? -errno : sync_dir_of(path);

	return ret < 0 ? complain(undo, ret, "cannot remove") : 0;
}

/*
 * Reads the header of what has that name: false if there is nothing, or it was made
 * by somebody else.
 */
static bool peek_header(const struct qed_file *image, struct undo_header *head)
{
	char *path = undo_path(image);
	int fd = path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
					   O_CLOEXEC) : -1;
	bool is = fd >= 0 && read(fd, head, sizeof(*head)) == sizeof(*head) &&
		  memcmp(head->magic, undo_magic, sizeof(undo_magic)) == 0;

	if (fd >= 0)
		close(fd);
	free(path);
	return is;
}

bool qed_undo_exists(struct qed_file *image)
{
	struct undo_header head;

	return peek_header(image, &head);
}

bool qed_undo_is_pending(const struct qed_file *image, enum qed_log_level level)
{
	struct undo_header head;

	if (!peek_header(image, &head) || qed_le64_get(head.over))
		return false;
	qed_log_write(&image->log, level,
		      "%s: a repair was interrupted: finish it by "
		      "\"qedimg check -r all\", or take it back by "
		      "\"qedimg check --undo\"", image->path);
	return true;
}

int qed_undo_drop(struct qed_file *image)
{
	char *path;
	int ret;

	if (!qed_undo_exists(image))
		return 0;
	if (qed_undo_is_pending(image, QED_LOG_ERROR))
		return -EUCLEAN;
	path = undo_path(image);
	if (!path)
		return -ENOMEM;
	ret = unlink(path) < 0 ? -errno : sync_dir_of(path);
	if (ret < 0)
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s: cannot remove: %s", path, strerror(-ret));
	else
		qed_log_write(&image->log, QED_LOG_WARNING,
			      "%s: removed, as the repair cannot be undone once "
			      "clusters are moved", path);
	free(path);
	return ret;
}
