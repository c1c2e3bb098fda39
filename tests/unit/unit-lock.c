/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image locks: which bytes are held, who may share with whom, and what is said.
 * Two descriptors of one process are two lock owners, as two processes are.
 */
#include "config.h"

#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES 256

struct heard {
	int errors, warnings;
	char last[512];
};

static void listen(void *opaque, enum qed_log_level level, const char *message)
{
	struct heard *heard = opaque;

	heard->errors += level == QED_LOG_ERROR;
	heard->warnings += level == QED_LOG_WARNING;
	snprintf(heard->last, sizeof(heard->last), "%s", message);
}

/* A new empty file for each test. */
static char image[4096];

static int make_image(void **state)
{
	const char *dir = getenv("TMPDIR");
	int fd;

	(void)state;
	snprintf(image, sizeof(image), "%s/unit-lock.XXXXXX",
		 dir ? dir : "/tmp");
	fd = mkstemp(image);
	return fd < 0 ? -1 : close(fd);
}

static int remove_image(void **state)
{
	(void)state;
	return unlink(image);
}

static int open_image(int flags)
{
	int fd = open(image, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static int take(int fd, bool write, struct heard *heard)
{
	const struct qed_log log = { listen, heard };

	memset(heard, 0, sizeof(*heard));
	return qed_lock_take(fd, write, "disk.qed", &log);
}

/* Marks the bytes that the kernel says `fd` has locked, shared ones by 'r'. */
static void held_bytes(int fd, char held[BYTES])
{
	char path[64], line[256], type[8];
	long first, last;
	FILE *f;

	memset(held, '.', BYTES);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line,
			   "lock: %*s OFDLCK ADVISORY %7s %*s %*s %ld %ld",
			   type, &first, &last) != 3)
			continue;
		assert_true(0 <= first && first <= last && last < BYTES);
		memset(held + first, type[0] == 'R' ? 'r' : 'W',
		       (size_t)(last - first + 1));
	}
	fclose(f);
}

static void assert_holds(int fd, const int *bytes, size_t n)
{
	char held[BYTES], expected[BYTES];

	memset(expected, '.', BYTES);
	for (size_t i = 0; i < n; i++)
		expected[bytes[i]] = 'r';
	held_bytes(fd, held);
	assert_memory_equal(held, expected, BYTES);
}

static void the_bytes_are_qemus(void **state)
{
	static const int reading[] = { 100, 201, 203 };
	static const int writing[] = { 100, 101, 103, 201, 203 };
	struct heard heard;
	int fd = open_image(O_RDONLY);

	(void)state;
	assert_int_equal(take(fd, false, &heard), 0);
	assert_holds(fd, reading, ELEMS(reading));
	close(fd);
	/* What counts is the wish, not how the file was opened. */
	fd = open_image(O_RDONLY);
	assert_int_equal(take(fd, true, &heard), 0);
	assert_holds(fd, writing, ELEMS(writing));
	assert_int_equal(heard.errors + heard.warnings, 0);
	close(fd);
}

struct meeting {
	bool first_writes, second_writes;
	int result;
	const char *message;
};

static const struct meeting meetings[] = {
	{ false, false, 0, "" },
	{ false, true, -EBUSY, "disk.qed: in use by this program itself" },
	{ true, false, -EBUSY,
	  "disk.qed: in use for writing by this program itself" },
	{ true, true, -EBUSY,
	  "disk.qed: in use for writing by this program itself" },
};

static void check_meeting(const struct meeting *m)
{
	int first = open_image(O_RDWR), second = open_image(O_RDWR);
	struct heard heard;

	assert_int_equal(take(first, m->first_writes, &heard), 0);
	assert_int_equal(take(second, m->second_writes, &heard), m->result);
	assert_int_equal(heard.errors, m->result ? 1 : 0);
	assert_non_null(strstr(heard.last, m->message));
	if (m->result) {
		/* The loser holds nothing and stands in nobody's way. */
		assert_holds(second, NULL, 0);
		close(first);
		assert_int_equal(take(second, m->second_writes, &heard), 0);
		first = -1;
	}
	close(second);
	if (first >= 0)
		close(first);
}

static void readers_share_and_writers_do_not(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMS(meetings); i++)
		check_meeting(&meetings[i]);
}

