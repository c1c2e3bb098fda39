/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the walk over all tables reads them: large, in file order, several at a time;
 * and that what it finds does not depend on which read ends first.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../lib/calls.h"
#include "../lib/fake-engine.h"
#include "fetch.h"
#include "format.h"
#include "mend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMAGE   "image.qed"
#define CLUSTER 4096u			/* a table is as long */
#define SPAN    (CLUSTER / 8 * (uint64_t)CLUSTER)	/* of a table */
#define L1      CLUSTER
#define TABLES  (2 * CLUSTER)		/* where they begin */
#define TOGETHER 300u			/* tables side by side, */
#define APART   20u			/* and others that are not */
#define NTABLES (TOGETHER + APART)
#define HOLE    (NTABLES / 3)		/* a table that is not stored */
#define FAULTS  (NTABLES - 1)
#define ENTRY   7u			/* of each table, that is wrong */

static char dir[200];
static char last_message[300];

/* The tables are in the file in the reverse order of the disk. */
static uint64_t table_off(unsigned slot)
{
	uint64_t gaps = slot < TOGETHER ? 0 : slot - TOGETHER + 1;

	return TABLES + (slot + gaps) * CLUSTER;
}

static uint64_t disk_off(unsigned slot)
{
	return (NTABLES - 1 - slot) * SPAN + ENTRY * CLUSTER;
}

static void put(int fd, const void *buf, size_t len, uint64_t off)
{
	assert_int_equal(pwrite(fd, buf, len, (off_t)off), len);
}

static void put_word(int fd, uint64_t value, uint64_t off)
{
	struct qed_le64 word = qed_le64_put(value);

	put(fd, &word, sizeof(word), off);
}

