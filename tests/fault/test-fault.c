/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage: test-fault [SETUP MODE N]
 *
 * Fails the n-th operation: a fixed list of requests is run again and again, and
 * each time another operation of the file layer fails, or moves only a part.
 * Whatever it is: no crash, no hang, and no loss that nobody is told of.
 *	- What fails while a request for data is served fails that request alone,
 *	  with that error.
 *	- What fails while a flush is served fails the flush; from then on writes
 *	  and flushes are -EIO, reads go on, and closing fails.  Only a host that is
 *	  too full for the file to grow fails that flush alone.
 *	- What a flush promised is there when the image is opened again.
 */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "image.h"
#include "../lib/model.h"
#include "../lib/plain-engine.h"
#include "../lib/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ELEMS(a)   (sizeof(a) / sizeof((a)[0]))
#define KIB        UINT64_C(1024)
#define SIZE       (6144 * KIB)		/* two tables of 4 MiB */
#define BASE_SIZE  (5000 * KIB)
#define TOP        "top.qed"
#define QEMU_SHARE 40			/* of the runs */
#define STUCK      300			/* seconds for one run */

enum kind { OPEN, READ, WRITE, ZERO, RESERVE, FLUSH, CLEAN, CLOSE };

/* The requests. */
static const struct step {
	enum kind kind;
	uint64_t off, len;
} steps[] = {
	{ WRITE, 0, 4 * KIB },
	{ WRITE, 100 * KIB + 512, 1000 },
	{ FLUSH, 0, 0 },
	{ WRITE, 0, 4 * KIB },			/* in place */
	{ READ, 0, 256 * KIB },
	{ WRITE, 98 * KIB, 37 * KIB + 700 },	/* old and new clusters */
	{ WRITE, 200 * KIB, 64 * KIB },
	{ FLUSH, 0, 0 },
	{ FLUSH, 0, 0 },
	{ WRITE, 4090 * KIB, 12 * KIB },	/* over the edge of a table */
	{ WRITE, 5 * KIB * KIB, 3 * KIB },	/* past the backing file */
	{ READ, 4000 * KIB, 1200 * KIB },
	{ FLUSH, 0, 0 },
	{ ZERO, 210 * KIB, 30 * KIB },		/* frees clusters */
	{ ZERO, 1000 * KIB, 50 * KIB },		/* hides backing data */
	{ WRITE, 1010 * KIB, 600 },		/* into zero clusters */
	{ FLUSH, 0, 0 },
	{ WRITE, 300 * KIB, 21 * KIB },		/* reuses clusters */
	{ RESERVE, 500 * KIB, 20 * KIB },
	{ WRITE, 505 * KIB, 3 * KIB },
	{ CLEAN, 0, 0 },
	{ WRITE, 302 * KIB, 5 * KIB },
	{ WRITE, 2000 * KIB, 10 * KIB },
	{ READ, 0, SIZE },
	{ FLUSH, 0, 0 },
	{ WRITE, 3 * KIB, 2 * KIB },
	{ ZERO, 0, 2 * KIB },
};

static const struct setup {
	const char *name;
	const char *backing, *format;
	uint32_t cluster, table;
} setups[] = {
	{ "plain", NULL, NULL, 4096, 2 },
	{ "raw", "base.raw", "raw", 4096, 2 },
	{ "qed", "base.qed", "qed", 4096, 2 },
	{ "large", "base.raw", "raw", 65536, 2 },
};

static const struct mode {
	const char *name;
	struct fake_verdict verdict;
	unsigned span;			/* not 0: the host is full while so many
					 * operations are tried */
} modes[] = {
	{ "EIO", { FAKE_FAIL, -EIO, 0 }, 0 },
	{ "ENOSPC", { FAKE_FAIL, -ENOSPC, 0 }, 0 },
	{ "EDQUOT", { FAKE_FAIL, -EDQUOT, 0 }, 0 },
	{ "short", { FAKE_SHORT, 0, 1000 }, 0 },
	{ "full", { FAKE_FAIL, -ENOSPC, 0 }, 25 },
};

struct run {
	const struct setup *setup;
	const struct mode *mode;
	unsigned n;			/* which operation is to fail */
	struct fake *fake;
	struct qed_image *image;
	struct model *model;
	const struct step *step;	/* being run; null at open and close */
	/* under the fake's lock */
	unsigned seen, hits;
	struct fake_record hit;		/* what failed; serial + 1, 0 if none */
	bool passed;			/* an operation that a full host lets by */
	bool failed;			/* a flush has failed for good */
	bool unclean;			/* closing has failed */
	_Atomic unsigned errors;	/* messages */
	char last_log[300];
};

static char dir[200];
static uint8_t buffer[SIZE];		/* for the request under way */
static bool have_qemu;
static unsigned nruns, nqemu;

