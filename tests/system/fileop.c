/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single file operations whose exact outcome a test wants to see: results and
 * errno names on stdout, one line, exit status 0 whatever they are.
 *
 *	fileop write FILE OFFSET LEN [direct] [append] [sync] [trunc]
 *		one write(2) of LEN bytes of 'w', fsync, close: "LEN 0 0"
 *	fileop reread FILE LEN READ
 *		one O_DIRECT write(2) of LEN bytes of 'w' to the beginning and,
 *		before the file is closed, one asynchronous read of READ bytes,
 *		both multiples of 512: "LEN READ".  A read(2) would hide that
 *		FUSE got less than it asked for: the kernel gets the rest.
 *	fileop try CALL FILE [ARG]
 *		one call of the table below: "0" or an errno name
 *	fileop seek FILE data|hole OFFSET
 *		lseek(2): the offset or an errno name
 *	fileop map FILE
 *		the whole file as lines "data OFFSET LEN" and "hole OFFSET LEN"
 *	fileop xattr FILE NAME SIZE
 *		getxattr(2), or with an empty name listxattr(2), into a buffer
 *		of that size: the length or an errno name
 *	fileop scatter FILE SEED COUNT MAXLEN
 *		COUNT writes of up to MAXLEN bytes, whose places, sizes and
 *		content depend on SEED and the file's size alone
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct {
	int number;
	const char *name;
} errors[] = {
	{ EPERM, "EPERM" },   { ENOENT, "ENOENT" }, { EIO, "EIO" },
	{ ENXIO, "ENXIO" },   { EACCES, "EACCES" }, { EBUSY, "EBUSY" },
	{ EEXIST, "EEXIST" }, { EXDEV, "EXDEV" },   { EINVAL, "EINVAL" },
	{ EFBIG, "EFBIG" },   { ENOSPC, "ENOSPC" }, { EROFS, "EROFS" },
	{ EUCLEAN, "EUCLEAN" }, { EOPNOTSUPP, "EOPNOTSUPP" },
	{ ENOTDIR, "ENOTDIR" }, { ENOTCONN, "ENOTCONN" },
	{ ENODATA, "ENODATA" }, { ENOSYS, "ENOSYS" },
	{ ERANGE, "ERANGE" },
};

/* Prints a system call's result, or the name of its errno. */
static void print_result(int64_t result, char after)
{
	const char *name = NULL;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (errors[i].number == errno)
			name = errors[i].name;
	if (result >= 0)
		printf("%lld%c", (long long)result, after);
	else if (name)
		printf("%s%c", name, after);
	else
		printf("errno-%d%c", errno, after);
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static int write_flags(int argc, char **argv)
{
	int flags = O_WRONLY;

	for (int i = 0; i < argc; i++)
		flags |= strcmp(argv[i], "direct") == 0 ? O_DIRECT :
			 strcmp(argv[i], "append") == 0 ? O_APPEND :
			 strcmp(argv[i], "sync") == 0	? O_SYNC :
			 strcmp(argv[i], "trunc") == 0	? O_TRUNC : 0;
	return flags;
}

static int cmd_write(int argc, char **argv)
{
	size_t len = (size_t)atoll(argv[2]);
	void *buf;
	int fd;

	if (posix_memalign(&buf, 4096, len ? len : 1) != 0)
		die("memory");
	memset(buf, 'w', len);
	fd = open(argv[0], write_flags(argc - 3, argv + 3) | O_CLOEXEC);
	if (fd < 0) {
		print_result(-1, '\n');
		return 0;
	}
	print_result(pwrite(fd, buf, len, atoll(argv[1])), ' ');
	print_result(fsync(fd), ' ');
	print_result(close(fd), '\n');
	free(buf);
	return 0;
}

static ssize_t read_async(int fd, void *buf, size_t len)
{
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD,
			   .aio_fildes = (uint32_t)fd,
			   .aio_buf = (uintptr_t)buf,
			   .aio_nbytes = len };
	struct iocb *list = &cb;
	struct io_event event;
	aio_context_t context = 0;

	if (syscall(SYS_io_setup, 1, &context) < 0 ||
	    syscall(SYS_io_submit, context, 1, &list) != 1 ||
	    syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
		die("asynchronous read");
	syscall(SYS_io_destroy, context);
	errno = event.res < 0 ? (int)-event.res : 0;
	return (ssize_t)event.res;
}

static int cmd_reread(int argc, char **argv)
{
	size_t len = (size_t)atoll(argv[1]), n = (size_t)atoll(argv[2]);
	int fd = open_or_die(argv[0], O_RDWR | O_DIRECT);
	void *buf;

	(void)argc;
	if (posix_memalign(&buf, 4096, len > n ? len : n) != 0)
		die("memory");
	memset(buf, 'w', len);
	print_result(pwrite(fd, buf, len, 0), ' ');
	print_result(read_async(fd, buf, n), '\n');
	close(fd);
	free(buf);
	return 0;
}

static int with_fd(const char *path, int (*call)(int fd, const char *arg),
		   const char *arg)
{
	int fd = open_or_die(path, O_RDWR);
	int ret = call(fd, arg);
	int saved = errno;

	close(fd);
	errno = saved;
	return ret;
}

static int call_ftruncate(int fd, const char *arg)
{
	return ftruncate(fd, atoll(arg));
}

static int call_append(int fd, const char *arg)
{
	if (fcntl(fd, F_SETFL, O_APPEND) < 0)
		return -1;
	return (int)write(fd, arg, strlen(arg));
}

static int call_grow(int fd, const char *arg)
{
	return fallocate(fd, 0, 0, atoll(arg));
}

static int call_utimens(const char *path)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };

	return utimensat(AT_FDCWD, path, times, 0);
}

