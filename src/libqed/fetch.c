/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads ahead of who looks at them; fetch.h states the contract.
 *
 * Thread model: `lock` guards `over` and `err` of the slots while their reads
 * are under way, on the engine's threads; all else is the caller's alone.
 */
#include "config.h"

#include "fetch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

struct slot {
	struct qed_io io;		/* first, for read_over() */
	struct iovec iov;
	struct qed_fetch_state *state;
	struct qed_fetch_piece piece;	/* err: under lock */
	bool over;			/* under lock */
};

struct qed_fetch_state {
	pthread_mutex_t lock;
	pthread_cond_t news;
	uint8_t *bufs;
	struct slot slots[QED_FETCH_DEPTH];	/* a ring */
	unsigned first, n;		/* of it, begun and not handed out */
	bool waits;			/* the last one begun was not over at once */
	bool planned;			/* there are no more */
};

static void read_over(struct qed_io *io, int err)
{
	struct slot *slot = (struct slot *)io;
	struct qed_fetch_state *state = slot->state;

	pthread_mutex_lock(&state->lock);
	slot->piece.err = err;
	slot->over = true;
	pthread_cond_signal(&state->news);
	pthread_mutex_unlock(&state->lock);
}

static void begin_read(struct qed_fetch *fetch, struct slot *slot)
{
	int ret;

	slot->iov = (struct iovec){ .iov_base = slot->piece.buf,
				    .iov_len = slot->piece.len };
	slot->io = (struct qed_io){ .op = QED_OP_READ,
				    .file_off = slot->piece.file_off,
				    .len = slot->piece.len,
				    .iov = &slot->iov,
				    .iovcnt = 1,
				    .done = read_over };
	slot->over = false;
	ret = qed_file_start(fetch->file, &slot->io);
	fetch->state->waits = ret == QED_PENDING;
	if (ret != QED_PENDING)
		read_over(&slot->io, ret);
}

/* As many as there is reason to; a ring that is empty begins at its first slot. */
static void run_ahead(struct qed_fetch *fetch)
{
	struct qed_fetch_state *state = fetch->state;

	if (!state->n)
		state->first = 0;
	while (!state->planned && state->n < QED_FETCH_DEPTH &&
	       (!state->n || state->waits)) {
		struct slot *slot = &state->slots[(state->first + state->n) %
						  QED_FETCH_DEPTH];

		state->planned = !fetch->plan(fetch, &slot->piece);
		if (state->planned)
			break;
		begin_read(fetch, slot);
		state->n++;
	}
}

static void await(struct qed_fetch_state *state, struct slot *slot)
{
	pthread_mutex_lock(&state->lock);
	while (!slot->over)
		pthread_cond_wait(&state->news, &state->lock);
	pthread_mutex_unlock(&state->lock);
}

static struct slot *take(struct qed_fetch_state *state)
{
	struct slot *slot = &state->slots[state->first];

	state->first = (state->first + 1) % QED_FETCH_DEPTH;
	state->n--;
	await(state, slot);
	return slot;
}

struct qed_fetch_piece *qed_fetch_next(struct qed_fetch *fetch)
{
	run_ahead(fetch);
	return fetch->state->n ? &take(fetch->state)->piece : NULL;
}

int qed_fetch_init(struct qed_fetch *fetch)
{
	struct qed_fetch_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	/* Not by malloc(): of a small image only a little of it is ever touched. */
	state->bufs = mmap(NULL, QED_FETCH_DEPTH * QED_FETCH_BYTES,
			   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
	if (state->bufs == MAP_FAILED) {
		free(state);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < QED_FETCH_DEPTH; i++) {
		state->slots[i].state = state;
		state->slots[i].piece.buf = state->bufs + i * QED_FETCH_BYTES;
	}
	pthread_mutex_init(&state->lock, NULL);
	pthread_cond_init(&state->news, NULL);
	fetch->state = state;
	return 0;
}

void qed_fetch_fini(struct qed_fetch *fetch)
{
	struct qed_fetch_state *state = fetch->state;

	while (state->n)
		take(state);
	pthread_cond_destroy(&state->news);
	pthread_mutex_destroy(&state->lock);
	munmap(state->bufs, QED_FETCH_DEPTH * QED_FETCH_BYTES);
	free(state);
	fetch->state = NULL;
}
