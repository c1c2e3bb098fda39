/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg commit, to a QED image and to a raw file, which are too short. */
#include "config.h"

#include "job.h"
#include "merge.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MID "mid.qed"

static const char *const variants_raw[] = { "empty", "keep", "deep", NULL };
/* "over": to an image that gets longer over what is below it all the time. */
static const char *const variants_qed[] = { "empty", "keep", "deep", "over", NULL };
static const char *const variants_delete[] = { "near", "deep", NULL };

static bool is_variant(const struct scene *scene, const char *name)
{
	return !strcmp(scene->job->variants[scene->variant], name);
}

/* What scene_make() has made goes down by one. */
static void add_top(const struct scene *scene)
{
	if (rename(TOP, MID) < 0)
		die(MID);
	scene_image(scene, TOP, scene->disk_size, MID);
	scene_write(TOP, 5, 2040 * KIB, 40 * KIB);
	scene_write(TOP, 5, 50 * KIB, 7 * KIB);
	scene_zero(TOP, 1000 * KIB, 8 * KIB);
}

/* The base, of which only the name changes, gets something longer below it. */
static void add_low(const struct scene *scene)
{
	const struct qed_rebase_options options = {
		.backing = "low.raw",
		.backing_format = "raw",
		.flags = QED_REBASE_UNSAFE,
	};

	scene_write("low.raw", 8, 0, scene->disk_size + 64 * KIB);
	if (qed_image_rebase(scene_base(scene), &options) < 0)
		die("rebase");
}

static void prepare(const struct scene *scene)
{
	scene_make(scene);
	if (is_variant(scene, "over"))
		add_low(scene);
	/* Over what the base has. */
	scene_zero(TOP, 200 * KIB, 24 * KIB);
	if (is_variant(scene, "deep"))
		add_top(scene);
}

static int commit(const struct scene *scene, const struct job_env *env,
		  enum qed_then then)
{
	const struct qed_commit_options options = {
		.base = is_variant(scene, "deep") ? scene_base(scene) : NULL,
		.then = then,
		.log = env->log,
		.job = env->job,
	};

	return qed_image_commit_engine(TOP, &options, env->engine);
}

static bool empties(const struct scene *scene)
{
	return is_variant(scene, "empty") || is_variant(scene, "over");
}

static int run(const struct scene *scene, const struct job_env *env)
{
	return commit(scene, env,
		      empties(scene) ? QED_THEN_EMPTY : QED_THEN_KEEP);
}

/* Is the image empty, if it is to be? */
static bool finished(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(TOP);
	bool empty = !walk->ntables && !walk->ndata && !walk->nleaked &&
		     walk->size == walk->l1_off + walk->table_bytes;

	walk_close(walk);
	if (empty == empties(scene))
		return true;
	return wrong(message, empty ? "the image was emptied" :
				      "the image is not empty");
}

/*
 * A part of a table that could not be read ahead is read again when it is needed;
 * without a hole punched a QED image only takes up more space.
 */
static bool may_fail_qed(const struct fake_record *record)
{
	return (record->op == QED_OP_READ && record->len == 4096) ||
	       record->op == QED_OP_PUNCH;
}

static bool may_fail_raw(const struct fake_record *record)
{
	return record->op == QED_OP_READ && record->len == 4096;
}

static const struct job commit_qed = {
	.name = "commit-qed",
	.variants = variants_qed,
	.backings = 1u << BACKING_QED,
	.disks = { { TOP, JOB_UNCHANGED }, { "base.qed", JOB_EITHER } },
	.prepare = prepare,
	.run = run,
	.finished = finished,
	.may_fail = may_fail_qed,
};

static const struct job commit_raw = {
	.name = "commit-raw",
	.variants = variants_raw,
	.backings = 1u << BACKING_RAW,
	.disks = { { TOP, JOB_UNCHANGED }, { "base.raw", JOB_EITHER } },
	.prepare = prepare,
	.run = run,
	.finished = finished,
	.may_fail = may_fail_raw,
};

/* --- removed ------------------------------------------------------------------------- */

/* If the image is gone the base has to be what it will be: that is judged. */
static int run_delete(const struct scene *scene, const struct job_env *env)
{
	if (access(TOP, F_OK) == 0)
		return commit(scene, env, QED_THEN_DELETE);
	qed_engine_destroy(env->engine);
	return 0;
}

static bool is_removed(const struct scene *scene, char message[700])
{
	(void)scene;
	return access(TOP, F_OK) < 0 ||
	       wrong(message, "the image was not removed");
}

static const struct job delete_raw = {
	.name = "delete-raw",
	.variants = variants_delete,
	.backings = 1u << BACKING_RAW,
	.disks = { { "base.raw", JOB_EITHER } },
	.prepare = prepare,
	.run = run_delete,
	.finished = is_removed,
	.may_fail = may_fail_raw,
};

static const struct job delete_qed = {
	.name = "delete-qed",
	.variants = variants_delete,
	.backings = 1u << BACKING_QED,
	.disks = { { "base.qed", JOB_EITHER } },
	.prepare = prepare,
	.run = run_delete,
	.finished = is_removed,
	.may_fail = may_fail_qed,
};

const struct job *const jobs[] = { &commit_qed, &commit_raw, &delete_raw,
				   &delete_qed, NULL };
