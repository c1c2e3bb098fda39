/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Taking a repair back; revert.h states the contracts.
 *
 * An older entry names what was its own before the repair, and may be somebody
 * else's by now.  So it is put back only if nobody but repairs has changed any
 * table since: what has a record holds what that says, before or after; all that
 * the image's tables had before is still there, which the fingerprint tells; and
 * a table that the repair has made is still the copy of what it was made of.
 * This holds however a repair or an undo was interrupted.
 *
 * Order on disk: NEED_CHECK, sync; the older entries, sync; the file's end, which
 * nothing but what was put back names any more, sync; NEED_CHECK as it was, sync;
 * the undo file's removal.
 */
#include "config.h"

#include "fingerprint.h"
#include "revert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define RUN_BYTES (UINT64_C(64) << 10)
#define RUN_MAX   (RUN_BYTES / QED_ENTRY_BYTES)

static struct qed_file *file_of(const struct qed_layer *layer)
{
	return layer->source.file;
}

static int complain(const struct qed_file *file, int err, const char *what)
{
	qed_log_write(&file->log, QED_LOG_ERROR, "%s: %s: %s", file->path, what,
		      strerror(-err));
	return err;
}

/* --- does it fit? ----------------------------------------------------------------- */

/* What nothing named before the repair: it goes with the end of the file. */
static uint64_t base_of(const struct qed_undo *undo,
			const struct qed_layer *layer)
{
	return qed_round_up(undo->image_size, layer->header.cluster_size);
}

/*
 * What neighbouring places from that of entry *i on held at first, as far as they
 * are before `end`: how many.  Moves on behind them.
 */
static uint64_t take_run(const struct qed_undo *undo, uint64_t *i, uint64_t end,
			 struct qed_le64 *older)
{
	uint64_t start = undo->entries[*i].file_off, n = 0;

	while (n < RUN_MAX && *i < undo->nentries) {
		const struct qed_undo_entry *entry = &undo->entries[*i];

		if (entry->file_off != start + n * QED_ENTRY_BYTES ||
		    entry->file_off >= end)
			break;
		older[n++] = qed_le64_put(entry->older);
		*i = qed_undo_next(undo, *i);
	}
	return n;
}

static int entries_fit(const struct qed_undo *undo, struct qed_layer *layer,
		       struct qed_le64 *now)
{
	struct qed_file *file = file_of(layer);
	uint64_t end = base_of(undo, layer), i = 0;

	while (i < undo->nentries && undo->entries[i].file_off < end) {
		uint64_t file_off = undo->entries[i].file_off;
		uint64_t n = take_run(undo, &i, end, now);
		int ret = qed_file_read(file, now, n * QED_ENTRY_BYTES,
					file_off);

		if (ret < 0)
			return qed_undo_complain_at(file, ret, "read a table",
						    file_off);
		for (uint64_t k = 0; k < n; k++)
			if (!qed_undo_knows(undo, file_off + k * QED_ENTRY_BYTES,
					    qed_le64_get(now[k])))
				return 0;
	}
	return 1;
}

/* Part of a table that was made as a copy: `n` entries of both. */
static bool copy_fits(const struct qed_undo *undo, uint64_t from, uint64_t to,
		      const struct qed_le64 *older, const struct qed_le64 *now,
		      uint64_t n)
{
	for (uint64_t k = 0; k < n; k++) {
		uint64_t at = k * QED_ENTRY_BYTES, value = qed_le64_get(now[k]);

		if (value != qed_le64_get(older[k]) &&
		    !qed_undo_knows(undo, to + at, value) &&
		    !qed_undo_knows(undo, from + at, value))
			return false;
	}
	return true;
}

static uint64_t next_data(struct qed_file *file, uint64_t from, uint64_t to,
			  uint64_t at)
{
	uint64_t a = qed_file_next_data(file, from + at);
	uint64_t b = qed_file_next_data(file, to + at);

	a = a == UINT64_MAX ? a : a - from;
	b = b == UINT64_MAX ? b : b - to;
	return qed_min(a, b);
}

static int table_fits(const struct qed_undo *undo, struct qed_layer *layer,
		      uint64_t from, uint64_t to, struct qed_le64 *buf)
{
	struct qed_file *file = file_of(layer);
	uint64_t size = layer->header.table_bytes, at = 0;
	struct qed_le64 *now = buf + RUN_MAX / 2;

	while ((at = next_data(file, from, to, at)) < size) {
		uint64_t len;
		int ret;

		at = qed_round_down(at, QED_SLICE_BYTES);
		len = qed_min(size - at, RUN_BYTES / 2);
		ret = qed_file_read(file, buf, len, from + at);
		if (ret < 0)
			return qed_undo_complain_at(file, ret, "read a table",
						    from + at);
		ret = qed_file_read(file, now, len, to + at);
		if (ret < 0)
			return qed_undo_complain_at(file, ret, "read a table",
						    to + at);
		if (!copy_fits(undo, from + at, to + at, buf, now,
			       len / QED_ENTRY_BYTES))
			return 0;
		at += len;
	}
	return 1;
}

