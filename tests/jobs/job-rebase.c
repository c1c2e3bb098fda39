/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg rebase, safe and -u. */
#include "config.h"

#include "job.h"
#include "rebase.h"

#include <stdio.h>
#include <string.h>

#define KIB UINT64_C(1024)

static const char *const variants[] = { "raw", "qed", "none", "unsafe",
					"missing", NULL };

enum { TO_RAW, TO_QED, TO_NONE, UNSAFE, MISSING };

static bool is_unsafe(const struct scene *scene)
{
	return scene->variant == UNSAFE || scene->variant == MISSING;
}

static const char *new_base(const struct scene *scene)
{
	static const char *const names[] = { "other.raw", "other.qed", NULL,
					     "other.qed", "other.qed" };

	return names[scene->variant];
}

/* Where the old base has something, and where it has nothing. */
static void write_differences(const struct scene *scene, const char *path)
{
	scene_write(path, 1, 0, 200 * KIB);
	scene_write(path, 7, 210 * KIB, 50 * KIB);
	scene_write(path, 7, 1000 * KIB + 512, 60 * KIB);
	scene_write(path, 7, 2100 * KIB, 20 * KIB);
	scene_write(path, 7, scene->disk_size - 300 * KIB, 120 * KIB);
}

/* What scene_make() has put into the old base. */
static void write_same(const struct scene *scene, const char *path)
{
	uint64_t size = scene->disk_size - 200 * KIB;

	if (scene->backing == BACKING_NONE)
		return;
	scene_write(path, 1, 0, 300 * KIB);
	scene_write(path, 1, 2000 * KIB, 200 * KIB);
	scene_write(path, 1, size - 50 * KIB, 50 * KIB);
}

static void prepare(const struct scene *scene)
{
	const char *path = new_base(scene);

	scene_make(scene);
	if (path && !strstr(path, ".raw"))
		scene_image(scene, path, scene->disk_size - 100 * KIB, NULL);
	if (is_unsafe(scene))
		write_same(scene, path);
	else if (path)
		write_differences(scene, path);
}

static void move(const char *from, const char *to)
{
	if (rename(from, to) < 0)
		die(from);
}

static int rebase_to(const struct scene *scene, const struct job_env *env,
		     uint32_t flags)
{
	const char *path = new_base(scene);
	struct qed_rebase_options options = {
		.backing = path,
		.flags = flags,
		.log = env->log,
		.job = env->job,
	};

	if (path)
		options.backing_format = strstr(path, ".raw") ? "raw" : "qed";
	return qed_image_rebase_engine(TOP, &options, env->engine);
}

static int run(const struct scene *scene, const struct job_env *env)
{
	const char *path = new_base(scene);
	int ret;

	if (scene->variant != MISSING)
		return rebase_to(scene, env,
				 is_unsafe(scene) ? QED_REBASE_UNSAFE : 0);
	/* It is there again for what judges the result. */
	move(path, "away");
	ret = rebase_to(scene, env, QED_REBASE_UNSAFE | QED_REBASE_MISSING);
	move("away", path);
	return ret;
}

/* Does the header name the new file, and say what it is? */
static bool finished(const struct scene *scene, char message[700])
{
	const char *path = new_base(scene);
	struct qed_open_options options;
	struct qed_image_info info;
	struct qed_image *image;
	bool raw = path && strstr(path, ".raw"), ok;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_NO_BACKING;
	if (qed_image_open(TOP, &options, &image) < 0)
		return wrong(message, "the image cannot be opened");
	qed_image_get_info(image, &info);
	ok = !path == !info.backing_filename &&
	     (!path || !strcmp(path, info.backing_filename)) &&
	     info.features == ((path ? QED_FEATURE_BACKING_FILE : 0) |
			       (raw ? QED_FEATURE_BACKING_FORMAT_NO_PROBE : 0));
	qed_image_close(image);
	return ok || wrong(message, "the header has not the new backing file");
}

/* A part of a table that could not be read ahead is read again when it is needed. */
static bool may_fail(const struct fake_record *record)
{
	return record->op == QED_OP_READ && record->len == 4096;
}

static const struct job rebase = {
	.name = "rebase",
	.variants = variants,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare,
	.run = run,
	.finished = finished,
	.may_fail = may_fail,
};

const struct job *const jobs[] = { &rebase, NULL };
