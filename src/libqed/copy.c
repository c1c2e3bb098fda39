/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copy-on-write.  What surrounds the caller's bytes in the first and the last
 * cluster is
 *	nothing to do	in clusters that read as zeroes, without backing data;
 *	punched		in others without backing data (zeroes are written where
 *			the host cannot punch);
 *	read and written	with backing data: in one write with the caller's bytes
 *			if it fits in a buffer of a megabyte, else (large
 *			clusters) chunk by chunk before them.
 */
#include "config.h"

#include "copy.h"

#include <errno.h>
#include <string.h>

#define BUFFER_MAX (UINT64_C(1) << 20)

enum step {
	STEP_PUNCH,			/* the clusters are being punched */
	STEP_READ_HEAD,			/* into buf */
	STEP_READ_TAIL,			/* into buf + head + gap */
	STEP_CHUNK_READ,		/* the next chunk, into buf */
	STEP_CHUNK_WRITE,
	STEP_DATA,			/* the caller's bytes are being written */
};

static void copy_run(struct qed_copy *copy, int ret);

/* The clusters' tail was written unless it could be left to read as zeroes. */
static void copy_end(struct qed_copy *copy, int err)
{
	uint64_t end = copy->file_off + copy->head + copy->len;

	if (copy->backing || !copy->zeroed || !copy->len)
		end += copy->tail;
	if (!err && !copy->unwritten)
		qed_alloc_note_written(&copy->image->alloc, end);
	qed_spare_put(&copy->image->spares, copy->buf, copy->buf_len);
	copy->done(copy, err);
}

static void io_done(struct qed_io *io, int err)
{
	copy_run(qed_container_of(io, struct qed_copy, io), err);
}

static void read_done(struct qed_read *read, int err)
{
	copy_run(qed_container_of(read, struct qed_copy, read), err);
}

static uint64_t clusters_len(const struct qed_copy *copy)
{
	return copy->nclusters << copy->image->top->header.cluster_bits;
}

static int start_io(struct qed_copy *copy, enum qed_op op, uint64_t file_off,
		    uint64_t len, struct iovec *iov, int iovcnt)
{
	copy->io = (struct qed_io){ .op = op,
				    .file_off = file_off,
				    .len = len,
				    .iov = iov,
				    .iovcnt = iovcnt,
				    .done = io_done };
	return qed_file_start(copy->image->top->source.file, &copy->io);
}

/* Reads what lies below the new clusters; `done` may run before it returns. */
static int start_read(struct qed_copy *copy, uint64_t disk_off, char *buf,
		      uint64_t len)
{
	uint64_t size = copy->image->size;
	uint64_t live = disk_off < size ? qed_min(len, size - disk_off) : 0;

	/* Past the disk's end lie zeroes, should it ever be made larger. */
	if (!copy->backing)
		live = 0;
	memset(buf + live, 0, len - live);
	if (!live)
		return 0;
	copy->buf_iov.iov_base = buf;
	copy->buf_iov.iov_len = live;
	copy->read = (struct qed_read){ .image = copy->image,
					.first = 1,
					.iov = &copy->buf_iov,
					.iovcnt = 1,
					.disk_off = disk_off,
					.len = live,
					.done = read_done };
	qed_read_start(&copy->read);
	return QED_PENDING;
}

/*
 * The caller's bytes, with what is in the buffer around them.  Without any, and
 * nothing to copy either, the clusters are reserved.
 */
static int start_data(struct qed_copy *copy, uint64_t head, uint64_t tail)
{
	struct iovec *iov = copy->iov;
	int iovcnt = copy->iovcnt;

	if (!copy->len && copy->zeroed && !copy->backing) {
		copy->step = STEP_DATA;
		copy->unwritten = copy->image->sparse;
		if (copy->unwritten)
			return 0;
		return start_io(copy, QED_OP_GROW, copy->file_off,
				clusters_len(copy), NULL, 0);
	}
	if (head) {
		*--iov = (struct iovec){ .iov_base = copy->buf,
					 .iov_len = head };
		iovcnt++;
	}
	if (tail) {
		iov[iovcnt++] =
			(struct iovec){ .iov_base = copy->buf + copy->head +
						    copy->gap,
					.iov_len = tail };
	}
	copy->step = STEP_DATA;
	return start_io(copy, QED_OP_WRITE,
			copy->file_off + copy->head - head,
			head + copy->len + tail, iov, iovcnt);
}

/* Where a fill by chunks goes on: in the head, past it in the tail. */
static uint64_t chunk_pos(const struct qed_copy *copy)
{
	return copy->copied < copy->head ? copy->copied :
					   copy->copied + copy->len;
}

