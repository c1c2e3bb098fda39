/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Saving what a repair changes; undo.h states the contracts and the layout. */
#include "config.h"

#include "format.h"
#include "undo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct undo_header {
	uint8_t magic[8];
	struct qed_le64 file_size;	/* of the image before the repair */
};

struct undo_record {
	struct qed_le64 file_off;
	struct qed_le64 len;
	struct qed_le64 sum;		/* of all of the record but this */
};

#define RECORD_MAX (UINT64_C(1) << 20)

static const uint8_t undo_magic[8] = "QEDUNDO";

/* A record in memory: its place, and both sets of bytes in one buffer. */
struct record {
	uint64_t file_off, len;
	uint8_t *older, *newer;
};

static int complain(const struct qed_undo *undo, int err, const char *what)
{
	qed_log_write(&undo->file->log, QED_LOG_ERROR, "%s: %s: %s",
		      undo->file->path, what, strerror(-err));
	return err;
}

/* About one of the two files. */
static int complain_at(const struct qed_file *file, int err, const char *what,
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

static struct qed_le64 sum_record(const struct undo_record *head,
				  const uint8_t *bytes, uint64_t len)
{
	uint64_t sum = UINT64_C(14695981039346656037);

	sum = sum_bytes(sum, &head->file_off, sizeof(head->file_off));
	sum = sum_bytes(sum, &head->len, sizeof(head->len));
	return qed_le64_put(sum_bytes(sum, bytes, 2 * len));
}

static char *undo_path(const struct qed_file *image)
{
	char *path;

	return asprintf(&path, "%s.check-undo", image->path) < 0 ? NULL : path;
}

/* No link, nothing but a regular file: it may lie where others can write. */
static int check_kind(const char *path, const struct qed_file *image)
{
	struct stat st;
	int ret = lstat(path, &st) < 0 ? -errno : 0;

	if (ret == 0 && !S_ISREG(st.st_mode))
		ret = -EEXIST;
	if (ret < 0)
		qed_log_write(&image->log, QED_LOG_ERROR, "%s: %s", path,
			      ret == -EEXIST ? "not a regular file" :
						    strerror(-ret));
	return ret;
}

static int open_existing(struct qed_undo *undo, const char *path,
			 struct qed_file *image)
{
	int ret = check_kind(path, image);

	if (ret < 0)
		return ret;
	return qed_file_open(path, true, image->engine, &image->log,
			     &undo->file);
}

static void record_free(struct record *record)
{
	free(record->older);
	record->older = record->newer = NULL;
}

/*
 * Reads the record at undo->end and moves on: 1, 0 if there is no whole one, or
 * -errno.  On 1 the caller frees *record.
 */
static int next_record(struct qed_undo *undo, struct record *record)
{
	struct undo_record head;
	uint64_t size, len;
	struct qed_le64 sum;
	int ret = qed_file_size(undo->file, &size);

	if (ret == 0)
		ret = qed_file_read(undo->file, &head, sizeof(head), undo->end);
	if (ret < 0)
		return ret;
	len = qed_le64_get(head.len);
	if (!len || len > RECORD_MAX ||
	    undo->end + sizeof(head) + 2 * len > size)
		return 0;
	record->file_off = qed_le64_get(head.file_off);
	record->len = len;
	record->older = malloc(2 * len);
	if (!record->older)
		return -ENOMEM;
	record->newer = record->older + len;
	ret = qed_file_read(undo->file, record->older, 2 * len,
			    undo->end + sizeof(head));
	sum = sum_record(&head, record->older, len);
	if (ret < 0 || memcmp(&sum, &head.sum, sizeof(sum)) != 0) {
		record_free(record);
		return ret;
	}
	undo->end += sizeof(head) + 2 * len;
	return 1;
}

/*
 * An interruption can leave a file without its header, or with one of zeroes:
 * then nothing has been changed yet.  *image_size is 0 for such a file.
 */
static int read_header(struct qed_undo *undo, uint64_t *image_size)
{
	static const struct undo_header zero;
	struct undo_header head;
	uint64_t size;
	int ret = qed_file_size(undo->file, &size);

	*image_size = 0;
	undo->end = sizeof(head);
	if (ret == 0)
		ret = qed_file_read(undo->file, &head, sizeof(head), 0);
	if (ret == 0 && size <= sizeof(head) &&
	    (size < sizeof(head) || !memcmp(&head, &zero, sizeof(head))))
		return 0;
	if (ret == 0 && memcmp(head.magic, undo_magic, sizeof(undo_magic)))
		ret = -EUCLEAN;
	if (ret < 0)
		return complain(undo, ret, "not a check's undo file");
	*image_size = qed_le64_get(head.file_size);
	return 0;
}

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

static int write_header(struct qed_undo *undo, struct qed_file *image)
{
	struct undo_header head;
	uint64_t size;
	int ret = qed_file_size(image, &size);

	memcpy(head.magic, undo_magic, sizeof(undo_magic));
	head.file_size = qed_le64_put(size);
	if (ret == 0)
		ret = qed_file_write(undo->file, &head, sizeof(head), 0);
	if (ret == 0)
		ret = qed_file_flush(undo->file);
	if (ret == 0)
		ret = sync_dir_of(undo->file->path);
	undo->end = sizeof(head);
	return ret < 0 ? complain(undo, ret, "cannot write") : 0;
}

/* Behind what an earlier repair has saved, if it has got so far. */
static int continue_file(struct qed_undo *undo, struct qed_file *image)
{
	struct record record;
	uint64_t size;
	int ret = read_header(undo, &size);

	if (ret < 0 || !size)
		return ret < 0 ? ret : write_header(undo, image);
	while ((ret = next_record(undo, &record)) > 0)
		record_free(&record);
	if (ret == 0)
		ret = qed_file_cut(undo->file, undo->end);
	return ret < 0 ? complain(undo, ret, "cannot continue") : 0;
}

int qed_undo_open(struct qed_undo *undo, struct qed_file *image)
{
	char *path = undo_path(image);
	int ret = -ENOMEM, fd;

	if (!path)
		return ret;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		  0600);
	if (fd < 0 && errno != EEXIST) {
		ret = -errno;
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s: cannot save tables before they are "
			      "changed: %s", path, strerror(-ret));
		goto out;
	}
	if (fd >= 0)
		close(fd);
	ret = open_existing(undo, path, image);
	if (ret == 0)
		ret = continue_file(undo, image);
