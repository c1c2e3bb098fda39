/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files for jobs to work on. */
#include "config.h"

#include "../lib/calls.h"
#include "../lib/model.h"
#include "../lib/plain-engine.h"
#include "job.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

void die(const char *what)
{
	fprintf(stderr, "jobs: %s (%s)\n", what, strerror(errno));
	exit(1);
}

bool wrong(char message[700], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message, 700, format, args);
	va_end(args);
	return false;
}

const char *scene_base(const struct scene *scene)
{
	static const char *const names[] = { NULL, "base.raw", "base.qed" };

	return names[scene->backing];
}

void scene_image(const struct scene *scene, const char *path, uint64_t size,
		 const char *backing)
{
	struct qed_create_options options = {
		.virtual_size = size,
		.cluster_size = scene->cluster,
		.table_size = scene->table,
		.backing = backing,
	};

	if (backing)
		options.backing_format = strstr(backing, ".raw") ? "raw" : "qed";
	if (qed_image_create(path, &options) < 0)
		die(path);
}

static struct qed_image *open_image(const char *path)
{
	struct qed_open_options options;
	struct qed_image *image;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	if (plain_open(path, &options, &image) < 0)
		die(path);
	return image;
}

static void write_raw(const char *path, const uint8_t *data, uint64_t off,
		      uint64_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || pwrite(fd, data, len, (off_t)off) != (ssize_t)len)
		die(path);
	close(fd);
}

void scene_write(const char *path, uint64_t id, uint64_t off, uint64_t len)
{
	uint8_t *data = malloc(len);
	struct qed_image *image;

	if (!data)
		die(path);
	model_pattern(id, data, off, len);
	if (strstr(path, ".raw")) {
		write_raw(path, data, off, len);
	} else {
		image = open_image(path);
		if (qed_pwrite(image, data, len, off) != (int64_t)len ||
		    qed_image_close(image) < 0)
			die(path);
	}
	free(data);
}

void scene_zero(const char *path, uint64_t off, uint64_t len)
{
	struct qed_image *image = open_image(path);
	struct call call;

	call_zero(&call, image, len, off);
	if (call_wait(&call) < 0 || qed_image_close(image) < 0)
		die(path);
}

static void make_base(const struct scene *scene)
{
	const char *base = scene_base(scene);
	uint64_t size = scene->disk_size - 200 * KIB;

	if (scene->backing == BACKING_QED)
		scene_image(scene, base, size, NULL);
	else
		write_raw(base, (const uint8_t *)"", size - 1, 1);
	scene_write(base, 1, 0, 300 * KIB);
	scene_write(base, 1, 2000 * KIB, 200 * KIB);
	scene_write(base, 1, size - 50 * KIB, 50 * KIB);
}

void scene_make(const struct scene *scene)
{
	uint64_t size = scene->disk_size;

	if (scene->backing != BACKING_NONE)
		make_base(scene);
	scene_image(scene, TOP, size, scene_base(scene));
	scene_write(TOP, 2, 2030 * KIB, 60 * KIB);	/* over a table's edge */
	scene_write(TOP, 2, 40 * KIB, 33 * KIB);
	scene_write(TOP, 2, 5 * KIB, 700);
	scene_write(TOP, 2, 1000 * KIB, 10 * KIB);
	scene_write(TOP, 2, size - 9 * KIB, 9 * KIB);	/* the last cluster */
	scene_write(TOP, 2, size - 30 * KIB, 4 * KIB);
	scene_zero(TOP, 100 * KIB, 20 * KIB);
	scene_zero(TOP, 2048 * KIB, 8 * KIB);
}

/* --- what a file holds ------------------------------------------------------------ */

uint64_t scene_entry(const char *path, unsigned level, uint64_t disk_off)
{
	struct walk *walk = walk_open(path);
	uint64_t cluster = disk_off / walk->cluster;
	uint64_t at = walk->l1_off + cluster / walk->nelems * 8;

	if (level == 2)
		at = walk_table(walk, disk_off) + cluster % walk->nelems * 8;
	walk_close(walk);
	return at;
}

uint64_t scene_peek(const char *path, uint64_t file_off)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t value;

	if (fd < 0 || pread(fd, &value, sizeof(value), (off_t)file_off) !=
			      sizeof(value))
		die(path);
	close(fd);
	return le64toh(value);
}

void scene_poke(const char *path, uint64_t file_off, uint64_t value)
{
	value = htole64(value);
	write_raw(path, (const uint8_t *)&value, file_off, sizeof(value));
}

uint64_t scene_size(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die(path);
	return (uint64_t)st.st_size;
}

void scene_append(const char *path, uint64_t len)
{
	uint8_t *data = malloc(len);

	if (!data)
		die(path);
	memset(data, 0x77, len);
	write_raw(path, data, scene_size(path), len);
	free(data);
}
