/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Thread model: constant between open and close.  The two open descriptions are
 * of one file, and the kernel keeps what is written to one of them and read or
 * written by the other coherent.
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
	direct->offset_align = stx.stx_dio_offset_align;
	direct->memory_align = stx.stx_dio_mem_align;
	return direct->offset_align && direct->memory_align;
#else
	return false;
#endif
}

/* The same file, whatever its path says by now. */
static int open_again(const struct qed_file *file)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

void qed_direct_open(struct qed_direct *direct, struct qed_file *file)
{
	int fd;

	*direct = (struct qed_direct){ .file = file };
	if (!learn_alignment(direct))
		return;
	fd = open_again(file);
	/* Without the memory for it: the usual way, too. */
	if (fd >= 0)
		(void)qed_file_adopt(fd, file->path, file->engine, &file->log,
				     &direct->past);
}

void qed_direct_close(struct qed_direct *direct)
{
	qed_file_close(direct->past);
	direct->past = NULL;
}

/*
 * Space that the host has to find first costs more this way, since each write
 * then waits for it.
 */
static bool is_suitable(const struct qed_direct *direct, const void *buf,
			uint64_t len, uint64_t file_off)
{
	return direct->past && (file_off | len) % direct->offset_align == 0 &&
	       (uintptr_t)buf % direct->memory_align == 0 &&
	       qed_file_next_hole(direct->file, file_off) - file_off >= len;
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