out:
	free(path);
	return ret;
}

void qed_undo_close(struct qed_undo *undo)
{
	qed_file_close(undo->file);
	undo->file = NULL;
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
		return complain_at(image, ret, "read a table", file_off);
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
		return complain_at(undo->file, ret, "write", undo->end);
	undo->end += sizeof(*head) + 2 * len;
	return 0;
}

/* All records, the oldest first. */
struct records {
	struct record *list;
	size_t n, max;
};

static int load_records(struct qed_undo *undo, struct records *all)
{
	int ret = 1;

	while (ret > 0) {
		if (all->n == all->max) {
			size_t max = all->max * 2 + 16;
			struct record *list =
				realloc(all->list, max * sizeof(*list));

			if (!list)
				return -ENOMEM;
			all->list = list;
			all->max = max;
		}
		ret = next_record(undo, &all->list[all->n]);
		all->n += ret > 0;
	}
	return ret;
}

static bool changed_later(const struct records *all, size_t i)
{
	for (size_t j = i + 1; j < all->n; j++)
		if (qed_ranges_overlap(all->list[i].file_off, all->list[i].len,
				       all->list[j].file_off, all->list[j].len))
			return true;
	return false;
}

/* Is `now` what one of the records has for that place, before or after? */
static bool is_known(const struct records *all, const uint8_t *now,
		     uint64_t file_off, uint64_t len)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct record *r = &all->list[i];
		uint64_t at = file_off - r->file_off;

		if (file_off < r->file_off || r->len < len ||
		    at > r->len - len)
			continue;
		if (!memcmp(now, r->newer + at, len) ||
		    !memcmp(now, r->older + at, len))
			return true;
	}
	return false;
}

