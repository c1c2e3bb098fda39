/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage: corrupt [--seed N] [--only N]
 *
 * Damages images by each recipe and runs `qedimg check` on them, as it is found by
 * PATH: it must find and name what is wrong; mend it so that it and qemu-img find
 * nothing more, and so that the guest sees what it saw before, but for what was said
 * to be dropped; change nothing in a dry run; and take everything back.
 */
#include "config.h"

#include "corrupt.h"
#include "../lib/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BAD_QED   "bad.qed"
#define UNDO      "bad.qed.check-undo"
#define COMPACT_QED "compact.qed"
#define STRIDE_SANITIZED 4		/* of the recipes */
#define EXIT_SKIP 77

extern char **environ;

static const struct geometry geometries[] = {
	{ 4096, 2, 1, false },
	{ 8192, 2, 2, true },
	{ 4096, 1, 3, true },
	{ 65536, 1, 1, false },
	{ 4096, 4, 2, true },
};

#define NGEOMETRIES (sizeof(geometries) / sizeof(*geometries))

struct test {
	struct image *before;
	uint64_t nwrong, nleaked;	/* what the oracle says of it */
	bool qemu, dry;			/* wanted */
	struct report first, mended;	/* of the check, of the repair */
	struct report other;		/* of any other run */
	uint8_t *a, *b;			/* a cluster each */
	char message[500];
};

static bool have_qemu;

void die(const char *what)
{
	fprintf(stderr, "corrupt: %s (%s)\n", what, strerror(errno));
	exit(1);
}