static const char *const op_names[] = { "read", "write", "flush", "punch",
					"grow", "cut" };
static const char *const kind_names[] = { "open",  "read",  "write", "zero",
					  "reserve", "flush", "clean",
					  "close" };

__attribute__((noreturn)) static void die(const struct run *run,
					  const char *what, int64_t result)
{
	fprintf(stderr,
		"FAILED: test-fault %s %s %u: %s (%" PRId64 ")\n"
		"  what failed: %s of %" PRIu64 "+%" PRIu64
		" in file %u; last message: %s\n",
		run->setup->name, run->mode->name, run->n, what, result,
		run->hit.serial ? op_names[run->hit.op] : "nothing",
		run->hit.file_off, run->hit.len, run->hit.file,
		*run->last_log ? run->last_log : "none");
	if (run->step)
		fprintf(stderr, "  step %d: %s\n", (int)(run->step - steps),
			kind_names[run->step->kind]);
	exit(1);
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct run *run = opaque;

	if (level != QED_LOG_ERROR)
		return;
	run->errors++;
	snprintf(run->last_log, sizeof(run->last_log), "%s", message);
}

/* --- images ------------------------------------------------------------------------ */

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* Data in the first half, and a hole after it. */
static void fill_base(uint8_t *base)
{
	memset(base, 0, SIZE);
	model_pattern(1, base, 0, BASE_SIZE / 2);
	model_pattern(1, base + 4000 * KIB, 4000 * KIB, 200 * KIB);
}

