/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes new images; qed.h states the contract of qed_image_create().  Plain
 * blocking calls: nothing here is on a request's way.
 */
#include "config.h"

#include "create.h"
#include "relative.h"
#include "resize.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct creation {
	const char *path;		/* as the caller named it */
	const struct qed_newfile *newfile;
	const struct qed_create_options *options;
	struct qed_header *header;
};

/* Logs "PATH: message" and returns `err`. */
static int __attribute__((format(printf, 4, 5)))
refuse(const struct creation *c, const char *path, int err, const char *format,
       ...)
{
	va_list args;

	va_start(args, format);
	qed_refusev(&c->options->log, path, err, format, args);
	va_end(args);
	return err;
}

/* The same for a system call that failed just now: keep errno untouched. */
static int refuse_errno(const struct creation *c, const char *path,
			const char *what)
{
	int err = -errno;

	return refuse(c, path, err, "%s: %s", what, strerror(-err));
}

static int pread_full(int fd, void *buf, size_t len, off_t file_off)
{
	char *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, file_off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;	/* the caller has cleared the rest */
		p += n;
		file_off += n;
		len -= (size_t)n;
	}
	return 0;
}

/* QEMU takes what stands before a colon in the first part for a protocol. */
static bool has_protocol(const char *name)
{
	return name[strcspn(name, ":/")] == ':';
}

static const char *without_file_prefix(const char *name)
{
	return strncmp(name, "file:", 5) == 0 ? name + 5 : name;
}

static int check_backing_options(const struct creation *c)
{
	const char *name = c->options->backing;
	const char *format = c->options->backing_format;

	if (!format)
		return refuse(c, c->path, -EINVAL,
			      "backing file %s given without its format: say "
			      "raw or qed", name);
	if (strcmp(format, "raw") != 0 && strcmp(format, "qed") != 0)
		return refuse(c, c->path, -EINVAL,
			      "backing format '%s' is unknown: it must be raw "
			      "or qed", format);
	if (name == without_file_prefix(name) && has_protocol(name))
		return refuse(c, c->path, -EINVAL,
			      "backing file %s: only files can back an image, "
			      "not protocols (for a file whose name has a "
			      "colon, write ./NAME)", name);
	if (*without_file_prefix(name) == '\0')
		return refuse(c, c->path, -EINVAL,
			      "the backing file's name is empty");
	if (strlen(name) > QED_BACKING_NAME_MAX)
		return refuse(c, c->path, -EINVAL,
			      "the backing file's name has %zu bytes, the most "
			      "is %u", strlen(name), QED_BACKING_NAME_MAX);
	return 0;
}

/*
 * Where the backing name leads, seen from the new image: to be freed.  A name as
 * given counts from the path as given; one that we chose, from where the links
 * in that lead.
 */
static char *resolve_backing(const struct creation *c)
{
	const char *name = without_file_prefix(c->options->backing);
	const char *from = c->options->flags & QED_CREATE_RELATIVE ?
				   c->newfile->target :
				   c->path;
	char *path;

	if (name[0] == '/')
		return strdup(name);
	if (asprintf(&path, "%.*s%s", (int)qed_dir_len(from), from, name) < 0)
		return NULL;
	return path;
}

static int file_bytes(int fd, const struct stat *st, uint64_t *size)
{
	*size = (uint64_t)st->st_size;
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKGETSIZE64, size) < 0)
		return -errno;
	return 0;
}

/* The virtual size of an open backing file, which its format tells. */
static int backing_size(const struct creation *c, const char *path, int fd,
			const struct stat *st, uint64_t *size)
{
	uint8_t buf[QED_HEADER_BYTES] = { 0 };
	char message[QED_MESSAGE_MAX];
	struct qed_header header;
	int ret;

	ret = file_bytes(fd, st, size);
	if (ret)
		return refuse(c, path, ret, "cannot get the size: %s",
			      strerror(-ret));
	if (strcmp(c->options->backing_format, "raw") == 0)
		return 0;
	ret = pread_full(fd, buf, sizeof(buf), 0);
	if (ret)
		return refuse(c, path, ret, "cannot read: %s", strerror(-ret));
	ret = qed_header_decode(buf, *size, &header, message);
	if (ret)
		return refuse(c, path, ret, "%s", message);
	*size = header.image_size;
	return 0;
}

