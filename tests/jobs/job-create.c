/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg create: there is all of the new image, or what was there before. */
#include "config.h"

#include "create.h"
#include "frame.h"

#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define NEW "new.qed"

static const char *const variants[] = { "free", "replace", NULL };
static const char *const preallocations[] = { "metadata", "falloc", "full",
					      NULL };

enum { FREE, REPLACE };

static bool preallocates(const struct scene *scene)
{
	return scene->job->variants == preallocations;
}

/* What is replaced has data, which no new image has before its end. */
static void prepare(const struct scene *scene)
{
	scene_make(scene);
	if (preallocates(scene) || scene->variant != REPLACE)
		return;
	scene_image(scene, NEW, 600 * KIB, NULL);
	scene_write(NEW, 9, 100 * KIB, 30 * KIB);
}

static int run(const struct scene *scene, const struct job_env *env)
{
	static const enum qed_preallocation kinds[] = {
		QED_PREALLOCATION_METADATA,
		QED_PREALLOCATION_FALLOC,
		QED_PREALLOCATION_FULL,
	};
	struct qed_create_options options = {
		.virtual_size = scene->disk_size,
		.cluster_size = scene->cluster,
		.table_size = scene->table,
		.backing = scene_base(scene),
		.log = env->log,
		.job = env->job,
	};

	if (options.backing)
		options.backing_format =
			scene->backing == BACKING_RAW ? "raw" : "qed";
	if (preallocates(scene))
		options.preallocation = kinds[scene->variant];
	return qed_image_create_engine(NEW, &options, env->engine);
}

/* How much of the disk has a place, of an image that is right. */
static bool is_complete(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(NEW);
	uint64_t clusters = qed_round_up(scene->disk_size, scene->cluster) /
			    scene->cluster;
	bool right = !walk->errors && walk->cluster == scene->cluster &&
		     walk->ndata == (preallocates(scene) ? clusters : 0);

	walk_close(walk);
	return right || wrong(message, NEW " is not what was asked for");
}

static bool is_old(const struct scene *scene)
{
	bool none = preallocates(scene) || scene->variant != REPLACE;

	return access(NEW, F_OK) < 0 ? none : !none && made_has_data(NEW);
}

static bool midway(const struct scene *scene, char message[700])
{
	return made_nothing_else(message) &&
	       (is_old(scene) || is_complete(scene, message));
}

static bool finished(const struct scene *scene, char message[700])
{
	struct disk disk = { .size = 0 };
	bool ok = made_nothing_else(message) && is_complete(scene, message) &&
		  disk_read(&disk, NEW, false, message) &&
		  (disk.size == scene->disk_size ||
		   wrong(message, NEW " has another size"));

	disk_free(&disk);
	return ok;
}

static const struct job create = {
	.name = "create",
	.variants = variants,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW,
	.midway = midway,
	.finished = finished,
};

static const struct job preallocate = {
	.name = "preallocate",
	.variants = preallocations,
	.backings = 1u << BACKING_NONE,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare,
	.run = run,
	.makes = NEW,
	.midway = midway,
	.finished = finished,
};

const struct job *const jobs[] = { &create, &preallocate, NULL };
