/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two open descriptions are of one file, and the kernel keeps what is written to
 * one of them and read or written by the other coherent; but for devices not within
 * a page, so that none is ever written both ways.
 *
 * Thread model: constant between open and close, but for what is known of holes.
 */
#include "config.h"

#include "direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* How it has to lie: false if the host does not say. */
static bool learn_alignment(struct qed_direct *direct)
{
#ifdef STATX_DIOALIGN
	struct statx stx;

	if (statx(direct->file->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	direct->offset_align = qed_max((uint64_t)stx.stx_dio_offset_align,
				       (uint64_t)sysconf(_SC_PAGESIZE));
	direct->memory_align = stx.stx_dio_mem_align;
	return stx.stx_dio_offset_align && direct->memory_align;
#else
	(void)direct;
	return false;
#endif
}

/* The same file, whatever its path says by now. */
static int open_again(const struct qed_file *file)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	return qed_keep_off_std(open(path, O_RDWR | O_DIRECT | O_CLOEXEC));
}

void qed_direct_open(struct qed_direct *direct, struct qed_file *file)
{
	int fd;

	*direct = (struct qed_direct){ .file = file };
	if (!learn_alignment(direct))
		return;
	fd = open_again(file);
	/* Without the memory for it: the usual way, too. */
	if (fd >= 0 && qed_file_adopt(fd, file->path, file->engine, &file->log,
				      &direct->past) == 0)
		pthread_mutex_init(&direct->lock, NULL);
}

void qed_direct_close(struct qed_direct *direct)
{
	if (!direct->past)
		return;
	pthread_mutex_destroy(&direct->lock);
	qed_file_close(direct->past);
	direct->past = NULL;
}

/*
 * Has the host space for all of it?  It takes a while to say so of a large file,
 * whose pieces are asked for one after the other: what it said last is kept.  If
 * that is not true any more, a write takes longer.
 */
static bool has_space(struct qed_direct *direct, uint64_t file_off, uint64_t len)
{
	bool has;

	if (direct->file->block_device)
		return true;
	pthread_mutex_lock(&direct->lock);
	if (file_off < direct->start || file_off >= direct->end) {
		direct->start = file_off;
		direct->end = qed_file_next_hole(direct->file, file_off);
	}
	has = direct->end - file_off >= len;
	pthread_mutex_unlock(&direct->lock);
	return has;
}

/*
 * Space that the host has to find first costs more this way, since each write
 * then waits for it.
 */
static bool is_suitable(struct qed_direct *direct, const void *buf,
			uint64_t len, uint64_t file_off)
{
	return direct->past && (file_off | len) % direct->offset_align == 0 &&
	       (uintptr_t)buf % direct->memory_align == 0 &&
	       has_space(direct, file_off, len);
}

int qed_direct_write(struct qed_direct *direct, const void *buf, uint64_t len,
		     uint64_t file_off)
{
	int ret = -EINVAL;

	if (is_suitable(direct, buf, len, file_off))
		ret = qed_file_write(direct->past, buf, len, file_off);
	/* Also what is left of a write that the host has cut short. */
	return ret == -EINVAL ?
		       qed_file_write(direct->file, buf, len, file_off) :
		       ret;
}
