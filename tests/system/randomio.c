/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random operations by several threads on a file, checked against a shadow.
 *
 *	randomio init SHADOW SIZE SEED
 *		makes the shadow: holes, and runs of tagged sectors
 *	randomio run FILE SHADOW SEED OPS
 *		OPS operations on FILE, which must equal SHADOW before, and must
 *		again (checked here) after; SHADOW gets the same writes
 *
 * Every sector belongs to one thread, the only one that writes it, so that its
 * content is known at any time although the neighbours' keep changing.  Pages
 * belong to threads that go through the page cache (pread, pwrite, mmap, mixed
 * at will: the kernel keeps them coherent) or to threads that use O_DIRECT, by
 * asynchronous I/O so that many requests reach the file system at once.  A page
 * has one such class only, as the kernel promises nothing for both on one page.
 * Three layouts alternate, by mebibyte: sectors and pages interleaved as finely
 * as possible; medium; runs that are larger than the usual cluster.
 *
 * A sector's words carry its number, hence data of another place is recognised
 * in sectors of other threads too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR	    512u
#define ZONE	    2048u	/* sectors that share a layout */
#define MAX_RUN	    128u	/* sectors of one operation */
#define DEPTH	    16u		/* asynchronous operations of one thread */
#define DROPPED	    (UINT64_C(4) << 20)	/* bytes taken out of the page cache */
#define NTHREADS    4u		/* of each class */
#define TAG_SHIFT   32

enum class { CACHED, DIRECT };

/* Set before the threads start, then constant (but for the mapped bytes). */
static struct {
	const char *path;
	int cached_fd, direct_fd;
	uint8_t *map;			/* the file */
	uint8_t *shadow;
	uint64_t nsectors;
	uint64_t seed;
} disk;

struct worker {
	pthread_t thread;
	enum class class;
	unsigned index;
	uint64_t random;
	uint64_t left;			/* operations to do */
	uint64_t version;		/* of the next sector written */
	uint8_t *buf;			/* DEPTH * MAX_RUN sectors, aligned */
	aio_context_t aio;
};

struct run {
	uint64_t first;			/* sector */
	uint64_t count;
};

static void die(const char *what)
{
	fprintf(stderr, "randomio: seed %llu: %s: %s\n",
		(unsigned long long)disk.seed, what, strerror(errno));
	exit(1);
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t *state, uint64_t n)
{
	return next_random(state) % n;
}

/* ---- whose sector ---- */

static enum class class_of(uint64_t sector)
{
	static const unsigned shifts[] = { 3, 7, 9 };

	return (sector >> shifts[sector / ZONE % 3]) & 1 ? DIRECT : CACHED;
}

static unsigned owner_of(uint64_t sector)
{
	static const unsigned grains[] = { 1, 7, 129 };

	return (unsigned)(sector / grains[sector / ZONE % 3] % NTHREADS);
}

static bool is_mine(const struct worker *w, uint64_t sector)
{
	return class_of(sector) == w->class && owner_of(sector) == w->index;
}

/* A run of own sectors at random, as long as they last, at most MAX_RUN. */
static struct run pick_own(struct worker *w)
{
	struct run run;
	uint64_t max = 1 + random_below(&w->random, MAX_RUN);

	do {
		run.first = random_below(&w->random, disk.nsectors);
	} while (!is_mine(w, run.first));
	for (run.count = 1; run.count < max; run.count++)
		if (run.first + run.count >= disk.nsectors ||
		    !is_mine(w, run.first + run.count))
			break;
	return run;
}

/* A run of sectors of the own class, whoever owns them. */
static struct run pick_any(struct worker *w)
{
	struct run run;
	uint64_t max = 1 + random_below(&w->random, MAX_RUN);

	do {
		run.first = random_below(&w->random, disk.nsectors);
	} while (class_of(run.first) != w->class);
	for (run.count = 1; run.count < max; run.count++)
		if (run.first + run.count >= disk.nsectors ||
		    class_of(run.first + run.count) != w->class)
			break;
	return run;
}

/* ---- what a sector holds ---- */

static uint64_t tag_of(uint64_t sector)
{
	return (sector + 1) << TAG_SHIFT;
}

static void fill_sector(uint8_t *buf, uint64_t sector, uint64_t version)
{
	for (unsigned i = 0; i < SECTOR / 8; i++) {
		uint64_t word = tag_of(sector) |
				((version << 6 | i) & UINT32_MAX);

		memcpy(buf + i * 8, &word, 8);
	}
}

