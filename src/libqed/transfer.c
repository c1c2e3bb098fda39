/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Workers that share the pieces of a disk out.
 *
 * Thread model: `plan_lock` makes plan and the numbering one act; `lock`, taken
 * under it, guards the rest of the state.  plan runs under the first, work
 * under none, progress and the question whether to stop on the caller's thread.
 */
#include "config.h"

#include "transfer.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BUFS_ALIGN  (UINT64_C(2) << 20)	/* a large page, on many hosts */
#define NO_PIECE    UINT64_MAX
#define TICK_NS     200000000L		/* a request to stop is seen by then */
#define WORKERS_MIN 4u			/* something to read while others write */

struct worker {
	struct qed_transfer *transfer;
	pthread_t thread;
	struct qed_piece piece;		/* the worker's own */
	uint64_t number;		/* under lock: of the piece that nobody may
					 * overtake, or NO_PIECE */
};

struct qed_transfer_state {
	pthread_mutex_t plan_lock;
	uint64_t planned;		/* under plan_lock */
	bool over;			/* under plan_lock: no more pieces */

	pthread_mutex_t lock;
	pthread_cond_t news;		/* for the caller */
	pthread_cond_t turns;
	uint8_t *bufs;			/* of all workers */
	struct worker workers[QED_WORKERS_MAX];
	unsigned nworkers;		/* that have been started */
	unsigned running;		/* under lock */
	bool stop;			/* under lock */
	int result;			/* under lock */
	uint64_t result_number;		/* under lock: of the piece it is of */
	char *message;			/* under lock, or null */
	uint64_t message_number;	/* under lock: of the piece it is of */
	uint64_t done, total;		/* under lock: bytes */
};

/* The end of a piece decides how the job ends, unless an earlier one does. */
static void note_result_locked(struct qed_transfer_state *state, int result,
			       uint64_t number)
{
	if (!result || number >= state->result_number)
		return;
	state->result = result;
	state->result_number = number;
	state->stop = true;
}

/* Asks for the next piece, if there may be one for this worker. */
static int plan_piece(struct worker *worker)
{
	struct qed_transfer *transfer = worker->transfer;
	struct qed_transfer_state *state = transfer->state;
	uint64_t passed = 0;
	int ret = QED_PIECE_NONE;

	pthread_mutex_lock(&state->plan_lock);
	pthread_mutex_lock(&state->lock);
	state->over |= state->stop;
	pthread_mutex_unlock(&state->lock);
	if (!state->over) {
		worker->piece.number = state->planned;
		ret = transfer->plan(transfer, &worker->piece, &passed);
	}
	pthread_mutex_lock(&state->lock);
	state->done += passed;
	state->total = transfer->total;	/* plan may have raised it */
	if (ret == 0)
		worker->number = state->planned++;
	else if (ret < 0)
		note_result_locked(state, ret, state->planned);
	pthread_mutex_unlock(&state->lock);
	state->over |= ret != 0 && ret != QED_PIECE_LATER;
	pthread_mutex_unlock(&state->plan_lock);
	return ret;
}

/* Gets the next piece: false if there is none for this worker any more. */
static bool next_piece(struct worker *worker)
{
	int ret;

	do
		ret = plan_piece(worker);
	while (ret == QED_PIECE_LATER);
	return ret == 0;
}

static void piece_over(struct worker *worker, int result)
{
	struct qed_transfer_state *state = worker->transfer->state;

	pthread_mutex_lock(&state->lock);
	note_result_locked(state, result, worker->piece.number);
	worker->number = NO_PIECE;
	state->done += worker->piece.len;
	pthread_cond_signal(&state->news);
	pthread_cond_broadcast(&state->turns);
	pthread_mutex_unlock(&state->lock);
}

static void *worker_main(void *opaque)
{
	struct worker *worker = opaque;
	struct qed_transfer *transfer = worker->transfer;
	struct qed_transfer_state *state = transfer->state;

	while (next_piece(worker))
		piece_over(worker, transfer->work(transfer, &worker->piece));
	pthread_mutex_lock(&state->lock);
	state->running--;
	pthread_cond_signal(&state->news);
	pthread_mutex_unlock(&state->lock);
	return NULL;
}

/* --- what is said of it --------------------------------------------------------- */

int qed_transfer_fail(struct qed_transfer *transfer,
		      const struct qed_piece *piece, int err, const char *path,
		      const char *what, uint64_t disk_off)
{
	struct qed_transfer_state *state = transfer->state;

	pthread_mutex_lock(&state->lock);
	if (piece->number < state->message_number && err != -ECANCELED) {
		free(state->message);
		if (asprintf(&state->message,
			     "%s: cannot %s at disk offset %" PRIu64 ": %s",
			     path, what, disk_off, strerror(-err)) < 0)
			state->message = NULL;
		state->message_number = piece->number;
	}
	pthread_mutex_unlock(&state->lock);
	return err;
}

/* Another piece's end, of which nothing was said, may have come before. */
static char *take_message(struct qed_transfer_state *state)
{
	if (state->message_number == state->result_number)
		return state->message;
	free(state->message);
	return NULL;
}

/* --- turns -------------------------------------------------------------------- */