static void make_image(void)
{
	const struct qed_header h = { .cluster_size = CLUSTER,
				      .table_size = 1,
				      .header_size = 1,
				      .l1_table_offset = L1,
				      .image_size = NTABLES * SPAN };
	uint64_t end = table_off(NTABLES);
	uint8_t buf[QED_HEADER_BYTES];
	int fd = open(IMAGE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	qed_header_encode(&h, buf);
	put(fd, buf, sizeof(buf), 0);
	for (unsigned i = 0; i < NTABLES; i++) {
		put_word(fd, table_off(i), L1 + (NTABLES - 1 - i) * 8);
		if (i != HOLE)
			put_word(fd, end + CLUSTER, table_off(i) + ENTRY * 8);
	}
	assert_int_equal(ftruncate(fd, (off_t)end), 0);
	close(fd);
}

static void keep_message(void *opaque, enum qed_log_level level,
			 const char *message)
{
	(void)opaque;
	(void)level;
	snprintf(last_message, sizeof(last_message), "%s", message);
}

/* A check, on a thread of its own. */
struct check {
	struct fake *fake;
	pthread_t thread;
	uint64_t faults[FAULTS];	/* offsets on the disk */
	unsigned nfaults;
	unsigned steps, steps_max;	/* 0: is not cancelled */
	struct qed_check_report report;
	int ret;
};

static void on_fault(void *opaque, const struct qed_fault *fault)
{
	struct check *check = opaque;

	if (!fault->level)
		return;			/* clusters between tables are leaked */
	assert_true(check->nfaults < FAULTS);
	check->faults[check->nfaults++] = fault->disk_off;
}

static bool cancelled(void *opaque)
{
	struct check *check = opaque;

	return ++check->steps == check->steps_max;
}

static void *check_main(void *opaque)
{
	struct check *check = opaque;
	const struct qed_job job = { .cancelled = cancelled, .opaque = check };
	const struct qed_check_options options = {
		.log = { .write = keep_message },
		.job = &job,
		.fault = on_fault,
		.opaque = check,
	};

	check->ret = qed_image_check_engine(IMAGE, &options,
					    fake_start(check->fake),
					    &check->report);
	return NULL;
}

static void start(struct check *check, fake_decide *decide)
{
	fake_set_decide(check->fake, decide, NULL);
	fake_set_recording(check->fake, true);
	assert_int_equal(pthread_create(&check->thread, NULL, check_main,
					check), 0);
}

static void end(struct check *check)
{
	assert_int_equal(pthread_join(check->thread, NULL), 0);
}

static int setup(void **state)
{
	static struct check check;
	const char *parent = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%s/unit-scan.XXXXXX",
		 parent ? parent : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	make_image();
	last_message[0] = '\0';
	/* One thread ends what is waiting in the order that pick says. */
	check = (struct check){ .fake = fake_create(1) };
	*state = &check;
	return 0;
}

static int teardown(void **state)
{
	struct check *check = *state;

	fake_destroy(check->fake);
	unlink(IMAGE);
	assert_int_equal(chdir("/"), 0);
	return rmdir(dir);
}

static void assert_faults_in_file_order(const struct check *check)
{
	unsigned n = 0;

	assert_int_equal(check->ret, 0);
	assert_int_equal(check->report.corruptions, FAULTS);
	assert_int_equal(check->nfaults, FAULTS);
	for (unsigned i = 0; i < NTABLES; i++)
		if (i != HOLE)
			assert_int_equal(check->faults[n++], disk_off(i));
}

/* --- which reads ------------------------------------------------------------------ */

/* The next read of tables among the records from *at on. */
static void assert_read(struct check *check, size_t *at, uint64_t file_off,
			uint64_t len)
{
	struct fake_record *const *records;
	size_t n = fake_records(check->fake, &records);

	while (*at < n && (records[*at]->op != QED_OP_READ ||
			   records[*at]->file_off < TABLES))
		++*at;
	assert_true(*at < n);
	assert_int_equal(records[*at]->file_off, file_off);
	assert_int_equal(records[*at]->len, len);
	++*at;
}

/* As far as a hole, or as much as a read may be. */
static void neighbours_are_read_as_one(void **state)
{
	struct check *check = *state;
	const unsigned after = HOLE + 1;
	size_t at = 0;

	start(check, NULL);
	end(check);
	assert_read(check, &at, TABLES, HOLE * CLUSTER);
	assert_read(check, &at, table_off(after),
		    (TOGETHER - after) * CLUSTER);
	for (unsigned i = TOGETHER; i < NTABLES; i++)
		assert_read(check, &at, table_off(i), CLUSTER);
	assert_faults_in_file_order(check);
}

static void reads_are_not_too_large(void **state)
{
	struct check *check = *state;
	const unsigned most = QED_FETCH_BYTES / CLUSTER;
	int fd = open(IMAGE, O_RDWR | O_CLOEXEC);
	size_t at = 0;

	assert_true(fd >= 0);
	put_word(fd, 1, table_off(HOLE));
	close(fd);
	start(check, NULL);
	end(check);
	assert_read(check, &at, TABLES, QED_FETCH_BYTES);
	assert_read(check, &at, TABLES + QED_FETCH_BYTES,
		    (TOGETHER - most) * CLUSTER);
	assert_faults_in_file_order(check);
}

/* --- at once ----------------------------------------------------------------------- */

static struct fake_verdict hold_tables(void *opaque,
				       const struct fake_record *record)
{
	bool held = record->op == QED_OP_READ && record->file_off >= TABLES;

	(void)opaque;
	return (struct fake_verdict){ held ? FAKE_HOLD : FAKE_RUN, 0, 0 };
}

static unsigned pick_last(void *opaque, unsigned n)
{
	(void)opaque;
	return n - 1;
}

static void reads_are_in_flight_together(void **state)
{
	struct check *check = *state;

	fake_set_pick(check->fake, pick_last, NULL);
	start(check, hold_tables);
	fake_wait_held(check->fake, QED_FETCH_DEPTH);
	assert_int_equal(check->nfaults, 0);
	assert_int_equal(fake_count(check->fake, QED_OP_READ, IMAGE) -
				 fake_held(check->fake),
			 2);	/* the header and the L1 table */
	fake_set_decide(check->fake, NULL, NULL);
	fake_release_all(check->fake);
	end(check);
	assert_faults_in_file_order(check);
}

/* Nothing is under way any more when it returns. */
static void cancelled_with_reads_in_flight(void **state)
{
	struct check *check = *state;

	check->steps_max = 2;		/* the L1 table, the first L2 table */
	start(check, hold_tables);
	fake_wait_held(check->fake, QED_FETCH_DEPTH);
	fake_set_decide(check->fake, NULL, NULL);
	fake_release_all(check->fake);
	end(check);
	assert_int_equal(check->ret, -ECANCELED);
	assert_int_equal(check->nfaults, 1);
	assert_int_equal(fake_pending(check->fake), 0);
}

/* --- what cannot be read ------------------------------------------------------------ */

#define LOST 5u				/* a table in the midst of others */

static struct fake_verdict fail_one(void *opaque,
				    const struct fake_record *record)
{
	uint64_t off = table_off(LOST);
	bool fails = record->op == QED_OP_READ && record->file_off <= off &&
		     record->file_off + record->len > off;

	(void)opaque;
	return (struct fake_verdict){ fails ? FAKE_FAIL : FAKE_RUN, -EIO, 0 };
}

static void one_bad_table_costs_no_other(void **state)
{
	struct check *check = *state;
	char expected[300];

	start(check, fail_one);
	end(check);
	assert_int_equal(check->ret, 0);
	assert_int_equal(check->report.check_errors, 1);
	assert_int_equal(check->nfaults, FAULTS - 1);
	snprintf(expected, sizeof(expected),
		 "%s: cannot read a table at file offset %u, length %u: %s",
		 IMAGE, (unsigned)table_off(LOST), CLUSTER, strerror(EIO));
	assert_string_equal(last_message, expected);
}

int main(void)
{
#define SCAN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		SCAN_TEST(neighbours_are_read_as_one),
		SCAN_TEST(reads_are_not_too_large),
		SCAN_TEST(reads_are_in_flight_together),
		SCAN_TEST(cancelled_with_reads_in_flight),
		SCAN_TEST(one_bad_table_costs_no_other),
	};

	calls_watchdog(300);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
