/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg compact: packing, with and without room for tables, order, zeroes. */
#include "config.h"

#include "compact.h"
#include "job.h"

#define KIB   UINT64_C(1024)
#define BATCH (UINT64_C(6) * 4096)	/* small: many steps */

static void leak(uint64_t disk_off)
{
	scene_poke(TOP, scene_entry(TOP, 2, disk_off), 0);
}

/* Free clusters in many places, some of them several together. */
static void make_holes(void)
{
	for (uint64_t off = 2030 * KIB; off < 2050 * KIB; off += 4 * KIB)
		leak(off);
	leak(4 * KIB);
	leak(1004 * KIB);
}

/* Each by itself, so that no table of two clusters has room. */
static void make_narrow_holes(void)
{
	for (uint64_t off = 2056 * KIB; off < 2088 * KIB; off += 8 * KIB)
		leak(off);
	for (uint64_t off = 40 * KIB; off < 72 * KIB; off += 8 * KIB)
		leak(off);
}

static void fill_with_zeroes(uint64_t disk_off)
{
	uint64_t data = scene_peek(TOP, scene_entry(TOP, 2, disk_off));

	for (uint64_t at = 0; at < 4096; at += 8)
		scene_poke(TOP, data + at, 0);
}

static void empty_last_table(const struct scene *scene)
{
	uint64_t entry = scene_entry(TOP, 2, scene->disk_size - 1);

	/* The entries of the disk's last 40 KiB. */
	for (int i = 0; i < 10; i++, entry -= 8)
		scene_poke(TOP, entry, 0);
}

/* Tables that cannot be read together are read again one by one. */
static bool may_fail(const struct fake_record *record)
{
	struct walk *walk;
	bool tables;

	if (record->op != QED_OP_READ)
		return false;
	walk = walk_open(TOP);
	tables = record->len > walk->table_bytes &&
		 walk_is_metadata(walk, record->file_off);
	walk_close(walk);
	return tables;
}

/* --- packing ----------------------------------------------------------------------- */

static const char *const pack_variants[] = { "wide", "narrow", "moved-l1",
					     NULL };

/* The L1 table goes to the end of the file, its place becomes a hole. */
static void move_l1(const struct scene *scene)
{
	uint64_t size = scene_size(TOP) / 4096 * 4096;
	uint64_t from = scene_peek(TOP, 40);

	scene_append(TOP, size + scene->table * 4096 - scene_size(TOP));
	for (uint64_t at = 0; at < scene->table * 4096; at += 8)
		scene_poke(TOP, size + at, scene_peek(TOP, from + at));
	scene_poke(TOP, 40, size);
}

static void prepare_pack(const struct scene *scene)
{
	scene_make(scene);
	if (scene->variant == 0)
		make_holes();
	else
		make_narrow_holes();
	if (scene->variant == 2)
		move_l1(scene);
	scene_append(TOP, scene->variant ? 1000 : 3 * 4096 + 1000);
}

static int run(const struct job_env *env, uint32_t flags)
{
	const struct qed_compact_options options = { .flags = flags,
						     .batch = BATCH,
						     .log = env->log,
						     .job = env->job };
	struct qed_compact_report report;

	return qed_image_compact_engine(TOP, &options, env->engine, &report);
}

static int run_pack(const struct scene *scene, const struct job_env *env)
{
	(void)scene;
	return run(env, 0);
}

/* Nothing is free, unless the L1 table lies behind it. */
static bool is_packed(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(TOP);
	bool at_end = walk->l1_off + walk->table_bytes == walk->size;
	bool ok = true;

	(void)scene;
	if (walk->errors)
		ok = wrong(message, "%s", walk->message);
	else if (walk->size % walk->cluster || (walk->nleaked && !at_end))
		ok = wrong(message, "it is not packed");
	walk_close(walk);
	return ok;
}

static const struct job compact_pack = {
	.name = "compact",
	.variants = pack_variants,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare_pack,
	.run = run_pack,
	.finished = is_packed,
	.may_fail = may_fail,
};

/* --- order ----------------------------------------------------------------------------- */

static int run_defrag(const struct scene *scene, const struct job_env *env)
{
	(void)scene;
	return run(env, QED_COMPACT_DEFRAG);
}

static bool is_in_order(const struct scene *scene, char message[700])
{
	const struct qed_check_options options = { .flags = 0 };
	struct qed_check_report report;

	if (!is_packed(scene, message))
		return false;
	if (qed_image_check(TOP, &options, &report) < 0)
		return wrong(message, "a check fails");
	/* One where the L1 table is. */
	return report.fragmented_clusters <= (scene->variant == 2) ||
	       wrong(message, "clusters are not in order");
}

static const struct job compact_defrag = {
	.name = "compact-defrag",
	.variants = pack_variants,
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare_pack,
	.run = run_defrag,
	.finished = is_in_order,
	.may_fail = may_fail,
};

/* --- zeroes ------------------------------------------------------------------------------ */

static void prepare_zeroes(const struct scene *scene)
{
	scene_make(scene);
	fill_with_zeroes(2030 * KIB);
	fill_with_zeroes(2072 * KIB);
	fill_with_zeroes(48 * KIB);
	fill_with_zeroes(1000 * KIB);
	empty_last_table(scene);
}

static int run_zeroes(const struct scene *scene, const struct job_env *env)
{
	(void)scene;
	return run(env, QED_COMPACT_ZEROES);
}

static bool has_no_zeroes(const struct scene *scene, char message[700])
{
	struct walk *walk = walk_open(TOP);
	bool ok = true;

	for (uint64_t at = 0; at < walk->disk_size; at += walk->cluster) {
		uint64_t entry = walk_entry(walk, at);
		bool zero = entry > 1;

		for (uint64_t i = 0; zero && i < walk->cluster; i++)
			zero = !walk->file[entry + i];
		if (zero)
			ok = wrong(message, "a cluster holds zeroes");
	}
	/* Of three or two. */
	if (ok && walk->ntables != (scene->table == 1 ? 2 : 1))
		ok = wrong(message, "an empty table is left");
	walk_close(walk);
	return ok && is_packed(scene, message);
}

static const struct job compact_zeroes = {
	.name = "compact-zeroes",
	.disks = { { TOP, JOB_UNCHANGED } },
	.prepare = prepare_zeroes,
	.run = run_zeroes,
	.finished = has_no_zeroes,
	.may_fail = may_fail,
};

const struct job *const jobs[] = { &compact_pack, &compact_defrag,
				   &compact_zeroes, NULL };