static void enter_dir(void)
{
	int fd;

	if (scratch_enter("corrupt") < 0)
		die(scratch_dir());
	fd = open("base.raw", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
		die("base.raw");
	close(fd);
}

__attribute__((format(printf, 2, 3))) static bool
wrong(struct test *test, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(test->message, sizeof(test->message), format, args);
	va_end(args);
	return false;
}

/* --- programs ---------------------------------------------------------------------- */

/* Runs one; its output is in the file out, its status is returned. */
static int run(const char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "out",
					 O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_addopen(&actions, 2, "err",
					 O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (posix_spawnp(&pid, argv[0], &actions, NULL,
			 (char **)(uintptr_t)argv, environ))
		die(argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static const struct {
	const char *name;
	enum kind kind;
} kinds[] = {
	{ "reserved-bits", RESERVED_BITS }, { "unaligned", UNALIGNED },
	{ "past-end", PAST_END },	    { "in-header", IN_HEADER },
	{ "in-l1-table", IN_L1_TABLE },	    { "in-l2-table", IN_L2_TABLE },
	{ "shared", SHARED },		    { "leak", LEAK },
};

/* Of a fault, added to the report. */
static struct fault *next_fault(struct report *report)
{
	if (report->nfaults == report->room) {
		report->room = report->room ? 2 * report->room : 1024;
		report->faults = realloc(report->faults, report->room *
						sizeof(*report->faults));
		if (!report->faults)
			die("memory");
	}
	return &report->faults[report->nfaults];
}

/* Behind the end of the disk: it has no place there. */
static bool parse_far_fault(struct fault *f, const char *line, char kind[20])
{
	f->far = true;
	return sscanf(line, " { \"kind\": \"%19[^\"]\", \"action\": \"%15[^\"]\","
			    " \"table\": %u, \"table-offset\": %" SCNu64
			    ", \"entry\": %" SCNu64 ", \"length\": %" SCNu64
			    ", \"count\": %" SCNu64,
		      kind, f->action, &f->level, &f->file_off, &f->entry,
		      &f->len, &f->count) == 7;
}

static void parse_fault(struct report *report, const char *line)
{
	struct fault *f = next_fault(report);
	char kind[20];

	memset(f, 0, sizeof(*f));
	if (sscanf(line, " { \"kind\": \"%19[^\"]\", \"action\": \"%15[^\"]\","
			 " \"table\": %u, \"table-offset\": %" SCNu64
			 ", \"entry\": %" SCNu64 ", \"start\": %" SCNu64
			 ", \"length\": %" SCNu64 ", \"count\": %" SCNu64,
		   kind, f->action, &f->level, &f->file_off, &f->entry,
		   &f->start, &f->len, &f->count) != 8 &&
	    !parse_far_fault(f, line, kind) &&
	    sscanf(line, " { \"kind\": \"%19[^\"]\", \"action\": \"%15[^\"]\","
			 " \"offset\": %" SCNu64 ", \"length\": %" SCNu64
			 ", \"count\": %" SCNu64,
		   kind, f->action, &f->file_off, &f->len, &f->count) != 5)
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kind, kinds[i].name))
			f->kind = kinds[i].kind;
	report->nfaults++;
}

static void read_report(struct report *report)
{
	FILE *f = fopen("out", "re");
	char line[500];

	if (!f)
		die("out");
	report->nfaults = 0;
	while (fgets(line, sizeof(line), f))
		parse_fault(report, line);
	fclose(f);
}

/* Runs qedimg check with up to two options. */
static bool check(struct test *test, int status, const char *option1,
		  const char *option2, struct report *report)
{
	const char *argv[10] = { "qedimg", "check", "--output=json", BAD_QED };
	int n = 4, ret;

	if (option1) {
		argv[n++] = "-r";
		argv[n++] = option1;
	}
	if (option2)
		argv[n++] = option2;
	ret = run(argv);
	if (ret != status)
		return wrong(test, "check %s %s: status %d, not %d",
			     option1 ? option1 : "", option2 ? option2 : "",
			     ret, status);
	read_report(report);
	return true;
}

/* --- judging ------------------------------------------------------------------------- */

static bool file_is(const struct image *image)
{
	struct image *now = image_read(BAD_QED);
	bool same = now->size == image->size &&
		    !memcmp(now->bytes, image->bytes, now->size);

	image_free(now);
	return same;
}

static int expected_status(const struct test *test)
{
	return test->nwrong ? 2 : test->nleaked ? 3 : 0;
}

static bool find_it(struct test *test)
{
	return check(test, expected_status(test), NULL, NULL, &test->first) &&
	       (oracle_judge(test->before, &test->first, test->message),
		!*test->message);
}

static bool run_dry(struct test *test)
{
	struct report *report = &test->other;

	if (!test->dry)
		return true;
	if (!check(test, expected_status(test), "all", "--dry-run", report))
		return false;
	for (unsigned i = 0; i < report->nfaults; i++)
		if (!strcmp(report->faults[i].action, "none") && !test->nwrong)
			return wrong(test, "nothing would be done");
	return file_is(test->before) ||
	       wrong(test, "a dry run changes the file");
}

static bool is_dropped(const struct report *report, uint64_t disk_off)
{
	for (unsigned i = 0; i < report->nfaults; i++) {
		const struct fault *f = &report->faults[i];

		if (!strcmp(f->action, "drop") && f->start <= disk_off &&
		    disk_off - f->start < f->len)
			return true;
	}
	return false;
}

/* An entry of a table that has been mended: the copy may be older or newer. */
static bool is_mended(const struct test *test, uint64_t file_off)
{
	for (unsigned i = 0; i < test->mended.nfaults; i++) {
		const struct fault *f = &test->mended.faults[i];

		if (f->level && f->file_off <= file_off &&
		    (file_off - f->file_off) / 8 < f->count)
			return true;
	}
	return false;
}

static bool bytes_ok(const struct test *test, uint64_t old_off)
{
	uint64_t n = test->before->g.cluster;

	if (!memcmp(test->a, test->b, n))
		return true;
	for (uint64_t i = 0; i < n; i += 8)
		if (memcmp(test->a + i, test->b + i, 8) &&
		    !is_mended(test, old_off + i))
			return false;
	return true;
}

static bool cluster_ok(struct test *test, const struct image *after,
		       uint64_t l1, uint64_t l2)
{
	const struct image *before = test->before;
	uint64_t disk_off = l1 * before->span + l2 * before->g.cluster;
	uint64_t old_off = 0, new_off = 0;
	enum held was = image_held(before, l1, l2, &old_off);
	enum held is = image_held(after, l1, l2, &new_off);

	if (was == UNALLOCATED && is == UNALLOCATED)
		return true;
	if (disk_off < before->disk_size &&
	    is_dropped(&test->mended, disk_off) != (was == BAD))
		return wrong(test, "disk offset %" PRIu64 " is%s said to be "
			     "dropped", disk_off, was == BAD ? " not" : "");
	if (was == BAD)
		was = UNALLOCATED;
	if (was != is)
		return wrong(test, "disk offset %" PRIu64 " was %d, now is %d",
			     disk_off, was, is);
	if (was != DATA)
		return true;
	image_data(before, old_off, test->a);
	image_data(after, new_off, test->b);
	return bytes_ok(test, old_off) || wrong(test, "disk offset %" PRIu64 " holds other bytes",
		     disk_off);
}

static bool content_ok(struct test *test, const struct image *after)
{
	const struct image *before = test->before;
	bool ok = true;

	for (uint64_t i = 0; ok && i < before->nelems; i++) {
		if (!image_get(before, before->l1 + i * 8) &&
		    !image_get(after, after->l1 + i * 8))
			continue;
		for (uint64_t j = 0; ok && j < before->nelems; j++)
			ok = cluster_ok(test, after, i, j);
	}
	return ok;
}

static bool after_ok(struct test *test, const struct image *after)
{
	uint64_t nleaked, nwrong = oracle_count(after, &nleaked);

	if (nwrong)
		return wrong(test, "%" PRIu64 " entries are wrong still",
			     nwrong);
	if (image_get(after, 16) & NEED_CHECK)
		return wrong(test, "NEED_CHECK is set still");
	if (!content_ok(test, after) || !check(test, 0, "all", NULL, &test->other))
		return false;
	oracle_judge(after, &test->other, test->message);
	if (*test->message)
		return false;
	return file_is(after) || wrong(test, "mended again it changes");
}

/* Does the L1 table, which stays where it is, keep the file from being shorter? */
static bool ends_with_l1(const char *path)
{
	struct image *image = image_read(path);
	bool ends = image->l1 + image->table_bytes == image->size;

	image_free(image);
	return ends;
}

/* Clusters that leak inside of the file, and are only punched, are filled. */
static bool compact_ok(struct test *test, const struct image *after)
{
	static const char *const compact[] = { "qedimg", "compact", "-q",
					       COMPACT_QED, NULL };
	static const char *const check[] = { "qemu-img", "check", "-f", "qed",
					     COMPACT_QED, NULL };
	int status;

	image_write(after, COMPACT_QED);
	status = run(compact);
	if (status)
		return wrong(test, "compact: status %d", status);
	status = run(check);
	return !status || (status == 3 && ends_with_l1(COMPACT_QED)) ||
	       wrong(test, "compacted, qemu-img check: status %d", status);
}

/* Of leaks inside a repair cannot be rid, for QEMU. */
static bool qemu_ok(struct test *test, const struct image *after)
{
	static const char *const argv[] = { "qemu-img", "check", "-f", "qed",
					    BAD_QED, NULL };
	uint64_t nleaked;
	int status;

	if (!have_qemu || !test->qemu)
		return true;
	oracle_count(after, &nleaked);
	status = run(argv);
	if (status != (nleaked ? 3 : 0))
		return wrong(test, "qemu-img check: status %d, %" PRIu64
			     " leaks", status, nleaked);
	return !nleaked || compact_ok(test, after);
}

static bool mend_it(struct test *test)
{
	struct image *after;
	bool ok;

	if (!check(test, 0, "all", NULL, &test->mended))
		return false;
	after = image_read(BAD_QED);
	ok = after_ok(test, after) && qemu_ok(test, after);
	image_free(after);
	return ok;
}

static bool table_same(const struct image *a, const struct image *b,
		       uint64_t off)
{
	uint64_t len = a->table_bytes;

	return b->size >= off + len && !memcmp(a->bytes + off, b->bytes + off, len);
}

/* Every table that was one is as it was. */
static bool tables_same(struct test *test, const struct image *now)
{
	const struct image *before = test->before;

	if (memcmp(before->bytes, now->bytes, 64) ||
	    !table_same(before, now, before->l1))
		return wrong(test, "undone, the header or the L1 table differs");
	for (uint64_t i = 0; i < before->nelems; i++) {
		uint64_t table = image_get(before, before->l1 + i * 8);

		if (table && image_judge(before, table, before->table_bytes) ==
				     GOOD && !table_same(before, now, table))
			return wrong(test, "undone, L2 table %" PRIu64
				     " differs", i);
	}
	return true;
}

static bool changes_tables(const struct test *test)
{
	for (unsigned i = 0; i < test->mended.nfaults; i++)
		if (!strcmp(test->mended.faults[i].action, "drop") ||
		    !strcmp(test->mended.faults[i].action, "copy"))
			return true;
	return false;
}

static bool undo_it(struct test *test)
{
	static const char *const argv[] = { "qedimg", "check", "--undo",
					    BAD_QED, NULL };
	bool changed = access(UNDO, R_OK) == 0, ok;
	int status = run(argv);
	struct image *now;

	if (!changed && changes_tables(test))
		return wrong(test, "there is no undo file");
	if (status != !changed)
		return wrong(test, "undo: status %d", status);
	if (!changed)
		return true;
	if (access(UNDO, R_OK) == 0)
		return wrong(test, "undone, the undo file is still there");
	now = image_read(BAD_QED);
	ok = tables_same(test, now);
	image_free(now);
	return ok;
}

/* --- all of them --------------------------------------------------------------------- */

/*
 * Runs recipe `n` on the first geometry, from the one whose turn it is, that has
 * such damage.
 */
static bool test_one(unsigned n, uint64_t seed, unsigned *count)
{
	struct test test = { .qemu = false };
	struct rng rng = { rng_mix(seed + n) };
	bool ok, backing = rng_chance(&rng, 50), flag = rng_chance(&rng, 30);
	char name[200];
	size_t g = 0;

	for (size_t turn = 0; turn < NGEOMETRIES; turn++) {
		g = (n + n / NGEOMETRIES + turn) % NGEOMETRIES;
		test.before = image_create(&geometries[g], backing);
		if (recipe_apply(n, test.before, &rng, name))
			break;
		image_free(test.before);
		test.before = NULL;
	}
	if (!test.before)
		return true;
	if (flag)
		image_put(test.before, 16,
			  image_get(test.before, 16) | NEED_CHECK);
	test.qemu = geometries[g].table > 1;
	test.dry = rng_chance(&rng, 30);
	test.nwrong = oracle_count(test.before, &test.nleaked);
	test.a = malloc(geometries[g].cluster);
	test.b = malloc(geometries[g].cluster);
	if (!test.a || !test.b)
		die("memory");
	unlink(UNDO);
	image_write(test.before, BAD_QED);
	ok = find_it(&test) && run_dry(&test) && mend_it(&test) &&
	     undo_it(&test);
	if (!ok)
		fprintf(stderr, "FAILED: %s\n  --seed %" PRIu64 " --only %u: %s; "
			"cluster %" PRIu64 ", table %" PRIu64 ", header %" PRIu64
			"%s%s\n", test.message, seed, n, name,
			geometries[g].cluster, geometries[g].table,
			geometries[g].header, backing ? ", backing" : "",
			flag ? ", NEED_CHECK" : "");
	image_free(test.before);
	free(test.a);
	free(test.b);
	free(test.first.faults);
	free(test.mended.faults);
	free(test.other.faults);
	++*count;
	return ok;
}

int main(int argc, char **argv)
{
	uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32;
	unsigned count = 0, failed = 0, stride = 1, first = 0;
	unsigned end = recipes();

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seed")) {
			seed = strtoull(argv[i + 1], NULL, 10);
		} else if (!strcmp(argv[i], "--only")) {
			first = (unsigned)strtoul(argv[i + 1], NULL, 10);
			end = first + 1;
		}
	}
	printf("seed %" PRIu64 "\n", seed);
	fflush(stdout);
	have_qemu = system("qemu-img --version >/dev/null 2>&1") == 0;
	if (is_env("QED_SANITIZER", "address") || is_env("QED_SANITIZER", "thread"))
		stride = STRIDE_SANITIZED;
	if (is_env("QED_SOAK", "1"))
		end += 5000;
	enter_dir();
	if (stride > 1 && end > first + 1)
		first = (unsigned)(seed % stride);
	for (unsigned n = first; n < end; n += stride)
		failed += !test_one(n, seed, &count);
	printf("%u damaged images, %u failures\n", count, failed);
	if (failed || (end > first + 1 && stride == 1 && count < 100))
		return 1;
	if (!have_qemu)
		printf("skipped: qemu-img is not here to compare with\n");
	return have_qemu ? 0 : EXIT_SKIP;
}
