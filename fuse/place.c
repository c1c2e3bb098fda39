/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "place.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* The root of whatever is mounted there: an O_PATH descriptor or -errno. */
static int open_root(const struct qedfs_place *place)
{
	int fd = open(place->mountpoint, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* With AT_STATX_DONT_SYNC the kernel answers by itself. */
static int device_of(int fd, dev_t *dev)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	*dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	return 0;
}

int qedfs_place_learn(struct qedfs_place *place)
{
	int fd = open_root(place);
	int ret;

	if (fd < 0)
		return fd;
	ret = device_of(fd, &place->dev);
	place->known = ret == 0;
	close(fd);
	return ret;
}

int qedfs_place_ping(const struct qedfs_place *place)
{
	struct stat st;

	return stat(place->mountpoint, &st) < 0 ? -errno : 0;
}

static bool is_ours(const struct qedfs_place *place, int fd)
{
	dev_t dev;

	return place->known && device_of(fd, &dev) == 0 && dev == place->dev;
}

/* Opens again what an O_PATH descriptor stands for, without a path. */
static int reopen(int fd, int flags)
{
	char path[64];
	int opened;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	opened = open(path, flags | O_CLOEXEC);
	return opened < 0 ? -errno : opened;
}

int qedfs_place_open(const struct qedfs_place *place, int flags)
{
	int root = open_root(place);
	int fd;

	if (root < 0)
		return root;
	if (!is_ours(place, root)) {
		fd = -ENODEV;
	} else if (!place->name) {
		fd = reopen(root, flags);
	} else {
		fd = openat(root, place->name, flags | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	close(root);
	return fd;
}

int qedfs_place_set_readahead(const struct qedfs_place *place, uint64_t bytes)
{
	char path[80];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
		 major(place->dev), minor(place->dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%llu\n", (unsigned long long)bytes >> 10) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int qedfs_place_truncate(const struct qedfs_place *place, uint64_t size)
{
	int fd = qedfs_place_open(place, O_WRONLY);
	int ret;

	if (fd < 0)
		return fd;
	ret = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

/* The way of users who may not unmount by themselves. */
static void run_fusermount(const char *mountpoint)
{
	char *argv[] = { (char *)"fusermount3", (char *)"-u", (char *)"-z",
			 (char *)"--", (char *)mountpoint, NULL };
	int status;
	pid_t pid;
	int ret;

	ret = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (ret) {
		qedfs_log(QED_LOG_ERROR, "%s: cannot run fusermount3: %s",
			  mountpoint, strerror(ret));
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

bool qedfs_place_detach(const struct qedfs_place *place)
{
	int fd = open_root(place);
	bool ours;

	if (fd < 0)
		return false;
	ours = is_ours(place, fd);
	close(fd);
	if (!ours)
		return false;
	if (umount2(place->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		run_fusermount(place->mountpoint);
	return true;
}
