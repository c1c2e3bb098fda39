/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The frame that jobs are tested in.
 *
 *	jobs.c		the program: all jobs in all scenes
 *	scene.c		files for jobs to work on
 *	snapshot.c	saves and restores them
 *	disk.c		what the guest sees of them
 *	trial.c		one run of a job
 *	deeds.c		what it does to names and permissions
 *	made.c		what it makes
 *	judge.c		is what it left right?
 *	cuts.c		power cuts, at every step
 *	faults.c	failing operations, cancellation
 *	controls.c	damage that must be found
 */
#ifndef FRAME_H
#define FRAME_H

#include "../lib/events.h"
#include "deeds.h"
#include "job.h"

#define SNAPSHOT_FILES 8

/* Copies of all files in the working directory. */
struct snapshot {
	unsigned n;
	struct snapshot_file {
		char name[100];
		uint8_t *bytes;
		uint64_t size;
	} files[SNAPSHOT_FILES];
};

void snapshot_take(struct snapshot *snapshot);
/* Makes the directory hold these files and nothing else. */
void snapshot_restore(const struct snapshot *snapshot);
/* Writes one file. */
void snapshot_put(const struct snapshot_file *file);
const struct snapshot_file *snapshot_find(const struct snapshot *snapshot,
					  const char *name);
void snapshot_free(struct snapshot *snapshot);

/* What the guest sees of one file. */
struct disk {
	uint64_t size;
	uint8_t *bytes;
	uint8_t *bad;			/* for each sector: cannot be read */
	uint64_t room;			/* that bytes has; disk.c's */
};

/*
 * Reads the whole disk; where tables are damaged it is bad.  False with a message
 * if the file cannot be opened.
 */
bool disk_read(struct disk *disk, const char *path, bool writable,
	       char message[700]);
bool disk_allowed(const struct disk *now, const struct disk *before,
		  const struct disk *after, enum job_rule rule,
		  char message[700]);
/*
 * Are they the same, but for what was bad in `before`, if that is not null: damage
 * that is mended may look different each time.
 */
bool disk_same(const struct disk *a, const struct disk *b,
	       const struct disk *before, char message[700]);
void disk_free(struct disk *disk);

/* A job in a scene, prepared, and how it goes if nothing comes between. */
struct subject {
	const struct scene *scene;
	uint64_t seed;
	struct snapshot files;		/* before it */
	unsigned ndisks;
	struct disk before[JOB_DISKS_MAX], after[JOB_DISKS_MAX];
	unsigned nops, ncopies, nsteps;	/* of an undisturbed run */
};

/* One run. */
struct trial {
	/* the caller's: what disturbs it; null or 0: nothing */
	fake_decide *decide;
	void *opaque;
	unsigned cancel_at;		/* this call of `cancelled` says yes */
	unsigned fail_deed;		/* this change of a name or mode fails */
	/* results */
	int ret;
	unsigned errors;		/* messages */
	char last_log[300];
	unsigned steps;			/* calls of `cancelled` */
	bool cancelled;
	struct fake *fake;		/* with records, until trial_free() */
};

void trial_run(const struct subject *subject, struct trial *trial,
	       struct rng *rng);
void trial_free(struct trial *trial);
/* Runs the job on whatever files there are, by an engine of the library's. */
bool trial_again(const struct subject *subject, char message[700]);

struct tally {
	unsigned states, unclean, qemu, again, failures, cancellations;
};

/*
 * Judges the files as they are, of a job that is not over: structure, content; if
 * `again`, runs it to its end and judges that.  `qemu`: asks QEMU, too.
 */
bool judge_midway(const struct subject *subject, bool again, bool qemu,
		  struct tally *tally, char message[700]);
/* The same for one that has succeeded. */
bool judge_end(const struct subject *subject, bool qemu, char message[700]);

/*
 * States of all files that a cut at some moment of the trial, which is the last that was
 * recorded, could leave.
 */
struct states;
struct states *states_create(const struct subject *subject,
			     struct trial *trial);
void states_destroy(struct states *states);
/* The moment after everything. */
uint64_t states_end(const struct states *states);
/* Puts one in place.  Cuts come in order. */
void states_make(struct states *states, uint64_t cut, struct rng *rng);

struct limits {
	unsigned states;		/* in one scene */
	unsigned stride;		/* of the operations that fail */
	bool qemu, controls;
};

/* False with a message at the first thing that is wrong. */
bool explore_cuts(const struct subject *subject, struct trial *trial,
		  const struct limits *limits, struct tally *tally,
		  char message[700]);
bool fail_each(const struct subject *subject, const struct limits *limits,
	       struct tally *tally, char message[700]);
bool refuse_copies(const struct subject *subject, const struct limits *limits,
		   struct tally *tally, char message[700]);
bool fail_each_deed(const struct subject *subject, struct tally *tally,
		    char message[700]);
bool cancel_each(const struct subject *subject, const struct limits *limits,
		 struct tally *tally, char message[700]);

/* Is the damage found in this scene? */
bool find_lost_syncs(const struct subject *subject, char message[700]);
bool find_lost_write(const struct subject *subject, char message[700]);

#endif
