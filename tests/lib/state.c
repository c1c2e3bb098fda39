/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* States that a power cut could leave; events.h says which those are. */
#include "config.h"

#include "events.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR UINT64_C(512)
#define BLOCK  UINT64_C(4096)		/* the host's */

struct image {
	uint8_t *bytes;			/* zero past `size` */
	uint64_t size;
};

struct builder {
	const struct event_log *log;
	struct image durable, state;
	uint64_t since;			/* what ended before is in `durable` */
	size_t next;			/* the first event that is not */
	uint64_t last_cut;
};

/* How much of what could be lost is kept. */
struct mood {
	unsigned keep_data, keep_tables, keep_size;	/* percent */
	unsigned tear;			/* percent of what is kept */
};

static void *must(void *memory)
{
	if (!memory) {
		perror("state");
		abort();
	}
	return memory;
}

static void image_write(struct image *image, uint64_t off, const uint8_t *data,
			uint64_t len)
{
	memcpy(image->bytes + off, data, len);
	image->size = qed_max(image->size, off + len);
}

static void image_punch(struct image *image, uint64_t off, uint64_t len)
{
	if (off < image->size)
		memset(image->bytes + off, 0, qed_min(len, image->size - off));
}

static void image_resize(struct image *image, uint64_t size)
{
	if (size < image->size)
		memset(image->bytes + size, 0, image->size - size);
	image->size = size;
}

static void apply(struct image *image, const struct event *e)
{
	switch (e->kind) {
	case EVENT_WRITE:
		image_write(image, e->file_off, e->data, e->len);
		break;
	case EVENT_PUNCH:
		image_punch(image, e->file_off, e->len);
		break;
	case EVENT_GROW:
		image->size = qed_max(image->size, e->file_off + e->len);
		break;
	case EVENT_SIZE:
		image_resize(image, e->file_off);
		break;
	case EVENT_FLUSH:
		break;
	}
}

/* Some of the sectors that an event touches. */
static void apply_torn(struct image *image, const struct event *e,
		       unsigned percent, struct rng *rng)
{
	uint64_t at = e->file_off, end = e->file_off + e->len;

	while (at < end) {
		struct event part = *e;
		uint64_t next = qed_min(end, (at / SECTOR + 1) * SECTOR);

		part.file_off = at;
		part.len = next - at;
		part.data = e->data ? e->data + (at - e->file_off) : NULL;
		if (rng_chance(rng, percent))
			apply(image, &part);
		at = next;
	}
}

static void apply_perhaps(struct image *image, const struct event *e,
			  const struct mood *mood, struct rng *rng)
{
	bool bytes = e->kind == EVENT_WRITE || e->kind == EVENT_PUNCH;
	unsigned keep = !bytes	    ? mood->keep_size :
			e->metadata ? mood->keep_tables :
				      mood->keep_data;

	if (!rng_chance(rng, keep)) {
		/* A file may have grown without what it grew for. */
		if (e->kind == EVENT_WRITE && rng_chance(rng, 10))
			image->size = qed_max(image->size,
					      e->file_off + e->len);
		return;
	}
	if (bytes && e->len > SECTOR && rng_chance(rng, mood->tear))
		apply_torn(image, e, (unsigned)rng_below(rng, 101), rng);
	else
		apply(image, e);
}

static unsigned some_percent(struct rng *rng)
{
	static const unsigned choice[] = { 0, 10, 50, 90, 100 };

	return choice[rng_below(rng, 5)];
}

/* Tables without data and data without tables are what most often goes wrong. */
static struct mood random_mood(struct rng *rng)
{
	return (struct mood){ .keep_data = some_percent(rng),
			      .keep_tables = some_percent(rng),
			      .keep_size = some_percent(rng),
			      .tear = some_percent(rng) };
}

struct builder *builder_create(const struct event_log *log)
{
	struct builder *builder = must(calloc(1, sizeof(*builder)));

	builder->log = log;
	builder->durable.bytes = must(calloc(1, log->reach + 1));
	builder->state.bytes = must(calloc(1, log->reach + 1));
	if (log->initial_size)
		image_write(&builder->durable, 0, log->initial,
			    log->initial_size);
	return builder;
}

void builder_destroy(struct builder *builder)
{
	free(builder->durable.bytes);
	free(builder->state.bytes);
	free(builder);
}

/* When the last flush was handed in that had ended before the cut. */
static uint64_t durable_since(const struct event_log *log, uint64_t cut)
{
	uint64_t since = 0;

	for (size_t i = 0; i < log->nevents; i++) {
		const struct event *e = &log->events[i];

		if (e->completed >= cut)
			break;
		if (e->kind == EVENT_FLUSH)
			since = qed_max(since, e->submitted);
	}
	return since;
}

static void advance(struct builder *builder, uint64_t since)
{
	const struct event_log *log = builder->log;

	while (builder->next < log->nevents &&
	       log->events[builder->next].completed < since)
		apply(&builder->durable, &log->events[builder->next++]);
}

static void copy_image(struct image *to, const struct image *from)
{
	memcpy(to->bytes, from->bytes, from->size);
	if (to->size > from->size)
		memset(to->bytes + from->size, 0, to->size - from->size);
	to->size = from->size;
}

static bool is_zero(const uint8_t *bytes, uint64_t len)
{
	return !*bytes && !memcmp(bytes, bytes + 1, len - 1);
}

static bool write_file(const struct image *image, int fd)
{
	for (uint64_t at = 0; at < image->size; at += BLOCK) {
		uint64_t len = qed_min(BLOCK, image->size - at);

		if (!is_zero(image->bytes + at, len) &&
		    pwrite(fd, image->bytes + at, len, (off_t)at) !=
			    (ssize_t)len)
			return false;
	}
	return ftruncate(fd, (off_t)image->size) == 0;
}

void builder_make(struct builder *builder, uint64_t cut, struct rng *rng,
		  const char *path)
{
	const struct event_log *log = builder->log;
	struct mood mood = random_mood(rng);
	int fd;

	if (cut < builder->last_cut)
		abort();
	builder->last_cut = cut;
	advance(builder, durable_since(log, cut));
	copy_image(&builder->state, &builder->durable);
	for (size_t i = builder->next; i < log->nevents; i++)
		if (log->events[i].submitted < cut)
			apply_perhaps(&builder->state, &log->events[i], &mood,
				      rng);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || !write_file(&builder->state, fd)) {
		perror(path);
		abort();
	}
	close(fd);
}
