/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Merging images into one below them; qed.h states the contract of
 * qed_image_commit().  (What commit.c does is the metadata writer's.)
 *
 * The chain is open down to the image that receives, which is open beside it,
 * for writing, and made larger first if its disk is too short.  What the upper
 * images say of the disk is written to it, by ordinary requests: that changes
 * nothing of what the top image shows, since there the upper ones decide.  Only
 * when all is durable is the top image emptied or removed.
 *
 * Thread model: plan's fields are plan's.
 */
#include "config.h"

#include "blame.h"
#include "empty.h"
#include "image.h"
#include "merge.h"
#include "receiver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ZERO_MAX (UINT64_C(1) << 28)	/* bytes zeroed between two steps */

/* A piece's value. */
enum { PIECE_ZERO, PIECE_DATA };

struct merge {
	const char *path;
	const struct qed_commit_options *options;
	struct qed_engine *engine;	/* the images have shares of it */
	struct qed_image *from;		/* the chain above the one that receives */
	struct qed_receiver to;
	struct qed_transfer transfer;
	uint64_t pos;			/* of the next piece */
	struct qed_map_extent extent;	/* the last one that was found, */
	uint64_t extent_end;		/* and where on the disk it ends */
	bool emptying;			/* the top image has been, or in part */
};

static int complain(const struct merge *m, int err, const char *what)
{
	qed_log_write(&m->options->log, QED_LOG_ERROR, "%s: %s: %s", m->path,
		      what, strerror(-err));
	return err;
}

static int refuse(const struct merge *m, int err, const char *why)
{
	qed_log_write(&m->options->log, QED_LOG_ERROR, "%s: %s", m->path, why);
	return err;
}

/* --- copying ---------------------------------------------------------------------- */

static int find_extent(struct merge *m)
{
	int ret = 0;

	if (m->pos >= m->extent_end)
		ret = qed_map(m->from, m->pos,
			      qed_min(m->from->size - m->pos, QED_PLAN_LEN),
			      &m->extent);
	if (ret == 0 && m->pos >= m->extent_end)
		m->extent_end = m->pos + m->extent.len;
	return ret;
}

/* Has none of the upper images a word to say? */
static bool falls_through(const struct merge *m)
{
	/* Past the end of one of them lie zeroes, not what is below. */
	return m->extent.kind == QED_MAP_HOLE &&
	       m->extent.depth + 1 == m->from->chain.n;
}

static int plan(struct qed_transfer *transfer, struct qed_piece *piece,
		uint64_t *passed)
{
	struct merge *m = transfer->opaque;

	for (unsigned i = 0; i < QED_PLAN_STEPS; i++) {
		bool data;
		uint64_t len;
		int ret;

		if (m->pos >= m->from->size)
			return QED_PIECE_NONE;
		ret = find_extent(m);
		data = m->extent.kind == QED_MAP_DATA;
		len = m->extent_end - m->pos;
		if (ret < 0)
			return qed_blame(transfer, piece, ret, m->from, "read",
					 m->pos);
		if (!falls_through(m)) {
			piece->disk_off = m->pos;
			piece->len = qed_min(len, data ? QED_PIECE_MAX :
							 ZERO_MAX);
			piece->value = data ? PIECE_DATA : PIECE_ZERO;
			m->pos += piece->len;
			return 0;
		}
		m->pos += len;
		*passed += len;
	}
	return QED_PIECE_LATER;
}

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int fail_write(struct merge *m, const struct qed_piece *piece, int err)
{
	return err < 0 ? qed_receiver_blame(&m->to, &m->transfer, piece, err,
					    piece->disk_off) :
			 0;
}

static int copy(struct merge *m, const struct qed_piece *piece)
{
	uint64_t start = nanoseconds(), read;
	int64_t n = qed_pread(m->from, piece->buf[0], piece->len,
			      piece->disk_off);
	int ret;

	if (n < 0)
		return qed_blame(&m->transfer, piece, (int)n, m->from, "read",
				 piece->disk_off);
	read = nanoseconds();
	ret = fail_write(m, piece,
			 qed_receiver_write(&m->to, piece->buf[0], piece->len,
					    piece->disk_off));
	/*
	 * While it is reading that takes time the disk has enough to do.  Of what went
	 * past the page cache there is nothing left to begin.
	 */
	if (ret == 0 && read - start < nanoseconds() - read)
		qed_receiver_write_behind(&m->to, piece->len);
	return ret;
}

static int work(struct qed_transfer *transfer, struct qed_piece *piece)
{
	struct merge *m = transfer->opaque;

	return piece->value == PIECE_DATA ?
		       copy(m, piece) :
		       fail_write(m, piece,
				  qed_receiver_zero(&m->to, piece->disk_off,
						    piece->len));
}

/* Damage, and a flush that failed, have been logged where they happened. */
static bool is_logged(const struct merge *m, int err)
{
	return err == -EUCLEAN || qed_receiver_failed(&m->to);
}

static int report(const struct merge *m, int err)
{
	if (is_logged(m, err))
		return err;
	if (!m->transfer.message || err == -ECANCELED)
		return complain(m, err, "cannot be committed");
	qed_log_write(&m->options->log, QED_LOG_ERROR,
		      "%s; %s has not been changed: %s", m->transfer.message,
		      m->path, qed_next_step(err));
	return err;
}

static int sync_receiver(struct merge *m)
{
	int ret = qed_receiver_sync(&m->to);

	if (ret < 0 && !is_logged(m, ret))
		qed_log_write(&m->options->log, QED_LOG_ERROR,
			      "%s: cannot be made durable: %s; %s has not been "
			      "changed: %s", qed_receiver_path(&m->to),
			      strerror(-ret), m->path,
			      qed_next_step(ret));
	return ret;
}

/* Writes that go past the page cache are not made faster by processors. */
static unsigned choose_workers(const struct merge *m)
{
	return qed_receiver_waits(&m->to) ? QED_WORKERS_MAX : 0;
}

static int copy_all(struct merge *m)
{
	int ret;

	m->transfer = (struct qed_transfer){ .nworkers = choose_workers(m),
					     .nbufs = 1,
					     .total = m->from->size,
					     .job = m->options->job,
					     .plan = plan,
					     .work = work,
					     .opaque = m };
	ret = qed_transfer_run(&m->transfer);
	if (ret < 0)
		ret = report(m, ret);
	free(m->transfer.message);
	return ret < 0 ? ret : sync_receiver(m);
}

/* --- what becomes of the top image -------------------------------------------------- */

static int empty(struct merge *m)
{
	/* Opened for writing it may have been repaired. */
	int ret = qed_meta_clean(m->from->meta);

	m->emptying = true;
	if (ret < 0)
		return ret;	/* logged */
	ret = qed_layer_empty(m->from->top);
	if (ret < 0)
		qed_log_write(&m->options->log, QED_LOG_ERROR,
			      "%s: has been committed, but cannot be emptied: "
			      "its L1 table, at file offset %" PRIu64 ": %s; "
			      "what it shows is the same: %s", m->path,
			      m->from->top->header.l1_table_offset,
			      strerror(-ret), qed_next_step(ret));
	return ret;
}

/* The name may have gone to another file. */
static bool is_still_there(const struct merge *m)
{
	const struct qed_file *file = m->from->top->source.file;
	struct stat st;

	return lstat(m->path, &st) == 0 && st.st_dev == file->dev &&
	       st.st_ino == file->ino;
}

static int sync_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) :
			    strdup(".");
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int ret = 0;

	free(dir);
	/* EINVAL: a file system that does not sync directories. */
	if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static int remove_image(const struct merge *m)
{
	int ret = 0;

	if (!is_still_there(m))
		return refuse(m, -ESTALE, "has been committed, but not removed: "
					  "the name is another file's now");
	if (unlink(m->path) < 0)
		ret = -errno;
	if (ret == 0)
		ret = sync_dir(m->path);
	return ret < 0 ? complain(m, ret, "has been committed, but cannot be "
					  "removed") : 0;
}

