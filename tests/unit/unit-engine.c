/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Byte I/O on a host file: the same table of cases for both real engines; and
 * what attempts that end early, late or badly come to, with the tests' engine.
 */
#include "config.h"

#include "../lib/fake-engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))
#define NAME  "file"
#define BYTES 100000u

static const struct qed_log quiet;
static char dir[200];
static uint8_t pattern[BYTES];

/*
 * The library's calls of fallocate(2) come here, so that a host can be played that
 * has no such thing.
 */
static _Atomic bool no_fallocate;

int fallocate(int fd, int mode, off_t off, off_t len)
{
	if (no_fallocate) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

static int enter_dir(void **state)
{
	const char *parent = getenv("TMPDIR");

	(void)state;
	for (unsigned i = 0; i < BYTES; i++)
		pattern[i] = (uint8_t)(1 + i * 31 % 251);
	snprintf(dir, sizeof(dir), "%s/unit-engine.XXXXXX",
		 parent ? parent : "/tmp");
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int leave_dir(void **state)
{
	(void)state;
	no_fallocate = false;
	unlink(NAME);
	return chdir("/") == 0 ? rmdir(dir) : -1;
}

/* A file of `size` bytes of the pattern. */
static void make_file(uint64_t size)
{
	int fd = open(NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, pattern, size, 0), (ssize_t)size);
	close(fd);
}

static struct stat stat_file(void)
{
	struct stat st;

	assert_int_equal(stat(NAME, &st), 0);
	return st;
}

static struct qed_file *open_file(struct qed_engine *engine, bool writable)
{
	struct qed_file *file;

	assert_int_equal(qed_file_open(NAME, writable, engine, &quiet, &file),
			 0);
	return file;
}

/* Are the `len` bytes at `off` of the file as in `expected`? */
static void assert_file(const uint8_t *expected, uint64_t len, off_t off)
{
	uint8_t *got = malloc(len);
	int fd = open(NAME, O_RDONLY | O_CLOEXEC);

	assert_non_null(got);
	assert_int_equal(pread(fd, got, len, off), (ssize_t)len);
	assert_memory_equal(got, expected, len);
	close(fd);
	free(got);
}

/* --- any engine -------------------------------------------------------------------- */

static void check_read_past_end(struct qed_engine *engine)
{
	static const struct {
		uint64_t off, len, inside;
	} cases[] = {
		{ 0, 1000, 1000 }, { 500, 1000, 500 }, { 999, 4096, 1 },
		{ 1000, 10, 0 },   { 5000, 4096, 0 },  { 0, 0, 0 },
	};
	struct qed_file *file;
	uint8_t got[4096], zeroes[4096] = { 0 };

	make_file(1000);
	file = open_file(engine, false);
	for (size_t i = 0; i < ELEMS(cases); i++) {
		uint64_t in = cases[i].inside;

		memset(got, 0xaa, sizeof(got));
		assert_int_equal(qed_file_read(file, got, cases[i].len,
					       cases[i].off),
				 0);
		if (in)
			assert_memory_equal(got, pattern + cases[i].off, in);
		if (cases[i].len > in)
			assert_memory_equal(got + in, zeroes,
					    cases[i].len - in);
	}
	qed_file_close(file);
}

static void check_write(struct qed_engine *engine)
{
	struct qed_file *file;

	make_file(10);
	file = open_file(engine, true);
	assert_int_equal(qed_file_write(file, pattern, 5000, 3000), 0);
	assert_int_equal(qed_file_flush(file), 0);
	assert_int_equal(stat_file().st_size, 8000);
	assert_file(pattern, 5000, 3000);
	assert_file(pattern, 10, 0);
	qed_file_close(file);
}

/* An operation with a list, on any thread's behalf. */
struct waited {
	struct qed_io io;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool over;
	int err;
};

static void waited_done(struct qed_io *io, int err)
{
	struct waited *w = (struct waited *)io;

	pthread_mutex_lock(&w->lock);
	w->over = true;
	w->err = err;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static int run_list(struct qed_file *file, enum qed_op op, struct iovec *iov,
		    int iovcnt, uint64_t file_off)
{
	struct waited w = { .io = { .op = op,
				    .file_off = file_off,
				    .len = qed_iov_bytes(iov, iovcnt),
				    .iov = iov,
				    .iovcnt = iovcnt,
				    .done = waited_done } };
	int ret;

	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.cond, NULL);
	ret = qed_file_start(file, &w.io);
	pthread_mutex_lock(&w.lock);
	while (ret == QED_PENDING && !w.over)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	return ret == QED_PENDING ? w.err : ret;
}

/* More parts than one system call takes; of uneven lengths, some of them 0. */
static void check_long_lists(struct qed_engine *engine)
{
	static struct iovec iov[3 * IOV_MAX];
	static uint8_t copy[BYTES];
	struct qed_file *file;

	for (int round = 0; round < 2; round++) {
		uint8_t *from = round ? copy : pattern;
		uint64_t at = 0;

		for (unsigned i = 0; i < ELEMS(iov); i++) {
			iov[i].iov_base = from + at;
			iov[i].iov_len = i % 7 * 4;
			at += iov[i].iov_len;
		}
		if (!round)
			make_file(1);
		file = open_file(engine, true);
		assert_int_equal(run_list(file,
					  round ? QED_OP_READ : QED_OP_WRITE,
					  iov, ELEMS(iov), 77),
				 0);
		qed_file_close(file);
		assert_int_equal(stat_file().st_size, (off_t)(77 + at));
		assert_memory_equal(round ? copy : pattern, pattern, at);
		assert_file(pattern, at, 77);
	}
}

static void check_grow_and_punch(struct qed_engine *engine)
{
	uint8_t zeroes[8192] = { 0 };
	struct qed_file *file;

	make_file(BYTES);
	file = open_file(engine, true);
	assert_false(qed_file_grows_by_truncate(file));
	assert_int_equal(qed_file_run(file, QED_OP_GROW, 200000, 1000), 0);
	assert_int_equal(stat_file().st_size, 201000);
	/* Never shrinks, never changes what is there. */
	assert_int_equal(qed_file_run(file, QED_OP_GROW, 10, 10), 0);
	assert_int_equal(stat_file().st_size, 201000);
	assert_file(pattern, BYTES, 0);
	assert_int_equal(qed_file_run(file, QED_OP_PUNCH, 8192, 8192), 0);
	assert_file(zeroes, 8192, 8192);
	assert_file(pattern, 8192, 0);
	assert_file(pattern + 16384, 8192, 16384);
	/* Past the end too, and the size stays. */
	assert_int_equal(qed_file_run(file, QED_OP_PUNCH, 300000, 4096), 0);
	assert_int_equal(stat_file().st_size, 201000);
	qed_file_close(file);
}

static void check_errors(struct qed_engine *engine)
{
	struct rlimit old, low;
	struct qed_file *file;

	make_file(100);
	file = open_file(engine, false);
	assert_int_equal(qed_file_write(file, pattern, 10, 0), -EBADF);
	assert_int_equal(qed_file_run(file, QED_OP_GROW, 0, 1000), -EBADF);
	assert_int_equal(qed_file_run(file, QED_OP_PUNCH, 0, 10), -EBADF);
	qed_file_close(file);
	assert_file(pattern, 100, 0);

	/* A full disk looks like this: a part goes, then nothing does. */
	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 1000;
	signal(SIGXFSZ, SIG_IGN);
	file = open_file(engine, true);
	setrlimit(RLIMIT_FSIZE, &low);
	assert_int_equal(qed_file_write(file, pattern, 5000, 0), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(qed_file_write(file, pattern, 5000, 0), 0);
	qed_file_close(file);
}

static void on_engine(int (*create)(struct qed_engine **engine),
		      void (*check)(struct qed_engine *engine))
{
	struct qed_engine *engine;
	int ret = create(&engine);

	if (ret == -ENOSYS || ret == -EPERM) {
		print_message("no such engine here: %s\n", strerror(-ret));
		skip();
	}
	assert_int_equal(ret, 0);
	check(engine);
	qed_engine_destroy(engine);
}

static int create_fake(struct qed_engine **engine);
static void destroy_fake(struct qed_engine *engine);

#define ON_ALL(name)                                                          \
	static void uring_##name(void **state)                                \
	{                                                                     \
		(void)state;                                                  \
		on_engine(qed_engine_uring_create, check_##name);             \
	}                                                                     \
	static void threads_##name(void **state)                              \
	{                                                                     \
		(void)state;                                                  \
		on_engine(qed_engine_threads_create, check_##name);           \
	}                                                                     \
	static void fake_##name(void **state)                                 \
	{                                                                     \
		struct qed_engine *engine;                                    \
                                                                              \
		(void)state;                                                  \
		create_fake(&engine);                                         \
		check_##name(engine);                                         \
		destroy_fake(engine);                                         \
	}

ON_ALL(read_past_end)
ON_ALL(write)
ON_ALL(long_lists)
ON_ALL(grow_and_punch)
ON_ALL(errors)

/* --- attempts that are not what one wishes ------------------------------------------- */

static struct fake *fake;

static int create_fake(struct qed_engine **engine)
{
	fake = fake_create(1);
	*engine = fake_start(fake);
	return 0;
}

static void destroy_fake(struct qed_engine *engine)
{
	qed_engine_destroy(engine);
	fake_destroy(fake);
}

/* What to say to one attempt after the other, then FAKE_RUN. */
struct script {
	struct fake_verdict verdicts[6];
	unsigned next;
};

static struct fake_verdict follow(void *opaque, const struct fake_record *record)
{
	struct script *script = opaque;
	struct fake_verdict run = { FAKE_RUN, 0, 0 };

	(void)record;
	return script->next < ELEMS(script->verdicts) ?
		       script->verdicts[script->next++] :
		       run;
}

#define SHORT(n) { FAKE_SHORT, 0, n }
#define FAIL(e)  { FAKE_FAIL, -(e), 0 }
#define RUN      { FAKE_RUN, 0, 0 }

static const struct attempts {
	const char *what;
	enum qed_op op;
	struct fake_verdict verdicts[6];
	int expected;
	unsigned attempts;
} attempts[] = {
	{ "read: parts", QED_OP_READ, { SHORT(1), SHORT(511), SHORT(5000) },
	  0, 4 },
	{ "read: interrupted", QED_OP_READ, { FAIL(EINTR), FAIL(EINTR) }, 0,
	  3 },
	{ "read: again", QED_OP_READ, { FAIL(EAGAIN), SHORT(7), FAIL(EAGAIN) },
	  0, 4 },
	{ "read: error", QED_OP_READ, { FAIL(EIO) }, -EIO, 1 },
	{ "read: error after a part", QED_OP_READ, { SHORT(9), FAIL(EIO) },
	  -EIO, 2 },
	{ "write: parts", QED_OP_WRITE, { SHORT(1), SHORT(4096), SHORT(3) }, 0,
	  4 },
	{ "write: interrupted", QED_OP_WRITE,
	  { FAIL(EINTR), SHORT(100), FAIL(EINTR) }, 0, 4 },
	{ "write: nothing goes", QED_OP_WRITE, { SHORT(0) }, -ENOSPC, 1 },
	{ "write: full", QED_OP_WRITE, { SHORT(5), FAIL(ENOSPC) }, -ENOSPC,
	  2 },
	{ "write: quota", QED_OP_WRITE, { FAIL(EDQUOT) }, -EDQUOT, 1 },
	{ "flush: interrupted", QED_OP_FLUSH, { FAIL(EINTR) }, 0, 2 },
	{ "flush: error", QED_OP_FLUSH, { FAIL(EIO) }, -EIO, 1 },
	{ "punch: interrupted", QED_OP_PUNCH, { FAIL(EINTR) }, 0, 2 },
	{ "punch: unknown", QED_OP_PUNCH, { FAIL(EOPNOTSUPP) }, -EOPNOTSUPP,
	  1 },
	{ "grow: interrupted", QED_OP_GROW, { FAIL(EINTR) }, 0, 2 },
	{ "grow: full", QED_OP_GROW, { FAIL(ENOSPC) }, -ENOSPC, 1 },
	{ "grow: unknown, by truncation", QED_OP_GROW, { FAIL(EOPNOTSUPP) }, 0,
	  1 },
	{ "cut: interrupted", QED_OP_CUT, { FAIL(EINTR) }, 0, 2 },
	{ "cut: error", QED_OP_CUT, { FAIL(EIO) }, -EIO, 1 },
};

/* The list is uneven, so that parts end inside its parts. */
static int run_case(struct qed_file *file, const struct attempts *c,
		    uint8_t *buf)
{
	struct iovec iov[] = { { buf, 3 },
			       { buf + 3, 0 },
			       { buf + 3, 4100 },
			       { buf + 4103, 10000 - 4103 } };

	if (c->op == QED_OP_READ || c->op == QED_OP_WRITE)
		return run_list(file, c->op, iov, 4, 50);
	if (c->op == QED_OP_GROW)
		return qed_file_run(file, c->op, 150000, 50000);
	if (c->op == QED_OP_CUT)
		return qed_file_cut(file, 5000);
	return qed_file_run(file, c->op, 4096, 4096);
}

static void attempts_repeated(void **state)
{
	static uint8_t buf[10000];

	(void)state;
	for (size_t i = 0; i < ELEMS(attempts); i++) {
		const struct attempts *c = &attempts[i];
		struct script script = { .next = 0 };
		struct qed_engine *engine;
		struct qed_file *file;

		print_message("%s\n", c->what);
		memcpy(script.verdicts, c->verdicts, sizeof(c->verdicts));
		make_file(BYTES);
		create_fake(&engine);
		fake_set_decide(fake, follow, &script);
		file = open_file(engine, true);
		for (unsigned j = 0; j < sizeof(buf); j++)
			buf[j] = c->op == QED_OP_WRITE ? (uint8_t)(j ^ 0x55) :
							 0;
		assert_int_equal(run_case(file, c, buf), c->expected);
		assert_int_equal(fake_count(fake, c->op, NAME), c->attempts);
		if (!c->expected && c->op == QED_OP_READ)
			assert_memory_equal(buf, pattern + 50, sizeof(buf));
		if (!c->expected && c->op == QED_OP_WRITE)
			assert_file(buf, sizeof(buf), 50);
		if (!c->expected && c->op == QED_OP_GROW)
			assert_int_equal(stat_file().st_size, 200000);
		if (!c->expected && c->op == QED_OP_CUT)
			assert_int_equal(stat_file().st_size, 5000);
		qed_file_close(file);
		destroy_fake(engine);
	}
}

/* A host without fallocate(2): the file grows, and says how. */
static void grow_without_fallocate(void **state)
{
	struct qed_engine *engine;
	struct qed_file *file;

	(void)state;
	make_file(100);
	assert_int_equal(qed_engine_threads_create(&engine), 0);
	file = open_file(engine, true);
	no_fallocate = true;
	assert_true(qed_file_grows_by_truncate(file));
	assert_int_equal(qed_file_run(file, QED_OP_GROW, 5000, 3000), 0);
	assert_int_equal(stat_file().st_size, 8000);
	assert_int_equal(qed_file_run(file, QED_OP_GROW, 0, 100), 0);
	assert_int_equal(stat_file().st_size, 8000);
	assert_int_equal(qed_file_run(file, QED_OP_PUNCH, 0, 100),
			 -EOPNOTSUPP);
	assert_file(pattern, 100, 0);
	no_fallocate = false;
	qed_file_close(file);
	qed_engine_destroy(engine);
}

static void extend_and_cut(void **state)
{
	struct qed_engine *engine;
	struct qed_file *file;
	uint64_t size;

	(void)state;
	make_file(1000);
	create_fake(&engine);
	file = open_file(engine, true);
	assert_int_equal(qed_file_extend(file, 5000), 0);
	assert_int_equal(qed_file_extend(file, 200), 0);
	assert_int_equal(qed_file_size(file, &size), 0);
	assert_int_equal(size, 5000);
	assert_int_equal(qed_file_cut(file, 6000), 0);
	assert_int_equal(qed_file_cut(file, 300), 0);
	assert_int_equal(stat_file().st_size, 300);
	assert_file(pattern, 300, 0);
	qed_file_close(file);
	destroy_fake(engine);
}

static void not_files(void **state)
{
	static const struct {
		const char *path;
		int expected;
	} cases[] = {
		{ "/dev/null", -EMEDIUMTYPE },
		{ ".", -EISDIR },
		{ "missing", -ENOENT },
	};
	struct qed_engine *engine;
	struct qed_file *file;

	(void)state;
	create_fake(&engine);
	for (size_t i = 0; i < ELEMS(cases); i++) {
		assert_int_equal(qed_file_open(cases[i].path, false, engine,
					       &quiet, &file),
				 cases[i].expected);
		assert_null(file);
	}
	destroy_fake(engine);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_dir, leave_dir)
#define TEST_ALL(name) \
	TEST(uring_##name), TEST(threads_##name), TEST(fake_##name)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST_ALL(read_past_end),
		TEST_ALL(write),
		TEST_ALL(long_lists),
		TEST_ALL(grow_and_punch),
		TEST_ALL(errors),
		TEST(attempts_repeated),
		TEST(grow_without_fallocate),
		TEST(extend_and_cut),
		TEST(not_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
