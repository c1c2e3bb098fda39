/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The frame's own test: what is broken on purpose must be found. */
#include "config.h"

#include "frame.h"

#include <stdlib.h>

#define STATES 150

/* The host says that it flushes, and does not. */
static struct fake_verdict lose_syncs(void *opaque,
				      const struct fake_record *record)
{
	(void)opaque;
	if (record->op == QED_OP_FLUSH)
		return (struct fake_verdict){ FAKE_PRETEND, 0, 0 };
	return (struct fake_verdict){ FAKE_RUN, 0, 0 };
}

bool find_lost_syncs(const struct subject *subject, char message[700])
{
	const struct limits limits = { .states = STATES };
	struct trial trial = { .decide = lose_syncs };
	struct tally tally = { .states = 0 };
	struct rng rng = { rng_mix(subject->seed) };
	bool ok;

	trial_run(subject, &trial, &rng);
	ok = trial.ret == 0 &&
	     explore_cuts(subject, &trial, &limits, &tally, message);
	trial_free(&trial);
	return !ok;
}

struct lost_write {
	unsigned n, seen;
};

static struct fake_verdict lose_write(void *opaque,
				      const struct fake_record *record)
{
	struct lost_write *lost = opaque;

	if (record->op == QED_OP_READ || record->op == QED_OP_FLUSH ||
	    ++lost->seen != lost->n)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	return (struct fake_verdict){ FAKE_PRETEND, 0, 0 };
}

/* One change of a file is never made. */
bool find_lost_write(const struct subject *subject, char message[700])
{
	struct lost_write lost = { .n = 1 };
	bool ok = true;

	for (; ok && lost.n <= subject->nops; lost.n++) {
		struct trial trial = { .decide = lose_write, .opaque = &lost };
		struct rng rng = { rng_mix(subject->seed) };

		lost.seen = 0;
		trial_run(subject, &trial, &rng);
		trial_free(&trial);
		ok = trial.ret == 0 && judge_end(subject, false, message);
		if (lost.seen < lost.n)
			break;
	}
	return !ok;
}
