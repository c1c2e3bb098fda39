/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The tests' engine.
 *
 * Thread model: `lock` guards everything in struct fake.  Attempts are carried
 * out, and completed, without it.
 */
#include "config.h"

#include "fake-engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 16
#define FILES_MAX   32
#define BLOCK       4096u

/* An attempt on its way. */
struct attempt {
	struct qed_io *io;
	struct fake_record *record;	/* the attempt's, unless kept */
	bool kept;			/* among the records */
	bool decided;
	struct fake_verdict verdict;
	struct attempt *next;
};

struct queue {
	struct attempt *head, **tail;
	unsigned n;
};

struct fake {
	struct qed_engine engine;
	pthread_mutex_t lock;
	pthread_cond_t work;		/* an attempt waits, or the end */
	pthread_cond_t held_more;
	pthread_t thread[THREADS_MAX];
	unsigned nthreads;
	bool stop, manual, recording;
	struct queue waiting, held;
	fake_decide *decide;
	void *decide_opaque;
	unsigned (*pick)(void *opaque, unsigned n);
	void *pick_opaque;
	struct {
		char *path;		/* by which it was opened first */
		dev_t dev;
		ino_t ino;
	} files[FILES_MAX];
	unsigned nfiles;
	unsigned count[FILES_MAX][FAKE_OPS];
	uint64_t serial;
	struct fake_record **records;
	size_t nrecords, max_records;
	_Atomic uint64_t clock;
};

static void *must(void *memory)
{
	if (!memory) {
		perror("fake engine");
		abort();
	}
	return memory;
}

static void queue_init(struct queue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
	queue->n = 0;
}

static void queue_add(struct queue *queue, struct attempt *attempt)
{
	attempt->next = NULL;
	*queue->tail = attempt;
	queue->tail = &attempt->next;
	queue->n++;
}

static struct attempt *queue_take(struct queue *queue, unsigned index)
{
	struct attempt **link = &queue->head, *attempt;

	while (index--)
		link = &(*link)->next;
	attempt = *link;
	*link = attempt->next;
	if (!attempt->next)
		queue->tail = link;
	queue->n--;
	return attempt;
}

uint64_t fake_tick(struct fake *fake)
{
	return atomic_fetch_add(&fake->clock, 1) + 1;
}

/* --- carrying out ---------------------------------------------------------- */

static bool moves_bytes(enum qed_op op)
{
	return op == QED_OP_READ || op == QED_OP_WRITE || op == QED_OP_COPY;
}

/* What hosts ask of a clone, with blocks of the usual size. */
static void check_clone(const struct qed_io *io)
{
	if ((io->file_off | io->from_off | io->len) % BLOCK == 0)
		return;
	fprintf(stderr, "fake engine: no host could clone %llu bytes at %llu "
			"to %llu\n", (unsigned long long)io->len,
		(unsigned long long)io->from_off,
		(unsigned long long)io->file_off);
	abort();
}

static uint8_t *read_source(const struct qed_io *io, uint64_t len)
{
	uint8_t *data = must(malloc(len + 1));

	if (pread(io->from->fd, data, len, (off_t)io->from_off) !=
	    (ssize_t)len) {
		fprintf(stderr, "fake engine: a copy of what is not there\n");
		abort();
	}
	return data;
}

/* The `len` first bytes of a clone or a copy. */
static int64_t attempt_copy(const struct qed_io *io, uint64_t len)
{
	uint8_t *data = read_source(io, len);
	ssize_t n = pwrite(qed_engine_fd(io), data, len, (off_t)io->file_off);
	int64_t ret = n < 0 ? -errno : n;

	free(data);
	return io->op == QED_OP_COPY || ret < 0 ? ret : 0;
}

static int64_t attempt_whole(const struct qed_io *io)
{
	if (io->op == QED_OP_CLONE)
		check_clone(io);
	if (io->op == QED_OP_CLONE || io->op == QED_OP_COPY)
		return attempt_copy(io, io->left);
	return qed_engine_attempt(io);
}

