/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A third engine, for tests.  It has no try_now, so everything is asynchronous.
 * Each attempt is carried out on the real file, after a hook of the test's has
 * said how: as it is, not at all, in part, or later.  All attempts are counted,
 * and recorded if wanted, with their data and in order of submission and of
 * completion.  Clones and copies are made by reading and writing, so that every
 * host has them.
 *
 * Attempts run on threads of the engine, or, in manual mode, when and in the
 * order that the test says, on the test's own thread.
 *
 * A struct fake outlives the engine that it gives to an image, and can give
 * another when that is gone.  All functions but fake_create(), fake_start() and
 * fake_destroy() may be called from any thread, but for the hooks: those run with
 * the fake's lock held and call nothing of it.
 */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "engine.h"
#include "file.h"

#define FAKE_OPS      8			/* values of enum qed_op */
#define FAKE_ANY_FILE NULL

struct fake;

enum fake_what {
	FAKE_RUN,
	FAKE_FAIL,			/* the result is `err`, nothing is done */
	FAKE_SHORT,			/* moves `bytes` bytes at most */
	FAKE_HOLD,			/* until fake_release() */
	FAKE_PRETEND,			/* success, but nothing is done */
};

struct fake_verdict {
	enum fake_what what;
	int err;			/* -errno */
	uint64_t bytes;
};

/* One attempt. */
struct fake_record {
	uint64_t serial;		/* attempts submitted before this one */
	enum qed_op op;
	unsigned file;			/* number of its file, from 0 on */
	uint64_t file_off, len;
	uint64_t submitted, completed;	/* fake_tick(); 0: not yet */
	int64_t result;
	bool pretended;
	uint8_t *data;			/* of what writes: if recording */
};

typedef struct fake_verdict fake_decide(void *opaque,
					const struct fake_record *record);

/* Aborts if memory or threads are short, as everything here does. */
struct fake *fake_create(unsigned nthreads);
void fake_destroy(struct fake *fake);

/* An engine for qed_image_open_engine(), once the last one is destroyed. */
struct qed_engine *fake_start(struct fake *fake);

/* Null: run everything. */
void fake_set_decide(struct fake *fake, fake_decide *decide, void *opaque);

/* With which of `n` waiting attempts a thread goes on; null: the first. */
void fake_set_pick(struct fake *fake,
		   unsigned (*pick)(void *opaque, unsigned n), void *opaque);

/* Waits until `n` attempts are held, all at once. */
void fake_wait_held(struct fake *fake, unsigned n);
unsigned fake_held(struct fake *fake);
/* Lets the first `n` that are held go on, to end as `verdict` says. */
void fake_release(struct fake *fake, unsigned n, struct fake_verdict verdict);
/* Lets all go on; they are carried out. */
void fake_release_all(struct fake *fake);

/* Manual mode: threads leave attempts alone until it ends. */
void fake_set_manual(struct fake *fake, bool manual);
/* How many attempts wait to be carried out. */
unsigned fake_pending(struct fake *fake);
/* Carries out the one at `index` of them and what its completion does. */
void fake_step(struct fake *fake, unsigned index);

/*
 * Attempts submitted since the last fake_reset_counts(), on files whose names
 * end in `suffix`.
 */
unsigned fake_count(struct fake *fake, enum qed_op op, const char *suffix);
void fake_reset_counts(struct fake *fake);

/* The number that records have for the file whose name ends in `suffix`, or -1. */
int fake_file(struct fake *fake, const char *suffix);
/* The path of the file with that number, or null; lives as long as the fake. */
const char *fake_file_name(struct fake *fake, unsigned number);

/*
 * Recording starts and stops; what was recorded is the caller's to read while
 * nothing is under way.
 */
void fake_set_recording(struct fake *fake, bool on);
size_t fake_records(struct fake *fake, struct fake_record *const **records);
void fake_forget_records(struct fake *fake);

/* The next moment of the clock by which records are stamped; the first is 1. */
uint64_t fake_tick(struct fake *fake);

#endif
