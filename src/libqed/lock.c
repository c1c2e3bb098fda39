/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image locks that QEMU honours; lock.h states the contract.
 *
 * QEMU's protocol: a user of the image holds a shared lock on byte 100 + p for
 * each permission p it uses and on byte 200 + p for each that it does not grant
 * to others.  First it takes its own bytes, then it tests whether anybody else
 * holds the counterparts: byte 200 + p for what it uses, 100 + p for what it
 * refuses.  As both sides lock before they test, two that start together can
 * both lose, but never both win.
 *
 * Open-file-description locks have no owner's pid.  The kernel lists them in
 * the fdinfo of each descriptor that holds them, and that is where a holder's
 * name comes from.  Nothing but proc's own files is opened for it, so that a
 * look-up cannot hang in somebody's dead network or FUSE file.
 *
 * No shared state: safe from any thread.
 */
#include "config.h"

#include "lock.h"
#include "util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* QEMU's permissions; the gap is "write unchanged", which nobody here needs. */
#define PERM_READ   (1u << 0)
#define PERM_WRITE  (1u << 1)
#define PERM_RESIZE (1u << 3)
#define PERM_COUNT  4

#define BYTE_USED    100
#define BYTE_REFUSED 200

#define PROC_PATH_MAX 320	/* /proc/PID/fdinfo/ and one directory entry */

struct claim {
	unsigned used;		/* PERM_* */
	unsigned refused;	/* PERM_* */
};

static const struct claim claim_read = {
	.used = PERM_READ,
	.refused = PERM_WRITE | PERM_RESIZE,
};

static const struct claim claim_write = {
	.used = PERM_READ | PERM_WRITE | PERM_RESIZE,
	.refused = PERM_WRITE | PERM_RESIZE,
};

static int set_byte(int fd, short type, int byte)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	while (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* Does another open file description hold the byte?  0, -EBUSY or -errno. */
static int test_byte(int fd, int byte)
{
	struct flock lock = {
		.l_type = F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = byte,
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type == F_UNLCK ? 0 : -EBUSY;
}

static int set_bytes(int fd, short type, unsigned perms, int base, int *byte)
{
	int ret = 0;

	for (int p = 0; p < PERM_COUNT && !ret; p++) {
		if (!(perms & 1u << p))
			continue;
		*byte = base + p;
		ret = set_byte(fd, type, *byte);
	}
	/* Shared locks only lose to somebody's exclusive one. */
	return ret == -EAGAIN || ret == -EACCES ? -EBUSY : ret;
}

static int test_bytes(int fd, unsigned perms, int base, int *byte)
{
	int ret = 0;

	for (int p = 0; p < PERM_COUNT && !ret; p++) {
		if (!(perms & 1u << p))
			continue;
		*byte = base + p;
		ret = test_byte(fd, *byte);
	}
	return ret;
}

/* On -EBUSY, *byte is the one that somebody else holds. */
static int take(int fd, const struct claim *claim, int *byte)
{
	int ret;

	ret = set_bytes(fd, F_RDLCK, claim->used, BYTE_USED, byte);
	if (!ret)
		ret = set_bytes(fd, F_RDLCK, claim->refused, BYTE_REFUSED,
				byte);
	/* Writers first: who writes is the more telling answer. */
	if (!ret)
		ret = test_bytes(fd, claim->refused, BYTE_USED, byte);
	if (!ret)
		ret = test_bytes(fd, claim->used, BYTE_REFUSED, byte);
	return ret;
}

static void drop(int fd, const struct claim *claim)
{
	int byte;

	set_bytes(fd, F_UNLCK, claim->used, BYTE_USED, &byte);
	set_bytes(fd, F_UNLCK, claim->refused, BYTE_REFUSED, &byte);
}

/* One lock as fdinfo shows it. */
struct shown_lock {
	char inode[64];		/* "major:minor:number", the kernel's view */
	long first;
	long last;
};

static bool parse_lock(const char *line, struct shown_lock *lock)
{
	char kind[16], last[24];

	if (sscanf(line, "lock: %*d: %15s %*s %*s %*d %63s %ld %23s", kind,
		   lock->inode, &lock->first, last) != 4 ||
	    strcmp(kind, "OFDLCK") != 0)
		return false;
	lock->last = strcmp(last, "EOF") == 0 ? LONG_MAX :
						strtol(last, NULL, 10);
	return true;
}

/*
 * Looks in one fdinfo file for a lock on `inode` that covers `byte`; an empty
 * `inode` takes the first lock there is and stores whose it is.
 */
static bool fdinfo_has_lock(const char *path, char inode[64], int byte)
{
	struct shown_lock lock;
	char line[256];
	bool found = false;
	FILE *f;

	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		if (!parse_lock(line, &lock))
			continue;
		if (inode[0] == '\0') {
			memcpy(inode, lock.inode, sizeof(lock.inode));
			found = true;
		} else {
			found = strcmp(inode, lock.inode) == 0 &&
				lock.first <= byte && byte <= lock.last;
		}
	}
	fclose(f);
	return found;
}

/* Looks through a process's descriptors, but for the one named `except`. */
static bool process_has_lock(const char *pid, const char *except,
			     char inode[64], int byte)
{
	char path[PROC_PATH_MAX];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fdinfo", pid);
	dir = opendir(path);	/* fails where we may not look */
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    strcmp(entry->d_name, except) == 0)
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%s", pid,
			 entry->d_name);
		found = fdinfo_has_lock(path, inode, byte);
	}
	closedir(dir);
	return found;
}