/* An attempt at the first `bytes` bytes only. */
static int64_t attempt_part(const struct qed_io *io, uint64_t bytes)
{
	struct qed_io part = *io;
	int64_t ret;

	if (!moves_bytes(io->op) || bytes >= io->left)
		return attempt_whole(io);
	if (!bytes)
		return 0;
	if (io->op == QED_OP_COPY)
		return attempt_copy(io, bytes);
	part.iov = must(calloc((size_t)io->iovcnt, sizeof(*part.iov)));
	part.iovcnt = qed_iov_slice(io->iov, io->iovcnt, 0, bytes, part.iov);
	ret = qed_engine_attempt(&part);
	free(part.iov);
	return ret;
}

static int64_t carry_out(const struct attempt *attempt)
{
	const struct qed_io *io = attempt->io;

	switch (attempt->verdict.what) {
	case FAKE_FAIL:
		return attempt->verdict.err;
	case FAKE_SHORT:
		return attempt_part(io, attempt->verdict.bytes);
	case FAKE_PRETEND:
		return moves_bytes(io->op) ? (int64_t)io->left : 0;
	case FAKE_RUN:
	case FAKE_HOLD:
		break;
	}
	return attempt_whole(io);
}

/* Without the lock.  The completion may submit more. */
static void finish(struct fake *fake, struct attempt *attempt)
{
	struct qed_io *io = attempt->io;
	struct fake_record *record = attempt->record;
	int64_t result = carry_out(attempt);

	pthread_mutex_lock(&fake->lock);
	record->result = result;
	record->pretended = attempt->verdict.what == FAKE_PRETEND;
	record->completed = fake_tick(fake);
	pthread_mutex_unlock(&fake->lock);
	if (!attempt->kept)
		free(record);
	free(attempt);
	qed_file_attempted(io, result);
}

/* Asks the test about an attempt; false if it is put by. */
static bool decide_locked(struct fake *fake, struct attempt *attempt)
{
	if (!attempt->decided && fake->decide)
		attempt->verdict =
			fake->decide(fake->decide_opaque, attempt->record);
	attempt->decided = true;
	if (attempt->verdict.what != FAKE_HOLD)
		return true;
	queue_add(&fake->held, attempt);
	pthread_cond_broadcast(&fake->held_more);
	return false;
}

/* The next attempt that is not put by; null at the end. */
static struct attempt *next_attempt(struct fake *fake)
{
	struct attempt *attempt = NULL;

	pthread_mutex_lock(&fake->lock);
	while (!attempt) {
		unsigned n = fake->manual ? 0 : fake->waiting.n;

		if (!n && fake->stop)
			break;
		if (!n) {
			pthread_cond_wait(&fake->work, &fake->lock);
			continue;
		}
		attempt = queue_take(&fake->waiting,
				     fake->pick ?
					     fake->pick(fake->pick_opaque, n) :
					     0);
		if (!decide_locked(fake, attempt))
			attempt = NULL;
	}
	pthread_mutex_unlock(&fake->lock);
	return attempt;
}

static void *thread_main(void *opaque)
{
	struct fake *fake = opaque;
	struct attempt *attempt;

	while ((attempt = next_attempt(fake)))
		finish(fake, attempt);
	return NULL;
}

void fake_step(struct fake *fake, unsigned index)
{
	struct attempt *attempt;
	bool run;

	pthread_mutex_lock(&fake->lock);
	if (index >= fake->waiting.n)
		abort();
	attempt = queue_take(&fake->waiting, index);
	run = decide_locked(fake, attempt);
	pthread_mutex_unlock(&fake->lock);
	if (run)
		finish(fake, attempt);
}

/* --- taking in -------------------------------------------------------------- */

/* A path that means an open file is another name of a file that has been seen. */
static bool is_file(const struct fake *fake, unsigned i,
		    const struct qed_file *file)
{
	if (strncmp(file->path, "/proc/self/fd/", 14) == 0)
		return fake->files[i].dev == file->dev &&
		       fake->files[i].ino == file->ino;
	return strcmp(fake->files[i].path, file->path) == 0;
}