/* Is this the file that the new one is to replace? */
static bool is_old(const struct creation *c, const struct stat *st)
{
	const struct qed_newfile *newfile = c->newfile;

	return newfile->oldfd >= 0 && st->st_dev == newfile->old.st_dev &&
	       st->st_ino == newfile->old.st_ino;
}

/*
 * The new file must not replace one that backs the backing file.  Looks at all
 * of the chain, without locks, as nothing is read of it.
 */
static int refuse_chain(const struct creation *c, const char *path)
{
	struct qed_open_options open;
	struct qed_image *image;
	struct stat st;
	int ret;

	if (c->newfile->oldfd < 0 ||
	    strcmp(c->options->backing_format, "qed") != 0)
		return 0;
	qed_open_options_init(&open);
	open.flags = QED_OPEN_FORCE_SHARE;
	open.io = QED_IO_THREADS;
	open.log = c->options->log;
	ret = qed_image_open(path, &open, &image);
	if (ret < 0)
		return ret;
	for (unsigned i = 1; !qed_image_stat_layer(image, i, &st); i++) {
		if (!is_old(c, &st))
			continue;
		ret = refuse(c, c->path, -EINVAL,
			     "cannot be replaced: %s is based on it, by way of "
			     "%s", path, qed_image_get_path(image, i));
		break;
	}
	qed_image_close(image);
	return ret;
}

static int check_backing_file(const struct creation *c, const char *path,
			      int fd, uint64_t *size)
{
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, path, "cannot stat the backing file");
	if (S_ISDIR(st.st_mode))
		return refuse(c, path, -EISDIR,
			      "the backing file is a directory");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(c, path, -EMEDIUMTYPE,
			      "the backing file is neither a regular file nor "
			      "a block device");
	if (is_old(c, &st))
		return refuse(c, c->path, -EINVAL,
			      "an image cannot be its own backing file");
	ret = refuse_chain(c, path);
	return ret ? ret : backing_size(c, path, fd, &st, size);
}

static int probe_backing(const struct creation *c, uint64_t *size)
{
	char *path;
	int fd, ret;

	path = resolve_backing(c);
	if (!path)
		return refuse(c, c->path, -ENOMEM, "out of memory");
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		ret = refuse_errno(c, path, "cannot open the backing file");
	} else {
		ret = check_backing_file(c, path, fd, size);
		close(fd);
	}
	free(path);
	return ret;
}

/* Is this the name that the new file will have? */
static bool is_new(const struct creation *c, const char *path)
{
	const char *target = c->newfile->target;
	char *name;
	bool same;

	/* Where there is no such directory there is no new file either. */
	if (qed_relative_path(target, path, &name) < 0)
		return false;
	same = strcmp(strncmp(name, "./", 2) ? name : name + 2,
		      target + qed_dir_len(target)) == 0;
	free(name);
	return same;
}

/* Or else the backing file says what it is. */
static bool has_size(const struct qed_create_options *options)
{
	return options->virtual_size || options->flags & QED_CREATE_SIZED;
}

/* What is asked of a backing file that is not to be opened. */
static int refuse_unopened(const struct creation *c)
{
	struct stat st;
	char *path;
	bool same;

	if (!has_size(c->options))
		return refuse(c, c->path, -EINVAL,
			      "the size is missing: a backing file that is not "
			      "opened cannot give it");
	path = resolve_backing(c);
	if (!path)
		return refuse(c, c->path, -ENOMEM, "out of memory");
	same = is_new(c, path) || (stat(path, &st) == 0 && is_old(c, &st));
	free(path);
	if (same)
		return refuse(c, c->path, -EINVAL,
			      "an image cannot be its own backing file");
	return 0;
}