/* An undo that was interrupted has put back any of the entries, not all. */
static bool fits(const struct records *all, const struct record *r,
		 const uint8_t *now)
{
	if (!memcmp(now, r->newer, r->len) || !memcmp(now, r->older, r->len))
		return true;
	for (uint64_t at = 0; at < r->len; at += QED_ENTRY_BYTES)
		if (!is_known(all, now + at, r->file_off + at,
			      qed_min(QED_ENTRY_BYTES, r->len - at)))
			return false;
	return true;
}

static int refuse_changed(const struct qed_undo *undo,
			  const struct qed_file *image)
{
	qed_log_write(&image->log, QED_LOG_ERROR,
		      "%s: has been changed since the repair: %s does not fit "
		      "it any more", image->path, undo->file->path);
	return -ESTALE;
}

/* Does the image hold what the repair left, or an interrupted undo? */
static int check_records(const struct qed_undo *undo, struct qed_file *image,
			 const struct records *all)
{
	uint8_t *now = malloc(RECORD_MAX);
	int ret = now ? 0 : complain(undo, -ENOMEM, "cannot undo the repair");

	for (size_t i = 0; ret == 0 && i < all->n; i++) {
		const struct record *r = &all->list[i];

		if (changed_later(all, i))
			continue;
		ret = qed_file_read(image, now, r->len, r->file_off);
		if (ret < 0)
			complain_at(image, ret, "read a table", r->file_off);
		else if (!fits(all, r, now))
			ret = refuse_changed(undo, image);
	}
	free(now);
	return ret;
}

static int put_back(struct qed_file *image, const struct records *all,
		    uint64_t size)
{
	int ret = qed_file_lengthen(image, size);

	if (ret < 0)
		return complain_at(image, ret, "get its end back", size);
	for (size_t i = all->n; i-- > 0;) {
		const struct record *r = &all->list[i];

		ret = qed_file_write(image, r->older, r->len, r->file_off);
		if (ret < 0)
			return complain_at(image, ret, "write", r->file_off);
	}
	ret = qed_file_flush(image);
	if (ret < 0)
		qed_log_write(&image->log, QED_LOG_ERROR, "%s: cannot sync: %s",
			      image->path, strerror(-ret));
	return ret;
}

static int apply(struct qed_undo *undo, struct qed_file *image)
{
	struct records all = { .n = 0 };
	uint64_t size;
	int ret = read_header(undo, &size);

	if (ret < 0)
		return ret;
	ret = load_records(undo, &all);
	if (ret < 0)
		complain_at(undo->file, ret, "read", undo->end);
	if (ret == 0)
		ret = check_records(undo, image, &all);
	if (ret == 0)
		ret = put_back(image, &all, size);
	for (size_t i = 0; i < all.n; i++)
		record_free(&all.list[i]);
	free(all.list);
	return ret;
}

int qed_undo_apply(struct qed_file *image)
{
	struct qed_undo undo = { .file = NULL };
	char *path = undo_path(image);
	int ret = -ENOMEM;

	if (!path)
		return ret;
	ret = open_existing(&undo, path, image);
	if (ret == 0)
		ret = apply(&undo, image);
	if (ret == 0 && unlink(path) < 0) {
		ret = -errno;
		complain(&undo, ret, "cannot remove");
	}
	qed_undo_close(&undo);
	free(path);
	return ret;
}

/* What has that name and is none was made by somebody else. */
static bool is_undo_file(const char *path)
{
	uint8_t magic[sizeof(undo_magic)];
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool is = fd >= 0 && read(fd, magic, sizeof(magic)) == sizeof(magic) &&
		  memcmp(magic, undo_magic, sizeof(magic)) == 0;

	if (fd >= 0)
		close(fd);
	return is;
}

int qed_undo_drop(struct qed_file *image)
{
	char *path = undo_path(image);
	int ret = 0;

	if (!path)
		return -ENOMEM;
	if (!is_undo_file(path))
		goto out;
	ret = unlink(path) < 0 ? -errno : sync_dir_of(path);
	if (ret < 0)
		qed_log_write(&image->log, QED_LOG_ERROR,
			      "%s: cannot remove: %s", path, strerror(-ret));
	else
		qed_log_write(&image->log, QED_LOG_WARNING,
			      "%s: removed, as the repair cannot be undone once "
			      "clusters are moved", path);
out:
	free(path);
	return ret;
}
