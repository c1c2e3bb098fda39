/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A repair's undo file: begun before the first change, or gone on with, if the
 * repair that began it was interrupted and nobody else has changed a table since.
 * What that repair knew of the image is then as its file has it: its end, before
 * copies made it longer; whose they are; tables that nothing names any more.
 */
#include "config.h"

#include "fingerprint.h"
#include "repair.h"
#include "revert.h"

#include <errno.h>

void qed_saving_set_end(struct qed_repair *r, uint64_t size)
{
	uint32_t cluster = r->layer->header.cluster_size;

	r->old_size = size;
	r->old_end = qed_round_down(size, cluster);
	r->old_cut = size > r->old_end ? r->old_end : UINT64_MAX;
}

/* L1 entries that an earlier run has changed. */
static int note_tables(struct qed_repair *r)
{
	const struct qed_header *h = &r->layer->header;
	const struct qed_undo *undo = &r->undo;
	uint64_t i = qed_undo_find(undo, h->l1_table_offset);
	int ret = 0;

	for (; ret == 0 && i < undo->nentries; i++) {
		const struct qed_undo_entry *entry = &undo->entries[i];

		if (entry->file_off >= h->l1_table_offset + h->table_bytes)
			break;
		qed_leaks_note_table(r, entry->older);
		if (entry->newer >= r->old_end)
			ret = qed_copies_note_table(r, entry->older,
						    entry->newer);
	}
	qed_copies_sort_tables(r);
	return ret;
}

static int resume(struct qed_repair *r)
{
	int ret = r->undo.begun ? qed_revert_fits(&r->undo, r->layer) : 0;

	if (ret > 0) {
		r->resumed = true;
		r->report->undo_saved = r->undo.nentries;
		qed_saving_set_end(r, r->undo.image_size);
		return note_tables(r);
	}
	r->stale = r->undo.begun;
	qed_undo_close(&r->undo);
	return ret;
}

int qed_saving_resume(struct qed_repair *r)
{
	int ret;

	/* To give leaks back needs no such file, but may have to go on with it. */
	if ((r->options->flags & QED_CHECK_ALL) != QED_CHECK_ALL &&
	    !qed_undo_exists(r->file))
		return 0;
	ret = qed_undo_open(&r->undo, r->file);
	if (ret == -ENOENT)
		return 0;
	if (ret == 0)
		ret = resume(r);
	r->said = ret < 0;
	return ret;
}

int qed_saving_begin(struct qed_repair *r)
{
	struct qed_undo *undo = &r->undo;
	int ret;

	r->report->undo_saved = true;
	if (undo->file) {
		ret = qed_undo_set_over(undo, false);
		r->said = ret < 0;
		return ret;
	}
	if (r->stale)
		qed_log_write(&r->options->log, QED_LOG_WARNING,
			      "%s.check-undo: made anew, as the image has been "
			      "changed since that repair", r->file->path);
	undo->image_size = r->old_size;
	undo->need_check = r->layer->header.features & QED_FEATURE_NEED_CHECK;
	ret = qed_fingerprint(r->layer, undo, &undo->fingerprint);
	if (ret == 0)
		ret = qed_undo_create(undo, r->file);
	r->report->undo_saved = ret == 0;
	r->said = ret < 0;
	return ret;
}

int qed_saving_end(struct qed_repair *r)
{
	struct qed_undo other = { .file = NULL }, *undo = &r->undo;
	int ret = 0;

	/* One that does not fit is nobody's hindrance, either. */
	if (!undo->file && r->stale) {
		undo = &other;
		ret = qed_undo_open(undo, r->file);
	}
	if (ret == 0 && undo->file && undo->begun)
		ret = qed_undo_set_over(undo, true);
	qed_undo_close(&other);
	r->said = ret < 0;
	return ret;
}
