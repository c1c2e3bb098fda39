/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Small helpers that every room may use: checked sums, logging, a mutex. */
#ifndef QED_UTIL_H
#define QED_UTIL_H

#include "qed.h"

#include <pthread.h>
#include <stdarg.h>

/* a + b or a * b into *r; false on overflow (then *r is unspecified). */
static inline bool qed_add(uint64_t a, uint64_t b, uint64_t *r)
{
	return !__builtin_add_overflow(a, b, r);
}

static inline bool qed_mul(uint64_t a, uint64_t b, uint64_t *r)
{
	return !__builtin_mul_overflow(a, b, r);
}

static inline uint64_t qed_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t qed_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* `align` is a power of two; the caller knows that the sum cannot overflow. */
static inline uint64_t qed_round_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t qed_round_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

/* One formatted line to the caller's log; nothing if it has none. */
void qed_log_write(const struct qed_log *log, enum qed_log_level level,
		   const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * A descriptor, or -1 with errno, that was just opened: not in the place of a
 * standard one that is closed, as messages would be written into the file.  It may
 * be another number; -1 with errno, and closed, if there is none.
 */
int qed_keep_off_std(int fd);

/* What the user is to do about `err`, -errno, if nothing has been spoilt. */
const char *qed_next_step(int err);

/*
 * An error that is about a file: logs "PATH: message".  `err`, -errno, says it
 * where there is no memory for more.
 */
void qed_refusev(const struct qed_log *log, const char *path, int err,
		 const char *format, va_list args)
	__attribute__((format(printf, 4, 0)));

/*
 * Total parts of a scatter list.  qed_iov_slice() stores the parts of the bytes
 * [skip, skip + len) of `iov` in `out` (room for `iovcnt` parts) and returns
 * how many; the caller knows that the list is long enough.
 */
uint64_t qed_iov_bytes(const struct iovec *iov, int iovcnt);
int qed_iov_slice(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len, struct iovec *out);
/* How many parts qed_iov_slice() would make. */
int qed_iov_parts(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len);
/* Zeroes the bytes [skip, skip + len) of the list. */
void qed_iov_zero(const struct iovec *iov, int iovcnt, uint64_t skip,
		  uint64_t len);

/* Are the `n` bytes at `buf` all zero? */
bool qed_is_zero(const void *buf, size_t n);
/* Are the bytes [skip, skip + len) of the list? */
bool qed_iov_is_zero(const struct iovec *iov, int iovcnt, uint64_t skip,
		     uint64_t len);

/*
 * A continuation: something that waits for an event of another room.  The
 * waiter's owner keeps it alive until `wake` runs, once, with 0 or -errno.
 */
struct qed_waiter {
	void (*wake)(struct qed_waiter *waiter, int err);
	struct qed_waiter *next;
	bool missed;			/* a look-up that began has been counted
					 * as a miss (cluster.c) */
};

struct qed_waitlist {
	struct qed_waiter *head, **tail;
};

void qed_waitlist_init(struct qed_waitlist *list);
void qed_waitlist_add(struct qed_waitlist *list, struct qed_waiter *waiter);
/* Moves everything from `from` to the end of `to`. */
void qed_waitlist_move(struct qed_waitlist *to, struct qed_waitlist *from);
/* Wakes all, first come first.  Call it without any lock. */
void qed_waitlist_wake(struct qed_waitlist *list, int err);

/*
 * Where threads would fight over a cache line they get several, the shards: the
 * number of the calling thread's, which never changes.
 */
#define QED_SHARDS     16u
#define QED_CACHE_LINE 64
unsigned qed_thread_shard(void);

/* What an asynchronous step returns when its callback will follow. */
#define QED_PENDING 1

#endif