static void make_base(const uint8_t *base)
{
	const struct qed_create_options create = {
		.virtual_size = BASE_SIZE,
		.cluster_size = 4096,
		.table_size = 2,
	};
	int fd = open("base.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct qed_open_options options;
	struct qed_image *image;

	must(fd >= 0 && pwrite(fd, base, BASE_SIZE, 0) == (ssize_t)BASE_SIZE,
	     "base.raw");
	close(fd);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	must(qed_image_create("base.qed", &create) == 0 &&
		     qed_image_open("base.qed", &options, &image) == 0 &&
		     qed_pwrite(image, base, BASE_SIZE / 2, 0) > 0 &&
		     qed_pwrite(image, base + 4000 * KIB, 200 * KIB,
				4000 * KIB) > 0 &&
		     qed_image_close(image) == 0,
	     "base.qed");
}

static void make_top(const struct setup *setup)
{
	const struct qed_create_options create = {
		.virtual_size = SIZE,
		.cluster_size = setup->cluster,
		.table_size = setup->table,
		.backing = setup->backing,
		.backing_format = setup->format,
	};

	must(qed_image_create(TOP, &create) == 0, TOP);
}

static void remove_dir(void)
{
	unlink(TOP);
	unlink("base.raw");
	unlink("base.qed");
	if (chdir("/") == 0)
		rmdir(dir);
}

static void enter_dir(void)
{
	const char *parent = getenv("TMPDIR");

	if (access("/dev/shm", W_OK) == 0)
		parent = "/dev/shm";
	snprintf(dir, sizeof(dir), "%s/test-fault.XXXXXX",
		 parent ? parent : "/tmp");
	must(mkdtemp(dir) && chdir(dir) == 0, dir);
	atexit(remove_dir);
}

/* --- one run ------------------------------------------------------------------------ */

/* What a full host refuses. */
static bool makes_longer(const struct fake_record *record)
{
	struct stat st;

	return (record->op == QED_OP_WRITE || record->op == QED_OP_GROW) &&
	       stat(TOP, &st) == 0 &&
	       record->file_off + record->len > (uint64_t)st.st_size;
}

static struct fake_verdict decide(void *opaque,
				  const struct fake_record *record)
{
	struct run *run = opaque;

	if (++run->seen != run->n &&
	    !(run->mode->span && run->seen > run->n &&
	      run->seen < run->n + run->mode->span))
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	if (run->mode->span && !makes_longer(record)) {
		run->passed = true;
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	}
	run->hits++;
	run->hit = *record;
	run->hit.serial++;
	return run->mode->verdict;
}

static bool is_hit(const struct run *run)
{
	return run->hit.serial;
}

static bool is_error(const struct run *run)
{
	return run->mode->verdict.what == FAKE_FAIL;
}

/* Too full to grow: nothing is lost by that, and the next flush may succeed. */
static bool is_full(const struct run *run)
{
	int err = run->mode->verdict.err;

	return is_hit(run) && (run->hit.op == QED_OP_GROW || run->mode->span) &&
	       (err == -ENOSPC || err == -EDQUOT);
}

static uint64_t now(const struct run *run)
{
	return fake_tick(run->fake);
}

static void judge(struct run *run, const uint8_t *content, uint64_t off,
		  uint64_t len, uint64_t durable, uint64_t cut)
{
	char message[512];

	if (!model_allows(run->model, content, off, len, durable, cut,
			  message)) {
		fprintf(stderr, "%s\n", message);
		die(run, "the disk holds something else", 0);
	}
}

static int64_t run_write(struct run *run, const struct step *step)
{
	enum model_kind kind = step->kind == WRITE ? MODEL_WRITE : MODEL_ZERO;
	unsigned op = model_begin(run->model, kind, step->off, step->len,
				  now(run));
	struct call call;
	int64_t ret;

	if (step->kind == WRITE) {
		model_fill(run->model, op, buffer);
		call_write(&call, run->image, buffer, step->len, step->off);
	} else {
		call_zero(&call, run->image, step->len, step->off);
	}
	ret = call_wait(&call);
	if (step->kind == WRITE && ret == (int64_t)step->len)
		ret = 0;
	model_end(run->model, op, now(run), ret == 0);
	return ret;
}

static int64_t run_read(struct run *run, const struct step *step)
{
	uint64_t began = now(run);
	int64_t ret = qed_pread(run->image, buffer, step->len, step->off);

	if (ret != (int64_t)step->len)
		return ret;
	judge(run, buffer, step->off, step->len, began, now(run));
	return 0;
}

static int64_t run_reserve(struct run *run, const struct step *step)
{
	struct call call;

	call_preallocate(&call, run->image, step->len, step->off);
	return call_wait(&call);
}

static int64_t run_flush(struct run *run, bool clean)
{
	uint64_t began = now(run);
	int64_t ret = clean ? qed_meta_clean(run->image->meta) :
			      qed_fsync(run->image);

	if (ret == 0)
		model_flushed(run->model, began, now(run));
	/* Freed clusters come back now, so that a run repeats itself. */
	qed_reclaim_drain(&run->image->reclaim);
	return ret;
}

static int64_t run_step(struct run *run, const struct step *step)
{
	switch (step->kind) {
	case READ:
		return run_read(run, step);
	case WRITE:
	case ZERO:
		return run_write(run, step);
	case RESERVE:
		return run_reserve(run, step);
	case FLUSH:
	case CLEAN:
		return run_flush(run, step->kind == CLEAN);
	case OPEN:
	case CLOSE:
		break;
	}
	return -EINVAL;
}

/*
 * What may this step return, given whether the failure fell into it?  A punch
 * that gives space back need not work.
 */
static bool result_ok(const struct run *run, const struct step *step,
		      bool was_failed, bool hit_now, int64_t ret)
{
	int err = run->mode->verdict.err;

	if (was_failed)
		return step->kind == READ ? ret == 0 : ret == -EIO;
	if (!hit_now || !is_error(run))
		return ret == 0;
	if (run->hit.op == QED_OP_PUNCH)
		return ret == 0 || (ret == err && step->kind < FLUSH);
	return ret == err;
}

static void run_steps(struct run *run)
{
	for (size_t i = 0; i < ELEMS(steps); i++) {
		bool was_failed = run->failed;
		unsigned hits = run->hits;
		int64_t ret;

		run->step = &steps[i];
		ret = run_step(run, run->step);
		if (!result_ok(run, run->step, was_failed,
			       run->hits > hits, ret))
			die(run, "a request's result", ret);
		if (run->step->kind >= FLUSH && ret < 0 && !is_full(run))
			run->failed = true;
	}
	run->step = NULL;
}

/* All of it can still be read, whatever has failed. */
static void judge_disk(struct run *run)
{
	const struct step all = { READ, 0, SIZE };
	unsigned hits = run->hits;
	int64_t ret = run_read(run, &all);

	if (ret && !(run->hits > hits && ret == run->mode->verdict.err))
		die(run, "reading the disk", ret);
}

static void close_image(struct run *run)
{
	unsigned hits = run->hits;
	uint64_t began = now(run);
	bool hit_now;
	int ret = qed_image_close(run->image);

	hit_now = run->hits > hits && is_error(run) &&
		  run->hit.op != QED_OP_PUNCH;
	run->unclean = run->failed || hit_now;
	if (run->unclean ? ret >= 0 : ret != 0)
		die(run, "closing", ret);
	if (hit_now && ret != run->mode->verdict.err)
		die(run, "closing gives another error", ret);
	if (run->errors != (run->unclean && !is_full(run)))
		die(run, "messages of errors", run->errors);
	if (ret == 0)
		model_flushed(run->model, began, now(run));
}

/* False if the failure was there already. */
static bool open_image(struct run *run)
{
	struct qed_open_options options;
	int ret;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.l2_cache = 1;
	options.log = (struct qed_log){ hear, run };
	ret = qed_image_open_engine(TOP, &options, fake_start(run->fake),
				    &run->image);
	if (ret == 0 && !(is_hit(run) && is_error(run)))
		return true;
	if (!is_hit(run) || !is_error(run) || ret != run->mode->verdict.err)
		die(run, "opening", ret);
	if (run->errors != 1)
		die(run, "messages of a failed open", run->errors);
	return false;
}

/* --- afterwards ---------------------------------------------------------------------- */

static void judge_structure(struct run *run, bool may_be_unclean)
{
	struct walk *walk = walk_open(TOP);
	bool need_check = walk->features & WALK_NEED_CHECK;

	if (need_check && !may_be_unclean)
		die(run, "NEED_CHECK was not cleared", 0);
	if (!need_check && walk->errors) {
		fprintf(stderr, "%s\n", walk->message);
		die(run, "the header says clean, but it is not", 0);
	}
	walk_close(walk);
}

static void ask_qemu(struct run *run)
{
	int status = system("qemu-img check -q -r all -f qed " TOP
			    " >/dev/null 2>&1");

	nqemu++;
	/* 3: only leaks */
	if (status != 0 && status != 3 << 8)
		die(run, "qemu-img check", status);
}

static void judge_reopened(struct run *run)
{
	struct qed_open_options options;
	int64_t ret;

	judge_structure(run, run->unclean);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.log = (struct qed_log){ hear, run };
	ret = plain_open(TOP, &options, &run->image);
	if (ret == 0)
		ret = qed_pread(run->image, buffer, SIZE, 0);
	if (ret != (int64_t)SIZE)
		die(run, "opening and reading it again", ret);
	judge(run, buffer, 0, SIZE, model_durable(run->model, UINT64_MAX),
	      UINT64_MAX);
	ret = qed_image_close(run->image);
	if (ret)
		die(run, "closing it again", ret);
	judge_structure(run, false);
	if (have_qemu && nruns % QEMU_SHARE == 0)
		ask_qemu(run);
}

/* One run; false if there is no n-th operation. */
static bool fail_nth(const struct setup *setup, const struct mode *mode,
		     unsigned n, const uint8_t *base)
{
	struct run run = { .setup = setup, .mode = mode, .n = n };
	static const uint8_t nothing[SIZE];

	calls_watchdog(STUCK);
	make_top(setup);
	run.fake = fake_create(1);
	run.model = model_create(SIZE, setup->backing ? base : nothing);
	fake_set_decide(run.fake, decide, &run);
	if (open_image(&run)) {
		run_steps(&run);
		judge_disk(&run);
		close_image(&run);
	}
	judge_reopened(&run);
	fake_destroy(run.fake);
	model_destroy(run.model);
	nruns++;
	return is_hit(&run) || run.passed;
}

/* Sanitizers are slow, and look for other things than results. */
static unsigned stride_of_build(void)
{
	const char *sanitizer = getenv("QED_SANITIZER");

	if (sanitizer && strstr(sanitizer, "thread"))
		return 30;
	return sanitizer && strstr(sanitizer, "address") ? 4 : 1;
}

static void fail_each(const struct setup *setup, const struct mode *mode,
		      const uint8_t *base)
{
	unsigned stride = getenv("QED_SOAK") ? 1 : stride_of_build();
	/* Each mode begins at another, so that together they try most. */
	unsigned n = 1 + (unsigned)(mode - modes) % stride;

	while (fail_nth(setup, mode, n, base))
		n += stride;
	printf("%s, %s: %u operations\n", setup->name, mode->name, n - 1);
	must(n > 50, "so few operations");
}

/* One run alone, as a failure's message names it. */
static void fail_one(char **argv, const uint8_t *base)
{
	for (size_t s = 0; s < ELEMS(setups); s++)
		for (size_t m = 0; m < ELEMS(modes); m++)
			if (!strcmp(setups[s].name, argv[1]) &&
			    !strcmp(modes[m].name, argv[2]))
				fail_nth(&setups[s], &modes[m],
					 (unsigned)strtoul(argv[3], NULL, 10),
					 base);
}

int main(int argc, char **argv)
{
	static uint8_t base[SIZE];

	have_qemu = system("qemu-img --version >/dev/null 2>&1") == 0;
	enter_dir();
	fill_base(base);
	make_base(base);
	if (argc == 4) {
		fail_one(argv, base);
		return 0;
	}
	for (size_t s = 0; s < ELEMS(setups); s++)
		for (size_t m = 0; m < ELEMS(modes); m++)
			fail_each(&setups[s], &modes[m], base);
	printf("%u runs, %u of them checked by QEMU\n", nruns, nqemu);
	return 0;
}
