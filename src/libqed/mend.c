/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check as a job of its own, and its repairs; qed.h states the contract.
 *
 * Without a repair there is one pass over the tables, which reports.  A repair
 * of everything makes passes that report and mend until one finds nothing: what
 * is copied can itself name clusters twice, and is then found by the next pass.
 * The first pass only copies data away from where tables are: it may be the
 * table that is in the wrong place, and then later passes clear what looks like
 * its entries.  The second one drops all entries for what is past the end;
 * since the file has grown by then, it goes by the end that the file had, and
 * by whose the copies are.  Both do so if an earlier run was interrupted, which
 * may have made the file longer: the undo file tells.
 *
 * Order on disk: the undo file's header, sync.  For each part of a table that
 * changes: the copies that its new entries name, sync; its older bytes into the
 * undo file, sync; the entries.  After the pass that found nothing: sync,
 * NEED_CHECK cleared, sync; the undo file says that the repair is over, sync; only
 * then are leaks given back.  An interruption at any point leaves an image in which
 * each entry is the older or the mended one, at worst with leaks; the next run goes
 * on from there, and until it is over nobody else writes to the image.
 */
#include "config.h"

#include "check.h"
#include "lock.h"
#include "mend.h"
#include "repair.h"
#include "revert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSES_MAX 16

static bool repairs(const struct qed_repair *r, uint32_t what)
{
	return (r->options->flags & what) == what;
}

static bool dry_run(const struct qed_repair *r)
{
	return r->options->flags & QED_CHECK_DRY_RUN;
}

int qed_repair_complain(struct qed_repair *r, int err, const char *what)
{
	if (r->said)
		return err;
	r->said = true;
	qed_log_write(&r->options->log, QED_LOG_ERROR, "%s: %s: %s",
		      r->file->path, what, strerror(-err));
	return err;
}

int qed_repair_complain_at(struct qed_repair *r, int err, const char *what,
			   uint64_t file_off)
{
	char text[QED_MESSAGE_MAX];

	snprintf(text, sizeof(text), "%s at file offset %" PRIu64, what,
		 file_off);
	return qed_repair_complain(r, err, text);
}

static int flush(struct qed_repair *r)
{
	int ret = qed_file_flush(r->file);

	return ret < 0 ? qed_repair_complain(r, ret,
					     "cannot make it durable") : 0;
}

void qed_repair_flush_report(struct qed_repair *r)
{
	if (r->fault.count && r->options->fault)
		r->options->fault(r->options->opaque, &r->fault);
	r->fault.count = 0;
}

static bool continues(const struct qed_fault *last, const struct qed_fault *f)
{
	/* Past the end of the disk no offset tells. */
	bool next = f->len ? last->disk_off + last->len == f->disk_off :
			     !last->len;

	return last->count && last->kind == f->kind &&
	       last->action == f->action && last->level == f->level &&
	       f->level && next &&
	       last->file_off + last->count * QED_ENTRY_BYTES == f->file_off;
}

void qed_repair_report(struct qed_repair *r, const struct qed_fault *fault,
		       enum qed_fault_action action)
{
	struct qed_fault f = *fault;

	f.action = action;
	if (!f.count)
		f.count = 1;
	if (continues(&r->fault, &f)) {
		r->fault.len += f.len;
		r->fault.count++;
		return;
	}
	qed_repair_flush_report(r);
	r->fault = f;
}

static enum qed_fault_action action_for(const struct qed_repair *r,
					const struct qed_fault *fault)
{
	if (!repairs(r, QED_CHECK_ALL))
		return QED_ACTION_NONE;
	if (fault->kind == QED_FAULT_SHARED ||
	    fault->kind == QED_FAULT_IN_L2_TABLE)
		return QED_ACTION_COPY;
	if (fault->kind == QED_FAULT_PAST_END && fault->level == 2 &&
	    fault->entry == r->cut && r->cut == r->old_cut)
		return QED_ACTION_EXTEND;
	return QED_ACTION_DROP;
}

/* --- changing the image -------------------------------------------------------- */