static void the_way_out_is_told(void **state)
{
	int first = open_image(O_RDONLY), second = open_image(O_RDWR);
	struct heard heard;

	(void)state;
	assert_int_equal(take(first, false, &heard), 0);
	assert_int_equal(take(second, true, &heard), -EBUSY);
	assert_non_null(strstr(heard.last, "or open it read-only"));
	close(first);
	close(second);
}

/* A third owner is free to come when all before it only read. */
static void many_readers_leave_no_trace(void **state)
{
	struct heard heard;
	int fd[8];

	(void)state;
	for (size_t i = 0; i < ELEMS(fd); i++) {
		fd[i] = open_image(O_RDONLY);
		assert_int_equal(take(fd[i], false, &heard), 0);
	}
	for (size_t i = 0; i < ELEMS(fd); i++)
		close(fd[i]);
	fd[0] = open_image(O_RDWR);
	assert_int_equal(take(fd[0], true, &heard), 0);
	close(fd[0]);
}

/* Takes single bytes as some other program that follows the protocol might. */
static void lock_byte(int fd, short type, int byte)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
}

struct foreign {
	int byte;
	short type;
	int reading, writing;		/* what our two wishes come to */
};

static void every_byte_counts(void **state)
{
	static const struct foreign cases[] = {
		{ 99, F_RDLCK, 0, 0 },
		{ 100, F_RDLCK, 0, 0 },
		{ 101, F_RDLCK, -EBUSY, -EBUSY },
		{ 102, F_RDLCK, 0, 0 },
		{ 103, F_RDLCK, -EBUSY, -EBUSY },
		{ 104, F_RDLCK, 0, 0 },
		{ 200, F_RDLCK, -EBUSY, -EBUSY },
		{ 201, F_RDLCK, 0, -EBUSY },
		{ 202, F_RDLCK, 0, 0 },
		{ 203, F_RDLCK, 0, -EBUSY },
		{ 204, F_RDLCK, 0, 0 },
		/* An exclusive holder keeps off even our first step. */
		{ 100, F_WRLCK, -EBUSY, -EBUSY },
		{ 203, F_WRLCK, -EBUSY, -EBUSY },
	};
	int other = open_image(O_RDWR), fd = open_image(O_RDWR);
	struct heard heard;

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		lock_byte(other, cases[i].type, cases[i].byte);
		if (take(fd, false, &heard) != cases[i].reading)
			fail_msg("read, byte %d", cases[i].byte);
		close(fd);
		fd = open_image(O_RDWR);
		if (take(fd, true, &heard) != cases[i].writing)
			fail_msg("write, byte %d", cases[i].byte);
		close(fd);
		fd = open_image(O_RDWR);
		lock_byte(other, F_UNLCK, cases[i].byte);
	}
	close(other);
	close(fd);
}

struct holder {
	pid_t pid;
	int end;			/* closed to send it away */
};

static void as_writer(int fd)
{
	struct heard heard;

	assert_int_equal(take(fd, true, &heard), 0);
}

static void as_reader(int fd)
{
	struct heard heard;

	assert_int_equal(take(fd, false, &heard), 0);
}

/* A lock that is in nobody's way. */
static void as_bystander(int fd)
{
	lock_byte(fd, F_RDLCK, 102);
}

