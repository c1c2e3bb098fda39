/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One run of a job. */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/plain-engine.h"
#include "frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STUCK 300			/* seconds for one run */

static void hear(void *opaque, enum qed_log_level level, const char *message)
{
	struct trial *trial = opaque;

	if (level != QED_LOG_ERROR)
		return;
	trial->errors++;
	snprintf(trial->last_log, sizeof(trial->last_log), "%s", message);
}

static bool cancelled(void *opaque)
{
	struct trial *trial = opaque;

	trial->steps++;
	if (trial->cancel_at && trial->steps >= trial->cancel_at)
		trial->cancelled = true;
	return trial->cancelled;
}

static void run(const struct subject *subject, struct trial *trial,
		struct qed_engine *engine)
{
	const struct qed_job job = { .cancelled = cancelled, .opaque = trial };
	const struct job_env env = { .engine = engine,
				     .log = { hear, trial },
				     .job = &job };

	calls_watchdog(STUCK);
	trial->ret = subject->scene->job->run(subject->scene, &env);
	calls_watchdog(0);
}

static unsigned pick(void *opaque, unsigned n)
{
	return (unsigned)rng_below(opaque, n);
}

void trial_run(const struct subject *subject, struct trial *trial,
	       struct rng *rng)
{
	trial->fake = fake_create(1);
	fake_set_recording(trial->fake, true);
	fake_set_decide(trial->fake, trial->decide, trial->opaque);
	fake_set_pick(trial->fake, pick, rng);
	snapshot_restore(&subject->files);
	deeds_begin(trial->fake, trial->fail_deed);
	run(subject, trial, fake_start(trial->fake));
	deeds_end();
}

void trial_free(struct trial *trial)
{
	fake_destroy(trial->fake);
	trial->fake = NULL;
}

bool trial_again(const struct subject *subject, char message[700])
{
	struct trial trial = { .ret = 0 };

	run(subject, &trial, plain_engine());
	if (trial.ret == 0)
		return true;
	return wrong(message, "run again it fails: %s (%s)",
		     strerror(-trial.ret), trial.last_log);
}