int qed_repair_prepare(struct qed_repair *r)
{
	int ret = 0;

	if (r->header_ready)
		return 0;
	if (r->layer->header.autoclear_features) {
		r->layer->header.autoclear_features = 0;
		ret = qed_layer_write_header(r->layer);
	}
	r->header_ready = ret == 0;
	return ret;
}

static int fail_copy(struct qed_repair *r, int err, uint64_t file_off)
{
	return qed_repair_complain_at(r, err, "cannot copy a shared cluster",
				      file_off);
}

/* Copies `len` bytes; what is zero stays a hole of the grown file. */
static int copy_bytes(struct qed_repair *r, uint64_t from, uint64_t to,
		      uint64_t len)
{
	int ret;

	for (uint64_t at = 0; at < len; at += QED_REPAIR_BYTES) {
		uint64_t n = qed_min(QED_REPAIR_BYTES, len - at);
		struct iovec iov = { .iov_base = r->buf, .iov_len = n };

		ret = qed_file_read(r->file, r->buf, n, from + at);
		if (ret < 0)
			return fail_copy(r, ret, from + at);
		if (r->file->block_device || !qed_iov_is_zero(&iov, 1, 0, n))
			ret = qed_file_write(r->file, r->buf, n, to + at);
		if (ret < 0)
			return fail_copy(r, ret, to + at);
	}
	return 0;
}

/* Gives what an entry names a place of its own at the end of the file. */
static int copy_apart(struct qed_repair *r, uint64_t *entry, uint64_t len)
{
	uint64_t to = r->next, end = 0;
	int ret = qed_repair_prepare(r);

	if (ret == 0 && (!qed_add(to, len, &end) || end > INT64_MAX))
		ret = -EFBIG;
	if (ret == 0)
		ret = qed_file_lengthen(r->file, end);
	if (ret == 0)
		ret = copy_bytes(r, *entry, to, len);
	if (ret < 0)
		return fail_copy(r, ret, to);
	r->next = end;
	r->unsynced = true;
	*entry = to;
	return 0;
}

static int extend_over_cut(struct qed_repair *r)
{
	int ret = qed_repair_prepare(r);

	if (ret == 0)
		ret = qed_file_lengthen(r->file,
				      r->cut + r->layer->header.cluster_size);
	if (ret < 0)
		return qed_repair_complain(r, ret, "cannot extend the file");
	r->unsynced = true;
	return 0;
}

static int mend_fault(struct qed_repair *r, const struct qed_fault *fault,
		      enum qed_fault_action action, uint64_t *entry)
{
	const struct qed_header *h = &r->layer->header;
	int ret = qed_saving_begin(r);

	if (ret < 0)
		return ret;
	if (fault->level == 1)
		qed_leaks_note_table(r, *entry);
	if (action == QED_ACTION_COPY)
		ret = copy_apart(r, entry, fault->level == 1 ?
						   h->table_bytes :
						   h->cluster_size);
	else if (action == QED_ACTION_EXTEND)
		ret = extend_over_cut(r);
	else
		*entry = QED_ENTRY_UNALLOCATED;
	if (ret == 0 && action == QED_ACTION_COPY)
		ret = qed_copies_note(r, fault, *entry);
	r->fixed += ret == 0;
	return ret;
}

/* The first pass leaves all but copies from tables to the others. */
static bool put_off(const struct qed_repair *r, const struct qed_fault *fault)
{
	return r->mending && !r->pass &&
	       (fault->kind != QED_FAULT_IN_L2_TABLE ||
		r->copies.n == QED_COPIES_MAX);
}

static int on_fault(struct qed_scan *scan, const struct qed_fault *fault,
		    uint64_t *entry)
{
	struct qed_repair *r = scan->opaque;
	enum qed_fault_action action = action_for(r, fault);
	int ret = 0;

	r->faults++;
	if (put_off(r, fault))
		return 0;
	if (r->mending)
		ret = mend_fault(r, fault, action, entry);
	if (ret == 0)
		qed_repair_report(r, fault, action);
	return ret;
}

