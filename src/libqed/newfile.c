/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "lock.h"
#include "newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TEMP_ATTEMPTS 64
#define ACL           "system.posix_acl_access"
#define ACL_MAX       4096
#define FD_NAME_MAX   32

static int __attribute__((format(printf, 3, 4)))
refuse(const struct qed_newfile *n, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	qed_refusev(n->log, n->path, err, format, args);
	va_end(args);
	return err;
}

/* The same for a system call that failed just now: keep errno untouched. */
static int refuse_errno(const struct qed_newfile *n, const char *what)
{
	int err = -errno;

	return refuse(n, err, "%s: %s", what, strerror(-err));
}

size_t qed_dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/*
 * Stores the target's real path.  An existing file's symlinks are followed, as
 * a rename over a link would replace the link and leave the image as it was.
 */
static int resolve_target(struct qed_newfile *n)
{
	struct stat st;

	n->target = realpath(n->path, NULL);
	if (n->target)
		return 0;
	if (errno != ENOENT)
		return refuse_errno(n, "cannot create");
	if (lstat(n->path, &st) == 0)
		return refuse(n, -ENOENT,
			      "cannot create through a dangling symbolic link");
	n->target = strdup(n->path);
	return n->target ? 0 : refuse(n, -ENOMEM, "out of memory");
}

static int open_target_dir(struct qed_newfile *n)
{
	size_t len = qed_dir_len(n->target);
	char *dir;

	n->name = n->target + len;
	if (n->name[0] == '\0')
		return refuse(n, *n->path ? -EISDIR : -ENOENT,
			      "cannot create: this is no file name");
	dir = len ? strndup(n->target, len) : strdup(".");
	if (!dir)
		return refuse(n, -ENOMEM, "out of memory");
	n->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(dir);
	if (n->dirfd < 0)
		return refuse_errno(n, "cannot open its directory");
	return 0;
}

/* Anything but a regular file that nobody uses stays where it is. */
static int check_old(struct qed_newfile *n)
{
	if (fstatat(n->dirfd, n->name, &n->old, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT)
			return 0;
		return refuse_errno(n, "cannot stat");
	}
	if (S_ISDIR(n->old.st_mode))
		return refuse(n, -EISDIR,
			      "cannot create: a directory is in the way");
	if (!S_ISREG(n->old.st_mode))
		return refuse(n, -EINVAL,
			      "cannot create: this is a device or special "
			      "file, only a regular file can be replaced");
	n->oldfd = openat(n->dirfd, n->name,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (n->oldfd < 0)
		return refuse_errno(n, "cannot open the file to be replaced");
	if (fstat(n->oldfd, &n->old) < 0)
		return refuse_errno(n, "cannot stat");
	return qed_lock_take(n->oldfd, true, n->path, n->log);
}

int qed_newfile_begin(struct qed_newfile *newfile, const char *path,
		      const struct qed_log *log)
{
	int ret;

	*newfile = (struct qed_newfile){
		.path = path, .log = log, .oldfd = -1, .dirfd = -1
	};
	ret = resolve_target(newfile);
	if (!ret)
		ret = open_target_dir(newfile);
	if (!ret)
		ret = check_old(newfile);
	return ret;
}

static int choose_temp(struct qed_newfile *n)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
		return -errno;
	snprintf(n->temp, sizeof(n->temp), ".qed-%016" PRIx64, number);
	return 0;
}

/*
 * The umask alone decides about a file that is new.  One that takes another's
 * place may hold what that one kept from others: that is for take_access().
 */
static mode_t first_mode(const struct qed_newfile *n)
{
	return n->oldfd < 0 ? 0666 : 0600;
}

/* Tries names until one is free: what `attempt` returns, or -errno. */
static int under_temp_name(struct qed_newfile *n,
			   int (*attempt)(const struct qed_newfile *n))
{
	for (int i = 0; i < TEMP_ATTEMPTS; i++) {
		int ret = choose_temp(n);

		if (ret == 0)
			ret = attempt(n);
		if (ret >= 0)
			return ret;
		n->temp[0] = '\0';
		if (ret != -EEXIST)
			return ret;
	}
	return -EEXIST;
}

static int open_temp(const struct qed_newfile *n)
{
	/* Not mkstemp(), which has a mode of its own. */
	int fd = openat(n->dirfd, n->temp,
			O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			first_mode(n));

	return fd < 0 ? -errno : fd;
}

/* The name by which linkat(2) can take a file that has none. */
static void name_fd(int fd, char name[FD_NAME_MAX])
{
	snprintf(name, FD_NAME_MAX, "/proc/self/fd/%d", fd);
}

/* A file without a name is gone even if we are killed. */
static int open_nameless(const struct qed_newfile *n)
{
	int fd = openat(n->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC,
			first_mode(n));
	char name[FD_NAME_MAX];

	if (fd < 0)
		return -errno;
	name_fd(fd, name);
	if (access(name, F_OK) == 0)
		return fd;
	/* Without /proc, as below some chroot(2), it would never get one. */
	close(fd);
	return -EOPNOTSUPP;
}

static int open_new(struct qed_newfile *n)
{
	int ret = open_nameless(n);

	/* EISDIR: a kernel without it; EINVAL, ENOENT: some file systems. */
	if (ret != -EOPNOTSUPP && ret != -EISDIR && ret != -EINVAL &&
	    ret != -ENOENT)
		return ret;
	return under_temp_name(n, open_temp);
}

