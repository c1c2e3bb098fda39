/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that change names and permissions. */
#include "config.h"

#include "deeds.h"
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEEDS_MAX 32

static struct fake *clock_of;		/* null: not recording */
static struct deed deeds[DEEDS_MAX];
static unsigned ndeeds, failing;

void deeds_begin(struct fake *fake, unsigned fail)
{
	clock_of = fake;
	ndeeds = 0;
	failing = fail;
}

void deeds_end(void)
{
	clock_of = NULL;
}

unsigned deeds_count(void)
{
	return ndeeds;
}

const struct deed *deeds_get(unsigned i)
{
	return &deeds[i];
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The name that an open file has; "" of a directory. */
static void name_of_fd(int fd, char name[100])
{
	char link[40], path[300] = "";
	struct stat st;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	*name = '\0';
	if (fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))
		return;
	if (readlink(link, path, sizeof(path) - 1) > 0)
		snprintf(name, 100, "%.99s", last_part(path));
}

/* False: it is to fail, and has not been done. */
static bool begin(enum deed_kind kind, const char *name, mode_t mode)
{
	struct deed *deed = &deeds[ndeeds];

	if (!clock_of)
		return true;
	if (ndeeds++ == DEEDS_MAX)
		die("too many deeds");
	*deed = (struct deed){ .kind = kind,
			       .mode = mode,
			       .begun = fake_tick(clock_of),
			       .ended = UINT64_MAX };
	snprintf(deed->name, sizeof(deed->name), "%.99s", name);
	errno = EIO;
	return ndeeds != failing;
}

static int end(int ret)
{
	int err = errno;

	if (clock_of && ret == 0) {
		deeds[ndeeds - 1].ended = fake_tick(clock_of);
		deeds[ndeeds - 1].done = true;
	}
	errno = err;
	return ret;
}

/* --- the calls ---------------------------------------------------------------------- */

int __real_linkat(int from_dir, const char *from, int dir, const char *name,
		  int flags);
int __real_renameat(int from_dir, const char *from, int dir, const char *name);
int __real_renameat2(int from_dir, const char *from, int dir, const char *name,
		     unsigned flags);
int __real_unlink(const char *name);
int __real_fchmod(int fd, mode_t mode);
int __real_fsync(int fd);

int __wrap_linkat(int from_dir, const char *from, int dir, const char *name,
		  int flags);
int __wrap_renameat(int from_dir, const char *from, int dir, const char *name);
int __wrap_renameat2(int from_dir, const char *from, int dir, const char *name,
		     unsigned flags);
int __wrap_unlink(const char *name);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fsync(int fd);

int __wrap_linkat(int from_dir, const char *from, int dir, const char *name,
		  int flags)
{
	if (!begin(DEED_NAME, last_part(name), 0))
		return -1;
	return end(__real_linkat(from_dir, from, dir, name, flags));
}

int __wrap_renameat(int from_dir, const char *from, int dir, const char *name)
{
	if (!begin(DEED_NAME, last_part(name), 0))
		return -1;
	return end(__real_renameat(from_dir, from, dir, name));
}

int __wrap_renameat2(int from_dir, const char *from, int dir, const char *name,
		     unsigned flags)
{
	if (!begin(DEED_NAME, last_part(name), 0))
		return -1;
	return end(__real_renameat2(from_dir, from, dir, name, flags));
}

int __wrap_unlink(const char *name)
{
	if (!begin(DEED_UNNAME, last_part(name), 0))
		return -1;
	return end(__real_unlink(name));
}

int __wrap_fchmod(int fd, mode_t mode)
{
	char name[100];

	name_of_fd(fd, name);
	if (!begin(DEED_MODE, name, mode))
		return -1;
	return end(__real_fchmod(fd, mode));
}

int __wrap_fsync(int fd)
{
	char name[100];

	name_of_fd(fd, name);
	if (!begin(DEED_SYNC, name, 0))
		return -1;
	return end(__real_fsync(fd));
}