static int on_write(struct qed_scan *scan, const void *entries, uint64_t len,
		    uint64_t file_off)
{
	struct qed_repair *r = scan->opaque;
	int ret = qed_repair_prepare(r);

	if (ret == 0 && r->unsynced)
		ret = qed_file_flush(r->file);
	r->unsynced = r->unsynced && ret < 0;
	if (ret < 0)
		return qed_repair_complain(r, ret, "cannot write");
	ret = qed_undo_save(&r->undo, r->file, entries, len, file_off);
	r->said = ret < 0;
	if (ret < 0)
		return ret;
	ret = qed_file_write(r->file, entries, len, file_off);
	return ret < 0 ? qed_repair_complain_at(r, ret, "cannot write a table",
						file_off) :
			 0;
}

/* --- passes -------------------------------------------------------------------- */

static int find_end(struct qed_repair *r)
{
	uint32_t cluster = r->layer->header.cluster_size;
	uint64_t size;
	int ret = qed_file_size(r->file, &size);

	if (ret < 0)
		return qed_repair_complain(r, ret, "cannot get the size");
	r->scan.end = qed_round_down(size, cluster);
	r->next = qed_round_up(size, cluster);
	r->cut = r->next > size ? r->scan.end : UINT64_MAX;
	if (!r->pass) {
		if (!r->resumed)
			qed_saving_set_end(r, size);
		r->copies.base = r->next;
	}
	return 0;
}

static int pass(struct qed_repair *r)
{
	int ret;

	qed_scan_fini(&r->scan);
	r->scan = (struct qed_scan){
		.layer = r->layer,
		.job = r->options->job,
		.fault = on_fault,
		.write = on_write,
		.opaque = r,
		.skip_unreadable = true,
	};
	r->faults = r->fixed = 0;
	ret = find_end(r);
	if (ret < 0)
		return ret;
	/* What named nothing before must not name what the file has grown by. */
	if (r->pass == 1 || (r->resumed && !r->pass)) {
		r->scan.known_end = qed_min(r->old_end, r->scan.end);
		r->scan.own = qed_copies_own;
	}
	ret = qed_scan_run(&r->scan);
	qed_repair_flush_report(r);
	r->report->corruptions_fixed += r->fixed;
	r->report->check_errors = r->scan.unreadable;
	if (ret < 0)
		qed_repair_complain(r, ret, ret == -ECANCELED ? "check" :
				    "too many clusters for the check's memory");
	return ret;
}

static int passes(struct qed_repair *r)
{
	int ret = 0;

	r->mending = repairs(r, QED_CHECK_ALL) && !dry_run(r);
	for (unsigned i = 0; i < PASSES_MAX; i++) {
		r->pass = i;
		ret = pass(r);
		if (ret < 0 || !r->mending || !r->faults || r->scan.unreadable)
			break;
	}
	/* Those of the last pass: what it mended itself nobody has verified. */
	r->report->corruptions = r->faults;
	return ret;
}

static void count_clusters(struct qed_repair *r)
{
	const struct qed_header *h = &r->layer->header;
	struct qed_check_report *report = r->report;

	report->total_clusters = h->image_size / h->cluster_size +
				 (h->image_size % h->cluster_size != 0);
	report->allocated_clusters = r->scan.allocated;
	report->fragmented_clusters = r->scan.fragments;
	report->image_end_offset = qed_used_end(&r->scan.used)
				   << h->cluster_bits;
	report->need_check = h->features & QED_FEATURE_NEED_CHECK;
}

/* --- the job ------------------------------------------------------------------- */

static int clear_flag(struct qed_repair *r)
{
	int ret = flush(r);

	if (ret < 0 || !r->report->need_check)
		return ret;
	ret = qed_repair_prepare(r);
	if (ret == 0)
		ret = qed_check_clear_flag(r->layer);
	r->report->need_check = ret < 0;
	return ret < 0 ? qed_repair_complain(r, ret, "cannot clear NEED_CHECK") :
			 0;
}

