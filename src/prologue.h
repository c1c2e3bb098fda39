/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each program does before anything else. */
#ifndef PROLOGUE_H
#define PROLOGUE_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

/*
 * Standard descriptors that are closed get /dev/null: the next file that is opened
 * would take their place, and messages would be written into an image.  Who uses
 * standard input or output all the same gets EBADF, as if it were closed; what goes to
 * stderr is lost.  And a limit of the size of files (ulimit -f) is an error like
 * others, not a signal that ends the program in the middle of a job.  False: there is
 * no /dev/null.
 */
static inline bool begin_program(void)
{
	static const int modes[] = { O_WRONLY, O_RDONLY, O_WRONLY };

	signal(SIGXFSZ, SIG_IGN);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		/* The lowest number that is free. */
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", modes[fd]) != fd)
			return false;
	return true;
}

#endif
