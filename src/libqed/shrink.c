/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making a disk smaller; qed.h states the contract of qed_image_resize().
 *
 * Order on disk: a check that everything is as it should be, for what is cut
 * off must not be part of anything else; the entries of all that lies behind
 * the new end are cleared, and the bytes of the last cluster that it keeps in
 * part; sync; the header with the new size; sync; then the clusters that no
 * entry names any more, now or since an earlier run was interrupted, are given
 * back as a check gives back leaks.  So neither a disk that is made larger
 * again, by whatever program, nor a crash can bring old bytes back into it, and
 * no cluster is given back that a table on disk names.
 *
 * Entries are cleared one by one at most in part: each is the old one or none,
 * and the clusters of those that are none are leaks until the end.  NEED_CHECK
 * is not needed for that; if it was set it is cleared at the end, after a
 * complete pass.
 *
 * Memory: that of two checks, one after the other.
 */
#include "config.h"

#include "check.h"
#include "job.h"
#include "shrink.h"
#include "undo.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (UINT64_C(1) << 20)

struct shrink {
	struct qed_layer *layer;
	struct qed_file *file;
	struct qed_header now;		/* what the header is to become */
	const struct qed_job *job;	/* the caller's, or null */
	struct qed_job passes;		/* for the checks: half of it each */
	bool second;
	struct qed_le64 *chunk;
};

static int complain(const struct shrink *s, int err, const char *what)
{
	qed_log_write(&s->layer->log, QED_LOG_ERROR, "%s: %s: %s",
		      s->file->path, what, strerror(-err));
	return err;
}

static int complain_at(const struct shrink *s, int err, const char *what,
		       uint64_t file_off)
{
	qed_log_write(&s->layer->log, QED_LOG_ERROR,
		      "%s: cannot %s at file offset %" PRIu64 ": %s",
		      s->file->path, what, file_off, strerror(-err));
	return err;
}

static void on_progress(void *opaque, uint64_t done, uint64_t total)
{
	const struct shrink *s = opaque;

	if (s->job && s->job->progress)
		s->job->progress(s->job->opaque,
				 done / 2 + (s->second ? total / 2 : 0), total);
}

static bool on_cancelled(void *opaque)
{
	const struct shrink *s = opaque;

	return s->job && s->job->cancelled &&
	       s->job->cancelled(s->job->opaque);
}

/* What no entry names any more. */
static int give_back(struct shrink *s)
{
	const struct qed_check_options options = {
		.flags = QED_CHECK_LEAKS,
		.log = s->layer->log,
		.job = &s->passes,
	};
	struct qed_check_report report;
	int ret = qed_check_layer(s->layer, &options, &report);

	/* The check has said what. */
	return ret == 0 && report.check_errors ? -EIO : ret;
}

static int require_sound(struct shrink *s)
{
	if (s->layer->header.compat_features) {
		qed_log_write(&s->layer->log, QED_LOG_ERROR,
			      "%s: cannot shrink: compat_features bits %#" PRIx64
			      " are unknown, and what they stand for may be in "
			      "the clusters that would be given back",
			      s->file->path, s->layer->header.compat_features);
		return -ENOTSUP;
	}
	if (qed_undo_is_pending(s->file, QED_LOG_ERROR))
		return -EUCLEAN;
	return qed_check_sound(s->layer, &s->passes);
}

/* Clears what is set among `n` entries in memory, and in the file. */
static int clear_chunk(struct shrink *s, uint64_t n, uint64_t file_off)
{
	uint64_t first = 0, end = n;
	int ret;

	if (qed_is_zero(s->chunk, n * QED_ENTRY_BYTES))
		return 0;
	while (first < end && !qed_le64_get(s->chunk[first]))
		first++;
	while (end > first && !qed_le64_get(s->chunk[end - 1]))
		end--;
	memset(s->chunk + first, 0, (end - first) * QED_ENTRY_BYTES);
	file_off += first * QED_ENTRY_BYTES;
	ret = qed_file_write(s->file, s->chunk + first,
			     (end - first) * QED_ENTRY_BYTES, file_off);
	return ret < 0 ? complain_at(s, ret, "clear a table", file_off) : 0;
}

