/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * measure REPORT PROGRAM [ARG...]: runs the program and writes what it took
 * into the file REPORT, as "RSS MS": the most memory that it or a child that it
 * waited for had resident, in KiB, and the wall-clock time in milliseconds.
 * Exit status: the program's, or 128 + the signal that ended it; 125 if it
 * could not be run.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CANNOT_RUN 125

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

static int complain(const char *what)
{
	fprintf(stderr, "measure: %s: %s\n", what, strerror(errno));
	return CANNOT_RUN;
}

static int write_report(const char *path, long rss, long ms)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return -1;
	fprintf(f, "%ld %ld\n", rss, ms);
	return fclose(f);
}

int main(int argc, char **argv)
{
	struct rusage usage;
	long start = now_ms();
	int status;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: measure REPORT PROGRAM [ARG...]\n");
		return CANNOT_RUN;
	}
	pid = fork();
	if (pid < 0)
		return complain("fork");
	if (pid == 0) {
		execvp(argv[2], argv + 2);
		_exit(complain(argv[2]));
	}
	while (wait4(pid, &status, 0, &usage) < 0)
		if (errno != EINTR)
			return complain("wait");
	if (write_report(argv[1], usage.ru_maxrss, now_ms() - start) < 0)
		return complain(argv[1]);
	return WIFEXITED(status) ? WEXITSTATUS(status) :
				   128 + WTERMSIG(status);
}
