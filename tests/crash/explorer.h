/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The power-cut explorer.
 *
 *	files.c		makes an image, and a chain below it
 *	workload.c	runs random requests on it, with the recording engine
 *			and a model of what the disk may hold
 *	history.c	what was recorded, in the order in which it took effect
 *	verify.c	opens one and compares it with the model
 *	explorer.c	the loops around that, and the controls
 *
 * ../lib/state.c makes the files that a power cut could have left.
 */
#ifndef EXPLORER_H
#define EXPLORER_H

#include "../lib/events.h"
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

/* A workload that has been run. */
struct history {
	struct setup setup;
	struct fake *fake;		/* owns the records' data */
	struct model *model;
	struct event_log log;		/* of the image file */
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
