/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image that a workload runs on, with what lies below it. */
#include "config.h"

#include "../lib/plain-engine.h"
#include "explorer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR UINT64_C(512)

/* Fills `content` with what an image's random part of the disk is to hold. */
static void scribble(struct rng *rng, uint64_t id, uint8_t *content,
		     uint64_t size)
{
	for (int i = 0; i < 24; i++) {
		uint64_t off = rng_below(rng, size / SECTOR) * SECTOR;
		uint64_t len = qed_min(size - off,
				       (1 + rng_below(rng, 200)) * SECTOR);

		model_pattern(id, content + off, off, len);
	}
}

static void make_raw(const char *path, const uint8_t *content, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    pwrite(fd, content, size, 0) != (ssize_t)size)
		die(path);
	close(fd);
}

static void make_image(const struct setup *setup, const char *path,
		       uint64_t size, const char *backing, const char *format)
{
	const struct qed_create_options options = {
		.virtual_size = size,
		.cluster_size = setup->cluster,
		.table_size = setup->table,
		.backing = backing,
		.backing_format = format,
	};

	if (qed_image_create(path, &options) < 0)
		die(path);
}

/* An image that is made of the runs of sectors where `mine` is not zero. */
static void make_backing(const struct setup *setup, const char *path,
			 const uint8_t *mine, uint64_t size,
			 const char *backing, const char *format)
{
	struct qed_open_options options;
	struct qed_image *image;

	make_image(setup, path, size, backing, format);
	qed_open_options_init(&options);
	options.flags = QED_OPEN_RDWR;
	if (plain_open(path, &options, &image) < 0)
		die(path);
	for (uint64_t at = 0; at < size; at += SECTOR)
		if (mine[at] &&
		    qed_pwrite(image, mine + at, SECTOR, at) != (int64_t)SECTOR)
			die(path);
	if (qed_image_close(image) < 0)
		die(path);
}

static void overlay(uint8_t *base, const uint8_t *mine, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += SECTOR)
		if (mine[at])
			memcpy(base + at, mine + at, SECTOR);
}

static void make_chain(const struct setup *setup, struct rng *rng,
		       uint8_t *base, uint64_t size)
{
	/* Backing files may be shorter than the image, and end anywhere. */
	uint64_t low = size - rng_below(rng, size / SECTOR / 4) * SECTOR;
	uint8_t *mine = calloc(1, size);

	if (!mine)
		die("base");
	scribble(rng, 1, base, low);
	if (setup->backing == BACKING_QED) {
		make_backing(setup, "base.qed", base, low, NULL, NULL);
		make_image(setup, TOP, size, "base.qed", "qed");
	} else {
		make_raw("base.raw", base, low);
	}
	if (setup->backing == BACKING_RAW)
		make_image(setup, TOP, size, "base.raw", "raw");
	if (setup->backing == BACKING_CHAIN) {
		scribble(rng, 2, mine, low);
		make_backing(setup, "mid.qed", mine, low, "base.raw", "raw");
		overlay(base, mine, low);
		make_image(setup, TOP, size, "mid.qed", "qed");
	}
	free(mine);
}

void make_files(const struct setup *setup, struct rng *rng,
		struct history *history)
{
	uint64_t size = setup->disk_size;
	uint8_t *base = calloc(1, size);
	struct walk *walk;

	if (!base)
		die("base");
	if (setup->backing == BACKING_NONE)
		make_image(setup, TOP, size, NULL, NULL);
	else
		make_chain(setup, rng, base, size);
	history->model = model_create(size, base);
	free(base);
	walk = walk_open(TOP);
	history->log.initial = walk->file;
	history->log.initial_size = walk->size;
	walk->file = NULL;
	walk_close(walk);
}
