/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "start.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child closed the pipe without a word: it has ended or is about to. */
static int status_of_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return 1;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		return WEXITSTATUS(status);
	if (WIFSIGNALED(status))
		qedfs_log(QED_LOG_ERROR, "the daemon was killed: %s",
			  strsignal(WTERMSIG(status)));
	else
		qedfs_log(QED_LOG_ERROR,
			  "the daemon ended before the mount was up");
	return 1;
}

static int wait_for_child(int fd, pid_t pid)
{
	char status;
	ssize_t got;

	do {
		got = read(fd, &status, 1);
	} while (got < 0 && errno == EINTR);
	close(fd);
	return got == 1 ? status : status_of_child(pid);
}

int qedfs_start_fork(struct qedfs_start *start, bool foreground,
		     const char *pidfile)
{
	int ends[2];
	pid_t pid;

	start->fd = -1;
	start->pidfile = pidfile;
	start->pidfile_made = false;
	if (foreground)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		qedfs_log(QED_LOG_ERROR, "cannot start the daemon: %s",
			  strerror(errno));
		return 1;
	}
	if (pid > 0) {
		close(ends[1]);
		return wait_for_child(ends[0], pid);
	}
	close(ends[0]);
	start->fd = ends[1];
	return -1;
}

static int make_pidfile(struct qedfs_start *start)
{
	int fd = open(start->pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
		      0644);
	int ret = 0;

	if (fd < 0)
		ret = -errno;
	start->pidfile_made = fd >= 0;
	if (!ret && dprintf(fd, "%ld\n", (long)getpid()) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	if (ret)
		qedfs_log(QED_LOG_ERROR, "pidfile %s: %s", start->pidfile,
			  strerror(-ret));
	return ret;
}

static void leave_terminal(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	qedfs_log_to_syslog();
	setsid();
	if (fd < 0)
		return;
	for (int std = STDIN_FILENO; std <= STDERR_FILENO; std++)
		dup2(fd, std);
	if (fd > STDERR_FILENO)
		close(fd);
}

int qedfs_start_ready(struct qedfs_start *start)
{
	int ret = start->pidfile ? make_pidfile(start) : 0;

	if (ret || start->fd < 0)
		return ret;
	leave_terminal();
	if (write(start->fd, "", 1) != 1)
		qedfs_log(QED_LOG_DEBUG, "nobody waits for the mount");
	close(start->fd);
	start->fd = -1;
	return 0;
}

void qedfs_start_finish(struct qedfs_start *start)
{
	if (start->pidfile_made)
		unlink(start->pidfile);
}
