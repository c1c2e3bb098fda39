/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gives back the space in an image's file that holds nothing; qed.h states the
 * contract.
 *
 *	compact		the job: its steps, and how it ends
 *	trim		what need not be stored
 *	arrange, pack	where everything goes
 *	relocate	how it gets there: the order on disk
 *	copier		copies, several at a time
 *	owners		which entry names what is in the way
 *
 * A walk over all tables finds what is in use, a bit for each cluster, and
 * refuses an image with any fault: what two entries name must not be moved for
 * one of them.  At every step an entry names the old place or the new one, and
 * both hold the cluster's bytes, until the new entry is durable; only then is
 * the old place written to, punched or cut off.  So an interruption leaves
 * leaks at most, and perhaps NEED_CHECK, and whoever begins again begins with
 * what is there.
 *
 * At the end: sync; a second walk over what was made, which has to find no
 * fault; NEED_CHECK cleared, sync; the file cut.
 */
#include "config.h"

#include "arrange.h"
#include "compact.h"
#include "lock.h"
#include "trim.h"
#include "undo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_BYTES (UINT64_C(64) << 20)

struct compact {
	const struct qed_compact_options *options;
	struct qed_compact_report *report;
	struct qed_relocation r;
	struct qed_job walk_job;	/* a walk does not show as progress */
	uint64_t batch;			/* clusters */
	uint64_t faults;
};

static bool wants(const struct compact *c, uint32_t flag)
{
	return c->options->flags & flag;
}

static struct qed_file *file_of(const struct compact *c)
{
	return c->r.layer->source.file;
}

static unsigned bits_of(const struct compact *c)
{
	return c->r.layer->header.cluster_bits;
}

/* --- the walk ---------------------------------------------------------------------- */

static int on_fault(struct qed_scan *scan, const struct qed_fault *fault,
		    uint64_t *entry)
{
	struct compact *c = scan->opaque;

	(void)fault;
	(void)entry;
	c->faults++;
	return 0;
}

static int refuse_damaged(const struct compact *c)
{
	qed_log_write(&c->options->log, QED_LOG_ERROR,
		      "%s: damaged: %" PRIu64 " entries of its tables are "
		      "wrong; %smend it first with 'qedimg check -r all'",
		      file_of(c)->path, c->faults,
		      c->r.changed ? "" : "nothing was changed, ");
	return -EUCLEAN;
}

/* The map's spare clusters: as many as the job needs and the file may get. */
static uint64_t spare_clusters(const struct compact *c)
{
	const struct qed_header *h = &c->r.layer->header;

	if (file_of(c)->block_device)
		return 0;
	return qed_arrange_spare(h, c->r.size, c->batch);
}

static int walk(struct compact *c, const struct qed_job *job)
{
	int ret;

	qed_scan_fini(&c->r.scan);
	c->faults = 0;
	c->r.scan = (struct qed_scan){
		.layer = c->r.layer,
		.end = qed_round_down(c->r.size, UINT64_C(1) << bits_of(c)),
		.job = job,
		.fault = on_fault,
		.opaque = c,
		.spare = spare_clusters(c),
	};
	ret = qed_scan_run(&c->r.scan);
	if (ret == -ECANCELED)
		return ret;
	if (ret < 0 && c->r.scan.failed_off)
		return qed_relocate_complain_at(&c->r, ret,
						"cannot read a table",
						c->r.scan.failed_off);
	if (ret < 0)
		return qed_relocate_complain(&c->r, ret, "cannot read all of "
					     "its tables");
	return c->faults ? refuse_damaged(c) : 0;
}

/* --- the end ------------------------------------------------------------------------ */

static uint64_t end_of(const struct compact *c)
{
	return qed_used_end(&c->r.scan.used) << bits_of(c);
}

/* What is free before the end stays so, but takes up no space. */
static int punch_gaps(struct compact *c, uint64_t end)
{
	const struct qed_used *used = &c->r.scan.used;
	uint64_t first = 0, last = end >> bits_of(c);

	while ((first = qed_used_next(used, first, false)) < last) {
		uint64_t next = qed_min(qed_used_next(used, first, true), last);
		uint64_t off = first << bits_of(c);
		uint64_t len = (next - first) << bits_of(c);
		int ret = 0;

		if (qed_file_next_data(file_of(c), off) < off + len)
			ret = qed_file_run(file_of(c), QED_OP_PUNCH, off, len);
		if (ret < 0 && ret != -EOPNOTSUPP)
			return ret;
		first = next;
	}
	return 0;
}