static int do_call(const char *call, const char *path, const char *arg)
{
	if (strcmp(call, "truncate") == 0)
		return truncate(path, atoll(arg));
	if (strcmp(call, "ftruncate") == 0)
		return with_fd(path, call_ftruncate, arg);
	if (strcmp(call, "append") == 0)
		return with_fd(path, call_append, arg);
	if (strcmp(call, "grow") == 0)
		return with_fd(path, call_grow, arg);
	if (strcmp(call, "create") == 0)
		return open(path, O_CREAT | O_EXCL | O_WRONLY, 0600) < 0 ? -1 : 0;
	if (strcmp(call, "open") == 0)
		return open(path, strcmp(arg, "rw") ? O_RDONLY : O_RDWR) < 0 ?
			       -1 : 0;
	if (strcmp(call, "mkdir") == 0)
		return mkdir(path, 0700);
	if (strcmp(call, "mknod") == 0)
		return mknod(path, S_IFIFO | 0600, 0);
	if (strcmp(call, "unlink") == 0)
		return unlink(path);
	if (strcmp(call, "rename") == 0)
		return rename(path, arg);
	if (strcmp(call, "link") == 0)
		return link(path, arg);
	if (strcmp(call, "symlink") == 0)
		return symlink(arg, path);
	if (strcmp(call, "chmod") == 0)
		return chmod(path, (mode_t)strtol(arg, NULL, 8));
	if (strcmp(call, "chown") == 0)
		return chown(path, (uid_t)atol(arg), (gid_t)-1);
	if (strcmp(call, "utimens") == 0)
		return call_utimens(path);
	if (strcmp(call, "setxattr") == 0)
		return setxattr(path, "user.qed", arg, strlen(arg), 0);
	if (strcmp(call, "removexattr") == 0)
		return removexattr(path, arg);
	fprintf(stderr, "fileop: no call %s\n", call);
	exit(2);
}

static int cmd_try(int argc, char **argv)
{
	print_result(do_call(argv[0], argv[1], argc > 2 ? argv[2] : ""), '\n');
	return 0;
}

static int cmd_seek(int argc, char **argv)
{
	int fd = open_or_die(argv[0], O_RDONLY);

	(void)argc;
	print_result(lseek(fd, atoll(argv[2]), strcmp(argv[1], "data") == 0 ?
						SEEK_DATA : SEEK_HOLE), '\n');
	close(fd);
	return 0;
}

/* One line of the map, if there is anything between. */
static void print_run(const char *kind, off_t from, off_t to)
{
	if (to > from)
		printf("%s %lld %lld\n", kind, (long long)from,
		       (long long)(to - from));
}

static int cmd_map(int argc, char **argv)
{
	int fd = open_or_die(argv[0], O_RDONLY);
	off_t end = lseek(fd, 0, SEEK_END);
	off_t hole = 0, data;

	(void)argc;
	while (hole < end) {
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			die("SEEK_DATA");
		print_run("hole", hole, data < 0 ? end : data);
		if (data < 0)
			break;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole <= data)
			die("SEEK_HOLE");
		print_run("data", data, hole);
	}
	close(fd);
	return 0;
}

static int cmd_xattr(int argc, char **argv)
{
	size_t size = strtoul(argv[2], NULL, 0);
	char *buf = malloc(size + 1);

	(void)argc;
	if (!buf)
		die("xattr");
	print_result(*argv[1] ? getxattr(argv[0], argv[1], buf, size) :
				listxattr(argv[0], buf, size), '\n');
	free(buf);
	return 0;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int cmd_scatter(int argc, char **argv)
{
	uint64_t state = strtoull(argv[1], NULL, 0);
	long count = atol(argv[2]);
	uint64_t maxlen = strtoull(argv[3], NULL, 0);
	int fd = open_or_die(argv[0], O_RDWR);
	uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
	uint64_t *buf = malloc(maxlen + 8);

	(void)argc;
	if (!buf || maxlen == 0 || maxlen > size)
		die("scatter");
	while (count--) {
		uint64_t len = 1 + next_random(&state) % maxlen;
		uint64_t offset = next_random(&state) % (size - len + 1);

		for (uint64_t i = 0; i <= len / 8; i++)
			buf[i] = next_random(&state);
		if (pwrite(fd, buf, len, (off_t)offset) != (ssize_t)len)
			die("pwrite");
	}
	free(buf);
	if (fsync(fd) < 0 || close(fd) < 0)
		die("fsync");
	return 0;
}

static const struct {
	const char *name;
	int nargs;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "write", 3, cmd_write },
	{ "reread", 3, cmd_reread },
	{ "try", 2, cmd_try },
	{ "seek", 3, cmd_seek },
	{ "map", 1, cmd_map },
	{ "xattr", 3, cmd_xattr },
	{ "scatter", 4, cmd_scatter },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc - 2 >= commands[i].nargs &&
		    strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 2, argv + 2);
	fprintf(stderr, "usage: fileop write|reread|try|seek|map|xattr|scatter "
			"FILE ...\n");
	return 2;
}
