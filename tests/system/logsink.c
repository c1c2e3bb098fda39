/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * logsink PATH: receives what syslog(3) sends to a socket at PATH and prints each
 * message as a line, after a first one that says "ready".  Ends by a signal.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int complain(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char message[16384];
	ssize_t len;

	if (argc != 2 || strlen(argv[1]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: logsink PATH\n");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	if (fd < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return complain(argv[1]);
	setlinebuf(stdout);
	puts("ready");
	while ((len = recv(fd, message, sizeof(message), 0)) >= 0)
		printf("%.*s\n", (int)len, message);
	return complain("recv");
}
