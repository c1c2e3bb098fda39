/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The n-th operation fails, or moves a part only; or the host refuses to clone and to
 * copy from the n-th time on; or the job is cancelled at its n-th step.  Then the files are judged as they are, and, now and then, as a power
 * cut right after the failure could leave them; and the job is run again.
 */
#include "config.h"

#include "frame.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER    4096u
#define CUT_SHARE 3			/* of the failures */

static const struct mode {
	const char *name;
	struct fake_verdict verdict;
} modes[] = {
	{ "EIO", { FAKE_FAIL, -EIO, 0 } },
	{ "ENOSPC", { FAKE_FAIL, -ENOSPC, 0 } },
	{ "short", { FAKE_SHORT, 0, 1000 } },
};

static const char *const op_names[] = { "read", "write", "flush", "punch",
					"grow", "size", "clone", "copy" };

static bool is_copy(const struct fake_record *record)
{
	return record->op == QED_OP_CLONE || record->op == QED_OP_COPY;
}

struct fault {
	const struct subject *subject;
	const struct mode *mode;
	unsigned n;
	/* under the fake's lock */
	unsigned seen;
	bool hit, tolerated;
	struct fake_record record;	/* of what was hit */
};

static struct fake_verdict decide(void *opaque, const struct fake_record *record)
{
	struct fault *fault = opaque;
	const struct job *job = fault->subject->scene->job;

	if (++fault->seen != fault->n)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	fault->hit = true;
	fault->record = *record;
	fault->tolerated = job->may_fail && job->may_fail(record);
	return fault->mode->verdict;
}

/* The metadata writer's word for all tables that it writes together. */
static bool is_flush(const struct trial *trial)
{
	return strstr(trial->last_log, ": a flush failed (");
}

/* A reading or writing that failed: does the message say in which file, and where? */
static bool message_ok(const struct fault *fault, const struct trial *trial,
		       char message[700])
{
	const struct fake_record *record = &fault->record;
	const struct job *job = fault->subject->scene->job;
	const char *path = fake_file_name(trial->fake, record->file);
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	if (record->op != QED_OP_READ && record->op != QED_OP_WRITE)
		return true;
	if (!strstr(trial->last_log, name))
		return wrong(message, "'%s' does not name %s",
			     trial->last_log, name);
	/* A new file is given up as a whole; a header is where files begin. */
	if (strstr(trial->last_log, " offset ") || is_flush(trial) ||
	    record->file_off < HEADER ||
	    (job->makes && !strcmp(name, job->makes)))
		return true;
	return wrong(message, "'%s' does not say where", trial->last_log);
}

static bool result_ok(const struct fault *fault, const struct trial *trial,
		      char message[700])
{
	bool fails = fault->hit && fault->mode->verdict.what == FAKE_FAIL;

	if (!fails && trial->ret < 0)
		return wrong(message, "it fails: %s (%s)",
			     strerror(-trial->ret), trial->last_log);
	if (fails && trial->ret >= 0 && !fault->tolerated)
		return wrong(message, "it succeeds");
	if (trial->ret < 0 && trial->errors != 1)
		return wrong(message, "%u messages, the last one '%s'",
			     trial->errors, trial->last_log);
	return !fails || trial->ret >= 0 || message_ok(fault, trial, message);
}

/* The kernel may have lost what it could not write. */
static bool cut_ok(const struct subject *subject, struct trial *trial,
		   unsigned n, struct tally *tally, char message[700])
{
	struct rng rng = { rng_mix(subject->seed + n) };
	struct states *states = states_create(subject, trial);
	char text[700];
	bool ok;

	snapshot_restore(&subject->files);
	states_make(states, states_end(states), &rng);
	ok = judge_midway(subject, true, false, tally, text);
	states_destroy(states);
	return ok || wrong(message, "then the power is cut: %.600s", text);
}

static bool left_ok(const struct fault *fault, struct trial *trial,
		    struct tally *tally, char message[700])
{
	const struct subject *subject = fault->subject;

	if (!result_ok(fault, trial, message))
		return false;
	if (trial->ret == 0 && (!fault->tolerated || is_copy(&fault->record)))
		return judge_end(subject, false, message);
	if (fault->n % CUT_SHARE == 0)
		return cut_ok(subject, trial, fault->n, tally, message);
	return judge_midway(subject, true, false, tally, message);
}

static bool fail_nth(struct fault *fault, struct tally *tally,
		     char message[700])
{
	struct rng rng = { rng_mix(fault->subject->seed) };
	struct trial trial = { .decide = decide, .opaque = fault };
	char text[700];
	bool ok;

	trial_run(fault->subject, &trial, &rng);
	ok = left_ok(fault, &trial, tally, text);
	trial_free(&trial);
	tally->failures += fault->hit;
	return ok || wrong(message, "%s in operation %u, a %s at %llu, %llu "
			   "bytes of file %u: %.500s",
			   fault->mode->name, fault->n,
			   op_names[fault->record.op],
			   (unsigned long long)fault->record.file_off,
			   (unsigned long long)fault->record.len,
			   fault->record.file, text);
}

/*
 * The first of `count` that is tried, where not every one is: another seed, another
 * sample.
 */
static unsigned first_of(const struct subject *subject, unsigned stride,
			 unsigned count)
{
	uint64_t choice = qed_max(1, qed_min(stride, count));

	return 1 + (unsigned)(subject->seed % choice);
}

