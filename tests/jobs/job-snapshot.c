/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg snapshot: there is no overlay or all of it, and never a frozen image alone. */
#include "config.h"

#include "frame.h"
#include "snapshot.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define NEW "new.qed"
#define NAME_OFFSET 64			/* behind the header */

static const char *const variants[] = { "free", "replace", "keep-mode", NULL };

enum { FREE, REPLACE, KEEP_MODE };

/* What is replaced is another image, without a backing file. */
static void prepare(const struct scene *scene)
{
	scene_make(scene);
	if (scene->variant != REPLACE)
		return;
	scene_image(scene, NEW, 600 * KIB, NULL);
	scene_write(NEW, 9, 100 * KIB, 30 * KIB);
}

/* What is there already is replaced when the job is run again. */
static int run(const struct scene *scene, const struct job_env *env)
{
	uint32_t flags = access(NEW, F_OK) == 0 ? QED_SNAPSHOT_REPLACE : 0;

	if (scene->variant == KEEP_MODE)
		flags |= QED_SNAPSHOT_KEEP_MODE;
	return qed_image_snapshot_engine(TOP, NEW, flags, &env->log,
					 env->engine);
}

/* Nothing in it, and the image behind it. */
static bool is_overlay(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(NEW);
	bool ok = !walk->errors && !walk->ntables &&
		  walk->features == QED_FEATURE_BACKING_FILE &&
		  walk->cluster == scene->cluster &&
		  walk->size == walk->l1_off + walk->table_bytes &&
		  !memcmp(walk->file + NAME_OFFSET, TOP, strlen(TOP));

	walk_close(walk);
	return ok ? made_same_disk(NEW, TOP, message) :
		    wrong(message, NEW " is not an empty overlay");
}

static bool is_frozen(void)
{
	struct stat st;

	if (stat(TOP, &st) < 0)
		die(TOP);
	return !(st.st_mode & 0222);
}

/* What was there is still there: disk by disk that is judged by the frame. */
static bool is_old(const struct scene *scene)
{
	return scene->variant == REPLACE ? made_has_data(NEW) :
					   access(NEW, F_OK) < 0;
}

static bool midway(const struct scene *scene, char message[700])
{
	if (!made_nothing_else(message))
		return false;
	if (!is_old(scene))
		return is_overlay(scene, message);
	return !is_frozen() ||
	       wrong(message, "the image is frozen, without an overlay");
}

static bool finished(const struct scene *scene, char message[700])
{
	if (is_frozen() != (scene->variant != KEEP_MODE))
		return wrong(message, "the permissions are wrong");
	return made_nothing_else(message) && is_overlay(scene, message);
}

static const struct job snapshot = {
	.name = "snapshot",
	.variants = variants,
	.disks = { { TOP, JOB_UNCHANGED }, { NEW, JOB_WHOLE } },
	.prepare = prepare,
	.run = run,
	.makes = NEW,
	.midway = midway,
	.finished = finished,
};

const struct job *const jobs[] = { &snapshot, NULL };
