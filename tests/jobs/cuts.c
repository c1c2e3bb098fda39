/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts: one moment for all files, but what else reached the disk is another
 * chance for each.  A file that the job has made is there for sure once its directory
 * has been synced, or its first flush is over and the job has gone on with it from
 * that (before, it may be there); one that it has removed may always be there still.
 * One that it makes without a name is there, in place of what was, from when it gets
 * one: perhaps at first, for sure once the directory has been synced.  Modes may be
 * the new ones as soon as they are set.
 */
#include "config.h"

#include "frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX SNAPSHOT_FILES

struct states {
	unsigned n;
	struct {
		const char *name;
		bool made;		/* by the job */
		const struct snapshot_file *old;	/* in whose place, or null */
		uint64_t begun, kept;	/* it may be there, must be there */
		struct walk *walk;
		struct event_log log;
		struct builder *builder;
	} files[FILES_MAX];
	uint64_t *moments;
	size_t nmoments;
};

static bool is_metadata(const void *walk, uint64_t file_off)
{
	return walk_is_metadata(walk, file_off);
}

static bool is_qed(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcmp(name + n - 4, ".qed");
}

/* When the file may be on the disk, and when it is. */
static void find_birth(struct states *states, unsigned i)
{
	const struct event_log *log = &states->files[i].log;
	uint64_t flushed = UINT64_MAX;

	states->files[i].begun = states->files[i].kept = UINT64_MAX;
	for (size_t e = log->nevents; e-- > 0;) {
		states->files[i].begun = qed_min(states->files[i].begun,
						 log->events[e].submitted);
		if (log->events[e].kind == EVENT_FLUSH)
			flushed = log->events[e].completed;
	}
	for (size_t e = log->nevents; e-- > 0;)
		if (log->events[e].submitted > flushed)
			states->files[i].kept = log->events[e].submitted;
	for (unsigned d = 0; d < deeds_count(); d++) {
		const struct deed *deed = deeds_get(d);

		if (deed->done && deed->kind == DEED_SYNC && !*deed->name &&
		    deed->begun > states->files[i].begun)
			states->files[i].kept = qed_min(states->files[i].kept,
							deed->ended);
	}
}

/* The same of one that is made without a name. */
static void find_naming(struct states *states, unsigned i)
{
	uint64_t begun = UINT64_MAX, kept = UINT64_MAX;

	for (unsigned d = 0; d < deeds_count(); d++) {
		const struct deed *deed = deeds_get(d);
		bool named = begun != UINT64_MAX;

		if (!deed->done)
			continue;
		if (deed->kind == DEED_NAME &&
		    !strcmp(deed->name, states->files[i].name))
			begun = deed->begun;
		if (deed->kind == DEED_SYNC && !*deed->name && named)
			kept = qed_min(kept, deed->ended);
	}
	states->files[i].begun = begun;
	states->files[i].kept = kept;
}

/* All is in one directory; each file has one path, or its history is in parts. */
static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void add_file(struct states *states, const struct subject *subject,
		     struct fake *fake, const char *name, int number)
{
	const struct snapshot_file *file = snapshot_find(&subject->files, name);
	const char *makes = subject->scene->job->makes;
	bool nameless = makes && !strcmp(name, makes);
	unsigned i = states->n++;
	struct event_log *log = &states->files[i].log;

