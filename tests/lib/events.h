/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happened to one file, in the order in which it took effect, as the
 * recording engine saw it; and states of the file that a power cut could leave.
 *
 * What had taken effect when a flush was handed in, which had ended at the time
 * of the cut, is on the disk.  Of what came later, and had been handed in, any
 * part may be: writes and punches by sectors, growth of the file with them or
 * alone.  Clones and copies count as writes of what their source had.  Two writes
 * to one sector keep their order: there is one page cache.
 *
 * Everything aborts if memory is short.  Not thread-safe.
 */
#ifndef EVENTS_H
#define EVENTS_H

#include "fake-engine.h"
#include "rng.h"

enum event_kind {
	EVENT_WRITE,
	EVENT_PUNCH,
	EVENT_GROW,
	EVENT_SIZE,			/* the file is cut or made longer */
	EVENT_FLUSH,
};

struct event {
	enum event_kind kind;
	uint64_t file_off, len;		/* SIZE: file_off is the new size */
	const uint8_t *data;
	uint64_t submitted, completed;	/* completed: UINT64_MAX if never */
	bool metadata;			/* a write to tables or the header */
};

struct event_log {
	uint8_t *initial;		/* the file as it was at first; owned */
	uint64_t initial_size;
	struct event *events;		/* by completion; owned */
	size_t nevents, max_events;
	uint64_t reach;			/* the largest file that can come of it */
};

/*
 * Adds what the fake recorded of the file with that number; the records own the
 * data.  `metadata` says of an offset whether tables or the header are there;
 * null: nowhere.
 */
void events_collect(struct event_log *log, struct fake *fake, int file,
		    bool (*metadata)(const void *opaque, uint64_t file_off),
		    const void *opaque);
void events_sort(struct event_log *log);
void events_free(struct event_log *log);

/* Builds states of one file, in order of their cuts. */
struct builder;
struct builder *builder_create(const struct event_log *log);
void builder_destroy(struct builder *builder);
/*
 * Writes a state as a cut at that moment could leave it to the file at `path`,
 * with holes where it is zero.
 */
void builder_make(struct builder *builder, uint64_t cut, struct rng *rng,
		  const char *path);

#endif
