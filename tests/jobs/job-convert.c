/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qedimg convert and dd: a new file is there as a whole or not at all; what is
 * written in place has, wherever it was cut short, the one disk or the other.
 */
#include "config.h"

#include "convert.h"
#include "frame.h"

#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define NEW_QED "new.qed"
#define NEW_RAW "new.raw"
#define OLD     "old.qed"

static const char *const variants[] = { "free", "replace", "dd", NULL };
static const char *const overlays[] = { "free", NULL };

enum { FREE, REPLACE, DD };

/* What dd copies: from inside a cluster, over a table's edge, to inside another. */
#define SKIP (34 * KIB + 512)
#define LEN  (2100 * KIB + 1024)

static const struct job in_place, overlay, to_raw;

static const char *target(const struct scene *scene)
{
	return scene->job == &in_place ? OLD :
	       scene->job == &to_raw ? NEW_RAW : NEW_QED;
}

/* What is overwritten has data where the source has and where it has none. */
static void prepare(const struct scene *scene)
{
	const char *path = target(scene);

	scene_make(scene);
	if (scene->job != &in_place && scene->variant != REPLACE)
		return;
	if (scene->job != &to_raw)
		scene_image(scene, path, scene->disk_size + 700 * KIB, NULL);
	scene_write(path, 9, 30 * KIB, 90 * KIB);
	scene_write(path, 9, 1500 * KIB, 30 * KIB);
	scene_write(path, 9, scene->disk_size - 20 * KIB, 600 * KIB);
}

static int convert(const struct scene *scene, const struct job_env *env,
		   struct qed_image *source)
{
	struct qed_convert_options options;

	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.nworkers = 1;
	if (scene->variant == DD) {
		options.skip = SKIP;
		options.len = LEN;
	}
	/* Written, not shared by the host. */
	options.flags = QED_CONVERT_SCAN;
	options.log = env->log;
	options.job = env->job;
	if (scene->job != &to_raw)
		options.format = "qed";
	if (scene->job == &in_place) {
		options.flags |= QED_CONVERT_IN_PLACE;
	} else if (scene->job != &to_raw) {
		options.image.cluster_size = scene->cluster;
		options.image.table_size = scene->table;
	}
	if (scene->job == &overlay) {
		options.image.backing = scene_base(scene);
		options.image.backing_format =
			scene->backing == BACKING_RAW ? "raw" : "qed";
	}
	return qed_image_convert_engine(target(scene), &options, env->engine);
}

/* The source is only read, and not by the engine under test. */
static int run(const struct scene *scene, const struct job_env *env)
{
	struct qed_open_options options;
	struct qed_image *source;
	int ret;

	qed_open_options_init(&options);
	if (qed_image_open(TOP, &options, &source) < 0)
		die(TOP);
	ret = convert(scene, env, source);
	qed_image_close(source);
	return ret;
}

/* The same bytes up to the size of the source; an old target is longer. */
static bool holds_source(const struct scene *scene, char message[700])
{
	struct disk from = { .size = 0 }, to = { .size = 0 };
	bool ok = disk_read(&from, TOP, false, message) &&
		  disk_read(&to, target(scene), false, message);

	if (ok && (to.size < from.size ||
		   memcmp(to.bytes, from.bytes, from.size)))
		ok = wrong(message, "it is not a copy of the source's disk");
	disk_free(&from);
	disk_free(&to);
	return ok;
}

static bool holds_window(const struct scene *scene, char message[700])
{
	struct disk from = { .size = 0 }, to = { .size = 0 };
	bool ok = disk_read(&from, TOP, false, message) &&
		  disk_read(&to, target(scene), false, message);

	if (ok && (to.size != LEN || memcmp(to.bytes, from.bytes + SKIP, LEN)))
		ok = wrong(message, "it is not that part of the source's disk");
	disk_free(&from);
	disk_free(&to);
	return ok;
}

static bool is_copy(const struct scene *scene, char message[700])
{
	return scene->variant == DD ?
		       holds_window(scene, message) :
		       made_same_disk(target(scene), TOP, message);
}

/* Only what is under the name once it has been given. */
static bool midway(const struct scene *scene, char message[700])
{
	const char *path = target(scene);

	if (!made_nothing_else(message))
		return false;
	if (scene->job == &in_place || scene->variant == REPLACE)
		return true;		/* judged by the frame */
	return access(path, F_OK) < 0 || is_copy(scene, message);
}

static bool finished(const struct scene *scene, char message[700])
{
	if (!made_nothing_else(message))
		return false;
	return scene->job == &in_place ?
		       holds_source(scene, message) :
		       is_copy(scene, message);
}

/*
 * A part of a table that could not be read ahead is read again when it is needed.
 * Space that cannot be given back is kept.
 */
static bool may_fail(const struct fake_record *record)
{
	return (record->op == QED_OP_READ && record->len == 4096) ||
	       record->op == QED_OP_PUNCH;
}

static const struct job to_qed = {
	.name = "convert-to-qed",
	.variants = variants,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW_QED, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_QED,
	.midway = midway,
	.finished = finished,
};

static const struct job to_raw = {
	.name = "convert-to-raw",
	.variants = variants,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW_RAW, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_RAW,
	.midway = midway,
	.finished = finished,
};

static const struct job overlay = {
	.name = "convert-to-overlay",
	.variants = overlays,
	.backings = 1u << BACKING_RAW | 1u << BACKING_QED,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_QED,
	.midway = midway,
	.finished = finished,
};

static const struct job in_place = {
	.name = "convert-in-place",
	.disks = { { TOP, JOB_UNCHANGED }, { OLD, JOB_EITHER } },
	.prepare = prepare,
	.run = run,
	.midway = midway,
	.finished = finished,
	.may_fail = may_fail,
};

const struct job *const jobs[] = { &to_qed, &to_raw, &overlay, &in_place,
				   NULL };
