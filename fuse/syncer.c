/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process is a fork of a program with threads: it calls nothing that might
 * want a lock which one of them held.
 */
#include <config.h>

#include "syncer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int do_sync(int file, enum qedfs_sync how)
{
	int ret = how == QEDFS_SYNC_FILE ?
			  fsync(file) :
			  sync_file_range(file, 0, 0,
					  SYNC_FILE_RANGE_WAIT_BEFORE |
						  SYNC_FILE_RANGE_WRITE |
						  SYNC_FILE_RANGE_WAIT_AFTER);

	return ret < 0 ? -errno : 0;
}

static bool tell(int fd, int ret)
{
	return send(fd, &ret, sizeof(ret), MSG_NOSIGNAL) == sizeof(ret);
}

/* Ends when the daemon hangs up, or has ended. */
static void serve(int fd, const struct qedfs_place *place)
{
	enum qedfs_sync how;
	int file;

	if ((fd > 0 && close_range(0, (unsigned)fd - 1, 0) < 0) ||
	    close_range((unsigned)fd + 1, ~0u, 0) < 0) {
		tell(fd, -errno);
		return;
	}
	file = qedfs_place_open(place, O_RDONLY | O_NONBLOCK);
	if (!tell(fd, file < 0 ? file : 0) || file < 0)
		return;
	while (recv(fd, &how, sizeof(how), 0) == sizeof(how))
		if (!tell(fd, do_sync(file, how)))
			return;
}

/* What it says: 0 or -errno; -EPIPE if it has ended. */
static int hear(const struct qedfs_syncer *syncer)
{
	int ret;
	ssize_t n;

	do {
		n = recv(syncer->fd, &ret, sizeof(ret), 0);
	} while (n < 0 && errno == EINTR);
	return n == sizeof(ret) ? ret : n < 0 ? -errno : -EPIPE;
}

int qedfs_syncer_start(struct qedfs_syncer *syncer,
		       const struct qedfs_place *place)
{
	int ends[2];
	int ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	syncer->fd = ends[0];
	syncer->pid = fork();
	if (syncer->pid == 0) {
		serve(ends[1], place);
		_exit(0);
	}
	ret = syncer->pid < 0 ? -errno : 0;
	close(ends[1]);
	if (ret) {
		close(ends[0]);
		return ret;
	}
	ret = hear(syncer);
	if (ret)
		qedfs_syncer_stop(syncer);
	return ret;
}

int qedfs_syncer_sync(struct qedfs_syncer *syncer, enum qedfs_sync how)
{
	if (send(syncer->fd, &how, sizeof(how), MSG_NOSIGNAL) < 0)
		return -errno;
	return hear(syncer);
}

void qedfs_syncer_stop(struct qedfs_syncer *syncer)
{
	close(syncer->fd);
	while (waitpid(syncer->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
