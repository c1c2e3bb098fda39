/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power-cut explorer.
 *
 *	files.c		makes an image, and a chain below it
 *	workload.c	runs random requests on it, with the recording engine
 *			and a model of what the disk may hold
 *	history.c	what was recorded, in the order in which it took effect
 *	state.c		files that a power cut could have left
 *	verify.c	opens one and compares it with the model
 *	explorer.c	the loops around that, and the controls
 */
#ifndef EXPLORER_H
#define EXPLORER_H

#include "../lib/fake-engine.h"
#include "../lib/model.h"
#include "../lib/rng.h"
#include "../lib/walk.h"

#define TOP   "top.qed"			/* in the working directory */
#define STATE "state.qed"

enum backing {
	BACKING_NONE,
	BACKING_RAW,
	BACKING_QED,
	BACKING_CHAIN,			/* QED over QED over raw */
	BACKING_KINDS,
};

/* Deliberate damage, which must be found. */
enum control {
	CONTROL_NONE,
	CONTROL_LOST_SYNC,		/* the disk ignores a flush now and then */
	CONTROL_SWAPPED,		/* tables go before data over backing data */
	CONTROL_REUSE,			/* a freed cluster is reused too early */
};

struct setup {
	uint64_t seed;
	enum backing backing;
	enum control control;
	uint32_t cluster, table;
	uint64_t disk_size;
	bool threads;			/* real ones; no seed repeats those */
	unsigned nsessions;		/* opens and closes */
	unsigned nrequests;		/* in each session */
};

/* One thing that happened to the image file. */
struct event {
	enum { EVENT_WRITE, EVENT_PUNCH, EVENT_GROW, EVENT_CUT, EVENT_FLUSH } kind;
	uint64_t file_off, len;		/* CUT: len is the new size */
	const uint8_t *data;
	uint64_t submitted, completed;	/* completed: UINT64_MAX if never */
	bool metadata;			/* a write to tables or the header */
};

/* A workload that has been run. */
struct history {
	struct setup setup;
	struct fake *fake;		/* owns the records' data */
	struct model *model;
	uint8_t *initial;		/* the file as it was at first */
	uint64_t initial_size;
	struct event *events;		/* by completion */
	size_t nevents, max_events;
	uint64_t reach;			/* the largest file that can come of it */
	uint64_t end;			/* the moment after everything */
	char failure[700];		/* what was wrong while it ran, or empty */
};

/* Explains and ends; for what is not the library's fault. */
void die(const char *what) __attribute__((noreturn));

/*
 * Makes the image TOP in the working directory, empty over what the setup wants;
 * fills in the history's model and what the file is at first.
 */
void make_files(const struct setup *setup, struct rng *rng,
		struct history *history);

/* Makes the files and runs the workload on them. */
void workload_run(const struct setup *setup, struct history *history);
void history_free(struct history *history);

/* Fills in the events from what the fake recorded. */
void history_collect(struct history *history);
/* Does to the order of events what the setup's control asks for. */
void history_damage(struct history *history);

/* Builds states of one history, in order of their cuts. */
struct builder;
struct builder *builder_create(const struct history *history);
void builder_destroy(struct builder *builder);
/* Writes a state as a cut at that moment could leave it to the file STATE. */
void builder_make(struct builder *builder, uint64_t cut, struct rng *rng);

struct tally {
	unsigned states, unclean, qemu, lives;
};

/*
 * Judges the file STATE, as left by a cut at that moment.  `qemu`: compares with
 * what QEMU makes of it, too.  False with a message if something is wrong.
 */
bool verify_state(const struct history *history, uint64_t cut, struct rng *rng,
		  bool qemu, struct tally *tally, char message[700]);

#endif
