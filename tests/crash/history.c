/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The image file's history, and damage to its order. */
#include "config.h"

#include "explorer.h"

#include <stdlib.h>
#include <string.h>

static bool is_metadata(const void *walk, uint64_t file_off)
{
	return walk_is_metadata(walk, file_off);
}

void history_collect(struct history *history)
{
	struct walk *walk = walk_open(TOP);

	events_collect(&history->log, history->fake,
		       fake_file(history->fake, TOP), is_metadata, walk);
	walk_close(walk);
	history->end = fake_tick(history->fake);
}

void history_free(struct history *history)
{
	model_destroy(history->model);
	fake_destroy(history->fake);
	events_free(&history->log);
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

	for (size_t i = 0; i < history->log.nevents; i++) {
		struct event *e = &history->log.events[i];

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
		struct event *e = &history->log.events[i];

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
	struct event *data = &history->log.events[i], *commit = NULL;

	if (data->kind != EVENT_WRITE || data->metadata)
		return;
	for (size_t p = i; p-- && !commit;)
		if (history->log.events[p].kind == EVENT_PUNCH &&
		    overlap(&history->log.events[p], data))
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
	for (size_t i = 0; i < history->log.nevents; i++)
		reuse_early(history, i);
	events_sort(&history->log);
}