/* The disk's size goes to *size, if the file is opened. */
static int examine_backing(const struct creation *c, uint64_t *size)
{
	int ret = check_backing_options(c);

	if (ret)
		return ret;
	return c->options->flags & QED_CREATE_UNOPENED ?
		       refuse_unopened(c) : probe_backing(c, size);
}

static void set_backing(struct creation *c)
{
	c->header->features = QED_FEATURE_BACKING_FILE;
	if (strcmp(c->options->backing_format, "raw") == 0)
		c->header->features |= QED_FEATURE_BACKING_FORMAT_NO_PROBE;
	c->header->backing_filename_offset = QED_HEADER_BYTES;
	c->header->backing_filename_size =
		(uint32_t)strlen(c->options->backing);
}

/* All but the backing file, whose disk has `size` bytes. */
static int complete_header(struct creation *c, uint64_t size)
{
	const struct qed_create_options *options = c->options;
	char message[QED_MESSAGE_MAX];

	if (has_size(options))
		size = options->virtual_size;
	if (size > UINT64_MAX - (QED_SECTOR - 1))
		return refuse(c, c->path, -EINVAL,
			      "virtual size %" PRIu64 " is too large", size);

	c->header->cluster_size = options->cluster_size ?
		options->cluster_size : QED_CLUSTER_SIZE_DEFAULT;
	c->header->table_size = options->table_size ?
		options->table_size : QED_TABLE_SIZE_DEFAULT;
	c->header->header_size = 1;
	c->header->image_size = qed_round_up(size, QED_SECTOR);
	if (qed_header_derive(c->header, message))
		return refuse(c, c->path, -EINVAL, "%s", message);
	c->header->l1_table_offset = c->header->header_bytes;
	return 0;
}

static int make_header(struct creation *c)
{
	const struct qed_create_options *options = c->options;
	uint64_t size = 0;
	int ret;

	if (options->backing) {
		ret = examine_backing(c, &size);
		if (ret)
			return ret;
		set_backing(c);
	} else if (options->backing_format) {
		return refuse(c, c->path, -EINVAL,
			      "backing format given without a backing file");
	}
	return complete_header(c, size);
}

static struct creation begin_header(const struct qed_newfile *newfile,
				    const struct qed_create_options *options,
				    struct qed_header *header)
{
	memset(header, 0, sizeof(*header));
	return (struct creation){ .path = newfile->path,
				  .newfile = newfile,
				  .options = options,
				  .header = header };
}

int qed_create_header(const struct qed_newfile *newfile,
		      const struct qed_create_options *options,
		      struct qed_header *header)
{
	struct creation c = begin_header(newfile, options, header);

	return make_header(&c);
}

int qed_create_overlay_header(const struct qed_newfile *newfile,
			      const struct qed_create_options *options,
			      struct qed_header *header)
{
	struct creation c = begin_header(newfile, options, header);
	int ret = check_backing_options(&c);

	if (ret)
		return ret;
	set_backing(&c);
	return complete_header(&c, 0);
}

int qed_create_write_header(struct qed_file *file,
			    const struct qed_header *header,
			    const char *backing)
{
	uint8_t buf[QED_CLUSTER_SIZE_MIN] = { 0 };

	_Static_assert(sizeof(buf) > QED_HEADER_BYTES + QED_BACKING_NAME_MAX,
		       "the name has room");
	qed_header_encode(header, buf);
	if (header->features & QED_FEATURE_BACKING_FILE)
		memcpy(buf + QED_HEADER_BYTES, backing,
		       header->backing_filename_size);
	return qed_file_write(file, buf, sizeof(buf), 0);
}

int qed_create_write_empty(struct qed_newfile *newfile,
			   const struct qed_header *header,
			   const char *backing)
{
	struct qed_file *file = newfile->file;
	int ret = qed_create_write_header(file, header, backing);

	if (!ret)
		ret = qed_file_lengthen(file, header->l1_table_offset +
					    header->table_bytes);
	if (ret)
		qed_log_write(newfile->log, QED_LOG_ERROR,
			      "%s: cannot write: %s; nothing was made: %s",
			      newfile->path, strerror(-ret),
			      qed_next_step(ret));
	return ret;
}

