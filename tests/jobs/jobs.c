/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage: job-NAME [--seed N] [--job NAME] [--scene N] [--no-qemu]
 *
 * Runs each job in each scene: undisturbed, cut short by power cuts, by failing
 * operations and by cancellation.  Then breaks things and must find that out.
 */
#include "config.h"

#include "frame.h"
#include "../lib/scratch.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STATES_CI        300		/* of a program */
#define STATES_SANITIZED 140
#define STATES_TSAN      40
#define STATES_SOAK      50000
#define FAILURES_CI      600
#define FAILURES_SANITIZED 200
#define FAILURES_TSAN    60
#define EXIT_SKIP        77

static const struct {
	uint32_t cluster, table;
} geometries[] = { { 4096, 1 }, { 4096, 2 } };

#define NGEOMETRIES 2
#define DISK_SIZE ((UINT64_C(4700) << 10) + 512)

struct options {
	uint64_t seed;
	const char *job;		/* only this one; null: all */
	int scene;			/* only this one; -1: all */
	unsigned states, failures;
	bool qemu, controls;
};

static const char *const backing_names[] = { "none", "raw", "qed" };

/* --- scenes ----------------------------------------------------------------------- */

static unsigned count_variants(const struct job *job)
{
	unsigned n = 0;

	while (job->variants && job->variants[n])
		n++;
	return job->variants ? n : 1;
}

static unsigned count_scenes(const struct job *job)
{
	return count_variants(job) * BACKING_KINDS * NGEOMETRIES;
}

/* False if the job is not for that one. */
static bool get_scene(const struct job *job, unsigned n, struct scene *scene)
{
	unsigned geometry = n % NGEOMETRIES;

	*scene = (struct scene){
		.job = job,
		.cluster = geometries[geometry].cluster,
		.table = geometries[geometry].table,
		.backing = (enum backing)(n / NGEOMETRIES % BACKING_KINDS),
		.variant = n / NGEOMETRIES / BACKING_KINDS,
		.disk_size = DISK_SIZE,
	};
	return !job->backings || job->backings >> scene->backing & 1;
}

static bool wanted(const struct options *options, const struct job *job,
		   unsigned n)
{
	struct scene scene;

	if (options->job && strcmp(options->job, job->name))
		return false;
	if (options->scene >= 0 && (unsigned)options->scene != n)
		return false;
	return get_scene(job, n, &scene);
}

static void describe(FILE *out, const struct scene *scene, unsigned n)
{
	const struct job *job = scene->job;

	fprintf(out, "%s%s%s, scene %u: cluster %" PRIu32 ", table %" PRIu32
		", backing %s", job->name, job->variants ? " " : "",
		job->variants ? job->variants[scene->variant] : "", n,
		scene->cluster, scene->table, backing_names[scene->backing]);
}

static bool read_disks(const struct subject *subject, struct disk *disks,
		       char message[700])
{
	for (unsigned i = 0; i < subject->ndisks; i++)
		if (!disk_read(&disks[i], subject->scene->job->disks[i].path,
			       false, message))
			return false;
	return true;
}

static void count_ops(struct subject *subject, const struct trial *trial)
{
	struct fake_record *const *records;

	subject->nops = (unsigned)fake_records(trial->fake, &records);
	for (unsigned i = 0; i < subject->nops; i++)
		subject->ncopies += records[i]->op == QED_OP_CLONE ||
				    records[i]->op == QED_OP_COPY;
	subject->nsteps = trial->steps;
}

/* What is to be cloned or copied by the host must not be read and written instead. */
static bool copies_ok(const struct subject *subject, char message[700])
{
	const struct scene *scene = subject->scene;
	const char *variant = scene->job->variants ?
		scene->job->variants[scene->variant] : "";

	if (subject->ncopies || (strcmp(variant, "clone") && strcmp(variant, "copy")))
		return true;
	return wrong(message, "nothing is cloned or copied by the host");
}

/* The files, and the run that nothing disturbs. */
static bool subject_init(struct subject *subject, struct trial *trial,
			 char message[700])
{
	const struct job *job = subject->scene->job;
	struct rng rng = { rng_mix(subject->seed) };
	const struct snapshot nothing = { .n = 0 };

	snapshot_restore(&nothing);
	job->prepare(subject->scene);
	snapshot_take(&subject->files);
	while (subject->ndisks < JOB_DISKS_MAX &&
	       job->disks[subject->ndisks].path &&
	       snapshot_find(&subject->files,
			     job->disks[subject->ndisks].path))
		subject->ndisks++;
	if (!read_disks(subject, subject->before, message))
		return false;
	trial_run(subject, trial, &rng);
	count_ops(subject, trial);
	if (trial->ret < 0)
		return wrong(message, "it fails: %s", trial->last_log);
	if (!copies_ok(subject, message))
		return false;
	return read_disks(subject, subject->after, message);
}

static void subject_fini(struct subject *subject)
{
	snapshot_free(&subject->files);
	for (unsigned i = 0; i < subject->ndisks; i++) {
		disk_free(&subject->before[i]);
		disk_free(&subject->after[i]);
	}
}

static bool judge_undisturbed(const struct subject *subject, bool qemu,
			      char message[700])
{
	for (unsigned i = 0; i < subject->ndisks; i++)
		if (!disk_allowed(&subject->after[i], &subject->before[i],
				  &subject->after[i],
				  subject->scene->job->disks[i].rule, message))
			return false;
	return judge_end(subject, qemu, message) &&
	       trial_again(subject, message) &&
	       judge_end(subject, false, message);
}

struct controls {
	bool syncs, writes;		/* found */
};

