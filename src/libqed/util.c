/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Logging, descriptors, scatter lists and wait lists; util.h states the contracts. */
#include "config.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Nearly every message fits; one with long paths in it is allocated. */
#define LOG_LINE 512

/* File names may hold anything: what is promised is one line. */
static void make_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void qed_log_write(const struct qed_log *log, enum qed_log_level level,
		   const char *format, ...)
{
	char line[LOG_LINE], *text = line, *longer = NULL;
	va_list args;
	int len;

	if (!log || !log->write)
		return;
	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(line)) {
		/* Without memory the cut line still is worth having. */
		va_start(args, format);
		if (vasprintf(&longer, format, args) < 0)
			longer = NULL;
		va_end(args);
	}
	if (longer)
		text = longer;
	make_one_line(text);
	log->write(log->opaque, level, text);
	free(longer);
}

const char *qed_next_step(int err)
{
	switch (err) {
	case -ENOSPC:
	case -EDQUOT:
		return "make room and run it again";
	case -EFBIG:
		return "raise the limit (ulimit -f), or use another file "
		       "system, and run it again";
	case -EUCLEAN:
		return "mend it first with 'qedimg check -r all'";
	case -ECANCELED:
		return "run it again";
	default:
		return "run it again when that is mended";
	}
}

int qed_keep_off_std(int fd)
{
	int high;

	if (fd > STDERR_FILENO || fd < 0)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	close(fd);
	return high;
}

void qed_refusev(const struct qed_log *log, const char *path, int err,
		 const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	qed_log_write(log, QED_LOG_ERROR, "%s: %s", path,
		      text ? text : strerror(-err));
	free(text);
}

uint64_t qed_iov_bytes(const struct iovec *iov, int iovcnt)
{
	uint64_t bytes = 0;

	for (int i = 0; i < iovcnt; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/*
 * The walk behind the next three: finds the next non-empty part of the bytes
 * [*skip, *skip + *len), starting at element *index, and moves on behind it.
 */
static bool next_part(const struct iovec *iov, int iovcnt, int *index,
		      uint64_t *skip, uint64_t *len, struct iovec *part)
{
	while (*len > 0 && *index < iovcnt) {
		const struct iovec *v = &iov[(*index)++];
		uint64_t skipped = qed_min(*skip, v->iov_len);
		uint64_t n = qed_min(*len, v->iov_len - skipped);

		*skip -= skipped;
		*len -= n;
		if (n > 0) {
			part->iov_base = (char *)v->iov_base + skipped;
			part->iov_len = n;
			return true;
		}
	}
	return false;
}

int qed_iov_slice(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len, struct iovec *out)
{
	struct iovec part;
	int index = 0, n = 0;

	while (next_part(iov, iovcnt, &index, &skip, &len, &part))
		out[n++] = part;
	return n;
}

int qed_iov_parts(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len)
{
	struct iovec part;
	int index = 0, n = 0;

	while (next_part(iov, iovcnt, &index, &skip, &len, &part))
		n++;
	return n;
}

void qed_iov_zero(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len)
{
	struct iovec part;
	int index = 0;

	while (next_part(iov, iovcnt, &index, &skip, &len, &part))
		memset(part.iov_base, 0, part.iov_len);
}

/* Each must equal the one before it. */
bool qed_is_zero(const void *buf, size_t n)
{
	const char *p = buf;

	return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

bool qed_iov_is_zero(const struct iovec *iov, int iovcnt, uint64_t skip,
		     uint64_t len)
{
	struct iovec part;
	int index = 0;

	while (next_part(iov, iovcnt, &index, &skip, &len, &part))
		if (!qed_is_zero(part.iov_base, part.iov_len))
			return false;
	return true;
}

void qed_waitlist_init(struct qed_waitlist *list)
{
	list->head = NULL;
	list->tail = &list->head;
}

void qed_waitlist_add(struct qed_waitlist *list, struct qed_waiter *waiter)
{
	waiter->next = NULL;
	*list->tail = waiter;
	list->tail = &waiter->next;
}

void qed_waitlist_move(struct qed_waitlist *to, struct qed_waitlist *from)
{
	if (!from->head)
		return;
	*to->tail = from->head;
	to->tail = from->tail;
	qed_waitlist_init(from);
}

void qed_waitlist_wake(struct qed_waitlist *list, int err)
{
	struct qed_waiter *waiter = list->head;

	/*
	 * A waiter may free itself, wait on the same list again or end the
	 * list's life: the list is let go before the first call.
	 */
	qed_waitlist_init(list);
	while (waiter) {
		struct qed_waiter *next = waiter->next;

		waiter->wake(waiter, err);
		waiter = next;
	}
}

unsigned qed_thread_shard(void)
{
	static _Atomic unsigned next;
	static _Thread_local unsigned mine;	/* plus 1; 0: none yet */

	if (!mine)
		mine = atomic_fetch_add_explicit(&next, 1,
						 memory_order_relaxed) %
			       QED_SHARDS +
		       1;
	return mine - 1;
}
