/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * I/O engines: a small table of operations that makes single attempts at
 * reading, writing, flushing, punching and growing host files.  Two ship with
 * the library, io_uring and a thread pool; tests plug in others that fail,
 * tear, delay or record.
 */
#ifndef QED_ENGINE_H
#define QED_ENGINE_H

#include "qed.h"

struct qed_file;

enum qed_op {
	QED_OP_READ,
	QED_OP_WRITE,
	QED_OP_FLUSH,
	QED_OP_PUNCH,
	QED_OP_GROW,
	QED_OP_CUT,
	QED_OP_CLONE,
	QED_OP_COPY,
};

/* One operation on one file; file.h says who fills what and for how long. */
struct qed_io {
	enum qed_op op;
	uint64_t file_off;
	uint64_t len;
	struct iovec *iov;
	int iovcnt;
	struct qed_file *from;		/* CLONE, COPY */
	uint64_t from_off;
	void (*done)(struct qed_io *io, int err);

	/* private to file.c */
	struct qed_file *file;
	uint64_t left;			/* bytes still to move */
	/* private to the engine while an attempt is under way */
	struct qed_io *next;
	int64_t result;
	/* private to a share of an engine */
	void (*shared_done)(struct qed_io *io, int err);
};

struct qed_engine {
	const struct qed_engine_ops *ops;
};

struct qed_engine_ops {
	const char *name;
	/*
	 * Starts one attempt at what is left of `io` (file_off, left, iov).
	 * Its raw result, a count or -errno, goes to qed_file_attempted() from
	 * a thread of the engine, never from inside this call.
	 */
	void (*submit)(struct qed_engine *engine, struct qed_io *io);
	/*
	 * Optional.  One attempt on the calling thread if that will not make it
	 * wait: the raw result, or -EAGAIN if it should be submitted.
	 */
	int64_t (*try_now)(struct qed_engine *engine, struct qed_io *io);
	/* No operation is under way. */
	void (*destroy)(struct qed_engine *engine);
};

/* Engines call this with each attempt's raw result (file.c). */
void qed_file_attempted(struct qed_io *io, int64_t result);
/*
 * What the engines share (engine.c): the descriptor of an operation's file, one
 * blocking attempt by plain system calls, and one that does not wait for the
 * disk (reads of cached pages; writes into the page cache, growth, and what
 * only blocking callers ask for: cuts, clones and copies; the first two not on
 * an engine's own thread, which says so once by qed_engine_enter_thread()).
 */
int qed_engine_fd(const struct qed_io *io);
int qed_engine_iovcnt(const struct qed_io *io);
int64_t qed_engine_attempt(const struct qed_io *io);
int64_t qed_engine_try_now(struct qed_engine *engine, struct qed_io *io);
void qed_engine_enter_thread(void);

/* -ENOSYS or -EPERM if the kernel or the build has no io_uring. */
int qed_engine_uring_create(struct qed_engine **engine);
int qed_engine_threads_create(struct qed_engine **engine);
/* By the caller's wish; QED_IO_AUTO falls back from io_uring to threads. */
int qed_engine_create(enum qed_io_engine which, struct qed_engine **engine);
/* The same for work on the file at `path`, with one message about it on failure. */
int qed_engine_start(enum qed_io_engine which, const char *path,
		     const struct qed_log *log, struct qed_engine **engine);
void qed_engine_destroy(struct qed_engine *engine);

/*
 * Another engine that does everything by this one, for jobs that open several
 * images: each image owns its share, and the engine outlives them.  0 or
 * -ENOMEM.
 */
int qed_engine_share(struct qed_engine *engine, struct qed_engine **share);

#endif