/* A device cannot be cut: the space behind the end is given back all the same. */
static int cut(struct compact *c, uint64_t end)
{
	uint64_t old = c->report->end_before;
	int ret;

	if (!file_of(c)->block_device)
		return qed_file_cut(file_of(c), end);
	if (old <= end)
		return 0;
	ret = qed_file_run(file_of(c), QED_OP_PUNCH, end, old - end);
	return ret == -EOPNOTSUPP ? 0 : ret;
}

/* Is there anything that end_job() has to do? */
static bool is_as_it_was(const struct compact *c, uint64_t end)
{
	return !c->r.changed && c->r.scan.used.count == end >> bits_of(c) &&
	       (file_of(c)->block_device || c->r.size == end) &&
	       !(c->r.layer->header.features & QED_FEATURE_NEED_CHECK);
}

/* Everything is consistent, in any case; `complete`: and where it should be. */
static int end_job(struct compact *c, bool complete)
{
	uint64_t end = end_of(c);
	int ret = qed_relocate_settle(&c->r);

	if (ret < 0 || is_as_it_was(c, end))
		return ret;
	ret = qed_relocate_clear_flag(&c->r);
	if (ret < 0)
		return ret;
	ret = cut(c, end);
	if (ret == 0 && complete)
		ret = punch_gaps(c, end);
	if (ret == 0)
		ret = qed_file_flush(file_of(c));
	return ret < 0 ? qed_relocate_complain(&c->r, ret, "cannot give space "
					       "back") :
			 0;
}

static int say_stopped(const struct compact *c)
{
	qed_log_write(&c->options->log, QED_LOG_ERROR,
		      "%s: stopped; nothing is lost, and it can be run again "
		      "to go on",
		      file_of(c)->path);
	return -ECANCELED;
}

/*
 * The layout was not finished, but the map is right: what can still be done.
 * After any other failure it is not known what is on the disk.
 */
static int end_early(struct compact *c, int err)
{
	if (err == -ECANCELED) {
		int ret = end_job(c, false);

		return ret < 0 ? ret : say_stopped(c);
	}
	if (c->r.full)
		(void)end_job(c, false);
	return err;
}

/* --- the steps ------------------------------------------------------------------------ */

static void report_before(struct compact *c)
{
	struct qed_compact_report *report = c->report;

	report->size_before = report->size_after = c->r.size;
	report->end_before = report->end_after = end_of(c);
	report->clusters = c->r.scan.allocated;
	report->fragments_before = report->fragments_after =
		c->r.scan.fragments;
}

static void report_after(struct compact *c)
{
	struct qed_compact_report *report = c->report;

	report->moved = c->r.moved;
	report->moved_tables = c->r.moved_tables;
	report->dropped = c->r.dropped;
	report->end_after = end_of(c);
	report->size_after = file_of(c)->block_device ? c->r.size :
							report->end_after;
	report->clusters = c->r.scan.allocated;
	report->fragments_after = c->r.scan.fragments;
}

/* What would come of it, unless clusters of zeroes are dropped. */
static int predict(struct compact *c)
{
	struct qed_compact_report *report = c->report;
	struct qed_used *used = &c->r.scan.used;
	uint64_t end;
	int ret = qed_trim_tables(&c->r, false, &report->dropped_tables);

	if (ret < 0)
		return ret;
	end = qed_arrange_end(&c->r,
			      used->count - report->dropped_tables *
					    c->r.layer->header.table_size);
	report->end_after = end << bits_of(c);
	if (!file_of(c)->block_device)
		report->size_after = report->end_after;
	return 0;
}