/* A table that was made for an L1 entry, if that names it. */
static int made_fits(const struct qed_undo *undo, struct qed_layer *layer,
		     const struct qed_undo_entry *entry, struct qed_le64 *buf)
{
	struct qed_file *file = file_of(layer);
	struct qed_le64 now;
	int ret = qed_file_read(file, &now, sizeof(now), entry->file_off);

	if (ret < 0)
		return qed_undo_complain_at(file, ret, "read a table",
					    entry->file_off);
	if (qed_le64_get(now) != entry->newer)
		return 1;
	return table_fits(undo, layer, entry->older, entry->newer, buf);
}

static int copies_fit(const struct qed_undo *undo, struct qed_layer *layer,
		      struct qed_le64 *buf)
{
	const struct qed_header *h = &layer->header;
	uint64_t i = qed_undo_find(undo, h->l1_table_offset);
	int ret = 1;

	for (; ret > 0 && i < undo->nentries; i++) {
		const struct qed_undo_entry *entry = &undo->entries[i];

		if (entry->file_off >= h->l1_table_offset + h->table_bytes)
			break;
		if (entry->newer >= base_of(undo, layer))
			ret = made_fits(undo, layer, entry, buf);
	}
	return ret;
}

static int fingerprint_fits(const struct qed_undo *undo,
			    struct qed_layer *layer)
{
	uint64_t fingerprint;
	int ret = qed_fingerprint(layer, undo, &fingerprint);

	return ret < 0 ? ret : fingerprint == undo->fingerprint;
}

int qed_revert_fits(const struct qed_undo *undo, struct qed_layer *layer)
{
	struct qed_le64 *buf = malloc(RUN_BYTES);
	int ret = buf ? entries_fit(undo, layer, buf) :
			complain(undo->file, -ENOMEM, "cannot be compared");

	if (ret > 0)
		ret = copies_fit(undo, layer, buf);
	if (ret > 0)
		ret = fingerprint_fits(undo, layer);
	free(buf);
	return ret;
}

/* --- taking back ------------------------------------------------------------------- */

static int refuse_changed(const struct qed_undo *undo,
			  const struct qed_file *image)
{
	qed_log_write(&image->log, QED_LOG_ERROR,
		      "%s: has been changed since the repair: %s does not fit "
		      "it any more", image->path, undo->file->path);
	return -ESTALE;
}

static int flush(struct qed_file *image)
{
	int ret = qed_file_flush(image);

	return ret < 0 ? complain(image, ret, "cannot sync") : 0;
}

/* All that was done before is durable. */
static int set_flag(struct qed_layer *layer, bool need_check)
{
	struct qed_header *h = &layer->header;
	int ret;

	if (!(h->features & QED_FEATURE_NEED_CHECK) == !need_check)
		return 0;
	h->features ^= QED_FEATURE_NEED_CHECK;
	h->autoclear_features = 0;
	ret = qed_layer_write_header(layer);
	return ret < 0 ? complain(file_of(layer), ret,
				  "cannot write its header") : 0;
}

static int put_entries_back(const struct qed_undo *undo,
			    struct qed_layer *layer)
{
	struct qed_file *image = file_of(layer);
	struct qed_le64 *older = malloc(RUN_BYTES);
	uint64_t end = base_of(undo, layer), i = 0;
	int ret = older ? 0 : complain(image, -ENOMEM, "cannot undo the repair");

	while (ret == 0 && i < undo->nentries &&
	       undo->entries[i].file_off < end) {
		uint64_t file_off = undo->entries[i].file_off;
		uint64_t n = take_run(undo, &i, end, older);

		ret = qed_file_write(image, older, n * QED_ENTRY_BYTES,
				     file_off);
		if (ret < 0)
			qed_undo_complain_at(image, ret, "write", file_off);
	}
	free(older);
	return ret < 0 ? ret : flush(image);
}

static int put_back(const struct qed_undo *undo, struct qed_layer *layer)
{
	struct qed_file *image = file_of(layer);
	uint64_t size = undo->image_size;
	int ret = qed_file_lengthen(image, size);

	if (ret < 0)
		return qed_undo_complain_at(image, ret, "get its end back",
					    size);
	ret = put_entries_back(undo, layer);
	if (ret < 0)
		return ret;
	ret = qed_file_cut(image, size);
	if (ret < 0)
		return qed_undo_complain_at(image, ret, "cut its end off", size);
	return flush(image);
}

/* A file without a header is of a repair that has changed nothing yet. */
static int revert(struct qed_undo *undo, struct qed_layer *layer)
{
	int ret;

	if (!undo->begun)
		return 0;
	ret = qed_revert_fits(undo, layer);
	if (ret <= 0)
		return ret < 0 ? ret : refuse_changed(undo, file_of(layer));
	ret = set_flag(layer, true);
	if (ret == 0)
		ret = qed_undo_set_over(undo, false);
	if (ret == 0)
		ret = put_back(undo, layer);
	return ret < 0 ? ret : set_flag(layer, undo->need_check);
}

int qed_revert(struct qed_layer *layer)
{
	struct qed_undo undo = { .file = NULL };
	struct qed_file *image = file_of(layer);
	int ret = qed_undo_open(&undo, image);

	if (ret == -ENOENT)
		qed_log_write(&image->log, QED_LOG_ERROR, "%s.check-undo: %s",
			      image->path, strerror(ENOENT));
	if (ret == 0)
		ret = revert(&undo, layer);
	if (ret == 0)
		ret = qed_undo_remove(&undo);
	qed_undo_close(&undo);
	return ret;
}