/* Clears the entries of a table from `first` on; holes stay holes. */
static int clear_entries(struct shrink *s, uint64_t table, uint64_t first)
{
	uint64_t end = table + s->now.table_bytes;
	uint64_t at = table + first * QED_ENTRY_BYTES, len;
	int ret = 0;

	for (; ret == 0 && at < end; at += len) {
		uint64_t data = qed_file_next_data(s->file, at);

		if (data >= end)
			break;
		at = qed_round_down(data, QED_ENTRY_BYTES);
		len = qed_min(CHUNK, end - at);
		ret = qed_file_read(s->file, s->chunk, len, at);
		if (ret < 0)
			return complain_at(s, ret, "read a table", at);
		ret = clear_chunk(s, len / QED_ENTRY_BYTES, at);
	}
	return ret;
}

static int read_entry(struct shrink *s, uint64_t table, uint64_t index,
		      uint64_t *entry)
{
	uint64_t at = table + index * QED_ENTRY_BYTES;
	int ret = qed_file_read(s->file, s->chunk, QED_ENTRY_BYTES, at);

	*entry = ret < 0 ? 0 : qed_le64_get(s->chunk[0]);
	return ret < 0 ? complain_at(s, ret, "read a table", at) : 0;
}

/* The table that maps the new end: what lies behind that, and in its cluster. */
static int clear_last_table(struct shrink *s)
{
	const struct qed_header *h = &s->now;
	uint64_t size = h->image_size, last = qed_l2_index(h, size - 1);
	uint64_t in = qed_in_cluster(h, size), table, data = 0;
	int ret = read_entry(s, h->l1_table_offset, qed_l1_index(h, size - 1),
			     &table);

	if (ret < 0 || !table)
		return ret;
	ret = clear_entries(s, table, last + 1);
	if (ret == 0 && in)
		ret = read_entry(s, table, last, &data);
	if (ret < 0 || data <= QED_ENTRY_ZERO)
		return ret;
	ret = qed_file_zero(s->file, data + in, h->cluster_size - in);
	return ret < 0 ? complain_at(s, ret, "clear the last cluster",
				     data + in) : 0;
}

static int drop(struct shrink *s)
{
	struct qed_layer *layer = s->layer;
	int ret = 0;

	if (layer->header.autoclear_features) {
		layer->header.autoclear_features = 0;
		ret = qed_layer_write_header(layer);
	}
	if (ret < 0)
		return complain(s, ret, "cannot write the header");
	ret = clear_entries(s, s->now.l1_table_offset, s->now.l1_used);
	if (ret == 0)
		ret = clear_last_table(s);
	if (ret < 0)
		return ret;
	ret = qed_file_flush(s->file);
	return ret < 0 ? complain(s, ret, "cannot sync") : 0;
}

/* Cuts the disk itself; a check has made sure of the rest. */
static int set_size(struct shrink *s)
{
	struct qed_layer *layer = s->layer;
	int ret;

	layer->header.image_size = layer->size = s->now.image_size;
	layer->header.l1_used = s->now.l1_used;
	ret = qed_layer_write_header(layer);
	return ret < 0 ? complain(s, ret, "cannot write the header") : 0;
}

static int run(struct shrink *s)
{
	int ret = require_sound(s);

	if (ret == 0)
		ret = drop(s);
	if (ret == 0)
		ret = set_size(s);
	s->second = true;
	return ret < 0 ? ret : give_back(s);
}

int qed_shrink(struct qed_layer *layer, uint64_t size, const struct qed_job *job)
{
	char message[QED_MESSAGE_MAX];
	struct shrink s = {
		.layer = layer,
		.file = layer->source.file,
		.now = layer->header,
		.job = job,
		.passes = { on_progress, on_cancelled, &s },
	};
	int ret;

	s.now.image_size = size;
	ret = qed_header_derive(&s.now, message);
	assert(ret == 0);	/* smaller than one that was right */
	s.chunk = malloc(CHUNK);
	ret = s.chunk ? run(&s) : complain(&s, -ENOMEM, "resize");
	free(s.chunk);
	return ret;
}
