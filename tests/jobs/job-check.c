/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg check -r leaks and -r all. */
#include "config.h"

#include "job.h"
#include "mend.h"

#include <errno.h>
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

static const char *const undo_variants[] = { "shared", "tables", "bad", NULL };
static const char *const all_variants[] = { "shared", "tables", "bad", "cut",
					    "mixed", NULL };

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

static bool starts_flagged(const struct scene *scene)
{
	return scene->variant != 2;
}

static void prepare_all(const struct scene *scene)
{
	scene_make(scene);
	if (scene->variant == 0 || scene->variant == 4)
		damage_shared();
	if (scene->variant == 1 || scene->variant == 4)
		damage_tables();
	if (scene->variant == 2 || scene->variant == 4)
		damage_bad();
	if (scene->variant == 3) {
		/* The last cluster is cut short, with a reference to it. */
		scene_append(TOP, 1000);
		scene_poke(TOP, scene_entry(TOP, 2, 60 * KIB),
			   scene_size(TOP) - 1000);
	}
	if (scene->variant == 4)
		share(1, 0, 4 << 20);
	scene_append(TOP, scene->variant == 3 ? 0 : 3 * scene->cluster);
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

static const struct job check_all = {
	.name = "check-all",
	.variants = all_variants,
	.flags = JOB_STARTS_DAMAGED,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_all,
	.run = run_all,
	.midway = flag_is_true,
	.finished = no_leaks,
};

/* --- taking it back ------------------------------------------------------------------- */

static void prepare_undo(const struct scene *scene)
{
	const struct qed_check_options options = { .flags = QED_CHECK_ALL };
	struct qed_check_report report;

	prepare_all(scene);
	if (qed_image_check(TOP, &options, &report) < 0 || !report.undo_saved)
		die("the repair to undo");
}

/* Without its undo file it is over. */
static int run_undo(const struct scene *scene, const struct job_env *env)
{
	int ret = qed_image_check_undo_engine(TOP, &env->log, env->engine);

	(void)scene;
	return ret == -ENOENT ? 0 : ret;
}

static bool undo_file_gone(const struct scene *scene, char message[700])
{
	(void)scene;
	return access(TOP ".check-undo", F_OK) < 0 ||
	       wrong(message, "the undo file is still there");
}

static const struct job check_undo = {
	.name = "check-undo",
	.variants = undo_variants,
	.flags = JOB_STARTS_DAMAGED | JOB_ENDS_DAMAGED | JOB_NEEDS_NO_SYNC,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_undo,
	.run = run_undo,
	.finished = undo_file_gone,
};

const struct job *const jobs[] = { &check_leaks, &check_all, &check_undo,
				   NULL };