static void report(uint64_t sector, const uint8_t *got, const char *what)
{
	const uint8_t *want = disk.shadow + sector * SECTOR;
	unsigned i = 0;
	uint64_t words[2];

	while (i < SECTOR - 8 && memcmp(got + i, want + i, 8) == 0)
		i += 8;
	memcpy(&words[0], got + i, 8);
	memcpy(&words[1], want + i, 8);
	fprintf(stderr, "randomio: seed %llu: %s, sector %llu (offset %llu), "
		"at byte %u: got %016llx, shadow has %016llx\n",
		(unsigned long long)disk.seed, what,
		(unsigned long long)sector, (unsigned long long)sector * SECTOR,
		i, (unsigned long long)words[0], (unsigned long long)words[1]);
	exit(1);
}

/* Each byte of a tag is right or was never written. */
static bool tags_ok(const uint8_t *buf, uint64_t sector)
{
	uint64_t tag = tag_of(sector) >> TAG_SHIFT;

	for (unsigned i = 0; i < SECTOR / 8; i++)
		for (unsigned b = 0; b < 4; b++) {
			uint8_t byte = buf[i * 8 + 4 + b];

			if (byte != 0 && byte != (uint8_t)(tag >> (8 * b)))
				return false;
		}
	return true;
}

static void check_run(const struct worker *w, struct run run,
		      const uint8_t *buf, const char *what)
{
	for (uint64_t i = 0; i < run.count; i++) {
		uint64_t sector = run.first + i;
		const uint8_t *got = buf + i * SECTOR;

		if (is_mine(w, sector) &&
		    memcmp(got, disk.shadow + sector * SECTOR, SECTOR) != 0)
			report(sector, got, what);
		if (!tags_ok(got, sector))
			report(sector, got, what);
	}
}

/* New content for a run of own sectors, in the shadow and in `buf`. */
static void make_run(struct worker *w, struct run run, uint8_t *buf)
{
	w->version++;
	for (uint64_t i = 0; i < run.count; i++)
		fill_sector(buf + i * SECTOR, run.first + i, w->version);
	memcpy(disk.shadow + run.first * SECTOR, buf, run.count * SECTOR);
}

/* ---- through the page cache ---- */

/* Some writes begin and end inside of a sector. */
static void cut_edges(struct worker *w, struct run run, size_t *from,
		      size_t *to)
{
	*from = 0;
	*to = run.count * SECTOR;
	if (random_below(&w->random, 4) == 0) {
		*from = random_below(&w->random, SECTOR / 2);
		*to -= random_below(&w->random, SECTOR / 2);
	}
}

/*
 * To or from the mapped file, where neighbours are written meanwhile: that races
 * by intention, and this is the place to tell ThreadSanitizer so.  The volatile
 * keeps it from becoming a call of memcpy, which is watched.
 */
__attribute__((no_sanitize("thread")))
static void copy_mapped(uint8_t *to, const uint8_t *from, size_t len)
{
	volatile uint8_t *dst = to;
	const volatile uint8_t *src = from;

	while (len--)
		*dst++ = *src++;
}

static void cached_write(struct worker *w, bool mapped)
{
	struct run run = pick_own(w);
	uint64_t base = run.first * SECTOR;
	size_t from, to;

	cut_edges(w, run, &from, &to);
	w->version++;
	for (uint64_t i = 0; i < run.count; i++)
		fill_sector(w->buf + i * SECTOR, run.first + i, w->version);
	memcpy(disk.shadow + base + from, w->buf + from, to - from);
	if (mapped)
		copy_mapped(disk.map + base + from, w->buf + from, to - from);
	else if (pwrite(disk.cached_fd, w->buf + from, to - from,
			(off_t)(base + from)) != (ssize_t)(to - from))
		die("pwrite");
}

static void cached_read(struct worker *w, bool mapped)
{
	struct run run = pick_any(w);
	size_t len = run.count * SECTOR;

	if (mapped)
		copy_mapped(w->buf, disk.map + run.first * SECTOR, len);
	else if (pread(disk.cached_fd, w->buf, len,
		       (off_t)(run.first * SECTOR)) != (ssize_t)len)
		die("pread");
	check_run(w, run, w->buf, mapped ? "mmap read" : "buffered read");
}

static void sync_file(void)
{
	if (fdatasync(disk.cached_fd) < 0)
		die("fdatasync");
}

