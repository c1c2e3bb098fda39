/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg check -r leaks and -r all. */
#include "config.h"

#include "job.h"
#include "mend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

static int check(const struct job_env *env, uint32_t flags)
{
	const struct qed_check_options options = { .flags = flags,
						   .log = env->log,
						   .job = env->job };
	struct qed_check_report report;
	int ret = qed_image_check_engine(TOP, &options, env->engine, &report);

	if (ret == 0 && report.check_errors)
		ret = -EIO;
	if (ret == 0 && report.corruptions)
		ret = -EUCLEAN;
	return ret;
}

/* --- leaks ------------------------------------------------------------------------- */

static void set_need_check(void)
{
	scene_poke(TOP, 16, scene_peek(TOP, 16) | QED_FEATURE_NEED_CHECK);
}

static void leak(uint64_t disk_off)
{
	scene_poke(TOP, scene_entry(TOP, 2, disk_off), 0);
}

static const char *const leaks_variants[] = { "tail", "inner", "both", NULL };

static void prepare_leaks(const struct scene *scene)
{
	scene_make(scene);
	if (scene->variant != 0) {
		leak(44 * KIB);
		leak(1000 * KIB);
		leak(1004 * KIB);
	}
	if (scene->variant != 1)
		scene_append(TOP, 5 * scene->cluster + 1000);
	set_need_check();
}

static int run_leaks(const struct scene *scene, const struct job_env *env)
{
	(void)scene;
	return check(env, QED_CHECK_LEAKS);
}

/* Nothing is left to mend. */
static bool no_leaks(const struct scene *scene, char message[700])
{
	const struct qed_check_options options = { .flags = QED_CHECK_LEAKS |
							    QED_CHECK_DRY_RUN };
	struct qed_check_report report;
	int ret = qed_image_check(TOP, &options, &report);

	(void)scene;
	if (ret < 0 || report.corruptions || report.need_check ||
	    report.leaks != report.empty_leaks)
		return wrong(message, "a check finds something still");
	return scene_size(TOP) == report.image_end_offset ||
	       wrong(message, "the file is too long");
}

static const struct job check_leaks = {
	.name = "check-leaks",
	.variants = leaks_variants,
	/* What is leaked is nobody's, whatever becomes of it. */
	.flags = JOB_NEEDS_NO_SYNC,
	.disks = { { TOP, JOB_UNCHANGED }, { "base.qed", JOB_UNCHANGED } },
	.prepare = prepare_leaks,
	.run = run_leaks,
	.finished = no_leaks,
};

/* --- everything ---------------------------------------------------------------------- */

static const char *const all_variants[] = { "shared", "tables", "bad", "cut",
					    "mixed", "past", NULL };

enum { SHARED, TABLES, BAD, CUT, MIXED, PAST };

/* Makes one entry name what another does. */
static void share(unsigned level, uint64_t from, uint64_t to)
{
	scene_poke(TOP, scene_entry(TOP, level, to),
		   scene_peek(TOP, scene_entry(TOP, level, from)));
}

static void damage_shared(void)
{
	share(2, 40 * KIB, 1004 * KIB);
	share(2, 2040 * KIB, 60 * KIB);
	share(2, 2060 * KIB, 64 * KIB);
}

static void damage_tables(void)
{
	uint64_t table = scene_peek(TOP, scene_entry(TOP, 1, 0));

	scene_poke(TOP, scene_entry(TOP, 2, 48 * KIB), table);
	scene_poke(TOP, scene_entry(TOP, 2, 1000 * KIB), 4096);
	scene_poke(TOP, scene_entry(TOP, 2, 2050 * KIB), table);
}

static void damage_bad(void)
{
	uint64_t end = scene_size(TOP) / 4096 * 4096;

	scene_poke(TOP, scene_entry(TOP, 2, 44 * KIB), end);
	scene_poke(TOP, scene_entry(TOP, 2, 48 * KIB), end + 8192);
	scene_poke(TOP, scene_entry(TOP, 2, 52 * KIB), 4096 + 512);
	scene_poke(TOP, scene_entry(TOP, 2, 2050 * KIB), UINT64_MAX - 4095);
}

/* Where the copies go that are made of what shares these tables. */
static const uint64_t past[] = { 44 * KIB, 52 * KIB, 56 * KIB, 68 * KIB,
				 72 * KIB, 76 * KIB, 2056 * KIB };

#define NPAST (sizeof(past) / sizeof(*past))

/* An L1 entry that nothing of the disk needs. */
static uint64_t spare_l1_entry(void)
{
	return scene_entry(TOP, 1, 0) + 9 * sizeof(uint64_t);
}

static void damage_past(void)
{
	uint64_t end = scene_size(TOP);

	for (unsigned i = 0; i < NPAST; i++)
		scene_poke(TOP, scene_entry(TOP, 2, past[i]), end + 4096 * i);
	scene_poke(TOP, spare_l1_entry(), end + 4096);
	share(1, 0, 4 << 20);
}

/* Nothing was there when these entries were written, whatever is there now. */
static bool past_dropped(const struct scene *scene, char message[700])
{
	if (scene->variant != PAST)
		return true;
	if (scene_peek(TOP, spare_l1_entry()))
		return wrong(message, "an L1 entry past the end is kept");
	for (unsigned i = 0; i < NPAST; i++)
		if (scene_peek(TOP, scene_entry(TOP, 2, past[i])) ||
		    scene_peek(TOP, scene_entry(TOP, 2, (4 << 20) + past[0])))
			return wrong(message, "disk offset %llu is somebody's "
				     "copy", (unsigned long long)past[i]);
	return true;
}

