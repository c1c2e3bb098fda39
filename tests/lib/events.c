/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file's history, in the order in which things took effect. */
#include "config.h"

#include "events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_event(struct event_log *log, const struct event *event)
{
	if (log->nevents == log->max_events) {
		log->max_events = log->max_events * 2 + 256;
		log->events = realloc(log->events,
				      log->max_events * sizeof(*event));
		if (!log->events) {
			perror("events");
			abort();
		}
	}
	log->events[log->nevents++] = *event;
}

static bool took_effect(const struct fake_record *record)
{
	return !record->completed ||
	       (record->result >= 0 && !record->pretended);
}

static int kind_of(enum qed_op op)
{
	switch (op) {
	case QED_OP_WRITE:
	case QED_OP_CLONE:
	case QED_OP_COPY:
		return EVENT_WRITE;
	case QED_OP_PUNCH:
		return EVENT_PUNCH;
	case QED_OP_GROW:
		return EVENT_GROW;
	case QED_OP_CUT:
		return EVENT_SIZE;
	case QED_OP_FLUSH:
		return EVENT_FLUSH;
	case QED_OP_READ:
		break;
	}
	return -1;
}

static void add_record(struct event_log *log, const struct fake_record *record,
		       bool (*metadata)(const void *opaque, uint64_t file_off),
		       const void *opaque)
{
	int kind = kind_of(record->op);
	struct event event = { .file_off = record->file_off,
			       .len = record->len,
			       .data = record->data,
			       .submitted = record->submitted,
			       .completed = record->completed };

	if (kind < 0 || !took_effect(record))
		return;
	event.kind = (enum event_kind)kind;
	if (!event.completed)
		event.completed = UINT64_MAX;
	else if (kind == EVENT_WRITE && record->op != QED_OP_CLONE)
		event.len = (uint64_t)record->result;
	event.metadata = kind == EVENT_WRITE && metadata &&
			 metadata(opaque, event.file_off);
	add_event(log, &event);
}

static int by_completion(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->completed != y->completed)
		return x->completed < y->completed ? -1 : 1;
	return x->submitted < y->submitted ? -1 : x->submitted > y->submitted;
}

void events_sort(struct event_log *log)
{
	if (log->nevents)
		qsort(log->events, log->nevents, sizeof(*log->events),
		      by_completion);
}

static uint64_t reach_of(const struct event_log *log)
{
	uint64_t reach = log->initial_size;

	for (size_t i = 0; i < log->nevents; i++) {
		const struct event *e = &log->events[i];

		if (e->kind == EVENT_WRITE || e->kind == EVENT_GROW)
			reach = qed_max(reach, e->file_off + e->len);
		if (e->kind == EVENT_SIZE)
			reach = qed_max(reach, e->file_off);
	}
	return reach;
}

void events_collect(struct event_log *log, struct fake *fake, int file,
		    bool (*metadata)(const void *opaque, uint64_t file_off),
		    const void *opaque)
{
	struct fake_record *const *records;
	size_t n = fake_records(fake, &records);

	for (size_t i = 0; i < n; i++)
		if ((int)records[i]->file == file)
			add_record(log, records[i], metadata, opaque);
	events_sort(log);
	log->reach = reach_of(log);
}

void events_free(struct event_log *log)
{
	free(log->initial);
	free(log->events);
	memset(log, 0, sizeof(*log));
}