static unsigned file_number_locked(struct fake *fake,
				   const struct qed_file *file)
{
	unsigned i = 0;

	while (i < fake->nfiles && !is_file(fake, i, file))
		i++;
	if (i < fake->nfiles)
		return i;
	if (i == FILES_MAX)
		abort();
	fake->files[i].path = must(strdup(file->path));
	fake->files[i].dev = file->dev;
	fake->files[i].ino = file->ino;
	fake->nfiles++;
	return i;
}

static uint8_t *copy_data(const struct qed_io *io)
{
	uint8_t *data = must(malloc(io->left ? io->left : 1));
	uint64_t at = 0;

	for (int i = 0; i < io->iovcnt && at < io->left; i++) {
		uint64_t n = qed_min(io->iov[i].iov_len, io->left - at);

		memcpy(data + at, io->iov[i].iov_base, n);
		at += n;
	}
	return data;
}

static void keep_record_locked(struct fake *fake, struct fake_record *record,
			       const struct qed_io *io)
{
	if (io->op == QED_OP_WRITE)
		record->data = copy_data(io);
	else if (io->op == QED_OP_CLONE || io->op == QED_OP_COPY)
		record->data = read_source(io, io->left);
	if (fake->nrecords == fake->max_records) {
		fake->max_records = fake->max_records * 2 + 256;
		fake->records = must(realloc(fake->records,
					     fake->max_records *
						     sizeof(*fake->records)));
	}
	fake->records[fake->nrecords++] = record;
}

static struct fake_record *record_locked(struct fake *fake,
					 const struct qed_io *io)
{
	struct fake_record *record = must(calloc(1, sizeof(*record)));
	bool bytes = moves_bytes(io->op);

	record->serial = fake->serial++;
	record->op = io->op;
	record->file = file_number_locked(fake, io->file);
	record->file_off = io->file_off;
	record->len = bytes ? io->left : io->len;
	record->submitted = fake_tick(fake);
	return record;
}

static void fake_submit(struct qed_engine *engine, struct qed_io *io)
{
	struct fake *fake = (struct fake *)engine;
	struct attempt *attempt = must(calloc(1, sizeof(*attempt)));

	pthread_mutex_lock(&fake->lock);
	attempt->io = io;
	attempt->record = record_locked(fake, io);
	attempt->kept = fake->recording;
	if (attempt->kept)
		keep_record_locked(fake, attempt->record, io);
	fake->count[attempt->record->file][io->op]++;
	queue_add(&fake->waiting, attempt);
	pthread_cond_signal(&fake->work);
	pthread_mutex_unlock(&fake->lock);
}

static void stop_engine(struct qed_engine *engine)
{
	struct fake *fake = (struct fake *)engine;

	pthread_mutex_lock(&fake->lock);
	fake->stop = true;
	if (fake->waiting.n || fake->held.n) {
		fprintf(stderr, "fake engine: destroyed while in use\n");
		abort();
	}
	pthread_cond_broadcast(&fake->work);
	pthread_mutex_unlock(&fake->lock);
	for (unsigned i = 0; i < fake->nthreads; i++)
		pthread_join(fake->thread[i], NULL);
}

static const struct qed_engine_ops fake_ops = {
	.name = "fake",
	.submit = fake_submit,
	.destroy = stop_engine,
};

/* --- the test's side --------------------------------------------------------- */

struct fake *fake_create(unsigned nthreads)
{
	struct fake *fake = must(calloc(1, sizeof(*fake)));

	if (nthreads > THREADS_MAX)
		abort();
	fake->engine.ops = &fake_ops;
	fake->nthreads = nthreads;
	queue_init(&fake->waiting);
	queue_init(&fake->held);
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->work, NULL);
	pthread_cond_init(&fake->held_more, NULL);
	return fake;
}

struct qed_engine *fake_start(struct fake *fake)
{
	fake->stop = false;
	for (unsigned i = 0; i < fake->nthreads; i++)
		if (pthread_create(&fake->thread[i], NULL, thread_main, fake))
			abort();
	return &fake->engine;
}