/* A child under a name of its own that has the image open and locked. */
static struct holder start_holder(const char *name, void (*lock)(int fd))
{
	struct holder holder;
	int ready[2], end[2];
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	holder.pid = fork();
	assert_true(holder.pid >= 0);
	if (holder.pid == 0) {
		close(end[1]);
		prctl(PR_SET_NAME, name);
		lock(open(image, O_RDWR));
		if (write(ready[1], "", 1) == 1)
			(void)!read(end[0], &c, 1);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	holder.end = end[1];
	return holder;
}

static void end_holder(struct holder holder)
{
	int status;

	close(holder.end);
	assert_int_equal(waitpid(holder.pid, &status, 0), holder.pid);
	assert_int_equal(status, 0);
}

static void the_holder_is_named(void **state)
{
	struct holder holder = start_holder("holds it", as_writer);
	int fd = open_image(O_RDONLY);
	struct heard heard;
	char expected[256];

	(void)state;
	snprintf(expected, sizeof(expected), "disk.qed: in use for writing by "
		 "holds it (pid %ld); close it first", (long)holder.pid);
	assert_int_equal(take(fd, false, &heard), -EBUSY);
	assert_string_equal(heard.last, expected);
	end_holder(holder);
	assert_int_equal(take(fd, false, &heard), 0);
	close(fd);
}

/* Among several the one that is in the way is named, and never ourselves. */
static void the_right_holder_is_named(void **state)
{
	struct holder bystander = start_holder("bystander", as_bystander);
	struct holder reader;
	int ours = open_image(O_RDONLY), fd = open_image(O_RDWR);
	struct heard heard;
	char pid[32];

	(void)state;
	assert_int_equal(take(ours, false, &heard), 0);
	reader = start_holder("a\nreader", as_reader);
	assert_int_equal(take(fd, true, &heard), -EBUSY);
	snprintf(pid, sizeof(pid), "(pid %ld)", (long)reader.pid);
	assert_non_null(strstr(heard.last, "disk.qed: in use by a"));
	assert_non_null(strstr(heard.last, pid));
	assert_null(strchr(heard.last, '\n'));
	end_holder(reader);
	end_holder(bystander);
	close(ours);
	close(fd);
}

static void a_useless_descriptor_is_an_error(void **state)
{
	int fd = open_image(O_WRONLY);
	struct heard heard;

	(void)state;
	assert_int_equal(take(fd, true, &heard), -EBADF);
	assert_int_equal(heard.errors, 1);
	assert_non_null(strstr(heard.last, "disk.qed: cannot lock"));
	close(fd);
}

/* From now on the kernel answers attempts to lock by `err`. */
static int refuse_locks(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K,
			 SECCOMP_RET_ERRNO | ((unsigned)err & 0xffff)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ELEMS(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* What the child exits with: 0 for a success with one warning. */
static int without_locks(int err)
{
	int fd = open(image, O_RDWR), ret;
	struct heard heard;

	if (fd < 0 || refuse_locks(err) < 0)
		return 100;
	ret = take(fd, true, &heard);
	if (ret)
		return ret == -err && heard.errors == 1 ? 1 : 101;
	return heard.warnings == 1 && heard.errors == 0 ? 0 : 102;
}

static void a_host_without_locks_is_a_warning(void **state)
{
	static const int cases[][2] = {
		{ ENOLCK, 0 }, { EOPNOTSUPP, 0 }, { EINVAL, 0 }, { ENOSYS, 0 },
		{ EIO, 1 },
	};
	int status;

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(without_locks(cases[i][0]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), cases[i][1]);
	}
}

/* Two that start together may both lose, but never both win. */
static void race_once(int start, int report)
{
	struct heard heard;
	int fd = open(image, O_RDWR);
	char c = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* The end of the pipe's writer is the starting gun. */
	if (fd < 0 || read(start, &c, 1) != 0)
		_exit(1);
	c = take(fd, true, &heard) == 0 ? 'W' : 'L';
	(void)!write(report, &c, 1);
	/* A winner keeps its lock until all have reported. */
	pause();
	_exit(0);
}

static void two_writers_never_both_win(void **state)
{
	(void)state;
	for (int round = 0; round < 100; round++) {
		int start[2], report[2], wins = 0;
		pid_t pid[2];
		char c;

		assert_int_equal(pipe2(start, O_CLOEXEC), 0);
		assert_int_equal(pipe2(report, O_CLOEXEC), 0);
		for (int i = 0; i < 2; i++) {
			pid[i] = fork();
			if (pid[i] == 0) {
				close(start[1]);
				race_once(start[0], report[1]);
			}
		}
		close(start[1]);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(read(report[0], &c, 1), 1);
			wins += c == 'W';
		}
		assert_true(wins <= 1);
		for (int i = 0; i < 2; i++) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
		close(start[0]);
		close(report[0]);
		close(report[1]);
	}
}

#define WITH_IMAGE(test) \
	cmocka_unit_test_setup_teardown(test, make_image, remove_image)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_IMAGE(the_bytes_are_qemus),
		WITH_IMAGE(readers_share_and_writers_do_not),
		WITH_IMAGE(the_way_out_is_told),
		WITH_IMAGE(many_readers_leave_no_trace),
		WITH_IMAGE(every_byte_counts),
		WITH_IMAGE(the_holder_is_named),
		WITH_IMAGE(the_right_holder_is_named),
		WITH_IMAGE(a_useless_descriptor_is_an_error),
		WITH_IMAGE(a_host_without_locks_is_a_warning),
		WITH_IMAGE(two_writers_never_both_win),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
