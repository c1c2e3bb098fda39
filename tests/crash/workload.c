/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A random workload.  By default there are no threads in it: requests are started,
 * and the engine's attempts carried out one by one, in an order that the seed
 * chooses, so that a seed repeats everything.  With real threads it shows what
 * the order of the first kind cannot.
 */
#include "config.h"

#include "explorer.h"
#include "image.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR      UINT64_C(512)
#define LEN_MAX     (UINT64_C(160) << 10)
#define DEPTH       12			/* requests at once */
#define NTHREADS    3
#define HOT_REGIONS 6

enum kind {
	READ,
	WRITE,
	WRITE_ZEROES,			/* a write that happens to be zeroes */
	ZERO,
	RESERVE,
	FLUSH,
	COMMIT,				/* writes tables, promises nothing */
	CLEAN,				/* one that clears NEED_CHECK */
};

struct run {
	const struct setup *setup;
	struct history *history;
	struct fake *fake;
	struct qed_image *image;
	struct rng rng;			/* the main thread's */
	struct rng engine_rng;		/* under the fake's lock */
	uint64_t hot[HOT_REGIONS];
	unsigned flushes_seen;		/* by the engine, under the fake's lock */
	pthread_mutex_t lock;		/* what follows, and the model */
	pthread_cond_t fewer;
	unsigned outstanding;
	char last_log[256];
};

struct request {
	struct run *run;
	enum kind kind;
	unsigned op;			/* the model's */
	uint64_t off, len, began;
	uint8_t *buf;
	struct iovec iov;
	struct qed_waiter waiter;	/* COMMIT's and CLEAN's */
};

static void fail(struct run *run, const char *what, const char *detail)
{
	char *failure = run->history->failure;

	if (!*failure)
		snprintf(failure, sizeof(run->history->failure),
			 "while it ran: %s: %s", what, detail);
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	if (level <= QED_LOG_WARNING) {
		pthread_mutex_lock(&run->lock);
		fail(run, "the library says", message);
		pthread_mutex_unlock(&run->lock);
	}
}

/* --- requests -------------------------------------------------------------------- */

/* A read sees each byte before or after whatever goes on beside it. */
static void judge_read(const struct request *request, uint64_t now)
{
	struct run *run = request->run;
	char message[512];

	if (!model_allows(run->history->model, request->buf, request->off,
			  request->len, request->began, now, message))
		fail(run, "a read", message);
}

static bool changes(enum kind kind)
{
	return kind == WRITE || kind == WRITE_ZEROES || kind == ZERO;
}

static void request_over(struct request *request, int64_t result)
{
	struct run *run = request->run;
	struct model *model = run->history->model;
	uint64_t now;
	bool ok = result == (request->buf ? (int64_t)request->len : 0);

	pthread_mutex_lock(&run->lock);
	now = fake_tick(run->fake);
	if (!ok)
		fail(run, "a request", strerror((int)-result));
	else if (request->kind == READ)
		judge_read(request, now);
	if (changes(request->kind))
		model_end(model, request->op, now, ok);
	if (request->kind == FLUSH && ok)
		model_flushed(model, request->began, now);
	run->outstanding--;
	pthread_cond_signal(&run->fewer);
	pthread_mutex_unlock(&run->lock);
	free(request->buf);
	free(request);
}

static void request_done(void *opaque, int64_t result)
{
	request_over(opaque, result);
}

static void commit_woken(struct qed_waiter *waiter, int err)
{
	struct request *request =
		(void *)((char *)waiter - offsetof(struct request, waiter));

	request_over(request, err);
}

static uint64_t random_len(struct rng *rng, uint32_t cluster)
{
	switch (rng_below(rng, 5)) {
	case 0:
		return SECTOR * (1 + rng_below(rng, 8));
	case 1:
		return 4096;
	case 2:
		return qed_min(LEN_MAX, cluster * (1 + rng_below(rng, 4)));
	case 3:
		return 1 + rng_below(rng, 10000);
	}
	return SECTOR * (1 + rng_below(rng, LEN_MAX / SECTOR));
}

/* Mostly in a few places, so that requests meet; often aligned. */
static void random_range(struct run *run, struct rng *rng, uint64_t *off,
			 uint64_t *len)
{
	uint64_t size = run->setup->disk_size;
	uint64_t align;

	*len = random_len(rng, run->setup->cluster);
	if (rng_chance(rng, 75))
		*off = run->hot[rng_below(rng, HOT_REGIONS)] +
		       rng_below(rng, UINT64_C(3) * run->setup->cluster);
	else
		*off = rng_below(rng, size);
	switch (rng_below(rng, 8)) {
	case 0:
		align = 1;
		break;
	case 1:
	case 2:
		align = run->setup->cluster;
		break;
	case 3:
	case 4:
		align = SECTOR;
		break;
	default:
		align = 4096;
	}
	*off = *off / align * align;
	if (*off >= size)
		*off = size - SECTOR;
	*len = qed_min(*len, size - *off);
}