static int finish(struct merge *m)
{
	switch (m->options->then) {
	case QED_THEN_EMPTY:
		return empty(m);
	case QED_THEN_DELETE:
		return remove_image(m);
	case QED_THEN_KEEP:
		break;
	}
	return 0;
}

/* --- who receives ------------------------------------------------------------------- */

/* Is this layer the one that the caller names? */
static bool is_named(const struct merge *m, unsigned layer)
{
	const struct qed_chain *chain = &m->from->chain;
	const struct qed_file *file = chain->layers[layer]->source.file;
	const char *base = m->options->base;
	struct stat st;

	if (stat(base, &st) == 0)
		return st.st_dev == file->dev && st.st_ino == file->ino;
	return layer > 0 && !strcmp(base, chain->layers[layer - 1]->backing_name);
}

/* Its number in the chain into *layer. */
static int find_receiver(const struct merge *m, unsigned *layer)
{
	const struct qed_chain *chain = &m->from->chain;

	if (chain->n == 1)
		return refuse(m, -EINVAL, "has no backing file to be committed "
					  "to");
	*layer = 1;
	if (!m->options->base)
		return 0;
	for (*layer = 0; *layer < chain->n; ++*layer)
		if (is_named(m, *layer))
			break;
	if (*layer == 0)
		return refuse(m, -EINVAL, "cannot be committed to itself");
	if (*layer < chain->n)
		return 0;
	qed_log_write(&m->options->log, QED_LOG_ERROR,
		      "%s: %s is not one of the files behind it; 'qedimg info "
		      "--backing-chain' lists them", m->path, m->options->base);
	return -EINVAL;
}

