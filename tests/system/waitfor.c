/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waits for events that shell scripts could only poll for.
 *
 *	waitfor exit PID SECONDS
 *		until the process has ended; it need not be a child
 *	waitfor mount PATH PID SECONDS
 *		until a FUSE file system is mounted right on PATH, which has
 *		to be absolute and canonical (looking at it could hang), and
 *		prints the number of its connection in /sys/fs/fuse/connections; fails
 *		at once when the process ends before that
 *	waitfor file PATH PID SECONDS
 *		until the file is there and not empty; likewise
 *	waitfor until PATH PID SECONDS COMMAND...
 *		until the command succeeds, which is run again whenever the
 *		file has changed; likewise
 *	waitfor unlocked PATH SECONDS
 *		until nobody has any of QEMU's byte locks on the image: a process
 *		that was killed can leave them for a moment, until the kernel has
 *		ended its io_uring
 *	waitfor success SECONDS COMMAND...
 *		until the command succeeds, which is run again and again: for what
 *		the kernel does in its own time and tells nobody of
 *
 * Exit status 0, or 1 when it did not happen (in time).
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

extern char **environ;

/* poll(2) that goes on after signals; like it, 0 when the time is over. */
static int poll_until(struct pollfd *fds, nfds_t n, long deadline)
{
	for (;;) {
		long left = deadline - now_ms();
		int ret = poll(fds, n, left < 0 ? 0 : (int)left);

		if (ret >= 0 || errno != EINTR)
			return ret;
	}
}

/* -1 with errno ESRCH when the process is gone already. */
static int open_pid(const char *pid)
{
	return (int)syscall(SYS_pidfd_open, (pid_t)atol(pid), 0u);
}

static int wait_exit(const char *pid, long deadline)
{
	struct pollfd fd = { .fd = open_pid(pid), .events = POLLIN };

	if (fd.fd < 0)
		return errno == ESRCH ? 0 : 1;
	return poll_until(&fd, 1, deadline) == 1 ? 0 : 1;
}

/* mountinfo writes space, tab, newline and backslash as octal escapes. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		unsigned c;

		if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
			*out++ = (char)c;
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* Is this mountinfo line a FUSE mount on `path`?  Then *minor is its number. */
static bool line_matches(char *line, const char *path, unsigned *minor)
{
	char where[4096], type[256];
	char *dash = strstr(line, " - ");

	if (!dash || sscanf(dash, " - %255s", type) != 1 ||
	    strncmp(type, "fuse", 4) != 0)
		return false;
	if (sscanf(line, "%*u %*u %*u:%u %*s %4095s", minor, where) != 2)
		return false;
	unescape(where);
	return strcmp(where, path) == 0;
}

/* The file has to be read anew after each change. */
static bool find_mount(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	unsigned minor;

	while (f && !found && getline(&line, &size, f) > 0)
		found = line_matches(line, path, &minor);
	if (found)
		printf("%u\n", minor);
	free(line);
	if (f)
		fclose(f);
	return found;
}

/* Until `there(path)`, looked at again after each of `events` on `fd`. */
static int wait_until(bool (*there)(const char *path), const char *path,
		      int fd, short events, const char *pid, long deadline)
{
	struct pollfd fds[2] = {
		{ .fd = fd, .events = events },
		{ .fd = open_pid(pid), .events = POLLIN },
	};
	char buf[4096];

	if (fd < 0 || (fds[1].fd < 0 && errno != ESRCH))
		return 1;
	while (!there(path)) {
		if (fds[1].fd < 0 || poll_until(fds, 2, deadline) <= 0)
			return 1;
		if (fds[1].revents)
			return there(path) ? 0 : 1;
		if (events == POLLIN && read(fd, buf, sizeof(buf)) < 0)
			return 1;
	}
	return 0;
}

static int wait_mount(const char *path, const char *pid, long deadline)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");

	return wait_until(find_mount, path, table ? fileno(table) : -1, POLLPRI,
			  pid, deadline);
}

static bool has_content(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_size > 0;
}

static int wait_file(const char *path, const char *pid, long deadline)
{
	char *copy = strdup(path);
	int fd = inotify_init1(IN_CLOEXEC);
	int watch = copy ? inotify_add_watch(fd, dirname(copy),
					     IN_CLOSE_WRITE | IN_MOVED_TO) :
			   -1;

	free(copy);
	if (watch < 0)
		return 1;
	return wait_until(has_content, path, fd, POLLIN, pid, deadline);
}

static char **command;

static bool command_succeeds(const char *path)
{
	pid_t pid;
	int status;

	(void)path;
	if (posix_spawnp(&pid, command[0], NULL, NULL, command, environ) != 0)
		return false;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int wait_success(const char *path, const char *pid, long deadline)
{
	int fd = inotify_init1(IN_CLOEXEC);

	if (inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return 1;
	return wait_until(command_succeeds, path, fd, POLLIN, pid, deadline);
}

static int wait_command(long deadline)
{
	while (!command_succeeds(NULL)) {
		if (now_ms() >= deadline)
			return 1;
		poll(NULL, 0, 20);
	}
	return 0;
}

static void on_alarm(int sig)
{
	(void)sig;
}

static int wait_unlocked(const char *path, unsigned seconds)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct flock locks = { .l_type = F_WRLCK, .l_start = 100, .l_len = 200 };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	sigaction(SIGALRM, &act, NULL);
	alarm(seconds);
	return fd >= 0 && fcntl(fd, F_OFD_SETLKW, &locks) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "unlocked") == 0)
		return wait_unlocked(argv[2], (unsigned)atol(argv[3]));
	if (argc == 4 && strcmp(argv[1], "exit") == 0)
		return wait_exit(argv[2], now_ms() + atol(argv[3]) * 1000);
	if (argc == 5 && strcmp(argv[1], "mount") == 0)
		return wait_mount(argv[2], argv[3],
				  now_ms() + atol(argv[4]) * 1000);
	if (argc == 5 && strcmp(argv[1], "file") == 0)
		return wait_file(argv[2], argv[3],
				 now_ms() + atol(argv[4]) * 1000);
	if (argc >= 6 && strcmp(argv[1], "until") == 0) {
		command = argv + 5;
		return wait_success(argv[2], argv[3],
				    now_ms() + atol(argv[4]) * 1000);
	}
	if (argc >= 4 && strcmp(argv[1], "success") == 0) {
		command = argv + 3;
		return wait_command(now_ms() + atol(argv[2]) * 1000);
	}
	fprintf(stderr, "usage: waitfor exit PID SECONDS\n"
			"       waitfor mount|file PATH PID SECONDS\n"
			"       waitfor until PATH PID SECONDS COMMAND...\n"
			"       waitfor unlocked PATH SECONDS\n"
			"       waitfor success SECONDS COMMAND...\n");
	return 2;
}
