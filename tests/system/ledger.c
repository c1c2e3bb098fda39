/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes to a disk whose daemon is going to be killed, and keeps a ledger of
 * what has to be there afterwards.
 *
 *	ledger init FILE SIZE
 *		a raw file, each sector as it is before any write
 *	ledger new LEDGER SIZE BASE
 *		an empty ledger for a disk of SIZE bytes, of which the first BASE
 *		bytes look like that and the rest is zeroes
 *	ledger run FILE LEDGER SEED PID COUNT
 *		several threads write and fsync; the one that finishes write
 *		number COUNT kills process PID; returns once all have seen an
 *		error, or fails if they do not
 *	ledger check FILE LEDGER
 *		every sector holds what an fsync has promised or something newer,
 *		and the rest what was there before; later checks insist on it
 *	ledger slay PID FILE COUNT
 *		kills the process after so many changes of the file (or some more)
 *
 * A page belongs to one thread, so each sector's versions are in order.  In every
 * second mebibyte the owners change from page to page, in others by runs that
 * are larger than a cluster.  Half of the threads use O_DIRECT.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECTOR	      512u
#define PAGE_SECTORS  8u
#define ZONE	      2048u		/* sectors that share a layout */
#define MAX_RUN	      256u		/* sectors of one write */
#define MAX_UNSYNCED  40u		/* writes */
#define NTHREADS      4u
#define FIRST_VERSION 1u		/* of a base */
#define MAGIC	      UINT64_C(0x7265646c6564)

/* What a sector holds: version 0 is all zeroes. */
struct sector {
	uint64_t words[SECTOR / 8];
};

/* The ledger file; arrays of one word for each sector follow. */
struct ledger {
	uint64_t nsectors;
	uint64_t next_version;
};

/* Set before threads start, then constant, but for what says otherwise. */
static struct {
	const char *path;
	struct ledger *ledger;
	uint32_t *promised;		/* each its owner's */
	uint32_t *written;		/* each its owner's: the last tried */
	pid_t victim;
	uint64_t count;
	_Atomic uint64_t next_version;
	_Atomic uint64_t ndone;
} run;

struct writer {
	pthread_t thread;
	unsigned index;
	int fd;
	uint64_t random;
	struct sector *buf;		/* MAX_RUN */
	struct {
		uint64_t first, n;
	} unsynced[MAX_UNSYNCED];
	unsigned nunsynced;
};