/* What was written goes to the file system and has to be read anew. */
static void drop_pages(struct worker *w)
{
	uint64_t size = disk.nsectors * SECTOR;
	uint64_t from = random_below(&w->random, disk.nsectors) * SECTOR &
			~UINT64_C(4095);
	uint64_t len = size - from < DROPPED ? size - from : DROPPED;

	if (madvise(disk.map + from, len, MADV_DONTNEED) < 0)
		die("madvise");
	if (sync_file_range(disk.cached_fd, (off_t)from, (off_t)len,
			    SYNC_FILE_RANGE_WAIT_BEFORE |
			    SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER) < 0)
		die("sync_file_range");
	posix_fadvise(disk.cached_fd, (off_t)from, (off_t)len,
		      POSIX_FADV_DONTNEED);
}

/* Own sectors in what is called a hole must be zeroes. */
static void seek_hole(struct worker *w)
{
	uint64_t from = random_below(&w->random, disk.nsectors);
	uint64_t end = disk.nsectors;
	off_t data;

	/* lseek(2) moves the descriptor's offset, which nobody uses. */
	data = lseek(disk.cached_fd, (off_t)(from * SECTOR), SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		die("SEEK_DATA");
	if (data >= 0)
		end = (uint64_t)data / SECTOR;
	if (end < from || end > disk.nsectors)
		die("SEEK_DATA out of range");
	for (uint64_t s = from; s < end; s++)
		for (unsigned i = 0; is_mine(w, s) && i < SECTOR; i++)
			if (disk.shadow[s * SECTOR + i])
				report(s, disk.map + s * SECTOR,
				       "data in a hole");
}

static void cached_step(struct worker *w)
{
	unsigned dice = (unsigned)random_below(&w->random, 1000);

	if (dice < 400)
		cached_write(w, false);
	else if (dice < 550)
		cached_write(w, true);
	else if (dice < 850)
		cached_read(w, false);
	else if (dice < 970)
		cached_read(w, true);
	else if (dice < 985)
		drop_pages(w);
	else if (dice < 995)
		seek_hole(w);
	else
		sync_file();
	w->left--;
}

/* ---- O_DIRECT ---- */

static bool overlaps(const struct run *runs, unsigned n, struct run run)
{
	for (unsigned i = 0; i < n; i++)
		if (run.first < runs[i].first + runs[i].count &&
		    runs[i].first < run.first + run.count)
			return true;
	return false;
}

static void prepare(struct worker *w, struct iocb *cb, struct run run,
		    uint8_t *buf, bool write)
{
	if (write)
		make_run(w, run, buf);
	memset(cb, 0, sizeof(*cb));
	cb->aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
	cb->aio_fildes = (uint32_t)disk.direct_fd;
	cb->aio_buf = (uint64_t)(uintptr_t)buf;
	cb->aio_nbytes = run.count * SECTOR;
	cb->aio_offset = (int64_t)(run.first * SECTOR);
}

static void submit_and_reap(struct worker *w, struct iocb *cbs, unsigned n)
{
	struct iocb *list[DEPTH];
	struct io_event events[DEPTH];
	long done = 0;

	for (unsigned i = 0; i < n; i++)
		list[i] = &cbs[i];
	while (done < (long)n) {
		long ret = syscall(SYS_io_submit, w->aio, n - done,
				   list + done);

		if (ret <= 0)
			die("io_submit");
		done += ret;
	}
	if (syscall(SYS_io_getevents, w->aio, (long)n, (long)n, events,
		    NULL) != (long)n)
		die("io_getevents");
	for (unsigned i = 0; i < n; i++) {
		const struct iocb *cb =
			(const struct iocb *)(uintptr_t)events[i].obj;

		if (events[i].res != (int64_t)cb->aio_nbytes) {
			errno = events[i].res < 0 ? (int)-events[i].res : 0;
			die("direct I/O");
		}
	}
}

/* A batch of operations under way at once, on sectors of their own each. */
static void direct_step(struct worker *w)
{
	struct iocb cbs[DEPTH];
	struct run runs[DEPTH];
	unsigned n = 0, want = 1 + (unsigned)random_below(&w->random, DEPTH);

	if (want > w->left)
		want = (unsigned)w->left;
	for (unsigned tries = 0; n < want && tries < 4 * DEPTH; tries++) {
		bool write = random_below(&w->random, 5) < 3;
		struct run run = write ? pick_own(w) : pick_any(w);

		if (overlaps(runs, n, run))
			continue;
		prepare(w, &cbs[n], run, w->buf + n * MAX_RUN * SECTOR, write);
		runs[n++] = run;
	}
	submit_and_reap(w, cbs, n);
	for (unsigned i = 0; i < n; i++)
		if (cbs[i].aio_lio_opcode == IOCB_CMD_PREAD)
			check_run(w, runs[i], w->buf + i * MAX_RUN * SECTOR,
				  "direct read");
	w->left -= n;
}

/* ---- a run of the test ---- */

static void *work(void *arg)
{
	struct worker *w = arg;
	void *buf;

	if (posix_memalign(&buf, 4096, DEPTH * MAX_RUN * SECTOR) != 0)
		die("memory");
	w->buf = buf;
	if (w->class == DIRECT && syscall(SYS_io_setup, DEPTH, &w->aio) < 0)
		die("io_setup");
	while (w->left > 0)
		if (w->class == DIRECT)
			direct_step(w);
		else
			cached_step(w);
	if (w->class == DIRECT)
		syscall(SYS_io_destroy, w->aio);
	free(w->buf);
	return NULL;
}

static void *map_file(int fd, size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	return map;
}

static void open_all(const char *path, const char *shadow)
{
	struct stat st, shadow_st;
	int fd = open(shadow, O_RDWR | O_CLOEXEC);

	disk.path = path;
	disk.cached_fd = open(path, O_RDWR | O_CLOEXEC);
	disk.direct_fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || disk.cached_fd < 0 || disk.direct_fd < 0)
		die("open");
	if (fstat(fd, &shadow_st) < 0 || fstat(disk.cached_fd, &st) < 0)
		die("fstat");
	if (st.st_size != shadow_st.st_size || st.st_size % SECTOR != 0)
		die("size");
	disk.nsectors = (uint64_t)st.st_size / SECTOR;
	disk.map = map_file(disk.cached_fd, (size_t)st.st_size);
	disk.shadow = map_file(fd, (size_t)st.st_size);
	close(fd);
}