static struct request *request_create(struct run *run, struct rng *rng,
				      enum kind kind)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		die("request");
	request->run = run;
	request->kind = kind;
	if (kind < FLUSH)
		random_range(run, rng, &request->off, &request->len);
	if (kind <= WRITE_ZEROES) {
		request->buf = calloc(1, request->len);
		if (!request->buf)
			die("buffer");
		request->iov = (struct iovec){ request->buf, request->len };
	}
	return request;
}

/* Tells the model; what is under way is counted before it starts. */
static void request_begin(struct request *request)
{
	struct run *run = request->run;
	struct model *model = run->history->model;

	pthread_mutex_lock(&run->lock);
	request->began = fake_tick(run->fake);
	if (changes(request->kind))
		request->op = model_begin(model,
					  request->kind == WRITE ? MODEL_WRITE :
								   MODEL_ZERO,
					  request->off, request->len,
					  request->began);
	if (request->kind == WRITE)
		model_fill(model, request->op, request->buf);
	run->outstanding++;
	pthread_mutex_unlock(&run->lock);
}

/* What the commit interval does, without a clock. */
static void commit_start(struct request *request)
{
	int ret;

	request->waiter.wake = commit_woken;
	ret = qed_meta_commit(request->run->image->meta,
			      request->kind == CLEAN ? QED_COMMIT_CLEAN :
						       QED_COMMIT_WRITE,
			      &request->waiter);
	if (ret != QED_PENDING)
		request_over(request, ret);
}

static void request_start(struct run *run, struct rng *rng, enum kind kind)
{
	struct request *request = request_create(run, rng, kind);

	request_begin(request);
	switch (kind) {
	case READ:
		qed_readv(run->image, &request->iov, 1, request->off,
			  request_done, request);
		break;
	case WRITE:
	case WRITE_ZEROES:
		qed_writev(run->image, &request->iov, 1, request->off,
			   request_done, request);
		break;
	case ZERO:
		qed_zero(run->image, request->off, request->len, request_done,
			 request);
		break;
	case RESERVE:
		qed_preallocate(run->image, request->off, request->len,
				request_done, request);
		break;
	case FLUSH:
		qed_flush(run->image, request_done, request);
		break;
	case COMMIT:
	case CLEAN:
		commit_start(request);
		break;
	}
}

static enum kind random_kind(struct rng *rng)
{
	static const unsigned percent[] = {
		[READ] = 10,	[WRITE] = 52,  [WRITE_ZEROES] = 5, [ZERO] = 12,
		[RESERVE] = 3, [FLUSH] = 12, [COMMIT] = 4, [CLEAN] = 2,
	};
	unsigned n = (unsigned)rng_below(rng, 100), kind = 0;

	while (n >= percent[kind])
		n -= percent[kind++];
	return (enum kind)kind;
}

/* --- without threads ----------------------------------------------------------------- */

static void step(struct run *run)
{
	unsigned n = fake_pending(run->fake);

	/* Often in order, often not. */
	fake_step(run->fake, rng_chance(&run->rng, 40) ?
				     0 :
				     (unsigned)rng_below(&run->rng, n));
}

static void drive(struct run *run)
{
	unsigned left = run->setup->nrequests;
	unsigned depth = 1 + (unsigned)rng_below(&run->rng, DEPTH);

	fake_set_manual(run->fake, true);
	while (left || fake_pending(run->fake)) {
		bool busy = fake_pending(run->fake);

		if (left && run->outstanding < depth &&
		    (!busy || rng_chance(&run->rng, 40))) {
			left--;
			request_start(run, &run->rng, random_kind(&run->rng));
		} else if (busy) {
			step(run);
		} else {
			break;
		}
	}
	if (run->outstanding)
		die("requests wait for nothing");
	fake_set_manual(run->fake, false);
}

/* --- with threads ---------------------------------------------------------------------- */

struct writer {
	struct run *run;
	struct rng rng;
	pthread_t thread;
};

static void *writer_main(void *opaque)
{
	struct writer *writer = opaque;
	struct run *run = writer->run;

	for (unsigned i = 0; i < run->setup->nrequests / NTHREADS; i++) {
		pthread_mutex_lock(&run->lock);
		while (run->outstanding >= DEPTH)
			pthread_cond_wait(&run->fewer, &run->lock);
		pthread_mutex_unlock(&run->lock);
		request_start(run, &writer->rng, random_kind(&writer->rng));
	}
	return NULL;
}