bool fail_each(const struct subject *subject, const struct limits *limits,
	       struct tally *tally, char message[700])
{
	unsigned nmodes = sizeof(modes) / sizeof(*modes);
	unsigned n = first_of(subject, limits->stride, subject->nops);
	/* Where not every one is tried, modes take turns. */
	unsigned turn = (unsigned)(subject->seed / limits->stride % nmodes);
	bool hit = true;

	for (; hit; n += limits->stride, turn++) {
		for (unsigned m = 0; m < nmodes; m++) {
			struct fault fault = { .subject = subject,
					       .mode = &modes[m],
					       .n = n };

			if (limits->stride > 1 && turn % nmodes != m)
				continue;
			if (!fail_nth(&fault, tally, message))
				return false;
			hit = fault.hit;
		}
	}
	return true;
}

/* What hosts say that cannot do it, or not with these files. */
static const int refusals[] = { EXDEV, EOPNOTSUPP, EINVAL, ENOSYS };

struct refusal {
	unsigned n;			/* the first that is refused */
	int err;
	bool torn;			/* the one before is cut short */
	unsigned seen;			/* under the fake's lock */
};

static struct fake_verdict refuse(void *opaque, const struct fake_record *record)
{
	struct refusal *refusal = opaque;

	if (!is_copy(record) || ++refusal->seen + refusal->torn < refusal->n)
		return (struct fake_verdict){ FAKE_RUN, 0, 0 };
	if (refusal->seen < refusal->n)
		return (struct fake_verdict){ FAKE_SHORT, 0, 1000 };
	return (struct fake_verdict){ FAKE_FAIL, -refusal->err, 0 };
}

/* It is read and written instead, and nobody can tell. */
static bool refuse_from(const struct subject *subject, struct refusal *refusal,
			char message[700])
{
	struct rng rng = { rng_mix(subject->seed) };
	struct trial trial = { .decide = refuse, .opaque = refusal };
	char text[700];
	bool ok;

	trial_run(subject, &trial, &rng);
	trial_free(&trial);
	if (trial.ret < 0)
		ok = wrong(text, "it fails: %s (%s)", strerror(-trial.ret),
			   trial.last_log);
	else
		ok = judge_end(subject, false, text);
	return ok || wrong(message, "'%s' from copy %u on%s: %.500s",
			   strerror(refusal->err), refusal->n,
			   refusal->torn ? ", the last one short" : "", text);
}

bool refuse_copies(const struct subject *subject, const struct limits *limits,
		   struct tally *tally, char message[700])
{
	const unsigned nrefusals = sizeof(refusals) / sizeof(*refusals);
	unsigned choice = (unsigned)subject->seed;
	unsigned n = first_of(subject, limits->stride, subject->ncopies);

	for (; n <= subject->ncopies; n += limits->stride, choice++) {
		struct refusal refusal = { .n = n,
					   .err = refusals[choice % nrefusals],
					   .torn = choice / nrefusals % 2 };

		if (!refuse_from(subject, &refusal, message))
			return false;
		tally->failures++;
	}
	return true;
}

static const char *const deed_names[] = { "naming", "removal", "mode", "sync" };

/* A file can do without another mode, and without that being durable. */
static bool deed_may_fail(const struct deed *deed)
{
	return deed->kind == DEED_MODE ||
	       (deed->kind == DEED_SYNC && *deed->name);
}

static bool deed_ok(const struct subject *subject, struct trial *trial,
		    struct tally *tally, char message[700])
{
	unsigned n = trial->fail_deed;

	if (trial->ret >= 0 && !deed_may_fail(deeds_get(n - 1)))
		return wrong(message, "it succeeds");
	if (trial->ret < 0 && trial->errors != 1)
		return wrong(message, "%u messages, the last one '%s'",
			     trial->errors, trial->last_log);
	if (n % 2)
		return judge_midway(subject, true, false, tally, message);
	return cut_ok(subject, trial, n, tally, message);
}

bool fail_each_deed(const struct subject *subject, struct tally *tally,
		    char message[700])
{
	bool hit = true, ok = true;

	for (unsigned n = 1; hit && ok; n++) {
		struct rng rng = { rng_mix(subject->seed) };
		struct trial trial = { .fail_deed = n };
		char text[700];

		trial_run(subject, &trial, &rng);
		hit = deeds_count() >= n;
		ok = !hit || deed_ok(subject, &trial, tally, text) ||
		     wrong(message, "EIO in the %s of '%s', number %u: %.500s",
			   deed_names[deeds_get(n - 1)->kind],
			   deeds_get(n - 1)->name, n, text);
		tally->failures += hit;
		trial_free(&trial);
	}
	return ok;
}

static bool cancel_nth(const struct subject *subject, unsigned n,
		       struct tally *tally, char message[700])
{
	struct rng rng = { rng_mix(subject->seed) };
	struct trial trial = { .cancel_at = n };
	char text[700];
	bool ok;

	trial_run(subject, &trial, &rng);
	trial_free(&trial);
	if (trial.cancelled && trial.ret != -ECANCELED)
		return wrong(message, "cancelled at step %u: it ends with %d",
			     n, trial.ret);
	if (trial.errors > 1)
		return wrong(message, "cancelled at step %u: %u messages", n,
			     trial.errors);
	ok = judge_midway(subject, true, false, tally, text);
	tally->cancellations += trial.cancelled;
	return ok || wrong(message, "cancelled at step %u: %.600s", n, text);
}

bool cancel_each(const struct subject *subject, const struct limits *limits,
		 struct tally *tally, char message[700])
{
	unsigned n = first_of(subject, limits->stride, subject->nsteps);

	for (; n <= subject->nsteps; n += limits->stride)
		if (!cancel_nth(subject, n, tally, message))
			return false;
	return true;
}