static void run_workers(uint64_t ops)
{
	struct worker workers[2 * NTHREADS];

	for (unsigned i = 0; i < 2 * NTHREADS; i++) {
		workers[i] = (struct worker){
			.class = i % 2 ? DIRECT : CACHED,
			.index = i / 2,
			.random = disk.seed * 1000 + i,
			.left = (ops + i) / (2 * NTHREADS),
		};
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			die("pthread_create");
	}
	for (unsigned i = 0; i < 2 * NTHREADS; i++)
		pthread_join(workers[i].thread, NULL);
}

/* The whole file, by both ways, after everything has left the page cache. */
static void verify_all(void)
{
	size_t size = disk.nsectors * SECTOR;
	int fds[2] = { disk.cached_fd, disk.direct_fd };
	size_t chunk = 1 << 20;
	void *buf;

	if (posix_memalign(&buf, 4096, chunk) != 0 ||
	    munmap(disk.map, size) < 0 || fsync(disk.cached_fd) < 0)
		die("fsync");
	posix_fadvise(disk.cached_fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < 2; i++)
		for (size_t at = 0; at < size; at += chunk) {
			size_t len = size - at < chunk ? size - at : chunk;

			if (pread(fds[i], buf, len, (off_t)at) != (ssize_t)len)
				die("pread");
			for (size_t s = 0; s < len; s += SECTOR)
				if (memcmp((uint8_t *)buf + s,
					   disk.shadow + at + s, SECTOR) != 0)
					report((at + s) / SECTOR,
					       (uint8_t *)buf + s,
					       i ? "direct, at the end" :
						   "buffered, at the end");
		}
	free(buf);
	if (close(disk.cached_fd) < 0 || close(disk.direct_fd) < 0)
		die("close");
}

static int cmd_init(const char *path, const char *size, const char *seed)
{
	uint64_t nsectors = strtoull(size, NULL, 0) / SECTOR;
	uint64_t random = strtoull(seed, NULL, 0), at = 0;
	uint8_t buf[SECTOR];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0 || ftruncate(fd, (off_t)(nsectors * SECTOR)) < 0)
		die(path);
	while (at < nsectors) {
		uint64_t end = at + 1 + random_below(&random, 700);

		for (; at < end && at < nsectors; at++) {
			fill_sector(buf, at, 0);
			if (pwrite(fd, buf, SECTOR, (off_t)(at * SECTOR)) !=
			    SECTOR)
				die(path);
		}
		at += random_below(&random, 2000);
	}
	return close(fd) < 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "init") == 0)
		return cmd_init(argv[2], argv[3], argv[4]);
	if (argc != 6 || strcmp(argv[1], "run") != 0) {
		fprintf(stderr, "usage: randomio init SHADOW SIZE SEED\n"
				"       randomio run FILE SHADOW SEED OPS\n");
		return 2;
	}
	disk.seed = strtoull(argv[4], NULL, 0);
	printf("seed %llu\n", (unsigned long long)disk.seed);
	fflush(stdout);
	open_all(argv[2], argv[3]);
	run_workers(strtoull(argv[5], NULL, 0));
	verify_all();
	return 0;
}