static int arrange(struct compact *c)
{
	uint64_t bytes = c->r.scan.allocated << bits_of(c);
	int ret = 0;

	if (wants(c, QED_COMPACT_ZEROES)) {
		c->r.total = bytes;
		ret = qed_trim_zeroes(&c->r, c->batch);
	}
	if (ret == 0)
		ret = qed_trim_tables(&c->r, true, &c->report->dropped_tables);
	if (ret < 0)
		return ret;
	c->r.done = 0;
	if (!wants(c, QED_COMPACT_DEFRAG))
		return qed_arrange_pack(&c->r, c->batch);
	c->r.total = bytes - (c->r.dropped << bits_of(c));
	ret = qed_arrange_tables(&c->r, c->batch);
	return ret < 0 ? ret : qed_arrange_data(&c->r, c->batch);
}

/* Judges what is there now.  It cannot be stopped: the map is needed. */
static int walk_again(struct compact *c)
{
	int ret = walk(c, NULL);

	if (ret == 0 &&
	    c->r.scan.allocated + c->r.dropped != c->report->clusters)
		ret = qed_relocate_complain(&c->r, -EIO, "the host has lost "
					    "what was written; do not write to "
					    "the image but check it");
	return ret;
}

static int finish(struct compact *c)
{
	int ret = qed_relocate_settle(&c->r);

	if (ret == 0 && c->r.changed)
		ret = walk_again(c);
	if (ret < 0)
		return ret;
	ret = end_job(c, true);
	if (ret < 0)
		return ret;
	report_after(c);
	/* It is too late to be stopped: nobody is asked. */
	if (c->r.job && c->r.job->progress)
		c->r.job->progress(c->r.job->opaque, qed_max(c->r.total, 1),
				   qed_max(c->r.total, 1));
	return 0;
}

static int run(struct compact *c)
{
	int ret = walk(c, &c->walk_job);

	if (ret < 0)
		return ret == -ECANCELED ? say_stopped(c) : ret;
	report_before(c);
	if (wants(c, QED_COMPACT_DRY_RUN))
		return predict(c);
	ret = qed_undo_drop(file_of(c));
	if (ret < 0)
		return ret;
	ret = arrange(c);
	return ret < 0 ? end_early(c, ret) : finish(c);
}

/* --- opening ---------------------------------------------------------------------------- */

static int open_image(struct compact *c, const char *path,
		      struct qed_engine *engine)
{
	bool writable = !wants(c, QED_COMPACT_DRY_RUN);
	struct qed_file *file;
	int ret = qed_file_open(path, writable, engine, &c->options->log,
				&file);

	if (ret < 0)
		return ret;
	ret = qed_lock_take(file->fd, writable, path, &c->options->log);
	if (ret < 0) {
		qed_file_close(file);
		return ret;
	}
	/* It owns the file, whatever happens. */
	ret = qed_layer_create(file, 0, false, NULL, &c->r.layer);
	if (ret < 0)
		return ret;
	ret = qed_file_size(file, &c->r.size);
	return ret < 0 ? qed_relocate_complain(&c->r, ret, "cannot get the "
					       "size") :
			 0;
}

static uint64_t batch_clusters(const struct compact *c)
{
	uint64_t bytes = c->options->batch ? c->options->batch : BATCH_BYTES;

	return qed_max(qed_min(bytes, BATCH_BYTES) >> bits_of(c), 1);
}

static int compact(struct compact *c, const char *path,
		   struct qed_engine *engine)
{
	int ret = open_image(c, path, engine);

	if (ret == 0) {
		c->batch = batch_clusters(c);
		ret = qed_relocate_init(&c->r);
	}
	if (ret == 0)
		ret = run(c);
	qed_relocate_fini(&c->r);
	qed_scan_fini(&c->r.scan);
	qed_layer_destroy(c->r.layer);
	return ret;
}

int qed_image_compact_engine(const char *path,
			     const struct qed_compact_options *options,
			     struct qed_engine *engine,
			     struct qed_compact_report *report)
{
	struct compact c = {
		.options = options,
		.report = report,
		.r = { .job = options->job },
	};
	int ret;

	memset(report, 0, sizeof(*report));
	if (options->job)
		c.walk_job = (struct qed_job){
			.cancelled = options->job->cancelled,
			.opaque = options->job->opaque,
		};
	ret = compact(&c, path, engine);
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_compact(const char *path,
		      const struct qed_compact_options *options,
		      struct qed_compact_report *report)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(options->io, path, &options->log, &engine);

	if (ret < 0) {
		memset(report, 0, sizeof(*report));
		return ret;
	}
	return qed_image_compact_engine(path, options, engine, report);
}
