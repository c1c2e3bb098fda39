/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A whole-image job under test: what a job-NAME.c says about it, and what it may
 * use to make the files that the job is run on.  tests/README says how to add one.
 */
#ifndef JOB_H
#define JOB_H

#include "qed.h"

#include "../lib/fake-engine.h"
#include "../lib/rng.h"
#include "../lib/walk.h"

#define TOP "top.qed"			/* in the working directory */

enum backing {
	BACKING_NONE,
	BACKING_RAW,			/* base.raw */
	BACKING_QED,			/* base.qed */
	BACKING_KINDS,
};

/* One of the settings that a job is tried in. */
struct scene {
	const struct job *job;
	unsigned variant;
	enum backing backing;
	uint32_t cluster, table;	/* bytes, clusters */
	uint64_t disk_size;		/* three tables at most, an odd end */
};

/* What the guest may see while the job is under way or after it was cut short. */
enum job_rule {
	JOB_UNCHANGED,			/* what it saw before */
	JOB_EITHER,			/* each sector before or after */
	JOB_WHOLE,			/* all of it before, or all after */
};

/* A file whose disk the guest sees: QED, or raw if its name ends in .raw. */
struct job_disk {
	const char *path;
	enum job_rule rule;
};

#define JOB_DISKS_MAX 3

#define JOB_STARTS_DAMAGED 0x1u	/* tables need not be right until it is done */
#define JOB_ENDS_DAMAGED   0x2u	/* nor then */
#define JOB_NEEDS_NO_SYNC  0x4u	/* nothing is lost without any */

/* With what a job is run. */
struct job_env {
	struct qed_engine *engine;	/* the job's to destroy */
	struct qed_log log;
	const struct qed_job *job;
};

struct job {
	const char *name;
	const char *const *variants;	/* null at the end; or null: one */
	unsigned backings;		/* bit for each kind; 0: all of them */
	unsigned flags;			/* JOB_* */
	/* The one that is missing first ends the list; see scene_has(). */
	struct job_disk disks[JOB_DISKS_MAX];

	/* Makes the files. */
	void (*prepare)(const struct scene *scene);
	/*
	 * Runs it: 0, or -errno after exactly one message.  Run again when it is
	 * over it must give 0, whatever the library's function does then.
	 */
	int (*run)(const struct scene *scene, const struct job_env *env);
	/*
	 * A file that the job makes, or replaces, without a name until it gets this
	 * one; or null.  Others that it makes have theirs from the beginning.
	 */
	const char *makes;
	/* Is all as it should be at any time, contents apart?  Or null. */
	bool (*midway)(const struct scene *scene, char message[700]);
	/* Is the result what it should be, contents apart?  Or null. */
	bool (*finished)(const struct scene *scene, char message[700]);
	/* May the job succeed although this has failed?  Or null: never. */
	bool (*may_fail)(const struct fake_record *record);
};

/* The jobs of a program; ends with a null. */
extern const struct job *const jobs[];

/* Explains and ends; for what is not the library's fault. */
void die(const char *what) __attribute__((noreturn));

/* Writes the message; returns false. */
bool wrong(char message[700], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The name of the backing file, or null. */
const char *scene_base(const struct scene *scene);

/*
 * Makes TOP, with data in many places and zero clusters, and what lies below it,
 * which is a little shorter.
 */
void scene_make(const struct scene *scene);
/* Makes an empty image. */
void scene_image(const struct scene *scene, const char *path, uint64_t size,
		 const char *backing);
/* Writes data to an image that no other `id` nor place has; or zeroes it. */
void scene_write(const char *path, uint64_t id, uint64_t off, uint64_t len);
void scene_zero(const char *path, uint64_t off, uint64_t len);

/* Where the entry for disk_off is: level 1 or 2. */
uint64_t scene_entry(const char *path, unsigned level, uint64_t disk_off);
/* The 64-bit number at a place of a file. */
uint64_t scene_peek(const char *path, uint64_t file_off);
void scene_poke(const char *path, uint64_t file_off, uint64_t value);
/* Adds bytes that are not zero at the end. */
void scene_append(const char *path, uint64_t len);
uint64_t scene_size(const char *path);

/* Does the guest see the same of both files? */
bool made_same_disk(const char *path, const char *other, char message[700]);
/* Has this QED image any clusters? */
bool made_has_data(const char *path);
/* Has no file that was given up been left behind? */
bool made_nothing_else(char message[700]);

#endif
