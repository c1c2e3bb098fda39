/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Judging one state. */
#include "config.h"

#include "../lib/plain-engine.h"
#include "explorer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define QEMU_COPY "state-qemu.qed"
#define QEMU_RAW  "state-qemu.raw"
#define LIFE_ID   UINT64_C(999)		/* no model's */

extern char **environ;

struct verify {
	const struct history *history;
	struct rng *rng;
	struct qed_image *image;
	uint8_t *content;
	uint64_t size;
	char last_log[300];
	char *message;
};

static bool wrong(struct verify *v, const char *what, const char *detail)
{
	snprintf(v->message, 700, "%s: %s", what, detail);
	return false;
}

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct verify *v = opaque;

	(void)level;
	snprintf(v->last_log, sizeof(v->last_log), "%s", message);
}

/* --- QEMU ------------------------------------------------------------------------ */

/* Runs a program; its exit status. */
static int run(char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "qemu.log",
					 O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ))
		die(argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * For QEMU.  A last cluster that is cut short is none for us, as we open the image,
 * and one for QEMU: neither is wrong, as nobody has synced it, but then both would
 * read different bytes.  So the copy ends before it.
 */
static void copy_state(uint32_t cluster)
{
	char *argv[] = { (char[]){ "cp" }, (char[]){ STATE },
			 (char[]){ QEMU_COPY }, NULL };
	struct stat st;

	if (run(argv) != 0 || stat(QEMU_COPY, &st) < 0 ||
	    truncate(QEMU_COPY, st.st_size - st.st_size % cluster) < 0)
		die("cp");
}

/* The copy is checked, then read, by QEMU; `content` is how we read it. */
static bool verify_qemu(struct verify *v)
{
	char *check[] = { (char[]){ "qemu-img" }, (char[]){ "check" },
			  (char[]){ "-q" },	  (char[]){ "-r" },
			  (char[]){ "all" },	  (char[]){ "-f" },
			  (char[]){ "qed" },	  (char[]){ QEMU_COPY },
			  NULL };
	char *convert[] = { (char[]){ "qemu-img" }, (char[]){ "convert" },
			    (char[]){ "-f" },	    (char[]){ "qed" },
			    (char[]){ "-O" },	    (char[]){ "raw" },
			    (char[]){ QEMU_COPY },  (char[]){ QEMU_RAW },
			    NULL };
	uint8_t *raw = malloc(v->size);
	int status = run(check), fd;
	bool same;

	/* 3: only leaks, which QEMU cannot mend */
	if (status != 0 && status != 3)
		return wrong(v, "qemu-img check", "fails");
	if (!raw || run(convert) != 0)
		return wrong(v, "qemu-img convert", "fails");
	fd = open(QEMU_RAW, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, raw, v->size, 0) != (ssize_t)v->size)
		die(QEMU_RAW);
	close(fd);
	same = !memcmp(raw, v->content, v->size);
	free(raw);
	return same || wrong(v, "QEMU", "reads other bytes");
}

/* --- ourselves ----------------------------------------------------------------------- */

/* Structure, read by other code than the library's.  `open`: only if clean. */
static bool verify_walk(struct verify *v, bool may_be_unclean, bool *unclean)
{
	struct walk *walk = walk_open(STATE);
	bool need_check = walk->features & WALK_NEED_CHECK;
	bool ok = true;

	*unclean = need_check;
	if (need_check && !may_be_unclean)
		ok = wrong(v, "after close", "NEED_CHECK is set");
	else if (!need_check && walk->errors)
		ok = wrong(v, "the header says clean", walk->message);
	walk_close(walk);
	return ok;
}

static bool open_state(struct verify *v)
{
	struct qed_open_options options;
	int ret;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	options.commit_seconds = 0;
	options.log = (struct qed_log){ hear, v };
	ret = plain_open(STATE, &options, &v->image);
	return ret == 0 || wrong(v, "cannot be opened", v->last_log);
}

static bool read_state(struct verify *v, uint8_t *content)
{
	int64_t n = qed_pread(v->image, content, v->size, 0);

	if (n == (int64_t)v->size)
		return true;
	return wrong(v, "cannot be read", v->last_log);
}

static bool verify_content(struct verify *v, uint64_t cut)
{
	const struct model *model = v->history->model;
	uint64_t durable = model_durable(model, cut);
	char message[512];

	/* Data that was moved to before its time is wrong only elsewhere. */
	if (v->history->setup.control == CONTROL_REUSE)
		cut = v->history->end;
	if (!read_state(v, v->content))
		return false;
	return model_allows(model, v->content, 0, v->size, durable, cut,
			    message) ||
	       wrong(v, "content", message);
}

static bool write_some(struct verify *v)
{
	uint64_t len = 1 + rng_below(v->rng, 6000);
	uint64_t off = rng_below(v->rng, v->size);

	len = qed_min(len, v->size - off);
	model_pattern(LIFE_ID, v->content + off, off, len);
	return qed_pwrite(v->image, v->content + off, len, off) ==
		       (int64_t)len ||
	       wrong(v, "after the cut", "a write fails");
}

/*
 * The image is used again: what the cut left in clusters that no table names must
 * not show in new ones.
 */
static bool second_life(struct verify *v)
{
	uint8_t *now = malloc(v->size);
	bool ok = now;

	for (int i = 0; i < 12 && ok; i++)
		ok = write_some(v);
	if (ok && qed_fsync(v->image) < 0)
		ok = wrong(v, "after the cut", "a flush fails");
	ok = ok && read_state(v, now);
	if (ok && memcmp(now, v->content, v->size))
		ok = wrong(v, "after the cut", "new writes changed others");
	free(now);
	return ok;
}

static bool close_state(struct verify *v)
{
	int ret = qed_image_close(v->image);

	v->image = NULL;
	return ret == 0 || wrong(v, "close", strerror(-ret));
}

static bool verify_all(struct verify *v, uint64_t cut, bool qemu,
		       struct tally *tally)
{
	bool unclean, life = rng_chance(v->rng, 15);

	if (!verify_walk(v, true, &unclean))
		return false;
	tally->unclean += unclean;
	if (qemu)
		copy_state(v->history->setup.cluster);
	if (!open_state(v) || !verify_content(v, cut))
		return false;
	if (qemu && !verify_qemu(v))
		return false;
	if (life && !second_life(v))
		return false;
	tally->states++;
	tally->qemu += qemu;
	tally->lives += life;
	return close_state(v) && verify_walk(v, false, &unclean);
}

bool verify_state(const struct history *history, uint64_t cut, struct rng *rng,
		  bool qemu, struct tally *tally, char message[700])
{
	struct verify v = { .history = history,
			    .rng = rng,
			    .size = history->setup.disk_size,
			    .message = message };
	bool ok;

	v.content = malloc(v.size);
	if (!v.content)
		die("content");
	ok = verify_all(&v, cut, qemu, tally);
	if (v.image)
		qed_image_close(v.image);
	free(v.content);
	return ok;
}