static void drive_threads(struct run *run)
{
	struct writer writers[NTHREADS];

	for (int i = 0; i < NTHREADS; i++) {
		writers[i].run = run;
		writers[i].rng.state = rng_next(&run->rng);
		if (pthread_create(&writers[i].thread, NULL, writer_main,
				   &writers[i]))
			die("writer");
	}
	for (int i = 0; i < NTHREADS; i++)
		pthread_join(writers[i].thread, NULL);
	pthread_mutex_lock(&run->lock);
	while (run->outstanding)
		pthread_cond_wait(&run->fewer, &run->lock);
	pthread_mutex_unlock(&run->lock);
}

/* --- sessions --------------------------------------------------------------------------- */

/* How attempts go: now and then short, or, for a control, not at all. */
static struct fake_verdict decide(void *opaque,
				  const struct fake_record *record)
{
	struct run *run = opaque;
	struct rng *rng = &run->engine_rng;
	bool bytes = record->op == QED_OP_READ || record->op == QED_OP_WRITE;

	if (bytes && record->len > SECTOR && rng_chance(rng, 5))
		return (struct fake_verdict){
			FAKE_SHORT, 0,
			SECTOR + rng_below(rng, record->len / SECTOR) * SECTOR
		};
	if (record->op == QED_OP_FLUSH &&
	    run->setup->control == CONTROL_LOST_SYNC &&
	    ++run->flushes_seen % 3 == 0)
		return (struct fake_verdict){ FAKE_PRETEND, 0, 0 };
	return (struct fake_verdict){ FAKE_RUN, 0, 0 };
}

static unsigned pick(void *opaque, unsigned n)
{
	struct run *run = opaque;

	return (unsigned)rng_below(&run->engine_rng, n);
}

/* The whole disk, read while the image is open. */
static void judge_disk(struct run *run)
{
	uint64_t size = run->setup->disk_size;
	uint8_t *content = malloc(size);
	uint64_t began = fake_tick(run->fake);
	char message[512];

	if (!content ||
	    qed_pread(run->image, content, size, 0) != (int64_t)size)
		die("reading the disk");
	if (!model_allows(run->history->model, content, 0, size, began,
			  fake_tick(run->fake), message))
		fail(run, "the disk", message);
	free(content);
}

static void close_image(struct run *run)
{
	uint64_t began = fake_tick(run->fake);
	int ret = qed_image_close(run->image);

	if (ret < 0)
		fail(run, "close", strerror(-ret));
	else
		model_flushed(run->history->model, began,
			      fake_tick(run->fake));
}

static void session(struct run *run)
{
	struct qed_open_options options;
	int ret;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.log = (struct qed_log){ hear, run };
	if (rng_chance(&run->rng, 50))
		options.l2_cache = 1;
	if (rng_chance(&run->rng, 30))
		options.flags |= QED_OPEN_DETECT_ZEROES;
	ret = qed_image_open_engine(TOP, &options, fake_start(run->fake),
				    &run->image);
	if (ret < 0)
		die(run->history->failure);
	if (run->setup->threads)
		drive_threads(run);
	else
		drive(run);
	judge_disk(run);
	close_image(run);
}

static void choose_places(struct run *run)
{
	for (int i = 0; i < HOT_REGIONS; i++)
		run->hot[i] = rng_below(&run->rng, run->setup->disk_size) /
			      run->setup->cluster * run->setup->cluster;
}

void workload_run(const struct setup *setup, struct history *history)
{
	struct run run = { .setup = setup,
			   .history = history,
			   .rng = { setup->seed },
			   .engine_rng = { ~setup->seed } };

	memset(history, 0, sizeof(*history));
	history->setup = *setup;
	pthread_mutex_init(&run.lock, NULL);
	pthread_cond_init(&run.fewer, NULL);
	make_files(setup, &run.rng, history);
	choose_places(&run);
	run.fake = history->fake = fake_create(1);
	fake_set_recording(run.fake, true);
	fake_set_decide(run.fake, decide, &run);
	if (setup->threads)
		fake_set_pick(run.fake, pick, &run);
	for (unsigned i = 0; i < setup->nsessions; i++)
		session(&run);
	fake_set_decide(run.fake, NULL, NULL);
	history_collect(history);
	pthread_cond_destroy(&run.fewer);
	pthread_mutex_destroy(&run.lock);
}
