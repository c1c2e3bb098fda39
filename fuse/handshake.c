/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libfuse writes its answers to the session's descriptor.  For the first one a
 * socket is put in the descriptor's place; what comes out at its other end goes
 * to the kernel with the flag added.
 */
#include <config.h>

#include "handshake.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What libfuse would say to the kernel. */
struct answer {
	struct fuse_out_header header;
	struct fuse_init_out init;
};

static bool kernel_offers(const struct fuse_buf *request)
{
	const struct fuse_in_header *header = request->mem;
	const struct fuse_init_in *init = (const void *)(header + 1);

	return request->size >= sizeof(*header) + sizeof(*init) &&
	       header->opcode == FUSE_INIT &&
	       init->major == FUSE_KERNEL_VERSION &&
	       (init->flags & FUSE_HANDLE_KILLPRIV_V2);
}

/* Adds the flag to an answer of `len` bytes: true if that was possible. */
static bool add_flag(struct answer *answer, ssize_t len)
{
	if (len < (ssize_t)sizeof(*answer) || answer->header.error ||
	    answer->init.major != FUSE_KERNEL_VERSION)
		return false;
	answer->init.flags |= FUSE_HANDLE_KILLPRIV_V2;
	return true;
}

/*
 * Has libfuse answer to ends[1], in place of the connection, which is `kernel`
 * as well; passes the answer on.  False if libfuse has not seen the request.
 */
static bool answer_by_way_of(struct fuse_session *session,
			     const struct fuse_buf *request, const int ends[2],
			     int kernel, bool *granted)
{
	int fd = fuse_session_fd(session);
	struct answer answer;
	ssize_t len;

	if (dup3(ends[1], fd, O_CLOEXEC) < 0)
		return false;
	fuse_session_process_buf(session, request);
	len = recv(ends[0], &answer, sizeof(answer), MSG_DONTWAIT);
	dup3(kernel, fd, O_CLOEXEC);
	if (len > 0) {
		*granted = add_flag(&answer, len);
		len = write(kernel, &answer, (size_t)len);
	}
	if (len < 0)
		qedfs_log(QED_LOG_DEBUG, "handshake: %s", strerror(errno));
	return true;
}

static bool answer_with_flag(struct fuse_session *session,
			     const struct fuse_buf *request, bool *granted)
{
	int kernel, ends[2];
	bool answered = false;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return false;
	kernel = fcntl(fuse_session_fd(session), F_DUPFD_CLOEXEC, 0);
	if (kernel >= 0) {
		answered = answer_by_way_of(session, request, ends, kernel,
					    granted);
		close(kernel);
	}
	close(ends[0]);
	close(ends[1]);
	return answered;
}

void qedfs_handshake(struct fuse_session *session, bool *granted)
{
	struct fuse_buf request = { .mem = NULL };
	int got;

	if (QEDFS_CAP_KILLPRIV_V2)
		return;
	*granted = false;
	do {
		got = fuse_session_receive_buf(session, &request);
	} while (got == -EINTR);
	if (got > 0 && (!kernel_offers(&request) ||
			!answer_with_flag(session, &request, granted)))
		fuse_session_process_buf(session, &request);
	free(request.mem);
}