/* "NAME (pid N)", or false if the process is gone. */
static bool describe_process(const char *pid, char *text, size_t size)
{
	char path[PROC_PATH_MAX], name[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f))
		name[0] = '\0';
	fclose(f);
	name[strcspn(name, "\n")] = '\0';
	snprintf(text, size, "%s (pid %.20s)", name, pid);
	return true;
}

static bool search_processes(char inode[64], int byte, char *text, size_t size)
{
	pid_t self = getpid();
	struct dirent *entry;
	bool found = false;
	DIR *proc;

	proc = opendir("/proc");
	if (!proc)
		return false;
	while (!found && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]) ||
		    strtol(entry->d_name, NULL, 10) == self)
			continue;
		found = process_has_lock(entry->d_name, "", inode, byte) &&
			describe_process(entry->d_name, text, size);
	}
	closedir(proc);
	return found;
}

/*
 * Names who holds `byte` of the file behind `fd`.  Our own locks on it, which
 * are in place when a test fails, tell how the kernel calls the inode: stat(2)
 * shows another device number on some file systems.
 */
static void describe_holder(int fd, int byte, char *text, size_t size)
{
	char path[PROC_PATH_MAX], number[16], inode[64] = "";

	snprintf(number, sizeof(number), "%d", fd);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", number);
	if (fdinfo_has_lock(path, inode, byte)) {
		if (search_processes(inode, byte, text, size))
			return;
		if (process_has_lock("self", number, inode, byte)) {
			snprintf(text, size, "this program itself (pid %ld)",
				 (long)getpid());
			return;
		}
	}
	snprintf(text, size, "another program");
}

static void report_busy(int fd, bool write, int byte, const char *path,
			const struct qed_log *log)
{
	bool by_writer = byte < BYTE_REFUSED;
	char holder[128];

	describe_holder(fd, byte, holder, sizeof(holder));
	qed_log_write(log, QED_LOG_ERROR,
		      "%s: in use%s by %s; close it first%s", path,
		      by_writer ? " for writing" : "", holder,
		      write && !by_writer ? ", or open it read-only" : "");
}

static bool means_unsupported(int err)
{
	return err == -ENOLCK || err == -EOPNOTSUPP || err == -EINVAL ||
	       err == -ENOSYS;
}

int qed_lock_take(int fd, bool write, const char *path,
		  const struct qed_log *log)
{
	const struct claim *claim = write ? &claim_write : &claim_read;
	int byte = 0, ret;

	ret = take(fd, claim, &byte);
	if (!ret)
		return 0;
	/* The locks in place help to name the holder: report, then drop. */
	if (ret == -EBUSY)
		report_busy(fd, write, byte, path, log);
	drop(fd, claim);
	if (means_unsupported(ret)) {
		qed_log_write(log, QED_LOG_WARNING,
			      "%s: this file system has no locks (%s): nothing "
			      "keeps other programs off the image", path,
			      strerror(-ret));
		return 0;
	}
	if (ret != -EBUSY)
		qed_log_write(log, QED_LOG_ERROR, "%s: cannot lock: %s", path,
			      strerror(-ret));
	return ret;
}
