/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Thread model: requests start in libfuse's workers and end there or in threads
 * of the library.
 */
#include <config.h>

#include "io.h"
#include "log.h"

#include <errno.h>
#include <string.h>

/* What is shorter is copied as fast as it goes through a pipe. */
#define LEND_MIN (64u << 10)

/* Null if there is no memory; then `req` has been answered. */
static struct qedfs_request *get(struct qedfs_io *io, fuse_req_t req,
				 size_t size)
{
	struct qedfs_request *request = qedfs_pool_get(&io->pool, req, size);

	if (request)
		request->io = io;
	else
		fuse_reply_err(req, ENOMEM);
	return request;
}

static void put(struct qedfs_request *request)
{
	qedfs_pool_put(&request->io->pool, request);
}

void qedfs_io_init(struct qedfs_io *io, struct qedfs_tree *tree,
		   struct fuse_session *session, struct qedfs_overrun *overrun)
{
	memset(io, 0, sizeof(*io));
	io->tree = tree;
	io->session = session;
	io->overrun = overrun;
	qedfs_pool_init(&io->pool);
}

void qedfs_io_drain(struct qedfs_io *io)
{
	qedfs_pool_drain(&io->pool);
}

void qedfs_io_finish(struct qedfs_io *io)
{
	qedfs_pool_finish(&io->pool);
}

static void finish_with_error(struct qedfs_request *request, int64_t result)
{
	fuse_reply_err(request->req, (int)-result);
	put(request);
}

/*
 * Reading.
 */

static void read_done(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	if (result < 0) {
		finish_with_error(request, result);
		return;
	}
	fuse_reply_buf(request->req, request->buf, (size_t)result);
	put(request);
}

/* Lent bytes in the form that libfuse wants. */
struct lent {
	struct qed_loan loan;
	struct fuse_bufvec vec;
	struct fuse_buf more[QED_LOAN_PARTS - 1]; /* behind vec's own */
};

static void describe_loan(struct lent *lent)
{
	struct fuse_buf *buf = lent->vec.buf;

	lent->vec.count = lent->loan.nparts;
	lent->vec.idx = 0;
	lent->vec.off = 0;
	for (unsigned i = 0; i < lent->loan.nparts; i++) {
		const struct qed_loan_part *part = &lent->loan.parts[i];

		buf[i] = (struct fuse_buf){
			.size = part->len,
			.flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK,
			.fd = part->fd,
			.pos = (off_t)part->offset,
		};
	}
}

/*
 * The kernel moves the bytes from the image's page cache to the reader, by way
 * of a pipe of libfuse's, which copies where that is not possible.  False:
 * nothing has been answered.
 */
static bool answer_by_loan(struct qedfs_request *request, uint64_t offset)
{
	struct qed_image *image = request->io->tree->image;
	struct lent lent;
	int ret;

	if (!qed_lend(image, offset, request->size, &lent.loan))
		return false;
	describe_loan(&lent);
	ret = fuse_reply_data(request->req, &lent.vec, 0);
	qed_lend_end(image, &lent.loan, ret < 0 ? ret : (int64_t)request->size);
	return true;
}

static bool read_without_copy(struct qedfs_io *io, fuse_req_t req, size_t size,
			      uint64_t offset)
{
	struct qedfs_request *request = qedfs_pool_get(&io->pool, req, 0);
	bool answered;

	if (!request)
		return false;
	request->io = io;
	request->size = size;
	answered = answer_by_loan(request, offset);
	put(request);
	return answered;
}

void qedfs_io_read(struct qedfs_io *io, fuse_req_t req, size_t size,
		   uint64_t offset)
{
	struct qedfs_request *request;

	if (size >= LEND_MIN && read_without_copy(io, req, size, offset))
		return;
	request = get(io, req, size);
	if (request)
		qed_readv(io->tree->image, &request->iov, 1, offset, read_done,
			  request);
}

/*
 * Writing.
 */

