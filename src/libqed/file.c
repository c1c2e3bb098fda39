/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Byte I/O on one host file.  An engine makes single attempts; here they are
 * repeated until the operation is over, so that nobody else need know of short
 * transfers, EINTR, EAGAIN, or reads past the end.
 *
 * Thread model: an operation belongs to one thread at a time (the one that
 * started it, then the engine's thread that reports an attempt), so it needs no
 * lock; a file's own fields are constant but for the atomic grow_mode.
 */
#include "config.h"

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WRITE_BEHIND (UINT64_C(16) << 20)

/*
 * Less is left to the host, which reads the neighbours as well; that it is read
 * from front to back it finds out by itself if there is more, or if what comes
 * next is not far.
 */
#define READ_AHEAD_MIN (UINT64_C(64) << 10)
#define READ_AHEAD_MAX (UINT64_C(16) << 20)
#define READ_AHEAD_JUMP (UINT64_C(4) << 20)

/*
 * Of a kernel (6.5) that may be newer than the headers.  Which headers have the
 * structures differs: glibc's, the kernel's, both or neither.
 */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cached_range {
	uint64_t off, len;
};
struct cached_pages {
	uint64_t nr_cache, nr_dirty, nr_writeback, nr_evicted,
		nr_recently_evicted;
};

enum { GROW_UNKNOWN, GROW_BY_FALLOCATE, GROW_BY_TRUNCATE };

static int check_kind(const struct qed_file *file, const struct stat *st)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	qed_log_write(&file->log, QED_LOG_ERROR,
		      "%s: %s, not a regular file or block device", file->path,
		      S_ISDIR(st->st_mode) ? "a directory" : "a special file");
	return S_ISDIR(st->st_mode) ? -EISDIR : -EMEDIUMTYPE;
}

static int fail_open(const struct qed_file *file, int err)
{
	qed_log_write(&file->log, QED_LOG_ERROR, "%s: cannot open%s: %s",
		      file->path, file->writable ? " for writing" : "",
		      strerror(err));
	return -err;
}

