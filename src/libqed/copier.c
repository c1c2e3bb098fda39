/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies within a file; copier.h states what is promised.
 *
 * Thread model: the caller's thread fills an idle slot and starts it; from then
 * on the slot belongs to the thread that reports its operation, which goes on
 * with it, until it is idle again.  `lock` guards what says whether that is so.
 */
#include "config.h"

#include "copier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (UINT64_C(2) << 20)
#define SLOTS 4

struct slot {
	struct qed_io io;
	struct iovec iov;
	struct qed_copier *copier;
	uint8_t *buf;			/* PIECE bytes */
	uint64_t to, len;
	bool busy;			/* under lock */
};

struct qed_copier {
	struct qed_file *file;
	struct slot slot[SLOTS];
	uint64_t from, to, len;		/* added and not yet begun */
	pthread_mutex_t lock;
	pthread_cond_t idle;
	int err;			/* under lock: the first, */
	uint64_t err_off;		/* and where in the file */
};

static void slot_done(struct qed_io *io, int err);

/* Starts the slot's next operation: 0 or -errno if it is over, or QED_PENDING. */
static int slot_start(struct slot *slot, enum qed_op op, uint64_t file_off)
{
	slot->iov = (struct iovec){ .iov_base = slot->buf,
				    .iov_len = slot->len };
	slot->io = (struct qed_io){ .op = op,
				    .file_off = file_off,
				    .len = slot->len,
				    .iov = &slot->iov,
				    .iovcnt = 1,
				    .done = slot_done };
	return qed_file_start(slot->copier->file, &slot->io);
}

static bool cannot_punch(const struct slot *slot, int err)
{
	return slot->io.op == QED_OP_PUNCH &&
	       (err == -EOPNOTSUPP || err == -ENOSYS || err == -ENODEV);
}

/* An operation of the slot is over: what comes next. */
static void slot_advance(struct slot *slot, int err)
{
	struct qed_copier *t = slot->copier;

	while (err != QED_PENDING) {
		bool zeroes = cannot_punch(slot, err);

		if (zeroes)
			memset(slot->buf, 0, slot->len);
		else if (err < 0 || slot->io.op != QED_OP_READ)
			break;
		err = slot_start(slot, QED_OP_WRITE, slot->to);
	}
	if (err == QED_PENDING)
		return;
	pthread_mutex_lock(&t->lock);
	if (err < 0 && t->err == 0) {
		t->err = err;
		t->err_off = slot->io.file_off;
	}
	slot->busy = false;
	pthread_cond_signal(&t->idle);
	pthread_mutex_unlock(&t->lock);
}

static void slot_done(struct qed_io *io, int err)
{
	slot_advance((struct slot *)io, err);
}

static struct slot *idle_slot_locked(struct qed_copier *t)
{
	for (int i = 0; i < SLOTS; i++)
		if (!t->slot[i].busy)
			return &t->slot[i];
	return NULL;
}

/* Waits for one; null after an error. */
static struct slot *take_slot(struct qed_copier *t)
{
	struct slot *slot;

	pthread_mutex_lock(&t->lock);
	while (!(slot = idle_slot_locked(t)))
		pthread_cond_wait(&t->idle, &t->lock);
	if (t->err < 0)
		slot = NULL;
	else
		slot->busy = true;
	pthread_mutex_unlock(&t->lock);
	return slot;
}

/* Has the host stored nothing of this range?  Then it reads as zeroes. */
static bool is_hole(const struct qed_copier *t, uint64_t off, uint64_t len)
{
	uint64_t data = qed_file_next_data(t->file, off);

	return data >= off && data - off >= len;
}

/* Copies a piece, or punches where it goes: unless there has been an error. */
static void begin_piece(struct qed_copier *t, uint64_t len, bool hole)
{
	struct slot *slot = take_slot(t);

	if (!slot)
		return;
	slot->len = len;
	slot->to = t->to;
	if (hole)
		slot_advance(slot, slot_start(slot, QED_OP_PUNCH, t->to));
	else
		slot_advance(slot, slot_start(slot, QED_OP_READ, t->from));
}

/* What has been added, by pieces that are all data or all hole. */
static void begin(struct qed_copier *t)
{
	while (t->len > 0) {
		uint64_t data = qed_file_next_data(t->file, t->from), end;
		bool hole = data > t->from;
		uint64_t len = qed_min(t->len, PIECE);

		end = hole ? data : qed_file_next_hole(t->file, t->from);
		if (end > t->from)
			len = qed_min(len, end - t->from);
		if (!hole || !is_hole(t, t->to, len))
			begin_piece(t, len, hole);
		t->from += len;
		t->to += len;
		t->len -= len;
	}
}

void qed_copier_add(struct qed_copier *t, uint64_t from, uint64_t to,
		      uint64_t len)
{
	if (t->len && (t->from + t->len != from || t->to + t->len != to))
		begin(t);
	if (!t->len) {
		t->from = from;
		t->to = to;
	}
	t->len += len;
}

int qed_copier_wait(struct qed_copier *t, uint64_t *file_off)
{
	int err;

	begin(t);
	pthread_mutex_lock(&t->lock);
	for (int i = 0; i < SLOTS; i++)
		while (t->slot[i].busy)
			pthread_cond_wait(&t->idle, &t->lock);
	err = t->err;
	*file_off = t->err_off;
	t->err = 0;
	pthread_mutex_unlock(&t->lock);
	return err;
}

int qed_copier_create(struct qed_file *file, struct qed_copier **copier)
{
	struct qed_copier *t = calloc(1, sizeof(*t));

	*copier = NULL;
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->idle, NULL);
	t->file = file;
	for (int i = 0; i < SLOTS; i++) {
		t->slot[i].copier = t;
		t->slot[i].buf = malloc(PIECE);
		if (!t->slot[i].buf) {
			qed_copier_destroy(t);
			return -ENOMEM;
		}
	}
	*copier = t;
	return 0;
}

void qed_copier_destroy(struct qed_copier *t)
{
	if (!t)
		return;
	for (int i = 0; i < SLOTS; i++)
		free(t->slot[i].buf);
	pthread_cond_destroy(&t->idle);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