static bool starts_flagged(const struct scene *scene)
{
	return scene->variant != BAD;
}

static void prepare_all(const struct scene *scene)
{
	unsigned variant = scene->variant;

	scene_make(scene);
	if (variant == SHARED || variant == MIXED || variant == PAST)
		damage_shared();
	if (variant == TABLES || variant == MIXED || variant == PAST)
		damage_tables();
	if (variant == BAD || variant == MIXED)
		damage_bad();
	if (variant == CUT) {
		/* The last cluster is cut short, with a reference to it. */
		scene_append(TOP, 1000);
		scene_poke(TOP, scene_entry(TOP, 2, 60 * KIB),
			   scene_size(TOP) - 1000);
	}
	if (variant == MIXED)
		share(1, 0, 4 << 20);
	if (variant == PAST)
		damage_past();
	else if (variant != CUT)
		scene_append(TOP, 3 * scene->cluster);
	if (starts_flagged(scene))
		set_need_check();
}

static int run_all(const struct scene *scene, const struct job_env *env)
{
	(void)scene;
	return check(env, QED_CHECK_ALL);
}

/*
 * The frame lets tables be wrong, since they start so; but where the flag said it, it
 * goes only when they are right.
 */
static bool flag_is_true(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(TOP);
	bool ok = !starts_flagged(scene) || !walk->errors ||
		  walk->features & WALK_NEED_CHECK;

	if (!ok)
		wrong(message, "NEED_CHECK is gone, but %s", walk->message);
	walk_close(walk);
	return ok;
}

static bool all_mended(const struct scene *scene, char message[700])
{
	return no_leaks(scene, message) && past_dropped(scene, message);
}

static const struct job check_all = {
	.name = "check-all",
	.variants = all_variants,
	.flags = JOB_STARTS_DAMAGED,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_all,
	.run = run_all,
	.midway = flag_is_true,
	.finished = all_mended,
};

/* --- taking it back ------------------------------------------------------------------- */

/* Where a copy is, an older entry "past" the end names it, until the end is cut off. */
static const char *const undo_variants[] = { "shared", "tables", "bad", "cut",
					     "mixed", NULL };

#define UNDO   TOP ".check-undo"
#define BEFORE "before"			/* the image before the repair */

static bool has_undo_file(void)
{
	return access(UNDO, F_OK) == 0;
}

static void prepare_regret(const struct scene *scene)
{
	prepare_all(scene);
	if (system("cp --sparse=always " TOP " " BEFORE) != 0)
		die(BEFORE);
}

static void prepare_undo(const struct scene *scene)
{
	const struct qed_check_options options = { .flags = QED_CHECK_ALL };
	struct qed_check_report report;

	prepare_regret(scene);
	if (qed_image_check(TOP, &options, &report) < 0 || !report.undo_saved)
		die("the repair to undo");
}

/* Is it as before, but for clusters that nothing named?  What, if not? */
static const char *differs(const struct walk *now, const struct walk *before)
{
	if (now->size != before->size)
		return "the length";
	for (uint64_t at = 0; at < now->size; at += now->cluster)
		if (walk_is_metadata(before, at) &&
		    memcmp(now->file + at, before->file + at,
			   qed_min(now->cluster, now->size - at)))
			return at < before->l1_off ? "the header" : "a table";
	return NULL;
}

static bool undone(const struct scene *scene, char message[700])
{
	struct walk *now, *before;
	const char *what;

	(void)scene;
	if (has_undo_file())
		return wrong(message, "the undo file is still there");
	now = walk_open(TOP);
	before = walk_open(BEFORE);
	what = differs(now, before);
	if (what)
		wrong(message, "%s is not what it was", what);
	walk_close(now);
	walk_close(before);
	return !what;
}

/* Until it is as it was it needs a check, and says so. */
static bool damage_is_flagged(const struct scene *scene, char message[700])
{
	struct walk *now = walk_open(TOP), *before = walk_open(BEFORE);
	bool ok = !now->errors || now->features & WALK_NEED_CHECK ||
		  !differs(now, before);

	(void)scene;
	if (!ok)
		wrong(message, "half undone, it does not need a check: %s",
		      now->message);
	walk_close(now);
	walk_close(before);
	return ok;
}

/* Without its undo file it is over. */
static int run_undo(const struct scene *scene, const struct job_env *env)
{
	int ret = qed_image_check_undo_engine(TOP, &env->log, env->engine);

	(void)scene;
	return ret == -ENOENT ? 0 : ret;
}

static const struct job check_undo = {
	.name = "check-undo",
	.variants = undo_variants,
	.flags = JOB_STARTS_DAMAGED | JOB_ENDS_DAMAGED,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_undo,
	.run = run_undo,
	.midway = damage_is_flagged,
	.finished = undone,
};

/* A repair that is taken back by the next run, however far it has got. */
static int run_regret(const struct scene *scene, const struct job_env *env)
{
	return has_undo_file() ? run_undo(scene, env) : run_all(scene, env);
}

static bool regretted(const struct scene *scene, char message[700])
{
	return has_undo_file() ? all_mended(scene, message) :
				 undone(scene, message);
}

static const struct job check_regret = {
	.name = "check-regret",
	.variants = all_variants,
	.flags = JOB_STARTS_DAMAGED | JOB_ENDS_DAMAGED,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_regret,
	.run = run_regret,
	.finished = regretted,
};

const struct job *const jobs[] = { &check_leaks, &check_all, &check_undo,
				   &check_regret, NULL };