int qed_newfile_begin_exclusive(struct qed_newfile *newfile, const char *path,
				const struct qed_log *log)
{
	*newfile = (struct qed_newfile){ .path = path,
					 .log = log,
					 .exclusive = true,
					 .oldfd = -1,
					 .dirfd = -1,
					 .target = strdup(path) };
	if (!newfile->target)
		return refuse(newfile, -ENOMEM, "out of memory");
	return open_target_dir(newfile);
}

int qed_newfile_make(struct qed_newfile *newfile, struct qed_engine *engine)
{
	int ret = open_new(newfile);

	if (ret < 0)
		return refuse(newfile, ret, "cannot create: %s",
			      strerror(-ret));
	return qed_file_adopt(ret, newfile->path, engine, newfile->log,
			      &newfile->file);
}

/* True if it has the old file's group now, whosever it is. */
static bool take_owner(const struct qed_newfile *n, const struct stat *old)
{
	int fd = n->file->fd;
	struct stat now;

	if (fchown(fd, old->st_uid, old->st_gid) == 0 ||
	    fchown(fd, (uid_t)-1, old->st_gid) == 0)
		return true;
	return fstat(fd, &now) == 0 && now.st_gid == old->st_gid;
}

/* The old file's ACL, or that it has none; false if there is one to do without. */
static bool take_acl(const struct qed_newfile *n, bool same_group)
{
	char acl[ACL_MAX];
	ssize_t len = fgetxattr(n->oldfd, ACL, acl, sizeof(acl));

	if (len > 0)
		return same_group &&
		       fsetxattr(n->file->fd, ACL, acl, (size_t)len, 0) == 0;
	if (errno == ERANGE)
		return false;
	/* The directory may have given it one. */
	fremovexattr(n->file->fd, ACL);
	return true;
}

/*
 * What the old file permits, or less, where not all of it can be had: nobody
 * but the new one's owner may come by more than before.  Members of the old
 * group can be others now, and the other way round.
 */
static mode_t permitted(const struct qed_newfile *n, const struct stat *old)
{
	bool same_group = take_owner(n, old);
	mode_t mode = old->st_mode & 0777;

	if (!take_acl(n, same_group))
		mode = 0;
	else if (!same_group)
		mode &= 0700 | (mode & 07) << 3 | (mode & 070) >> 3;
	return mode | 0600;
}

/* Before it has the old file's name, and after its owner, as chown(2) clears bits. */
static void take_access(const struct qed_newfile *n)
{
	struct stat old, now;
	mode_t mode;

	if (fstat(n->oldfd, &old) < 0)
		return;
	mode = permitted(n, &old);
	if (fstat(n->file->fd, &now) == 0 && (now.st_mode & 07777) == mode)
		return;
	if (fchmod(n->file->fd, mode) < 0)
		qed_log_write(n->log, QED_LOG_WARNING,
			      "%s: cannot keep the permissions of the file that "
			      "it replaces: %s", n->path, strerror(errno));
}

static int link_as(const struct qed_newfile *n, const char *name)
{
	char from[FD_NAME_MAX];

	name_fd(n->file->fd, from);
	return linkat(AT_FDCWD, from, n->dirfd, name, AT_SYMLINK_FOLLOW) < 0 ?
		       -errno : 0;
}

static int link_temp(const struct qed_newfile *n)
{
	return link_as(n, n->temp);
}

/* A link cannot replace a file, so it goes by a name beside it. */
static int take_name(struct qed_newfile *n)
{
	int ret = n->temp[0] ? 0 : under_temp_name(n, link_temp);

	if (ret == 0 && renameat(n->dirfd, n->temp, n->dirfd, n->name) < 0)
		ret = -errno;
	if (ret == 0)
		n->temp[0] = '\0';
	return ret;
}

/* Each of these calls fails with EEXIST where something has the name. */
static int take_free_name(struct qed_newfile *n)
{
	if (!n->temp[0])
		return link_as(n, n->name);
	if (renameat2(n->dirfd, n->temp, n->dirfd, n->name,
		      RENAME_NOREPLACE) < 0) {
		/* EINVAL: some file systems, such as NFS. */
		if (errno != EINVAL && errno != ENOSYS)
			return -errno;
		if (linkat(n->dirfd, n->temp, n->dirfd, n->name, 0) < 0)
			return -errno;
		unlinkat(n->dirfd, n->temp, 0);
	}
	n->temp[0] = '\0';
	return 0;
}

int qed_newfile_publish(struct qed_newfile *newfile, bool durable)
{
	struct qed_newfile *n = newfile;
	int ret;

	if (n->oldfd >= 0)
		take_access(n);
	ret = durable ? qed_file_flush(n->file) : 0;
	if (ret < 0)
		return refuse(n, ret, "cannot sync: %s; nothing was made: %s",
			      strerror(-ret), qed_next_step(ret));
	ret = n->exclusive ? take_free_name(n) : take_name(n);
	if (ret == -EEXIST && n->exclusive)
		return ret;
	if (ret < 0)
		return refuse(n, ret, "cannot name it: %s", strerror(-ret));
	/* EINVAL: a file system that does not sync directories. */
	if (durable && fsync(n->dirfd) < 0 && errno != EINVAL)
		return refuse_errno(n, "is complete, but a power cut may take "
				       "its name away: cannot sync its "
				       "directory");
	return 0;
}

void qed_newfile_end(struct qed_newfile *newfile)
{
	if (newfile->temp[0])
		unlinkat(newfile->dirfd, newfile->temp, 0);
	qed_file_close(newfile->file);
	if (newfile->oldfd >= 0)
		close(newfile->oldfd);	/* drops the lock */
	if (newfile->dirfd >= 0)
		close(newfile->dirfd);
	free(newfile->target);
}