static int check_empty(const struct merge *m, unsigned layer)
{
	if (layer > 1)
		return refuse(m, -EINVAL,
			      "can be emptied only when it is committed to its "
			      "own backing file: what lies between would show "
			      "through; keep it, or delete it");
	if (m->from->top->header.compat_features)
		return refuse(m, -ENOTSUP,
			      "uses compatible features that are unknown here, "
			      "which may have data in it: it can be committed, "
			      "but not emptied");
	return 0;
}

static int check_delete(const struct merge *m)
{
	struct stat st;

	if (lstat(m->path, &st) < 0)
		return complain(m, -errno, "cannot stat");
	if (S_ISREG(st.st_mode))
		return 0;
	return refuse(m, -EINVAL, S_ISLNK(st.st_mode) ?
			      "is a symbolic link, only a file can be deleted; "
			      "name what it points at" :
			      "is not a regular file and cannot be deleted");
}

static int check_then(const struct merge *m, unsigned layer)
{
	if (m->options->then == QED_THEN_EMPTY)
		return check_empty(m, layer);
	if (m->options->then == QED_THEN_DELETE)
		return check_delete(m);
	return 0;
}

/* --- the job ------------------------------------------------------------------------ */

static int open_from(struct merge *m)
{
	struct qed_open_options options;
	struct qed_engine *share;
	int ret = qed_engine_share(m->engine, &share);

	if (ret < 0)
		return complain(m, ret, "commit");
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.log = m->options->log;
	return qed_image_open_engine(m->path, &options, share, &m->from);
}

/* From here on the images from `layer` on are out of the chain, and unlocked. */
static int open_to(struct merge *m, unsigned layer)
{
	struct qed_layer *receiver = m->from->chain.layers[layer];
	struct qed_file *file = receiver->source.file;
	char *path = strdup(file->path);
	const struct qed_receiver_options options = {
		.path = path,
		.raw = receiver->raw,
		.dev = file->dev,
		.ino = file->ino,
		.size = m->from->size,
		.log = &m->options->log,
		.job = m->options->job,
	};
	int ret;

	if (!path)
		return complain(m, -ENOMEM, "commit");
	qed_chain_cut(&m->from->chain, layer);
	ret = qed_receiver_open(&m->to, &options, m->engine);
	free(path);
	return ret;
}

static int merge_open(struct merge *m)
{
	unsigned layer = 0;
	int ret = find_receiver(m, &layer), err;

	if (ret == 0)
		ret = check_then(m, layer);
	if (ret == 0)
		ret = open_to(m, layer);
	if (ret == 0)
		ret = copy_all(m);
	/* Closed well it has no NEED_CHECK flag any more. */
	err = qed_receiver_close(&m->to);
	if (ret == 0 && err < 0)
		ret = complain(m, err, "the backing file cannot be closed well");
	return ret == 0 ? finish(m) : ret;
}

int qed_image_commit_engine(const char *path,
			    const struct qed_commit_options *options,
			    struct qed_engine *engine)
{
	struct merge m = { .path = path, .options = options, .engine = engine };
	int ret = open_from(&m), err = 0;

	if (ret == 0)
		ret = merge_open(&m);
	/* To close it would cut off what its last cluster has: it has not changed. */
	if (ret < 0 && m.from && !m.emptying)
		qed_image_discard(m.from);
	else
		err = qed_image_close(m.from);
	if (ret == 0 && err < 0)
		ret = complain(&m, err, "cannot be closed well");
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_commit(const char *path, const struct qed_commit_options *options)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(options->io, path, &options->log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_commit_engine(path, options, engine);
}
