/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * readat FILE OFFSET: reads one sector twice, by O_DIRECT and through the page
 * cache, and prints what came: "ok XX" if all bytes are XX (in hex), "ok
 * mixed", "short N", "euclean", "eio" or "errno N".  Exit status 1 if the two
 * ways differ.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR 512
#define TEXT_MAX 32

static void describe_errno(char text[TEXT_MAX], int err)
{
	if (err == EUCLEAN)
		snprintf(text, TEXT_MAX, "euclean");
	else if (err == EIO)
		snprintf(text, TEXT_MAX, "eio");
	else
		snprintf(text, TEXT_MAX, "errno %d", err);
}

static void describe(char text[TEXT_MAX], const unsigned char *buf, ssize_t n)
{
	if (n < 0)
		describe_errno(text, errno);
	else if (n < SECTOR)
		snprintf(text, TEXT_MAX, "short %zd", n);
	else if (memcmp(buf, buf + 1, SECTOR - 1) != 0)
		snprintf(text, TEXT_MAX, "ok mixed");
	else
		snprintf(text, TEXT_MAX, "ok %02x", buf[0]);
}

static void read_sector(const char *path, int flags, off_t offset,
			char text[TEXT_MAX])
{
	_Alignas(4096) static unsigned char buf[SECTOR];
	int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	if (fd < 0) {
		perror(path);
		exit(2);
	}
	memset(buf, 0xee, sizeof(buf));
	describe(text, buf, pread(fd, buf, sizeof(buf), offset));
	close(fd);
}

int main(int argc, char **argv)
{
	char direct[TEXT_MAX], buffered[TEXT_MAX];
	off_t offset;

	if (argc != 3) {
		fprintf(stderr, "usage: readat FILE OFFSET\n");
		return 2;
	}
	offset = (off_t)strtoull(argv[2], NULL, 0);
	read_sector(argv[1], O_DIRECT, offset, direct);
	read_sector(argv[1], 0, offset, buffered);
	if (strcmp(direct, buffered) != 0) {
		printf("direct: %s, buffered: %s\n", direct, buffered);
		return 1;
	}
	printf("%s\n", direct);
	return 0;
}
