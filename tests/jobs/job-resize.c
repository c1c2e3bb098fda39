/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg resize: larger, with and without --preallocation, and smaller. */
#include "config.h"

#include "job.h"
#include "resize.h"

#define KIB UINT64_C(1024)

static int resize(const struct job_env *env, uint64_t size, uint32_t flags,
		  enum qed_preallocation preallocation)
{
	const struct qed_resize_options options = {
		.size = size,
		.flags = flags,
		.preallocation = preallocation,
		.log = env->log,
		.job = env->job,
	};

	return qed_image_resize_engine(TOP, &options, env->engine);
}

static bool size_is(uint64_t size, char message[700])
{
	return scene_peek(TOP, 48) == size || wrong(message, "another size");
}

/* Nothing is left to give back. */
static bool nothing_leaked(char message[700])
{
	const struct qed_check_options options = { .flags = QED_CHECK_LEAKS |
							    QED_CHECK_DRY_RUN };
	struct qed_check_report report;

	if (qed_image_check(TOP, &options, &report) < 0 ||
	    report.corruptions || report.leaks != report.empty_leaks)
		return wrong(message, "a check finds something");
	return scene_size(TOP) == report.image_end_offset ||
	       wrong(message, "the file is too long");
}

/* --- smaller -------------------------------------------------------------------------- */

/* Into a cluster of data, at a table's edge, into the first cluster. */
static const char *const shrink_variants[] = { "data", "table", "first", NULL };

static uint64_t shrunk(const struct scene *scene)
{
	static const uint64_t sizes[] = { 2050 * KIB + 512, 2048 * KIB, 3 * 512 };

	return sizes[scene->variant];
}

/* With leaks from before, as an interrupted run would leave. */
static void prepare_shrink(const struct scene *scene)
{
	scene_make(scene);
	scene_poke(TOP, scene_entry(TOP, 2, 44 * KIB), 0);
	if (scene->variant)
		scene_poke(TOP, 16, scene_peek(TOP, 16) |
					    QED_FEATURE_NEED_CHECK);
	if (scene->variant == 1)
		scene_poke(TOP, 32, 1 << 20);	/* an unknown autoclear bit */
}

static int run_shrink(const struct scene *scene, const struct job_env *env)
{
	return resize(env, shrunk(scene), QED_RESIZE_SHRINK,
		      QED_PREALLOCATION_OFF);
}

static bool shrink_finished(const struct scene *scene, char message[700])
{
	return size_is(shrunk(scene), message) && nothing_leaked(message);
}

static const struct job shrink = {
	.name = "shrink",
	.variants = shrink_variants,
	/* What is on its way out may show what lies below. */
	.backings = 1u << BACKING_NONE,
	.disks = { { TOP, JOB_EITHER } },
	.prepare = prepare_shrink,
	.run = run_shrink,
	.finished = shrink_finished,
};

/* Behind the backing file's end. */
static uint64_t cut_off(const struct scene *scene)
{
	return scene->disk_size - 28 * KIB - 512;
}

static int run_cut(const struct scene *scene, const struct job_env *env)
{
	return resize(env, cut_off(scene), QED_RESIZE_SHRINK,
		      QED_PREALLOCATION_OFF);
}

static bool cut_finished(const struct scene *scene, char message[700])
{
	return size_is(cut_off(scene), message) && nothing_leaked(message);
}

static const struct job shrink_end = {
	.name = "shrink-end",
	.disks = { { TOP, JOB_EITHER }, { "base.qed", JOB_UNCHANGED } },
	.prepare = scene_make,
	.run = run_cut,
	.finished = cut_finished,
};

/* --- larger --------------------------------------------------------------------------- */

/*
 * Over what a longer backing file has; over that and what the tables still have from
 * a longer disk; the same with preallocation.
 */
static const char *const grow_variants[] = { "over", "stale", "metadata",
					     "falloc", "full", NULL };

static uint64_t grown(const struct scene *scene)
{
	return scene->disk_size + 100 * KIB;
}

static void prepare_grow(const struct scene *scene)
{
	const struct qed_resize_options options = {
		.size = 2050 * KIB + 512,
		.flags = QED_RESIZE_SHRINK,
	};

	scene_make(scene);
	if (scene->variant == 1)
		scene_poke(TOP, 48, options.size);
	else if (qed_image_resize(TOP, &options) < 0)
		die(TOP);
}

static int run_grow(const struct scene *scene, const struct job_env *env)
{
	unsigned how = scene->variant < 2 ? 0 : scene->variant - 1;

	return resize(env, grown(scene), 0, (enum qed_preallocation)how);
}

static bool grow_finished(const struct scene *scene, char message[700])
{
	return size_is(grown(scene), message);
}

/*
 * Freed clusters whose space cannot be given back stay leaked.  A table that could not be
 * read when looking for where an extent ends is read again when that is looked at.
 */
static bool grow_may_fail(const struct fake_record *record)
{
	return record->op == QED_OP_PUNCH || record->op == QED_OP_READ;
}

static const struct job grow = {
	.name = "grow",
	.variants = grow_variants,
	.disks = { { TOP, JOB_WHOLE }, { "base.qed", JOB_UNCHANGED } },
	.prepare = prepare_grow,
	.run = run_grow,
	.finished = grow_finished,
	.may_fail = grow_may_fail,
};

const struct job *const jobs[] = { &shrink, &shrink_end, &grow, NULL };