	if (i == FILES_MAX)
		die("too many files");
	for (unsigned j = 0; j < i; j++)
		if (!strcmp(states->files[j].name, name))
			die("a file is opened by two paths");
	states->files[i].name = name;
	states->files[i].made = nameless || !file;
	states->files[i].old = nameless ? file : NULL;
	if (!states->files[i].made) {
		log->initial = malloc(file->size + 1);
		if (!log->initial)
			die(name);
		memcpy(log->initial, file->bytes, file->size);
		log->initial_size = file->size;
	}
	if (is_qed(name) && access(name, R_OK) == 0)
		states->files[i].walk = walk_open(name);
	events_collect(log, fake, number,
		       states->files[i].walk ? is_metadata : NULL,
		       states->files[i].walk);
	if (nameless)
		find_naming(states, i);
	else
		find_birth(states, i);
	states->files[i].builder = builder_create(log);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Before everything; right after each operation, while the next is not begun. */
static void find_moments(struct states *states)
{
	size_t n = 1 + deeds_count();

	for (unsigned i = 0; i < states->n; i++)
		n += states->files[i].log.nevents;
	states->moments = calloc(n, sizeof(*states->moments));
	if (!states->moments)
		die("moments");
	states->moments[states->nmoments++] = 1;
	for (unsigned i = 0; i < states->n; i++)
		for (size_t e = 0; e < states->files[i].log.nevents; e++)
			states->moments[states->nmoments++] =
				states->files[i].log.events[e].completed + 1;
	for (unsigned d = 0; d < deeds_count(); d++)
		if (deeds_get(d)->done)
			states->moments[states->nmoments++] =
				deeds_get(d)->ended + 1;
	qsort(states->moments, states->nmoments, sizeof(*states->moments),
	      by_value);
}

struct states *states_create(const struct subject *subject, struct trial *trial)
{
	struct states *states = calloc(1, sizeof(*states));
	const char *path;

	if (!states)
		die("states");
	for (int i = 0; (path = fake_file_name(trial->fake, (unsigned)i)); i++)
		add_file(states, subject, trial->fake, name_of(path), i);
	find_moments(states);
	return states;
}

void states_destroy(struct states *states)
{
	for (unsigned i = 0; i < states->n; i++) {
		builder_destroy(states->files[i].builder);
		events_free(&states->files[i].log);
		if (states->files[i].walk)
			walk_close(states->files[i].walk);
	}
	free(states->moments);
	free(states);
}

uint64_t states_end(const struct states *states)
{
	return states->moments[states->nmoments - 1];
}

static void set_modes(uint64_t cut, struct rng *rng)
{
	for (unsigned d = 0; d < deeds_count(); d++) {
		const struct deed *deed = deeds_get(d);

		if (deed->kind == DEED_MODE && deed->done &&
		    deed->begun < cut && rng_chance(rng, 50) &&
		    chmod(deed->name, deed->mode) < 0)
			die(deed->name);
	}
}

void states_make(struct states *states, uint64_t cut, struct rng *rng)
{
	for (unsigned i = 0; i < states->n; i++) {
		bool there = !states->files[i].made ||
			     cut > states->files[i].kept ||
			     (cut > states->files[i].begun &&
			      rng_chance(rng, 50));

		unlink(states->files[i].name);
		if (there)
			builder_make(states->files[i].builder, cut, rng,
				     states->files[i].name);
		else if (states->files[i].old)
			snapshot_put(states->files[i].old);
	}
	set_modes(cut, rng);
}

static bool explore_one(const struct subject *subject, struct states *states,
			uint64_t cut, bool qemu, struct rng *rng,
			struct tally *tally, char message[700])
{
	char text[700];

	snapshot_restore(&subject->files);
	states_make(states, cut, rng);
	tally->states++;
	if (judge_midway(subject, true, qemu, tally, text))
		return true;
	return wrong(message, "power cut at %" PRIu64 " of %" PRIu64 ": %.600s",
		     cut, states->moments[states->nmoments - 1], text);
}

bool explore_cuts(const struct subject *subject, struct trial *trial,
		  const struct limits *limits, struct tally *tally,
		  char message[700])
{
	struct rng rng = { rng_mix(subject->seed + 1) };
	struct states *states = states_create(subject, trial);
	bool ok = true;

	for (unsigned i = 0; i < limits->states && ok; i++) {
		size_t m = (i * states->nmoments +
			    rng_below(&rng, states->nmoments)) /
			   limits->states;
		bool qemu = limits->qemu && rng_chance(&rng, 4);

		ok = explore_one(subject, states, states->moments[m], qemu,
				 &rng, tally, message);
	}
	states_destroy(states);
	return ok;
}