static bool test_scene(const struct scene *scene, unsigned n,
		       const struct options *options,
		       const struct limits *limits, struct tally *tally,
		       struct controls *found)
{
	struct subject subject = { .scene = scene,
				   .seed = options->seed + n };
	struct limits own = *limits;
	struct trial trial = { .ret = 0 };
	char message[700];
	bool ok = subject_init(&subject, &trial, message);

	own.qemu = options->qemu && scene->table > 1;
	own.stride = limits->stride ? subject.nops * 3 / limits->stride + 1 : 1;
	ok = ok && judge_undisturbed(&subject, own.qemu, message) &&
	     explore_cuts(&subject, &trial, &own, tally, message) &&
	     fail_each(&subject, &own, tally, message) &&
	     refuse_copies(&subject, &own, tally, message) &&
	     fail_each_deed(&subject, tally, message) &&
	     cancel_each(&subject, &own, tally, message);
	if (!ok) {
		fprintf(stderr, "VIOLATION: %s\n  --seed %" PRIu64 " --job %s "
			"--scene %u: ", message, options->seed,
			scene->job->name, n);
		describe(stderr, scene, n);
		fputc('\n', stderr);
	}
	if (ok && options->controls && !found->syncs)
		found->syncs = find_lost_syncs(&subject, message);
	if (ok && options->controls && !found->writes)
		found->writes = find_lost_write(&subject, message);
	trial_free(&trial);
	subject_fini(&subject);
	return ok;
}

static bool controls_ok(const struct job *job, const struct controls *found)
{
	bool syncs = found->syncs || job->flags & JOB_NEEDS_NO_SYNC;

	if (!syncs)
		fprintf(stderr, "control: %s: that no sync is made is NOT "
				"FOUND\n", job->name);
	if (!found->writes)
		fprintf(stderr, "control: %s: that a write is not made is NOT "
				"FOUND\n", job->name);
	if (found->syncs)
		printf("control: %s: found that no sync is made\n", job->name);
	if (found->writes)
		printf("control: %s: found that a write is not made\n",
		       job->name);
	return syncs && found->writes;
}

static unsigned count_wanted(const struct options *options)
{
	unsigned count = 0;

	for (unsigned j = 0; jobs[j]; j++)
		for (unsigned n = 0; n < count_scenes(jobs[j]); n++)
			count += wanted(options, jobs[j], n);
	return count;
}

static bool test_job(const struct job *job, const struct options *options,
		     const struct limits *limits)
{
	struct controls found = { .syncs = false };
	struct tally tally = { .states = 0 };
	unsigned nscenes = 0;

	for (unsigned n = 0; n < count_scenes(job); n++) {
		struct scene scene;

		if (!wanted(options, job, n))
			continue;
		get_scene(job, n, &scene);
		nscenes++;
		if (!test_scene(&scene, n, options, limits, &tally, &found))
			return false;
	}
	printf("%s: %u scenes, %u states after a power cut (%u unclean), %u "
	       "failures, %u cancellations; %u run again, %u asked QEMU about: "
	       "no violation\n", job->name, nscenes, tally.states,
	       tally.unclean, tally.failures, tally.cancellations, tally.again,
	       tally.qemu);
	return !options->controls || controls_ok(job, &found);
}

/* --- the program ----------------------------------------------------------------------- */

static void set_defaults(struct options *options)
{
	options->scene = -1;
	options->qemu = options->controls = true;
	options->states = STATES_CI;
	options->failures = FAILURES_CI;
	if (is_env("QED_SOAK", "1")) {
		options->states = STATES_SOAK;
		options->failures = 0;
	} else if (is_env("QED_SANITIZER", "thread")) {
		options->states = STATES_TSAN;
		options->failures = FAILURES_TSAN;
		options->controls = false;
	} else if (is_env("QED_SANITIZER", "address")) {
		options->states = STATES_SANITIZED;
		options->failures = FAILURES_SANITIZED;
		options->controls = false;
	}
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "job", required_argument, NULL, 'j' },
		{ "scene", required_argument, NULL, 'n' },
		{ "no-qemu", no_argument, NULL, 'q' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's') {
			options->seed = strtoull(optarg, NULL, 10);
		} else if (c == 'j') {
			options->job = optarg;
		} else if (c == 'n') {
			options->scene = atoi(optarg);
			options->controls = false;
		} else if (c == 'q') {
			options->qemu = false;
		} else {
			fprintf(stderr, "usage: %s [--seed N] [--job NAME] "
					"[--scene N] [--no-qemu]\n", argv[0]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct options options = { .seed = (uint64_t)time(NULL) ^
					   (uint64_t)getpid() << 32 };
	struct limits limits;
	unsigned nscenes;
	bool missing;

	/* Disks are read again and again: keep the memory for that. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	set_defaults(&options);
	parse(&options, argc, argv);
	missing = options.qemu &&
		  system("qemu-img --version >/dev/null 2>&1") != 0;
	options.qemu = options.qemu && !missing;
	printf("seed %" PRIu64 "\n", options.seed);
	fflush(stdout);
	if (scratch_enter("jobs") < 0)
		die(scratch_dir());
	nscenes = count_wanted(&options);
	if (!nscenes)
		die("no such job or scene");
	limits = (struct limits){ .states = options.states / nscenes + 1,
				  .stride = options.failures / nscenes };
	for (unsigned j = 0; jobs[j]; j++)
		if ((!options.job || !strcmp(options.job, jobs[j]->name)) &&
		    !test_job(jobs[j], &options, &limits))
			return 1;
	if (missing)
		printf("skipped: qemu-img is not here to compare with\n");
	return missing ? EXIT_SKIP : 0;
}