static void die(const char *what)
{
	fprintf(stderr, "ledger: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void fill(struct sector *sector, uint64_t number, uint32_t version)
{
	uint64_t state = number << 32 | version;

	memset(sector, 0, sizeof(*sector));
	if (!version)
		return;
	sector->words[0] = MAGIC;
	sector->words[1] = number;
	sector->words[2] = version;
	for (unsigned i = 3; i < SECTOR / 8; i++)
		sector->words[i] = next_random(&state);
}

static void *map_ledger(const char *path, bool create, uint64_t nsectors)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
	uint64_t size;
	void *map;

	if (fd < 0)
		die(path);
	if (create && ftruncate(fd, (off_t)(sizeof(struct ledger) +
					    nsectors * 8)) < 0)
		die(path);
	size = (uint64_t)lseek(fd, 0, SEEK_END);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die(path);
	close(fd);
	return map;
}

static void use_ledger(void *map, uint64_t nsectors)
{
	run.ledger = map;
	run.promised = (uint32_t *)(run.ledger + 1);
	run.written = run.promised + nsectors;
}

/* ---- the writers ---- */

static unsigned owner_of(uint64_t sector)
{
	uint64_t unit = sector / ZONE % 2 ? MAX_RUN : PAGE_SECTORS;

	return (unsigned)(sector / unit % NTHREADS);
}

/* A random run of the writer's own sectors; whole pages if it is direct. */
static uint64_t choose(struct writer *w, uint64_t *first)
{
	uint64_t grain = w->index % 2 ? PAGE_SECTORS : 1;
	uint64_t end, n, most = 1 + next_random(&w->random) % MAX_RUN;

	do {
		*first = next_random(&w->random) % run.ledger->nsectors;
		*first -= *first % grain;
	} while (owner_of(*first) != w->index);
	end = *first;
	while (end < run.ledger->nsectors && owner_of(end) == w->index &&
	       end - *first < most)
		end++;
	n = end - *first;
	return (n + grain - 1) / grain * grain;
}

/* Versions are known before the write, as the kill may come in the middle. */
static bool write_run(struct writer *w)
{
	uint64_t first, n = choose(w, &first);
	uint32_t version = (uint32_t)atomic_fetch_add(&run.next_version, 1);

	for (uint64_t i = 0; i < n; i++) {
		fill(&w->buf[i], first + i, version);
		run.written[first + i] = version;
	}
	w->unsynced[w->nunsynced].first = first;
	w->unsynced[w->nunsynced++].n = n;
	if (pwrite(w->fd, w->buf, n * SECTOR, (off_t)(first * SECTOR)) !=
	    (ssize_t)(n * SECTOR))
		return false;
	if (atomic_fetch_add(&run.ndone, 1) + 1 == run.count)
		kill(run.victim, SIGKILL);
	return true;
}

/* Nobody else changes these sectors meanwhile. */
static bool sync_runs(struct writer *w)
{
	if (fsync(w->fd) < 0)
		return false;
	while (w->nunsynced > 0) {
		uint64_t first = w->unsynced[--w->nunsynced].first;

		for (uint64_t i = 0; i < w->unsynced[w->nunsynced].n; i++)
			run.promised[first + i] = run.written[first + i];
	}
	return true;
}

static void *writer_main(void *opaque)
{
	struct writer *w = opaque;
	bool good = true;

	while (good) {
		uint64_t n = 1 + next_random(&w->random) % MAX_UNSYNCED;

		while (n-- > 0 && good)
			good = write_run(w);
		good = good && sync_runs(w);
	}
	return NULL;
}

static void start_writer(struct writer *w, unsigned index, uint64_t seed)
{
	void *buf;

	memset(w, 0, sizeof(*w));
	w->index = index;
	w->random = seed * NTHREADS + index;
	if (posix_memalign(&buf, 4096, MAX_RUN * SECTOR) != 0)
		die("memory");
	w->buf = buf;
	w->fd = open(run.path,
		     O_RDWR | O_CLOEXEC | (index % 2 ? O_DIRECT : 0));
	if (w->fd < 0)
		die(run.path);
	if (pthread_create(&w->thread, NULL, writer_main, w) != 0)
		die("thread");
}

static int cmd_run(char **argv)
{
	struct writer writers[NTHREADS];
	struct ledger *ledger = map_ledger(argv[1], false, 0);

	use_ledger(ledger, ledger->nsectors);
	run.path = argv[0];
	run.victim = (pid_t)atol(argv[3]);
	run.count = strtoull(argv[4], NULL, 0);
	atomic_init(&run.next_version, ledger->next_version);
	for (unsigned i = 0; i < NTHREADS; i++)
		start_writer(&writers[i], i, strtoull(argv[2], NULL, 0));
	for (unsigned i = 0; i < NTHREADS; i++) {
		pthread_join(writers[i].thread, NULL);
		close(writers[i].fd);
		free(writers[i].buf);
	}
	ledger->next_version = atomic_load(&run.next_version);
	if (atomic_load(&run.ndone) >= run.count)
		return 0;
	fprintf(stderr, "ledger: an error before the kill, after %llu writes\n",
		(unsigned long long)atomic_load(&run.ndone));
	return 1;
}

/* ---- what is there ---- */

/* -1: no version of this sector at all */
static int64_t version_of(const struct sector *sector, uint64_t number)
{
	uint64_t version = sector->words[0] ? sector->words[2] : 0;
	struct sector want;

	if (version > UINT32_MAX)
		return -1;
	fill(&want, number, (uint32_t)version);
	if (memcmp(sector, &want, sizeof(want)) != 0)
		return -1;
	return (int64_t)version;
}

static bool check_sector(const struct sector *sector, uint64_t number)
{
	int64_t version = version_of(sector, number);

	if (version >= run.promised[number] && version <= run.written[number]) {
		run.promised[number] = (uint32_t)version;
		run.written[number] = (uint32_t)version;
		return true;
	}
	fprintf(stderr,
		"ledger: sector %llu: version %lld, promised %u, tried %u\n",
		(unsigned long long)number, (long long)version,
		run.promised[number], run.written[number]);
	return false;
}

static int cmd_check(char **argv)
{
	struct ledger *ledger = map_ledger(argv[1], false, 0);
	int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	static struct sector buf[ZONE];
	unsigned nbad = 0;

	if (fd < 0)
		die(argv[0]);
	use_ledger(ledger, ledger->nsectors);
	for (uint64_t s = 0; s < ledger->nsectors; s += ZONE) {
		uint64_t n = ledger->nsectors - s;

		if (n > ZONE)
			n = ZONE;
		if (pread(fd, buf, n * SECTOR, (off_t)(s * SECTOR)) !=
		    (ssize_t)(n * SECTOR))
			die("read");
		for (uint64_t i = 0; i < n && nbad < 10; i++)
			nbad += !check_sector(&buf[i], s + i);
	}
	close(fd);
	return nbad != 0;
}

/* ---- the beginning, and the end ---- */

static int cmd_init(char **argv)
{
	uint64_t nsectors = strtoull(argv[1], NULL, 0) / SECTOR;
	FILE *f = fopen(argv[0], "w");
	struct sector sector;

	if (!f)
		die(argv[0]);
	for (uint64_t s = 0; s < nsectors; s++) {
		fill(&sector, s, FIRST_VERSION);
		if (fwrite(&sector, sizeof(sector), 1, f) != 1)
			die(argv[0]);
	}
	if (fclose(f) != 0)
		die(argv[0]);
	return 0;
}

static int cmd_new(char **argv)
{
	uint64_t nsectors = strtoull(argv[1], NULL, 0) / SECTOR;
	uint64_t nbase = strtoull(argv[2], NULL, 0) / SECTOR;

	unlink(argv[0]);
	use_ledger(map_ledger(argv[0], true, nsectors), nsectors);
	run.ledger->nsectors = nsectors;
	run.ledger->next_version = FIRST_VERSION + 1;
	for (uint64_t s = 0; s < nsectors && s < nbase; s++)
		run.promised[s] = run.written[s] = FIRST_VERSION;
	return 0;
}

static int cmd_slay(char **argv)
{
	long count = atol(argv[2]);
	char events[4096];
	int fd = inotify_init1(IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, argv[1], IN_MODIFY) < 0)
		die(argv[1]);
	while (count > 0) {
		ssize_t n = read(fd, events, sizeof(events));

		if (n <= 0)
			die("inotify");
		count -= n / (ssize_t)sizeof(struct inotify_event);
	}
	if (kill((pid_t)atol(argv[0]), SIGKILL) < 0)
		die("kill");
	return 0;
}

static const struct {
	const char *name;
	int nargs;
	int (*run)(char **argv);
} commands[] = {
	{ "init", 2, cmd_init },
	{ "new", 3, cmd_new },
	{ "run", 5, cmd_run },
	{ "check", 2, cmd_check },
	{ "slay", 3, cmd_slay },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (argc - 2 == commands[i].nargs &&
		    strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argv + 2);
	fprintf(stderr, "usage: ledger init|new|run|check|slay ARGUMENT...\n");
	return 2;
}