/* Nobody may be left to hear of a late write's error but the log. */
static void log_failure(struct qedfs_request *request, int64_t result)
{
	if (!atomic_exchange(&request->io->failure_logged, true))
		qedfs_log(QED_LOG_ERROR, "%s: write: %s",
			  request->io->overrun->place->mountpoint,
			  strerror((int)-result));
}

/* What the kernel knows of the space in use may be out of date by now. */
static void notify_outdated(struct qedfs_io *io, bool now)
{
	if (qedfs_tree_outdated(io->tree, now))
		fuse_lowlevel_notify_inval_inode(io->session,
						 io->tree->file_ino, -1, 0);
}

/* All of it is in the image, durably if that was asked for. */
static void answer_write(struct qedfs_request *request)
{
	struct qedfs_io *io = request->io;

	notify_outdated(io, false);
	if (request->overruns)
		qedfs_overrun_write(io->overrun, request->req, request->size);
	else
		fuse_reply_write(request->req, request->size);
	put(request);
}

static void write_flushed(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	if (result < 0)
		finish_with_error(request, result);
	else
		answer_write(request);
}

static void write_done(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	if (result < 0) {
		if (result != -EFBIG)
			log_failure(request, result);
		finish_with_error(request, result);
		return;
	}
	if (!request->overruns)
		request->size = (size_t)result;
	if (request->durable)
		qed_flush(request->io->tree->image, write_flushed, request);
	else
		answer_write(request);
}

/* The part of a late write that lies on the disk. */
static size_t inner_size(const struct qedfs_tree *tree, size_t size,
			 uint64_t offset)
{
	if (offset >= tree->size)
		return 0;
	return size < tree->size - offset ? size : tree->size - offset;
}

void qedfs_io_write(struct qedfs_io *io, fuse_req_t req, const void *data,
		    size_t size, uint64_t offset, unsigned flags)
{
	struct qedfs_request *request = get(io, req, size);

	if (!request)
		return;
	request->durable = flags & QEDFS_WRITE_DURABLE;
	if (flags & QEDFS_WRITE_LATE) {
		request->iov.iov_len = inner_size(io->tree, size, offset);
		request->overruns = request->iov.iov_len < size;
	}
	if (request->overruns && request->iov.iov_len == 0) {
		answer_write(request);
		return;
	}
	memcpy(request->buf, data, request->iov.iov_len);
	qed_writev(io->tree->image, &request->iov, 1, offset, write_done,
		   request);
}

static void allocate_done(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	notify_outdated(request->io, true);
	fuse_reply_err(request->req, result < 0 ? (int)-result : 0);
	put(request);
}

void qedfs_io_allocate(struct qedfs_io *io, fuse_req_t req,
		       enum qedfs_range how, uint64_t offset, uint64_t len)
{
	struct qedfs_request *request = get(io, req, 0);

	if (!request)
		return;
	if (how == QEDFS_RANGE_ZERO)
		qed_zero(io->tree->image, offset, len, allocate_done, request);
	else
		qed_preallocate(io->tree->image, offset, len, allocate_done,
				request);
}

/*
 * Flushing and seeking.
 */

static void flush_done(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	notify_outdated(request->io, true);
	fuse_reply_err(request->req, result < 0 ? (int)-result : request->err);
	put(request);
}

void qedfs_io_closed(struct qedfs_io *io)
{
	notify_outdated(io, true);
}

void qedfs_io_flush(struct qedfs_io *io, fuse_req_t req, int err)
{
	struct qedfs_request *request = get(io, req, 0);

	if (!request)
		return;
	request->err = err;
	qed_flush(io->tree->image, flush_done, request);
}

static void seek_done(void *opaque, int64_t result)
{
	struct qedfs_request *request = opaque;

	if (result < 0) {
		finish_with_error(request, result);
		return;
	}
	fuse_reply_lseek(request->req, (off_t)result);
	put(request);
}

void qedfs_io_seek(struct qedfs_io *io, fuse_req_t req, uint64_t offset,
		   int whence)
{
	struct qedfs_request *request = get(io, req, 0);

	if (request)
		qed_seek(io->tree->image, offset, whence, seek_done, request);
}
