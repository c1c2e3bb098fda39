/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * floor [-w] FILE DIRECTORY
 *
 * The yardstick of the benchmarks: shows a raw file as DIRECTORY/disk by FUSE,
 * with as little work as a daemon can do for it.  One system call takes a request,
 * one reads or writes the file, one answers; every worker has one buffer for
 * good.  It stays in the foreground, and ends when it is unmounted.
 *
 *	-w	let the kernel delay and merge writes (its writeback cache)
 *
 * It copies: what is read goes into a buffer and from there to the kernel, in requests
 * of up to 1 MiB.  For small requests splicing measured slower.  For large ones it is
 * faster, as is answering in halves, so there qedfs can be above this floor.
 */
#define FUSE_USE_VERSION 314

#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_IO (1u << 20)
#define HUGE_PAGE (2u << 20)
#define MAX_BACKGROUND 128u
#define KEEP_SECONDS 86400.0
#define DISK_INO 2u

/* Set before the first request, then constant. */
static struct {
	int fd;
	bool writeback;
} served;

/* The worker's buffer; the kernel frees it with the process. */
static void *worker_buffer(void)
{
	static _Thread_local void *buffer;
	void *memory;

	if (buffer)
		return buffer;
	memory = mmap(NULL, HUGE_PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory != MAP_FAILED)
		buffer = memory;
	return buffer;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO;

	(void)userdata;
	if (served.writeback)
		wanted |= FUSE_CAP_WRITEBACK_CACHE;
	conn->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
			FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA |
			FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_WRITEBACK_CACHE);
	conn->want |= conn->capable & wanted;
	conn->max_write = MAX_IO;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
}

/* 0 or an errno. */
static int get_attributes(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	if (ino == DISK_INO && fstat(served.fd, st) < 0)
		return errno;
	st->st_ino = ino;
	if (ino == FUSE_ROOT_ID) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
	}
	return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = DISK_INO,
					  .attr_timeout = KEEP_SECONDS,
					  .entry_timeout = KEEP_SECONDS };
	int err = ENOENT;

	if (parent == FUSE_ROOT_ID && strcmp(name, "disk") == 0)
		err = get_attributes(DISK_INO, &entry.attr);
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int err = get_attributes(ino, &st);

	(void)fi;
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_attr(req, &st, KEEP_SECONDS);
}

/* The kernel sets times by itself when it delays writes. */
static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr,
		       int to_set, struct fuse_file_info *fi)
{
	(void)attr;
	if (to_set & FUSE_SET_ATTR_SIZE)
		fuse_reply_err(req, EPERM);
	else
		op_getattr(req, ino, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->keep_cache = 1;
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	void *buffer = worker_buffer();
	ssize_t n;

	(void)ino;
	(void)fi;
	if (!buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	n = pread(served.fd, buffer, size, offset);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buffer, (size_t)n);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *data,
		     size_t size, off_t offset, struct fuse_file_info *fi)
{
	ssize_t n = pwrite(served.fd, data, size, offset);

	(void)ino;
	(void)fi;
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_write(req, (size_t)n);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
		     struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, fdatasync(served.fd) < 0 ? errno : 0);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fsync = op_fsync,
};

/* As many as qedfs has. */
static unsigned threads(void)
{
	long wanted = sysconf(_SC_NPROCESSORS_ONLN) + 2;

	return wanted < 4 ? 4 : wanted > 12 ? 12 : (unsigned)wanted;
}

static int serve(struct fuse_session *session)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int ret;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, threads());
	ret = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	return ret;
}

static int mount_and_serve(const char *mountpoint)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *session = NULL;
	int ret = -ENOMEM;

	if (!fuse_opt_add_arg(&args, "floor") &&
	    !fuse_opt_add_arg(&args, "-o") &&
	    !fuse_opt_add_arg(&args, "default_permissions,subtype=floor"))
		session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	fuse_opt_free_args(&args);
	if (!session)
		return ret;
	ret = fuse_set_signal_handlers(session);
	if (!ret)
		ret = fuse_session_mount(session, mountpoint);
	if (!ret) {
		ret = serve(session);
		fuse_session_unmount(session);
	}
	fuse_session_destroy(session);
	return ret < 0 ? ret : 0;
}

int main(int argc, char **argv)
{
	served.writeback = argc == 4 && strcmp(argv[1], "-w") == 0;
	if (argc != 3 && !served.writeback) {
		fprintf(stderr, "usage: floor [-w] FILE DIRECTORY\n");
		return 2;
	}
	served.fd = open(argv[argc - 2], O_RDWR | O_CLOEXEC);
	if (served.fd < 0) {
		perror(argv[argc - 2]);
		return 1;
	}
	return mount_and_serve(argv[argc - 1]) ? 1 : 0;
}