static int open_fd(struct qed_file *file)
{
	/* O_NONBLOCK: opening a FIFO by mistake must not hang. */
	file->fd = qed_keep_off_std(open(file->path,
				     (file->writable ? O_RDWR : O_RDONLY) |
					     O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	return file->fd < 0 ? fail_open(file, errno) : 0;
}

static int learn_kind(struct qed_file *file)
{
	struct stat st;
	int ret;

	if (fstat(file->fd, &st) < 0) {
		ret = -errno;
		qed_log_write(&file->log, QED_LOG_ERROR, "%s: cannot stat: %s",
			      file->path, strerror(-ret));
		return ret;
	}
	file->dev = st.st_dev;
	file->ino = st.st_ino;
	file->block_device = S_ISBLK(st.st_mode);
	return check_kind(file, &st);
}

/* `fd` is -1 to open the path. */
static int make_file(const char *path, int fd, bool writable,
		     struct qed_engine *engine, const struct qed_log *log,
		     struct qed_file **file)
{
	struct qed_file *f = calloc(1, sizeof(*f));
	int ret = -ENOMEM;

	*file = NULL;
	if (!f) {
		if (fd >= 0)
			close(fd);
		return ret;
	}
	f->fd = qed_keep_off_std(fd);
	pthread_mutex_init(&f->part_lock, NULL);
	f->engine = engine;
	f->log = *log;
	f->writable = writable;
	f->path = strdup(path);
	if (f->path)
		ret = fd < 0 ? open_fd(f) : f->fd < 0 ? fail_open(f, EMFILE) : 0;
	if (ret == 0)
		ret = learn_kind(f);
	if (ret < 0) {
		qed_file_close(f);
		return ret;
	}
	*file = f;
	return 0;
}

int qed_file_open(const char *path, bool writable, struct qed_engine *engine,
		  const struct qed_log *log, struct qed_file **file)
{
	return make_file(path, -1, writable, engine, log, file);
}

int qed_file_adopt(int fd, const char *path, struct qed_engine *engine,
		   const struct qed_log *log, struct qed_file **file)
{
	return make_file(path, fd, true, engine, log, file);
}

void qed_file_close(struct qed_file *file)
{
	if (!file)
		return;
	if (file->fd >= 0)
		close(file->fd);
	pthread_mutex_destroy(&file->part_lock);
	free(file->path);
	free(file);
}

int qed_file_size(struct qed_file *file, uint64_t *size)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0)
		return -errno;
	if (!file->block_device) {
		*size = (uint64_t)st.st_size;
		return 0;
	}
	return ioctl(file->fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
}

/* Is it shorter than that?  1, 0, or -errno: -ENOSPC if it can get no longer. */
static int is_shorter(struct qed_file *file, uint64_t size)
{
	uint64_t now;
	int ret = qed_file_size(file, &now);

	if (ret < 0 || now >= size)
		return ret;
	return file->block_device ? -ENOSPC : 1;
}

int qed_file_extend(struct qed_file *file, uint64_t size)
{
	int ret = is_shorter(file, size);

	if (ret <= 0)
		return ret;
	return ftruncate(file->fd, (off_t)size) < 0 ? -errno : 0;
}

bool qed_file_grows_by_truncate(struct qed_file *file)
{
	int mode = atomic_load_explicit(&file->grow_mode, memory_order_relaxed);

	if (mode == GROW_UNKNOWN) {
		/* The header is there already: this changes nothing. */
		int ret = fallocate(file->fd, 0, 0, 1);

		mode = ret < 0 && (errno == EOPNOTSUPP || errno == ENOSYS) ?
			       GROW_BY_TRUNCATE :
			       GROW_BY_FALLOCATE;
		atomic_store_explicit(&file->grow_mode, mode,
				      memory_order_relaxed);
	}
	return mode == GROW_BY_TRUNCATE;
}

/* Drops the first `n` bytes of the operation's scatter list. */
static void consume(struct qed_io *io, uint64_t n)
{
	io->left -= n;
	io->file_off += n;
	while (n && n >= io->iov->iov_len) {
		n -= io->iov->iov_len;
		io->iov++;
		io->iovcnt--;
	}
	if (n) {
		io->iov->iov_base = (char *)io->iov->iov_base + n;
		io->iov->iov_len -= n;
	}
}

static int copied(struct qed_io *io, uint64_t n)
{
	if (n == 0)
		return -EIO;	/* there is less to copy than was said */
	io->left -= n;
	io->file_off += n;
	io->from_off += n;
	return io->left ? QED_PENDING : 0;
}

/*
 * Takes in one attempt's result: QED_PENDING if another is due, else how the
 * operation ended.
 */
static int account(struct qed_io *io, int64_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return QED_PENDING;
	if (result == -EOPNOTSUPP && io->op == QED_OP_GROW)
		return qed_file_extend(io->file, io->file_off + io->len);
	if (result < 0)
		return (int)result;
	if (io->op == QED_OP_COPY)
		return copied(io, (uint64_t)result);
	if (io->op != QED_OP_READ && io->op != QED_OP_WRITE)
		return 0;
	if (result == 0) {
		if (io->op == QED_OP_WRITE)
			return -ENOSPC;
		qed_iov_zero(io->iov, io->iovcnt, 0, io->left);
		return 0;
	}
	consume(io, qed_min((uint64_t)result, io->left));
	return io->left ? QED_PENDING : 0;
}

void qed_file_attempted(struct qed_io *io, int64_t result)
{
	int ret = account(io, result);

	if (ret == QED_PENDING)
		io->file->engine->ops->submit(io->file->engine, io);
	else
		io->done(io, ret);
}

int qed_file_try(struct qed_file *file, struct qed_io *io)
{
	struct qed_engine *engine = file->engine;
	int ret;

	io->file = file;
	io->left = io->len;
	if (!io->len && io->op != QED_OP_FLUSH && io->op != QED_OP_CUT)
		return 0;
	if (!engine->ops->try_now)
		return -EAGAIN;
	do {
		int64_t result = engine->ops->try_now(engine, io);

		if (result == -EAGAIN)
			return -EAGAIN;
		ret = account(io, result);
	} while (ret == QED_PENDING);
	return ret;
}

int qed_file_start(struct qed_file *file, struct qed_io *io)
{
	int ret = qed_file_try(file, io);

	if (ret != -EAGAIN)
		return ret;
	file->engine->ops->submit(file->engine, io);
	return QED_PENDING;
}

/* A blocking caller's end of an operation. */
struct run {
	struct qed_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;	/* under lock */
	int err;	/* under lock */
};

static void run_done(struct qed_io *io, int err)
{
	struct run *run = (struct run *)io;

	pthread_mutex_lock(&run->lock);
	run->over = true;
	run->err = err;
	pthread_cond_signal(&run->cond);
	pthread_mutex_unlock(&run->lock);
}

static int run_wait(struct qed_file *file, struct run *run)
{
	int ret;

	pthread_mutex_init(&run->lock, NULL);
	pthread_cond_init(&run->cond, NULL);
	run->io.done = run_done;
	ret = qed_file_start(file, &run->io);
	if (ret == QED_PENDING) {
		pthread_mutex_lock(&run->lock);
		while (!run->over)
			pthread_cond_wait(&run->cond, &run->lock);
		pthread_mutex_unlock(&run->lock);
		ret = run->err;
	}
	pthread_cond_destroy(&run->cond);
	pthread_mutex_destroy(&run->lock);
	return ret;
}

int qed_file_run(struct qed_file *file, enum qed_op op, uint64_t file_off,
		 uint64_t len)
{
	struct run run = { .io = { .op = op, .file_off = file_off, .len = len } };

	return run_wait(file, &run);
}

static int run_buffer(struct qed_file *file, enum qed_op op, void *buf,
		      uint64_t len, uint64_t file_off)
{
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct run run = { .io = { .op = op,
				   .file_off = file_off,
				   .len = len,
				   .iov = &iov,
				   .iovcnt = 1 } };

	return run_wait(file, &run);
}

int qed_file_read(struct qed_file *file, void *buf, uint64_t len,
		  uint64_t file_off)
{
	return run_buffer(file, QED_OP_READ, buf, len, file_off);
}

int qed_file_write(struct qed_file *file, const void *buf, uint64_t len,
		   uint64_t file_off)
{
	return run_buffer(file, QED_OP_WRITE, (void *)(uintptr_t)buf, len,
			  file_off);
}

int qed_file_flush(struct qed_file *file)
{
	return qed_file_run(file, QED_OP_FLUSH, 0, 0);
}

int qed_file_cut(struct qed_file *file, uint64_t size)
{
	uint64_t now;
	int ret = qed_file_size(file, &now);

	if (ret < 0 || file->block_device || now <= size)
		return ret;
	return qed_file_run(file, QED_OP_CUT, size, 0);
}

int qed_file_lengthen(struct qed_file *file, uint64_t size)
{
	int ret = is_shorter(file, size);

	return ret > 0 ? qed_file_run(file, QED_OP_CUT, size, 0) : ret;
}

static int run_from(struct qed_file *file, enum qed_op op, uint64_t file_off,
		    uint64_t len, struct qed_file *from, uint64_t from_off)
{
	struct run run = { .io = { .op = op,
				   .file_off = file_off,
				   .len = len,
				   .from = from,
				   .from_off = from_off } };

	return run_wait(file, &run);
}

int qed_file_clone(struct qed_file *file, uint64_t file_off, uint64_t len,
		   struct qed_file *from, uint64_t from_off)
{
	return run_from(file, QED_OP_CLONE, file_off, len, from, from_off);
}

int qed_file_copy(struct qed_file *file, uint64_t file_off, uint64_t len,
		  struct qed_file *from, uint64_t from_off)
{
	return run_from(file, QED_OP_COPY, file_off, len, from, from_off);
}

int qed_file_zero(struct qed_file *file, uint64_t file_off, uint64_t len)
{
	static const char zeroes[65536];
	int ret = qed_file_run(file, QED_OP_PUNCH, file_off, len);

	if (ret != -EOPNOTSUPP && ret != -ENOSYS)
		return ret;
	for (ret = 0; ret == 0 && len > 0;) {
		uint64_t n = qed_min(len, sizeof(zeroes));

		ret = qed_file_write(file, zeroes, n, file_off);
		file_off += n;
		len -= n;
	}
	return ret;
}

uint64_t qed_file_next_data(struct qed_file *file, uint64_t file_off)
{
	off_t off = lseek(file->fd, (off_t)file_off, SEEK_DATA);

	if (off >= 0)
		return (uint64_t)off;
	return errno == ENXIO && !file->block_device ? UINT64_MAX : file_off;
}

uint64_t qed_file_next_hole(struct qed_file *file, uint64_t file_off)
{
	off_t off = lseek(file->fd, (off_t)file_off, SEEK_HOLE);

	return off < 0 ? UINT64_MAX : (uint64_t)off;
}

/* The page that the file ends in counts as cached as a whole. */
static bool reaches(struct qed_file *file, uint64_t end)
{
	uint64_t size;

	return qed_file_size(file, &size) == 0 && size >= end;
}

static bool has_pages(struct qed_file *file, uint64_t file_off, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct cached_range range = { .off = file_off, .len = len };
	struct cached_pages stat;

	return syscall(SYS_cachestat, file->fd, &range, &stat, 0) == 0 &&
	       stat.nr_cache == (file_off + len - 1) / page - file_off / page + 1;
}

/*
 * Pages that are only being read count as cached, too, and whoever wants them
 * waits.  They come in from front to back: the last byte tells.
 */
static bool is_at_hand(struct qed_file *file, uint64_t file_off)
{
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	return preadv2(file->fd, &iov, 1, (off_t)file_off, RWF_NOWAIT) == 1;
}

bool qed_file_is_cached(struct qed_file *file, uint64_t file_off, uint64_t len)
{
	return file->engine->ops->try_now && reaches(file, file_off + len) &&
	       has_pages(file, file_off, len) &&
	       is_at_hand(file, file_off + len - 1);
}

void qed_file_read_ahead(struct qed_file *file, uint64_t file_off,
			 uint64_t len)
{
	uint64_t before = atomic_exchange_explicit(&file->ahead, file_off + len,
						   memory_order_relaxed);

	if (len >= READ_AHEAD_MIN && len <= READ_AHEAD_MAX &&
	    (file_off < before || file_off - before >= READ_AHEAD_JUMP))
		(void)posix_fadvise(file->fd, (off_t)file_off, (off_t)len,
				    POSIX_FADV_WILLNEED);
}

void qed_file_write_behind(struct qed_file *file, uint64_t len)
{
	uint64_t before = atomic_fetch_add_explicit(&file->behind, len,
						    memory_order_relaxed);

	if (before / WRITE_BEHIND != (before + len) / WRITE_BEHIND)
		(void)sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}