static bool is_first_locked(const struct qed_transfer_state *state,
			    uint64_t number)
{
	for (unsigned i = 0; i < state->nworkers; i++)
		if (state->workers[i].number < number)
			return false;
	return true;
}

int qed_transfer_await_turn(struct qed_transfer *transfer,
			    const struct qed_piece *piece)
{
	struct qed_transfer_state *state = transfer->state;
	int ret;

	pthread_mutex_lock(&state->lock);
	while (!is_first_locked(state, piece->number))
		pthread_cond_wait(&state->turns, &state->lock);
	ret = state->result_number < piece->number ? -ECANCELED : 0;
	pthread_mutex_unlock(&state->lock);
	return ret;
}

void qed_transfer_pass_turn(struct qed_transfer *transfer,
			    const struct qed_piece *piece)
{
	struct qed_transfer_state *state = transfer->state;

	pthread_mutex_lock(&state->lock);
	for (unsigned i = 0; i < state->nworkers; i++)
		if (state->workers[i].number == piece->number)
			state->workers[i].number = NO_PIECE;
	pthread_cond_broadcast(&state->turns);
	pthread_mutex_unlock(&state->lock);
}

/* --- the caller's side ---------------------------------------------------------- */

static unsigned choose_workers(const struct qed_transfer *transfer)
{
	long ncpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n = transfer->nworkers;

	if (!n)
		n = qed_max(WORKERS_MIN, ncpus > 0 ? (uint64_t)ncpus : 1);
	return (unsigned)qed_min(n, QED_WORKERS_MAX);
}

/*
 * In few large pages: a device gets a piece in one part then, and touching them
 * costs less.  Without those it works, too.
 */
static bool make_bufs(struct qed_transfer *transfer, unsigned nworkers)
{
	uint64_t len = qed_round_up(nworkers * transfer->nbufs * QED_PIECE_MAX,
				    BUFS_ALIGN);

	if (!len)
		return true;
	transfer->state->bufs = aligned_alloc(BUFS_ALIGN, len);
	if (!transfer->state->bufs)
		return false;
	(void)madvise(transfer->state->bufs, len, MADV_HUGEPAGE);
	return true;
}

static int start_worker(struct qed_transfer *transfer, unsigned n)
{
	struct worker *worker = &transfer->state->workers[n];

	worker->transfer = transfer;
	worker->number = NO_PIECE;
	for (unsigned i = 0; i < transfer->nbufs; i++)
		worker->piece.buf[i] = transfer->state->bufs +
				       (n * transfer->nbufs + i) *
					       QED_PIECE_MAX;
	return -pthread_create(&worker->thread, NULL, worker_main, worker);
}

/* Fewer than wanted will do.  Their signals are the caller's. */
static int start_workers(struct qed_transfer *transfer)
{
	struct qed_transfer_state *state = transfer->state;
	unsigned want = choose_workers(transfer);
	sigset_t all, old;
	int ret = 0;

	while (want && !make_bufs(transfer, want))
		want /= 2;
	if (!want)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&state->lock);
	for (unsigned i = 0; i < want && ret == 0; i++) {
		ret = start_worker(transfer, i);
		state->nworkers += ret == 0;
	}
	state->running = state->nworkers;
	pthread_mutex_unlock(&state->lock);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return state->nworkers ? 0 : ret;
}

static void wait_news_locked(struct qed_transfer_state *state)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_nsec -= 1000000000L;
		until.tv_sec++;
	}
	pthread_cond_timedwait(&state->news, &state->lock, &until);
}

/* Until the last worker has gone. */
static void watch(struct qed_transfer *transfer)
{
	struct qed_transfer_state *state = transfer->state;

	pthread_mutex_lock(&state->lock);
	while (state->running) {
		uint64_t done = state->done, total = state->total;
		int ret;

		pthread_mutex_unlock(&state->lock);
		ret = qed_job_step(transfer->job, done, total);
		pthread_mutex_lock(&state->lock);
		if (ret < 0)
			note_result_locked(state, ret, NO_PIECE - 1);
		if (state->running && done == state->done)
			wait_news_locked(state);
	}
	pthread_mutex_unlock(&state->lock);
}

static void state_init(struct qed_transfer_state *state)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&state->news, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&state->turns, NULL);
	pthread_mutex_init(&state->plan_lock, NULL);
	pthread_mutex_init(&state->lock, NULL);
	state->result_number = state->message_number = NO_PIECE;
}

static void state_fini(struct qed_transfer_state *state)
{
	free(state->bufs);
	pthread_mutex_destroy(&state->lock);
	pthread_mutex_destroy(&state->plan_lock);
	pthread_cond_destroy(&state->turns);
	pthread_cond_destroy(&state->news);
}

int qed_transfer_run(struct qed_transfer *transfer)
{
	struct qed_transfer_state state = { .total = transfer->total };
	int ret;

	transfer->state = &state;
	state_init(&state);
	ret = start_workers(transfer);
	if (ret == 0) {
		watch(transfer);
		for (unsigned i = 0; i < state.nworkers; i++)
			pthread_join(state.workers[i].thread, NULL);
		ret = state.result;
	}
	transfer->message = take_message(&state);
	if (ret == 0)
		ret = qed_job_step(transfer->job, transfer->total,
				   transfer->total);
	state_fini(&state);
	transfer->state = NULL;
	return ret;
}