static int run(struct qed_repair *r)
{
	bool mend = r->options->flags & QED_CHECK_LEAKS && !dry_run(r);
	int ret = mend ? qed_saving_resume(r) : 0;

	if (!mend)
		qed_undo_is_pending(r->file, QED_LOG_WARNING);
	if (ret == 0)
		ret = passes(r);
	if (ret < 0)
		return ret;
	count_clusters(r);
	/* What looks leaked may be what a damaged table has lost. */
	mend = mend && !r->report->corruptions && !r->report->check_errors;
	if (mend)
		ret = clear_flag(r);
	if (ret == 0 && mend)
		ret = qed_saving_end(r);
	if (ret == 0)
		ret = qed_leaks_handle(r, mend);
	if (ret == 0 && mend && r->report->leaks_fixed)
		ret = flush(r);
	return ret;
}

static int open_image(struct qed_repair *r, const char *path,
		      struct qed_engine *engine, bool writable)
{
	int ret = qed_file_open(path, writable, engine, &r->options->log,
				&r->file);

	if (ret < 0)
		return ret;
	if (!(r->options->flags & QED_CHECK_FORCE_SHARE))
		ret = qed_lock_take(r->file->fd, writable, path,
				    &r->options->log);
	if (ret < 0) {
		qed_file_close(r->file);
		return ret;
	}
	/* It owns the file, whatever happens. */
	return qed_layer_create(r->file, 0, false, NULL, &r->layer);
}

static int check_options(const char *path,
			 const struct qed_check_options *options)
{
	if (!(options->flags & QED_CHECK_FORCE_SHARE) ||
	    !(options->flags & QED_CHECK_LEAKS) ||
	    options->flags & QED_CHECK_DRY_RUN)
		return 0;
	qed_log_write(&options->log, QED_LOG_ERROR,
		      "%s: cannot be repaired without locking it", path);
	return -EINVAL;
}

static int run_open(struct qed_repair *r)
{
	int ret;

	r->buf = malloc(QED_REPAIR_BYTES);
	ret = r->buf ? run(r) : qed_repair_complain(r, -ENOMEM, "check");
	qed_scan_fini(&r->scan);
	qed_undo_close(&r->undo);
	qed_leaks_fini(r);
	qed_copies_fini(r);
	free(r->buf);
	return ret;
}

int qed_check_layer(struct qed_layer *layer,
		    const struct qed_check_options *options,
		    struct qed_check_report *report)
{
	struct qed_repair r = {
		.options = options,
		.report = report,
		.file = layer->source.file,
		.layer = layer,
	};

	memset(report, 0, sizeof(*report));
	return run_open(&r);
}

static int check_image(struct qed_repair *r, const char *path,
		       struct qed_engine *engine)
{
	bool writable = r->options->flags & QED_CHECK_LEAKS && !dry_run(r);
	int ret = open_image(r, path, engine, writable);

	if (ret < 0)
		return ret;
	ret = run_open(r);
	qed_layer_destroy(r->layer);
	return ret;
}

int qed_image_check_engine(const char *path,
			   const struct qed_check_options *options,
			   struct qed_engine *engine,
			   struct qed_check_report *report)
{
	struct qed_repair r = { .options = options, .report = report };
	int ret;

	memset(report, 0, sizeof(*report));
	ret = check_image(&r, path, engine);
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_check(const char *path, const struct qed_check_options *options,
		    struct qed_check_report *report)
{
	struct qed_engine *engine;
	int ret = check_options(path, options);

	memset(report, 0, sizeof(*report));
	if (ret < 0)
		return ret;
	ret = qed_engine_start(options->io, path, &options->log, &engine);
	if (ret < 0)
		return ret;
	return qed_image_check_engine(path, options, engine, report);
}

int qed_image_check_undo_engine(const char *path, const struct qed_log *log,
				struct qed_engine *engine)
{
	struct qed_check_options options = { .log = *log };
	struct qed_repair r = { .options = &options };
	int ret = open_image(&r, path, engine, true);

	if (ret == 0) {
		ret = qed_revert(r.layer);
		qed_layer_destroy(r.layer);
	}
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_check_undo(const char *path, const struct qed_log *log)
{
	struct qed_engine *engine;
	int ret = qed_engine_start(QED_IO_AUTO, path, log, &engine);

	if (ret < 0)
		return ret;
	return qed_image_check_undo_engine(path, log, engine);
}
