/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "outfile.h"
#include "qedimg.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define TEMP_NAME ".qed-%016" PRIx64	/* as of images in the making */
#define TEMP_NAME_MAX 32

static bool in_chain(struct qed_image *image, const struct stat *st)
{
	struct stat own;
	const char *path;

	for (unsigned i = 0; (path = qed_image_get_path(image, i)); i++)
		if (stat(path, &own) == 0 && own.st_dev == st->st_dev &&
		    own.st_ino == st->st_ino)
			return true;
	return false;
}

static bool is_stdout(const struct stat *st)
{
	struct stat own;

	return fstat(STDOUT_FILENO, &own) == 0 && own.st_dev == st->st_dev &&
	       own.st_ino == st->st_ino;
}

/* A name that the user gave, or the end of the links that it stands for. */
static bool find_target(struct qedimg_outfile *o)
{
	size_t dir;
	char *slash;
	uint64_t number;
	struct stat st;

	if (!o->replaces && lstat(o->name, &st) == 0) {
		qedimg_error(o->name, "cannot create through a dangling symbolic"
			     " link");
		return false;
	}
	o->target = o->replaces ? realpath(o->name, NULL) : strdup(o->name);
	o->temp = o->target ? malloc(strlen(o->target) + TEMP_NAME_MAX) : NULL;
	if (!o->temp ||
	    getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number)) {
		qedimg_error(o->name, "cannot create: %s", strerror(errno));
		return false;
	}
	slash = strrchr(o->target, '/');
	dir = slash ? (size_t)(slash - o->target) + 1 : 0;
	memcpy(o->temp, o->target, dir);
	snprintf(o->temp + dir, TEMP_NAME_MAX, TEMP_NAME, number);
	return true;
}

/* What the old file permits; where its group cannot be had, what all others had. */
static void take_access(const struct qedimg_outfile *o)
{
	mode_t mode = o->old.st_mode & 0777;

	if (fchown(o->fd, o->old.st_uid, o->old.st_gid) < 0 &&
	    fchown(o->fd, (uid_t)-1, o->old.st_gid) < 0)
		mode &= 0700 | (mode & 07) << 3 | (mode & 070) >> 3;
	if (fchmod(o->fd, mode | 0600) < 0)
		qedimg_error(o->name, "cannot keep its permissions: %s",
			     strerror(errno));
}

/* Signals that end the program wait for the moment that it takes. */
static void hold_signals(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, old);
}

static bool open_temp(struct qedimg_outfile *o)
{
	if (!find_target(o))
		return false;
	hold_signals(&o->mask);
	o->fd = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		     o->replaces ? 0600 : 0666);
	if (o->fd < 0) {
		qedimg_error(o->name, "cannot create: %s", strerror(errno));
		sigprocmask(SIG_SETMASK, &o->mask, NULL);
		return false;
	}
	o->made = true;
	if (o->replaces)
		take_access(o);
	return true;
}

/*
 * Only a regular file is replaced: a pipe or device is written, and so is what
 * standard output goes to, whose other users would not see the new file.  False
 * after a message.
 */
static bool open_outfile(struct qedimg_outfile *o, struct qed_image *image)
{
	o->fd = open(o->name, O_WRONLY | O_CLOEXEC);
	if (o->fd < 0 && errno == ENOENT)
		return open_temp(o);
	if (o->fd < 0 || fstat(o->fd, &o->old) < 0) {
		qedimg_error(o->name, "cannot open: %s", strerror(errno));
		return false;
	}
	if (in_chain(image, &o->old)) {
		qedimg_error(o->name, "it would overwrite a file of the image: "
			     "choose another name");
		return false;
	}
	if (!S_ISREG(o->old.st_mode))
		return true;
	if (is_stdout(&o->old)) {
		if (ftruncate(o->fd, 0) == 0)
			return true;
		qedimg_error(o->name, "cannot write: %s", strerror(errno));
		return false;
	}
	close(o->fd);
	o->fd = -1;
	o->replaces = true;
	return open_temp(o);
}

FILE *qedimg_outfile_begin(struct qedimg_outfile *o, const char *name,
			   struct qed_image *image)
{
	*o = (struct qedimg_outfile){ .name = name, .fd = -1 };
	if (!open_outfile(o, image))
		return NULL;
	o->out = fdopen(o->fd, "w");
	if (o->out)
		o->fd = -1;
	else
		qedimg_error(name, "cannot write: %s", strerror(errno));
	return o->out;
}

/* Closes it and gives it its name: false after a message. */
static bool complete(struct qedimg_outfile *o)
{
	bool bad = ferror(o->out) != 0;

	errno = 0;
	if (fclose(o->out) != 0 || bad) {
		qedimg_error(o->name, "cannot write: %s",
			     errno ? strerror(errno) : "write error");
		return false;
	}
	if (!o->made || rename(o->temp, o->target) == 0)
		return true;
	qedimg_error(o->name, "cannot name it: %s", strerror(errno));
	return false;
}

bool qedimg_outfile_end(struct qedimg_outfile *o)
{
	bool ok = o->out && complete(o);

	if (o->fd >= 0)
		close(o->fd);
	if (o->made) {
		/* What has got its name has no other. */
		unlink(o->temp);
		sigprocmask(SIG_SETMASK, &o->mask, NULL);
	}
	free(o->temp);
	free(o->target);
	return ok;
}