static uint64_t chunk_len(const struct qed_copy *copy)
{
	uint64_t left = copy->copied < copy->head ?
				copy->head - copy->copied :
				copy->head + copy->tail - copy->copied;

	return qed_min(left, BUFFER_MAX);
}

static int next_chunk(struct qed_copy *copy)
{
	if (copy->copied == copy->head + copy->tail)
		return start_data(copy, 0, 0);
	copy->step = STEP_CHUNK_READ;
	return start_read(copy, copy->disk_off - copy->head + chunk_pos(copy),
			  copy->buf, chunk_len(copy));
}

static int write_chunk(struct qed_copy *copy)
{
	uint64_t len = chunk_len(copy), pos = chunk_pos(copy);

	copy->step = STEP_CHUNK_WRITE;
	copy->copied += len;
	copy->buf_iov.iov_base = copy->buf;
	copy->buf_iov.iov_len = len;
	return start_io(copy, QED_OP_WRITE, copy->file_off + pos, len,
			&copy->buf_iov, 1);
}

/* Begins to fill what is around the caller's bytes, if there is anything. */
static int start_fill(struct qed_copy *copy)
{
	uint64_t fill = copy->head + copy->tail;

	if (!fill)
		return start_data(copy, 0, 0);
	/* One read for both sides of a write inside one cluster. */
	if (copy->head && copy->tail && copy->nclusters == 1 &&
	    clusters_len(copy) <= BUFFER_MAX)
		copy->gap = copy->len;
	copy->step = STEP_READ_HEAD;
	copy->buf_len = qed_min(fill + copy->gap, BUFFER_MAX);
	copy->buf = qed_spare_get(&copy->image->spares, copy->buf_len);
	if (!copy->buf)
		return -ENOMEM;
	if (fill > BUFFER_MAX)
		return next_chunk(copy);
	if (copy->gap) {
		copy->step = STEP_READ_TAIL;
		return start_read(copy, copy->disk_off - copy->head, copy->buf,
				  clusters_len(copy));
	}
	return copy->head ? start_read(copy, copy->disk_off - copy->head,
				       copy->buf, copy->head) :
			    0;
}

static int after_head(struct qed_copy *copy)
{
	copy->step = STEP_READ_TAIL;
	return copy->tail ? start_read(copy, copy->disk_off + copy->len,
				       copy->buf + copy->head, copy->tail) :
			    0;
}

/* A reused cluster is punched; where that can't be, zeroes are written. */
static int after_punch(struct qed_copy *copy, int err)
{
	if (err == -EOPNOTSUPP || err == -ENOSYS)
		return start_fill(copy);
	copy->step = STEP_DATA;		/* there is no other step after it */
	if (err)
		return err;
	copy->zeroed = true;
	return start_data(copy, 0, 0);
}

static int copy_step(struct qed_copy *copy, int err)
{
	if (copy->step == STEP_PUNCH)
		return after_punch(copy, err);
	if (err)
		return err;
	switch ((enum step)copy->step) {
	case STEP_READ_HEAD:
		return after_head(copy);
	case STEP_READ_TAIL:
		return start_data(copy, copy->head, copy->tail);
	case STEP_CHUNK_READ:
		return write_chunk(copy);
	case STEP_CHUNK_WRITE:
		return next_chunk(copy);
	case STEP_PUNCH:
	case STEP_DATA:
		break;
	}
	return 0;
}

static bool is_over(const struct qed_copy *copy, int ret)
{
	return copy->step == STEP_DATA || (ret && copy->step != STEP_PUNCH);
}

/* Goes on after a step that ended with `ret`. */
static void copy_run(struct qed_copy *copy, int ret)
{
	while (ret != QED_PENDING) {
		if (is_over(copy, ret)) {
			copy_end(copy, ret);
			return;
		}
		ret = copy_step(copy, ret);
	}
}

/* Which bytes of the clusters, up to the disk's end, the caller leaves. */
static void measure(struct qed_copy *copy)
{
	const struct qed_header *h = &copy->image->top->header;

	copy->head = qed_in_cluster(h, copy->disk_off);
	copy->tail = clusters_len(copy) - copy->head - copy->len;
}

void qed_copy_start(struct qed_copy *copy)
{
	int ret;

	measure(copy);
	copy->copied = copy->gap = 0;
	copy->unwritten = false;
	copy->buf = NULL;
	if (copy->backing) {
		ret = start_fill(copy);
	} else if (copy->zeroed || copy->head + copy->tail == 0) {
		ret = start_data(copy, 0, 0);
	} else {
		copy->step = STEP_PUNCH;
		ret = start_io(copy, QED_OP_PUNCH, copy->file_off,
			       clusters_len(copy), NULL, 0);
	}
	copy_run(copy, ret);
}
