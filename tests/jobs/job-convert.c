/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qedimg convert and dd: a new file is there as a whole or not at all; what is
 * written in place has, wherever it was cut short, the one disk or the other.  Data
 * is read and written, or the host clones or copies it; where it refuses to do so,
 * nobody can tell from the result.
 */
#include "config.h"

#include "convert.h"
#include "frame.h"

#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define NEW_QED "new.qed"
#define NEW_RAW "new.raw"
#define OLD_QED "old.qed"
#define OLD_RAW "old.raw"
#define FLAT    "flat.raw"

static const char *const from_top[] = { "free", "replace", "dd", "clone",
					"copy", NULL };
static const char *const no_part[] = { "free", "clone", "copy", NULL };

/* What dd copies: from inside a cluster, over a table's edge, to inside another. */
#define SKIP (34 * KIB + 512)
#define LEN  (2100 * KIB + 1024)

static const struct job to_raw, from_raw, overlay, in_place, in_place_raw;

static bool is(const struct scene *scene, const char *variant)
{
	const char *const *variants = scene->job->variants;

	return variants && !strcmp(variants[scene->variant], variant);
}

static const char *target(const struct scene *scene)
{
	return scene->job == &in_place ? OLD_QED :
	       scene->job == &in_place_raw ? OLD_RAW :
	       scene->job == &to_raw ? NEW_RAW : NEW_QED;
}

static const char *origin(const struct scene *scene)
{
	return scene->job == &from_raw ? FLAT : TOP;
}

static bool is_raw(const char *path)
{
	return strstr(path, ".raw");
}

static bool is_old(const struct scene *scene)
{
	return scene->job == &in_place || scene->job == &in_place_raw;
}

/* The disk of TOP as a raw file, with holes. */
static void flatten(void)
{
	struct disk disk = { .size = 0 };
	struct snapshot_file file = { .name = FLAT };
	char message[700];

	if (!disk_read(&disk, TOP, false, message))
		die(message);
	file.bytes = disk.bytes;
	file.size = disk.size;
	snapshot_put(&file);
	disk_free(&disk);
}

/* What is overwritten has data where the source has and where it has none. */
static void prepare(const struct scene *scene)
{
	const char *path = target(scene);

	scene_make(scene);
	if (scene->job == &from_raw)
		flatten();
	if (!is_old(scene) && !is(scene, "replace"))
		return;
	if (!is_raw(path))
		scene_image(scene, path, scene->disk_size + 700 * KIB, NULL);
	scene_write(path, 9, 30 * KIB, 90 * KIB);
	scene_write(path, 9, 1500 * KIB, 30 * KIB);
	scene_write(path, 9, scene->disk_size - 20 * KIB, 600 * KIB);
}

static unsigned flags_of(const struct scene *scene)
{
	unsigned flags = is_old(scene) ? QED_CONVERT_IN_PLACE : 0;

	if (is(scene, "clone"))
		return flags;
	return flags | (is(scene, "copy") ? QED_CONVERT_OFFLOAD :
					    QED_CONVERT_SCAN);
}

static int convert(const struct scene *scene, const struct job_env *env,
		   struct qed_image *source)
{
	struct qed_convert_options options;

	qed_convert_options_init(&options);
	options.sources = &source;
	options.nsources = 1;
	options.nworkers = 1;
	if (is(scene, "dd")) {
		options.skip = SKIP;
		options.len = LEN;
	}
	options.flags = flags_of(scene);
	options.log = env->log;
	options.job = env->job;
	if (!is_raw(target(scene)))
		options.format = "qed";
	if (!is_raw(target(scene)) && !is_old(scene)) {
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
	if (is_raw(origin(scene)))
		options.flags = QED_OPEN_RAW;
	if (qed_image_open(origin(scene), &options, &source) < 0)
		die(origin(scene));
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
	return is(scene, "dd") ?
		       holds_window(scene, message) :
		       made_same_disk(target(scene), origin(scene), message);
}

/* Only what is under the name once it has been given. */
static bool midway(const struct scene *scene, char message[700])
{
	const char *path = target(scene);

	if (!made_nothing_else(message))
		return false;
	if (is_old(scene) || is(scene, "replace"))
		return true;		/* judged by the frame */
	return access(path, F_OK) < 0 || is_copy(scene, message);
}

static bool finished(const struct scene *scene, char message[700])
{
	if (!made_nothing_else(message))
		return false;
	return is_old(scene) ?
		       holds_source(scene, message) :
		       is_copy(scene, message);
}

/* What is not cloned or copied is read and written. */
static bool copy_may_fail(const struct fake_record *record)
{
	return record->op == QED_OP_CLONE || record->op == QED_OP_COPY;
}

/* A host that cannot undo what it was tried with is not asked again. */
static bool probe_may_fail(const struct fake_record *record)
{
	return copy_may_fail(record) || record->op == QED_OP_PUNCH;
}

/*
 * A part of a table that could not be read ahead is read again when it is needed.
 * Space that cannot be given back is kept.
 */
static bool update_may_fail(const struct fake_record *record)
{
	return (record->op == QED_OP_READ && record->len == 4096) ||
	       record->op == QED_OP_PUNCH;
}

static const struct job to_qed = {
	.name = "convert-to-qed",
	.variants = from_top,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW_QED, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_QED,
	.midway = midway,
	.finished = finished,
	.may_fail = probe_may_fail,
};

static const struct job to_raw = {
	.name = "convert-to-raw",
	.variants = from_top,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW_RAW, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_RAW,
	.midway = midway,
	.finished = finished,
	.may_fail = copy_may_fail,
};

static const struct job from_raw = {
	.name = "convert-from-raw",
	.variants = no_part,
	.backings = 1u << BACKING_NONE,
	.disks = { { FLAT, JOB_UNCHANGED } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_QED,
	.midway = midway,
	.finished = finished,
	.may_fail = probe_may_fail,
};

static const struct job overlay = {
	.name = "convert-to-overlay",
	.variants = no_part,
	.backings = 1u << BACKING_RAW | 1u << BACKING_QED,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare,
	.run = run,
	.makes = NEW_QED,
	.midway = midway,
	.finished = finished,
	.may_fail = probe_may_fail,
};

static const struct job in_place = {
	.name = "convert-in-place",
	.disks = { { TOP, JOB_UNCHANGED }, { OLD_QED, JOB_EITHER } },
	.prepare = prepare,
	.run = run,
	.midway = midway,
	.finished = finished,
	.may_fail = update_may_fail,
};

/* Half of it has been copied without any sync, too. */
static const struct job in_place_raw = {
	.name = "convert-in-place-raw",
	.variants = no_part,
	.backings = 1u << BACKING_QED,
	.flags = JOB_NEEDS_NO_SYNC,
	.disks = { { TOP, JOB_UNCHANGED }, { OLD_RAW, JOB_EITHER } },
	.prepare = prepare,
	.run = run,
	.midway = midway,
	.finished = finished,
	.may_fail = copy_may_fail,
};

const struct job *const jobs[] = { &to_qed, &to_raw, &from_raw, &overlay,
				   &in_place, &in_place_raw, NULL };