/*
 * The image is empty still, of size 0: gives it its size as a resize does, with
 * what that preallocates.  It has no name, so messages of others' would not be
 * understood.
 */
static int preallocate(struct qed_newfile *newfile,
		       const struct qed_create_options *options, uint64_t size,
		       struct qed_engine *engine)
{
	const struct qed_resize_options resize = {
		.size = size,
		.preallocation = options->preallocation,
		.job = options->job,
	};
	struct qed_engine *share;
	char path[64];
	int ret = qed_engine_share(engine, &share);

	if (ret == 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d",
			 newfile->file->fd);
		ret = qed_image_resize_disposable(path, &resize, share);
	}
	if (ret < 0)
		qed_log_write(newfile->log, QED_LOG_ERROR,
			      "%s: cannot preallocate %" PRIu64 " bytes: %s; "
			      "nothing was made: %s", newfile->path, size,
			      strerror(-ret), qed_next_step(ret));
	return ret;
}

static int make_image(struct qed_newfile *newfile,
		      const struct qed_create_options *options,
		      struct qed_engine *engine)
{
	struct qed_header header;
	uint64_t size;
	int ret = qed_create_header(newfile, options, &header);

	if (ret == 0 && options->preallocation > QED_PREALLOCATION_FULL) {
		qed_log_write(newfile->log, QED_LOG_ERROR,
			      "%s: there is no such preallocation", newfile->path);
		return -EINVAL;
	}
	if (ret == 0 && options->preallocation && options->backing) {
		qed_log_write(newfile->log, QED_LOG_ERROR,
			      "%s: preallocated clusters would hide the backing "
			      "file: leave one of the two out", newfile->path);
		return -EINVAL;
	}
	if (ret == 0)
		ret = qed_newfile_make(newfile, engine);
	if (ret < 0)
		return ret;
	size = header.image_size;
	if (options->preallocation)
		header.image_size = 0;
	ret = qed_create_write_empty(newfile, &header, options->backing);
	if (ret == 0 && options->preallocation && size)
		ret = preallocate(newfile, options, size, engine);
	return ret;
}

/* The last moment at which it can be as if nothing had been. */
static int last_chance(const struct qed_newfile *newfile,
		       const struct qed_job *job)
{
	if (!job || !job->cancelled || !job->cancelled(job->opaque))
		return 0;
	qed_log_write(newfile->log, QED_LOG_ERROR,
		      "%s: cannot create: %s; nothing was made: %s",
		      newfile->path, strerror(ECANCELED),
		      qed_next_step(-ECANCELED));
	return -ECANCELED;
}

int qed_image_create_engine(const char *path,
			    const struct qed_create_options *given,
			    struct qed_engine *engine)
{
	struct qed_create_options options = *given;
	struct qed_newfile newfile;
	char *relative = NULL;
	int ret = qed_newfile_begin(&newfile, path, &options.log);

	if (!ret && options.backing && options.flags & QED_CREATE_RELATIVE) {
		ret = qed_relative_path(newfile.target,
					without_file_prefix(options.backing),
					&relative);
		options.backing = relative;
		if (ret)
			qed_log_write(&options.log, QED_LOG_ERROR,
				      "%s: cannot find it or its directory: %s",
				      given->backing, strerror(-ret));
	}
	if (!ret)
		ret = make_image(&newfile, &options, engine);
	if (!ret)
		ret = last_chance(&newfile, options.job);
	if (!ret)
		ret = qed_newfile_publish(&newfile, true);
	qed_newfile_end(&newfile);
	qed_engine_destroy(engine);
	free(relative);
	return ret;
}

int qed_image_create(const char *path,
		     const struct qed_create_options *options)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(QED_IO_THREADS, path, &options->log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_create_engine(path, options, engine);
}