void fake_forget_records(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	for (size_t i = 0; i < fake->nrecords; i++) {
		free(fake->records[i]->data);
		free(fake->records[i]);
	}
	fake->nrecords = 0;
	pthread_mutex_unlock(&fake->lock);
}

void fake_destroy(struct fake *fake)
{
	fake_forget_records(fake);
	free(fake->records);
	for (unsigned i = 0; i < fake->nfiles; i++)
		free(fake->files[i].path);
	pthread_cond_destroy(&fake->held_more);
	pthread_cond_destroy(&fake->work);
	pthread_mutex_destroy(&fake->lock);
	free(fake);
}

void fake_set_decide(struct fake *fake, fake_decide *decide, void *opaque)
{
	pthread_mutex_lock(&fake->lock);
	fake->decide = decide;
	fake->decide_opaque = opaque;
	pthread_mutex_unlock(&fake->lock);
}

void fake_set_pick(struct fake *fake,
		   unsigned (*pick)(void *opaque, unsigned n), void *opaque)
{
	pthread_mutex_lock(&fake->lock);
	fake->pick = pick;
	fake->pick_opaque = opaque;
	pthread_mutex_unlock(&fake->lock);
}

void fake_wait_held(struct fake *fake, unsigned n)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->held.n < n)
		pthread_cond_wait(&fake->held_more, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
}

unsigned fake_held(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->lock);
	n = fake->held.n;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

void fake_release(struct fake *fake, unsigned n, struct fake_verdict verdict)
{
	pthread_mutex_lock(&fake->lock);
	while (n-- && fake->held.n) {
		struct attempt *attempt = queue_take(&fake->held, 0);

		attempt->verdict = verdict;
		queue_add(&fake->waiting, attempt);
	}
	pthread_cond_broadcast(&fake->work);
	pthread_mutex_unlock(&fake->lock);
}

void fake_release_all(struct fake *fake)
{
	fake_release(fake, UINT32_MAX, (struct fake_verdict){ FAKE_RUN, 0, 0 });
}

void fake_set_manual(struct fake *fake, bool manual)
{
	pthread_mutex_lock(&fake->lock);
	fake->manual = manual;
	pthread_cond_broadcast(&fake->work);
	pthread_mutex_unlock(&fake->lock);
}

unsigned fake_pending(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->lock);
	n = fake->waiting.n;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t n = strlen(name), m = suffix ? strlen(suffix) : 0;

	return !suffix || (n >= m && !strcmp(name + n - m, suffix));
}

unsigned fake_count(struct fake *fake, enum qed_op op, const char *suffix)
{
	unsigned n = 0;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->nfiles; i++)
		if (ends_in(fake->files[i].path, suffix))
			n += fake->count[i][op];
	pthread_mutex_unlock(&fake->lock);
	return n;
}

void fake_reset_counts(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	memset(fake->count, 0, sizeof(fake->count));
	pthread_mutex_unlock(&fake->lock);
}

int fake_file(struct fake *fake, const char *suffix)
{
	int number = -1;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->nfiles && number < 0; i++)
		if (ends_in(fake->files[i].path, suffix))
			number = (int)i;
	pthread_mutex_unlock(&fake->lock);
	return number;
}

const char *fake_file_name(struct fake *fake, unsigned number)
{
	const char *name;

	pthread_mutex_lock(&fake->lock);
	name = number < fake->nfiles ? fake->files[number].path : NULL;
	pthread_mutex_unlock(&fake->lock);
	return name;
}

void fake_set_recording(struct fake *fake, bool on)
{
	pthread_mutex_lock(&fake->lock);
	fake->recording = on;
	pthread_mutex_unlock(&fake->lock);
}

size_t fake_records(struct fake *fake, struct fake_record *const **records)
{
	size_t n;

	pthread_mutex_lock(&fake->lock);
	*records = fake->records;
	n = fake->nrecords;
	pthread_mutex_unlock(&fake->lock);
	return n;
}
