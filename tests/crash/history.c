/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image file's history, in the order in which things took effect. */
#include "config.h"

#include "explorer.h"

#include <stdlib.h>
#include <string.h>

static void add_event(struct history *history, const struct event *event)
{
	if (history->nevents == history->max_events) {
		history->max_events = history->max_events * 2 + 256;
		history->events =
			realloc(history->events,
				history->max_events * sizeof(*event));
		if (!history->events)
			die("events");
	}
	history->events[history->nevents++] = *event;
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
		return EVENT_WRITE;
	case QED_OP_PUNCH:
		return EVENT_PUNCH;
	case QED_OP_GROW:
		return EVENT_GROW;
	case QED_OP_CUT:
		return EVENT_CUT;
	case QED_OP_FLUSH:
		return EVENT_FLUSH;
	case QED_OP_READ:
		break;
	}
	return -1;
}

static void add_record(struct history *history,
		       const struct fake_record *record,
		       const struct walk *walk)
{
	int kind = kind_of(record->op);
	struct event event = { .file_off = record->file_off,
			       .len = record->len,
			       .data = record->data,
			       .submitted = record->submitted,
			       .completed = record->completed };

	if (kind < 0 || !took_effect(record))
		return;
	event.kind = (unsigned)kind;
	if (kind == EVENT_CUT)
		event.len = record->file_off;
	if (!event.completed)
		event.completed = UINT64_MAX;
	else if (kind == EVENT_WRITE)
		event.len = (uint64_t)record->result;
	event.metadata = kind == EVENT_WRITE &&
			 walk_is_metadata(walk, event.file_off);
	add_event(history, &event);
}

static int by_completion(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->completed != y->completed)
		return x->completed < y->completed ? -1 : 1;
	return x->submitted < y->submitted ? -1 : x->submitted > y->submitted;
}

static uint64_t reach_of(const struct history *history)
{
	uint64_t reach = history->initial_size;

	for (size_t i = 0; i < history->nevents; i++) {
		const struct event *e = &history->events[i];

		if (e->kind == EVENT_WRITE || e->kind == EVENT_GROW)
			reach = qed_max(reach, e->file_off + e->len);
	}
	return reach;
}

void history_collect(struct history *history)
{
	struct fake_record *const *records;
	size_t n = fake_records(history->fake, &records);
	int top = fake_file(history->fake, TOP);
	struct walk *walk = walk_open(TOP);

	for (size_t i = 0; i < n; i++)
		if ((int)records[i]->file == top)
			add_record(history, records[i], walk);
	walk_close(walk);
	qsort(history->events, history->nevents, sizeof(*history->events),
	      by_completion);
	history->reach = reach_of(history);
	history->end = fake_tick(history->fake);
}

void history_free(struct history *history)
{
	model_destroy(history->model);
	fake_destroy(history->fake);
	free(history->initial);
	free(history->events);
	memset(history, 0, sizeof(*history));
}

/* --- controls ------------------------------------------------------------------ */

/* Forgets that a flush happened. */
static void forget(struct event *event)
{
	event->kind = EVENT_GROW;
	event->file_off = event->len = 0;
}

/* Forgets every flush that tables are written after: the one before them. */
static void swap_order(struct history *history)
{
	struct event *last = NULL;

	for (size_t i = 0; i < history->nevents; i++) {
		struct event *e = &history->events[i];

		if (e->kind == EVENT_FLUSH)
			last = e;
		else if (e->metadata && e->file_off && last) {
			forget(last);
			last = NULL;
		}
	}
}

/* The first write of tables in the commit that ended before `i`; or null. */
static struct event *commit_before(struct history *history, size_t i)
{
	struct event *first = NULL;
	unsigned flushes = 0;

	while (i-- && flushes < 2) {
		struct event *e = &history->events[i];

		flushes += e->kind == EVENT_FLUSH;
		if (e->metadata && e->file_off && flushes == 1)
			first = e;
	}
	return first;
}

static bool overlap(const struct event *a, const struct event *b)
{
	return a->file_off < b->file_off + b->len &&
	       b->file_off < a->file_off + a->len;
}

static void move(struct event *event, uint64_t submitted, uint64_t completed)
{
	event->submitted = submitted;
	event->completed = completed;
}

/*
 * If event `i` writes into clusters that were freed, and so punched: moves both
 * to before the commit that makes their loss durable.
 */
static void reuse_early(struct history *history, size_t i)
{
	struct event *data = &history->events[i], *commit = NULL;

	if (data->kind != EVENT_WRITE || data->metadata)
		return;
	for (size_t p = i; p-- && !commit;)
		if (history->events[p].kind == EVENT_PUNCH &&
		    overlap(&history->events[p], data))
			commit = commit_before(history, p);
	if (!commit)
		return;
	for (struct event *e = commit; e < data; e++)
		if (e->kind == EVENT_PUNCH && overlap(e, data))
			move(e, commit->submitted - 1, commit->submitted);
	move(data, commit->submitted, commit->submitted);
}

void history_damage(struct history *history)
{
	if (history->setup.control == CONTROL_SWAPPED)
		swap_order(history);
	if (history->setup.control != CONTROL_REUSE)
		return;
	for (size_t i = 0; i < history->nevents; i++)
		reuse_early(history, i);
	qsort(history->events, history->nevents, sizeof(*history->events),
	      by_completion);
}
