/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Makes new images; qed.h states the contract of qed_image_create().
 *
 * The image is written under a temporary name in the target's directory, made
 * durable, and only then renamed over the target: whoever looks, whenever the
 * power goes, sees the old file or the whole new image.  The target's directory
 * is held open throughout, so that all names are resolved in the same place.
 *
 * Plain blocking calls: nothing here is on a request's way.
 */
#include "config.h"

#include "format.h"
#include "lock.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#define TEMP_ATTEMPTS 64
#define TEMP_NAME_MAX 32

struct creation {
	const char *path;		/* as the caller named it */
	const struct qed_create_options *options;
	struct qed_header header;

	int dirfd;			/* the target's directory */
	char *target;			/* the path with symlinks followed */
	const char *name;		/* its last part, inside `target` */
	int oldfd;			/* what it replaces, locked, or -1 */
	struct stat old;		/* valid with oldfd */

	char temp[TEMP_NAME_MAX];	/* in dirfd; "" if there is none */
};

/* Logs "PATH: message" and returns `err`. */
static int __attribute__((format(printf, 4, 5)))
refuse(const struct creation *c, const char *path, int err, const char *format,
       ...)
{
	char *text;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		text = NULL;
	qed_log_write(&c->options->log, QED_LOG_ERROR, "%s: %s", path,
		      text ? text : strerror(-err));
	free(text);
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

static int pwrite_full(int fd, const void *buf, size_t len, off_t file_off)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, file_off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		file_off += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The length of the directory part of a path, its last slash included. */
static size_t dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/*
 * Stores the target's real path.  An existing file's symlinks are followed, as
 * a rename over a link would replace the link and leave the image as it was.
 */
static int resolve_target(struct creation *c)
{
	struct stat st;

	c->target = realpath(c->path, NULL);
	if (c->target)
		return 0;
	if (errno != ENOENT)
		return refuse_errno(c, c->path, "cannot create");
	if (lstat(c->path, &st) == 0)
		return refuse(c, c->path, -ENOENT,
			      "cannot create through a dangling symbolic link");
	c->target = strdup(c->path);
	return c->target ? 0 : refuse(c, c->path, -ENOMEM, "out of memory");
}

static int open_target_dir(struct creation *c)
{
	size_t len = dir_len(c->target);
	char *dir;

	c->name = c->target + len;
	if (c->name[0] == '\0')
		return refuse(c, c->path, *c->path ? -EISDIR : -ENOENT,
			      "cannot create: this is no file name");
	dir = len ? strndup(c->target, len) : strdup(".");
	if (!dir)
		return refuse(c, c->path, -ENOMEM, "out of memory");
	c->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (c->dirfd < 0)
		return refuse_errno(c, c->path, "cannot open its directory");
	return 0;
}

/* Anything but a regular file that nobody uses stays where it is. */
static int check_old(struct creation *c)
{
	if (fstatat(c->dirfd, c->name, &c->old, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		return refuse_errno(c, c->path, "cannot stat");
	}
	if (S_ISDIR(c->old.st_mode))
		return refuse(c, c->path, -EISDIR,
			      "cannot create: a directory is in the way");
	if (!S_ISREG(c->old.st_mode))
		return refuse(c, c->path, -EINVAL,
			      "cannot create: this is a device or special "
			      "file, only a regular file can be replaced");
	c->oldfd = openat(c->dirfd, c->name,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (c->oldfd < 0)
		return refuse_errno(c, c->path,
				    "cannot open the file to be replaced");
	if (fstat(c->oldfd, &c->old) < 0)
		return refuse_errno(c, c->path, "cannot stat");
	return qed_lock_take(c->oldfd, true, c->path, &c->options->log);
}

static int choose_target(struct creation *c)
{
	int ret;

	ret = resolve_target(c);
	if (!ret)
		ret = open_target_dir(c);
	if (!ret)
		ret = check_old(c);
	return ret;
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

/* Where the backing name leads, seen from the new image: to be freed. */
static char *resolve_backing(const struct creation *c)
{
	const char *name = without_file_prefix(c->options->backing);
	char *path;

	if (name[0] == '/')
		return strdup(name);
	if (asprintf(&path, "%.*s%s", (int)dir_len(c->path), c->path,
		     name) < 0)
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

static int check_backing_file(const struct creation *c, const char *path,
			      int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return refuse_errno(c, path, "cannot stat the backing file");
	if (S_ISDIR(st.st_mode))
		return refuse(c, path, -EISDIR,
			      "the backing file is a directory");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(c, path, -EMEDIUMTYPE,
			      "the backing file is neither a regular file nor "
			      "a block device");
	if (c->oldfd >= 0 && st.st_dev == c->old.st_dev &&
	    st.st_ino == c->old.st_ino)
		return refuse(c, c->path, -EINVAL,
			      "an image cannot be its own backing file");
	return backing_size(c, path, fd, &st, size);
}

static int probe_backing(const struct creation *c, uint64_t *size)
{
	char *path;
	int fd, ret;

	ret = check_backing_options(c);
	if (ret)
		return ret;
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

static void set_backing(struct creation *c)
{
	c->header.features = QED_FEATURE_BACKING_FILE;
	if (strcmp(c->options->backing_format, "raw") == 0)
		c->header.features |= QED_FEATURE_BACKING_FORMAT_NO_PROBE;
	c->header.backing_filename_offset = QED_HEADER_BYTES;
	c->header.backing_filename_size =
		(uint32_t)strlen(c->options->backing);
}

static int make_header(struct creation *c)
{
	const struct qed_create_options *options = c->options;
	char message[QED_MESSAGE_MAX];
	uint64_t size = 0;

	if (options->backing) {
		int ret = probe_backing(c, &size);

		if (ret)
			return ret;
		set_backing(c);
	} else if (options->backing_format) {
		return refuse(c, c->path, -EINVAL,
			      "backing format given without a backing file");
	}
	if (options->virtual_size)
		size = options->virtual_size;
	if (size > UINT64_MAX - (QED_SECTOR - 1))
		return refuse(c, c->path, -EINVAL,
			      "virtual size %" PRIu64 " is too large", size);

	c->header.cluster_size = options->cluster_size ?
		options->cluster_size : QED_CLUSTER_SIZE_DEFAULT;
	c->header.table_size = options->table_size ?
		options->table_size : QED_TABLE_SIZE_DEFAULT;
	c->header.header_size = 1;
	c->header.image_size = qed_round_up(size, QED_SECTOR);
	if (qed_header_derive(&c->header, message))
		return refuse(c, c->path, -EINVAL, "%s", message);
	c->header.l1_table_offset = c->header.header_bytes;
	return 0;
}

/* Opens a new file under a name nobody has: the descriptor or -errno. */
static int open_temp(struct creation *c)
{
	uint64_t number;

	for (int i = 0; i < TEMP_ATTEMPTS; i++) {
		int fd;

		if (getrandom(&number, sizeof(number), 0) !=
		    (ssize_t)sizeof(number))
			return -errno;
		snprintf(c->temp, sizeof(c->temp), ".qed-%016" PRIx64, number);
		/* Not mkstemp(): the umask alone decides about the mode. */
		fd = openat(c->dirfd, c->temp,
			    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0666);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			break;
	}
	c->temp[0] = '\0';
	return -errno;
}

/* Header, backing name, and an L1 table of zeroes; durable on return. */
static int write_image(const struct creation *c, int fd)
{
	const struct qed_header *h = &c->header;
	uint8_t buf[QED_HEADER_BYTES + QED_BACKING_NAME_MAX];
	size_t len = QED_HEADER_BYTES;
	int ret;

	qed_header_encode(h, buf);
	if (h->features & QED_FEATURE_BACKING_FILE) {
		memcpy(buf + len, c->options->backing,
		       h->backing_filename_size);
		len += h->backing_filename_size;
	}
	ret = pwrite_full(fd, buf, len, 0);
	if (ret)
		return ret;
	if (ftruncate(fd, (off_t)(h->l1_table_offset + h->table_bytes)) < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_temp(struct creation *c)
{
	int fd, ret;

	fd = open_temp(c);
	if (fd < 0)
		return refuse(c, c->path, fd, "cannot create: %s",
			      strerror(-fd));
	ret = write_image(c, fd);
	if (close(fd) < 0 && !ret)
		ret = -errno;
	if (ret)
		return refuse(c, c->path, ret, "cannot write: %s",
			      strerror(-ret));
	return 0;
}

static int publish(struct creation *c)
{
	if (renameat(c->dirfd, c->temp, c->dirfd, c->name) < 0)
		return refuse_errno(c, c->path, "cannot move into place");
	c->temp[0] = '\0';
	/* EINVAL: a file system that does not sync directories. */
	if (fsync(c->dirfd) < 0 && errno != EINVAL)
		return refuse_errno(c, c->path, "cannot sync its directory");
	return 0;
}

int qed_image_create(const char *path,
		     const struct qed_create_options *options)
{
	struct creation c = {
		.path = path,
		.options = options,
		.dirfd = -1,
		.oldfd = -1,
	};
	int ret;

	ret = choose_target(&c);
	if (!ret)
		ret = make_header(&c);
	if (!ret)
		ret = write_temp(&c);
	if (!ret)
		ret = publish(&c);

	if (c.temp[0])
		unlinkat(c.dirfd, c.temp, 0);
	if (c.oldfd >= 0)
		close(c.oldfd);	/* drops the lock */
	if (c.dirfd >= 0)
		close(c.dirfd);
	free(c.target);
	return ret;
}
