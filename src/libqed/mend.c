/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The check as a job of its own, and its repairs; qed.h states the contract.
 *
 * Without a repair there is one pass over the tables, which reports.  A repair of
 * everything makes passes that report and mend until one finds nothing: what is
 * copied can itself name clusters twice, and is then found by the next pass.  The
 * first pass only copies data away from where tables are: it may be the table that
 * is in the wrong place, and then later passes clear what looks like its entries.
 *
 * Order on disk, for each part of a table that changes: the copies that its new
 * entries name, sync; its older bytes into the undo file, sync; the entries.  After
 * the pass that found nothing: sync, NEED_CHECK cleared, sync; only then are leaks
 * given back.  An interruption at any point leaves an image in which each entry is
 * the older or the mended one, at worst with leaks; the next run goes on from there.
 */
#include "config.h"

#include "check.h"
#include "lock.h"
#include "mend.h"
#include "scan.h"
#include "undo.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COPY_BYTES (UINT64_C(1) << 20)
#define PASSES_MAX 16

struct mend {
	const struct qed_check_options *options;
	struct qed_check_report *report;
	struct qed_file *file;
	struct qed_layer *layer;
	struct qed_scan scan;		/* the pass under way, or the last */
	struct qed_undo undo;
	bool mending;			/* passes change entries */
	bool first_pass;
	bool unsynced;			/* copies that are not durable */
	bool header_ready;		/* for the first change */
	uint64_t faults;		/* of this pass */
	uint64_t fixed;			/* of them */
	uint64_t cut;			/* offset of the last cluster if it is
					 * cut short, else UINT64_MAX */
	uint64_t next;			/* where the next copy goes */
	uint8_t *buf;			/* COPY_BYTES */
	struct qed_fault fault;		/* not yet reported, if count */
};

static const char *const kind_names[QED_FAULT_KINDS] = {
	[QED_FAULT_RESERVED_BITS] = "reserved-bits",
	[QED_FAULT_UNALIGNED] = "unaligned",
	[QED_FAULT_PAST_END] = "past-end",
	[QED_FAULT_IN_HEADER] = "in-header",
	[QED_FAULT_IN_L1_TABLE] = "in-l1-table",
	[QED_FAULT_IN_L2_TABLE] = "in-l2-table",
	[QED_FAULT_SHARED] = "shared",
	[QED_FAULT_LEAK] = "leak",
};

static const char *const action_names[QED_ACTION_KINDS] = {
	[QED_ACTION_NONE] = "none",
	[QED_ACTION_DROP] = "drop",
	[QED_ACTION_COPY] = "copy",
	[QED_ACTION_EXTEND] = "extend",
	[QED_ACTION_TRUNCATE] = "truncate",
	[QED_ACTION_PUNCH] = "punch",
};

const char *qed_fault_kind_name(enum qed_fault_kind kind)
{
	return (unsigned)kind < QED_FAULT_KINDS ? kind_names[kind] : "unknown";
}

const char *qed_fault_action_name(enum qed_fault_action action)
{
	return (unsigned)action < QED_ACTION_KINDS ? action_names[action] :
						     "unknown";
}

static bool repairs(const struct mend *m, uint32_t what)
{
	return (m->options->flags & what) == what;
}

static bool dry_run(const struct mend *m)
{
	return m->options->flags & QED_CHECK_DRY_RUN;
}

static int complain(const struct mend *m, int err, const char *what)
{
	qed_log_write(&m->options->log, QED_LOG_ERROR, "%s: %s: %s",
		      m->file->path, what, strerror(-err));
	return err;
}

static int flush(const struct mend *m)
{
	int ret = qed_file_flush(m->file);

	return ret < 0 ? complain(m, ret, "cannot make it durable") : 0;
}

static void flush_report(struct mend *m)
{
	if (m->fault.count && m->options->fault)
		m->options->fault(m->options->opaque, &m->fault);
	m->fault.count = 0;
}

static bool continues(const struct qed_fault *last, const struct qed_fault *f)
{
	return last->count && last->kind == f->kind &&
	       last->action == f->action && last->level == f->level &&
	       f->level && f->len && last->disk_off + last->len == f->disk_off &&
	       last->file_off + last->count * QED_ENTRY_BYTES == f->file_off;
}

/* Neighbours that are alike are reported in one. */
static void report_fault(struct mend *m, const struct qed_fault *fault,
			 enum qed_fault_action action)
{
	struct qed_fault f = *fault;

	f.action = action;
	if (!f.count)
		f.count = 1;
	if (continues(&m->fault, &f)) {
		m->fault.len += f.len;
		m->fault.count++;
		return;
	}
	flush_report(m);
	m->fault = f;
}

static enum qed_fault_action action_for(const struct mend *m,
					const struct qed_fault *fault)
{
	if (!repairs(m, QED_CHECK_ALL))
		return QED_ACTION_NONE;
	if (fault->kind == QED_FAULT_SHARED ||
	    fault->kind == QED_FAULT_IN_L2_TABLE)
		return QED_ACTION_COPY;
	if (fault->kind == QED_FAULT_PAST_END && fault->level == 2 &&
	    fault->entry == m->cut)
		return QED_ACTION_EXTEND;
	return QED_ACTION_DROP;
}

/* --- changing the image -------------------------------------------------------- */

static int write_header(struct mend *m)
{
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	qed_header_encode(&m->layer->header, buf);
	ret = qed_file_write(m->file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(m->file);
}

/* What has to be so before anything of the image is changed. */
static int prepare_header(struct mend *m)
{
	int ret = 0;

	if (m->header_ready)
		return 0;
	if (m->layer->header.autoclear_features) {
		m->layer->header.autoclear_features = 0;
		ret = write_header(m);
	}
	m->header_ready = ret == 0;
	return ret;
}

/* Copies `len` bytes; what is zero stays a hole of the grown file. */
static int copy_bytes(struct mend *m, uint64_t from, uint64_t to, uint64_t len)
{
	int ret = 0;

	for (uint64_t at = 0; ret == 0 && at < len; at += COPY_BYTES) {
		uint64_t n = qed_min(COPY_BYTES, len - at);
		struct iovec iov = { .iov_base = m->buf, .iov_len = n };

		ret = qed_file_read(m->file, m->buf, n, from + at);
		if (ret == 0 && (m->file->block_device ||
				 !qed_iov_is_zero(&iov, 1, 0, n)))
			ret = qed_file_write(m->file, m->buf, n, to + at);
	}
	return ret;
}

/* Gives what an entry names a place of its own at the end of the file. */
static int copy_apart(struct mend *m, uint64_t *entry, uint64_t len)
{
	uint64_t to = m->next, end = 0;
	int ret = prepare_header(m);

	if (ret == 0 && (!qed_add(to, len, &end) || end > INT64_MAX))
		ret = -EFBIG;
	if (ret == 0)
		ret = qed_file_lengthen(m->file, end);
	if (ret == 0)
		ret = copy_bytes(m, *entry, to, len);
	if (ret < 0)
		return complain(m, ret, "cannot copy a shared cluster");
	m->next = end;
	m->unsynced = true;
	*entry = to;
	return 0;
}

static int extend_over_cut(struct mend *m)
{
	int ret = prepare_header(m);

	if (ret == 0)
		ret = qed_file_lengthen(m->file,
				      m->cut + m->layer->header.cluster_size);
	if (ret < 0)
		return complain(m, ret, "cannot extend the file");
	m->unsynced = true;
	return 0;
}

static int mend_fault(struct mend *m, const struct qed_fault *fault,
		      enum qed_fault_action action, uint64_t *entry)
{
	const struct qed_header *h = &m->layer->header;
	int ret = 0;

	if (action == QED_ACTION_COPY)
		ret = copy_apart(m, entry, fault->level == 1 ?
						   h->table_bytes :
						   h->cluster_size);
	else if (action == QED_ACTION_EXTEND)
		ret = extend_over_cut(m);
	else
		*entry = QED_ENTRY_UNALLOCATED;
	m->fixed += ret == 0;
	return ret;
}

static int on_fault(struct qed_scan *scan, const struct qed_fault *fault,
		    uint64_t *entry)
{
	struct mend *m = scan->opaque;
	enum qed_fault_action action = action_for(m, fault);
	int ret = 0;

	m->faults++;
	if (m->mending && m->first_pass &&
	    fault->kind != QED_FAULT_IN_L2_TABLE)
		return 0;
	if (m->mending)
		ret = mend_fault(m, fault, action, entry);
	if (ret == 0)
		report_fault(m, fault, action);
	return ret;
}

static int on_write(struct qed_scan *scan, const void *entries, uint64_t len,
		    uint64_t file_off)
{
	struct mend *m = scan->opaque;
	int ret = prepare_header(m);

	if (ret == 0 && m->unsynced)
		ret = qed_file_flush(m->file);
	m->unsynced = m->unsynced && ret < 0;
	if (ret < 0)
		return complain(m, ret, "cannot write");
	if (!m->undo.file)
		ret = qed_undo_open(&m->undo, m->file);
	if (ret == 0)
		ret = qed_undo_save(&m->undo, m->file, entries, len, file_off);
	if (ret < 0)
		return ret;
	m->report->undo_saved = true;
	ret = qed_file_write(m->file, entries, len, file_off);
	return ret < 0 ? complain(m, ret, "cannot write a table") : 0;
}

/* --- passes -------------------------------------------------------------------- */

static int find_end(struct mend *m)
{
	uint32_t cluster = m->layer->header.cluster_size;
	uint64_t size;
	int ret = qed_file_size(m->file, &size);

	if (ret < 0)
		return complain(m, ret, "cannot get the size");
	m->scan.end = qed_round_down(size, cluster);
	m->next = qed_round_up(size, cluster);
	m->cut = m->next > size ? m->scan.end : UINT64_MAX;
	return 0;
}

static int pass(struct mend *m)
{
	bool already_said;
	int ret;

	qed_scan_fini(&m->scan);
	m->scan = (struct qed_scan){
		.layer = m->layer,
		.job = m->options->job,
		.fault = on_fault,
		.write = on_write,
		.opaque = m,
		.skip_unreadable = true,
	};
	m->faults = m->fixed = 0;
	ret = find_end(m);
	if (ret < 0)
		return ret;
	ret = qed_scan_run(&m->scan);
	flush_report(m);
	m->report->corruptions_fixed += m->fixed;
	m->report->check_errors = m->scan.unreadable;
	/* Hooks say what went wrong; the walk itself does not. */
	already_said = m->mending && ret != -ECANCELED && ret != -ENOMEM &&
		       ret != -EFBIG;
	if (ret < 0 && !already_said)
		complain(m, ret, ret == -ECANCELED ? "check" :
				 "too many clusters for the check's memory");
	return ret;
}

static int passes(struct mend *m)
{
	int ret = 0;

	m->mending = repairs(m, QED_CHECK_ALL) && !dry_run(m);
	for (int i = 0; i < PASSES_MAX; i++) {
		m->first_pass = i == 0;
		ret = pass(m);
		if (ret < 0 || !m->mending || !m->faults || m->scan.unreadable)
			break;
	}
	/* Those of the last pass: what it mended itself nobody has verified. */
	m->report->corruptions = m->faults;
	return ret;
}

static void count_clusters(struct mend *m)
{
	const struct qed_header *h = &m->layer->header;
	struct qed_check_report *r = m->report;

	r->total_clusters = h->image_size / h->cluster_size +
			    (h->image_size % h->cluster_size != 0);
	r->allocated_clusters = m->scan.allocated;
	r->fragmented_clusters = m->scan.fragments;
	r->image_end_offset = qed_used_end(&m->scan.used) << h->cluster_bits;
	r->need_check = h->features & QED_FEATURE_NEED_CHECK;
}

/* --- leaks --------------------------------------------------------------------- */

/* Clusters of [start, end) that take up space on the host. */
static uint64_t count_stored(struct mend *m, uint64_t start, uint64_t end)
{
	uint32_t cluster = m->layer->header.cluster_size;
	uint64_t n = 0;

	while (start < end) {
		uint64_t data = qed_file_next_data(m->file, start), hole;

		if (data >= end)
			break;
		hole = qed_min(qed_file_next_hole(m->file, data), end);
		start = qed_round_up(qed_max(hole, data + 1), cluster);
		n += (start - qed_round_down(data, cluster)) / cluster;
	}
	return n;
}

static int give_back(struct mend *m, const struct qed_fault *leak,
		     enum qed_fault_action action)
{
	int ret = prepare_header(m);

	if (ret < 0)
		return complain(m, ret, "cannot write");
	if (action == QED_ACTION_TRUNCATE)
		ret = qed_file_cut(m->file, leak->file_off);
	else
		ret = qed_file_run(m->file, QED_OP_PUNCH, leak->file_off,
				   leak->len);
	return ret < 0 ? complain(m, ret, "cannot give leaked clusters back") :
			 0;
}

static int handle_leak(struct mend *m, uint64_t first, uint64_t end, bool mend)
{
	unsigned bits = m->layer->header.cluster_bits;
	struct qed_fault leak = {
		.kind = QED_FAULT_LEAK,
		.file_off = first << bits,
		.len = (end - first) << bits,
		.count = end - first,
	};
	bool tail = end == m->scan.used.n && !m->file->block_device;
	uint64_t stored = tail ? leak.count :
				 count_stored(m, first << bits, end << bits);
	enum qed_fault_action action = QED_ACTION_NONE;
	int ret = 0;

	if (m->options->flags & QED_CHECK_LEAKS && !m->report->corruptions)
		action = tail ? QED_ACTION_TRUNCATE :
			 stored ? QED_ACTION_PUNCH : QED_ACTION_NONE;
	report_fault(m, &leak, action);
	if (mend && action != QED_ACTION_NONE) {
		ret = give_back(m, &leak, action);
		if (ret == 0)
			m->report->leaks_fixed += stored;
		if (ret == 0 && tail)
			return 0;
		stored = ret == 0 ? 0 : stored;
	}
	m->report->leaks += leak.count;
	m->report->empty_leaks += leak.count - stored;
	return ret;
}

/* A device has no end of its own: what is behind the image is not leaked. */
static uint64_t leaks_end(const struct mend *m)
{
	return m->file->block_device ? qed_used_end(&m->scan.used) :
				       m->scan.used.n;
}

static int handle_leaks(struct mend *m, bool mend)
{
	const struct qed_used *used = &m->scan.used;
	uint64_t end = leaks_end(m), first = 0;
	int ret = 0;

	while (ret == 0 &&
	       (first = qed_used_next(used, first, false)) < end) {
		uint64_t next = qed_min(qed_used_next(used, first, true), end);

		ret = handle_leak(m, first, next, mend);
		first = next;
	}
	/* Bytes of a cluster that nobody names are no leak, but go as well. */
	if (ret == 0 && mend && m->cut != UINT64_MAX)
		ret = qed_file_cut(m->file, m->report->image_end_offset);
	flush_report(m);
	return ret;
}

/* --- the job ------------------------------------------------------------------- */

/* The flag is part of what --undo brings back. */
static int save_flag(struct mend *m)
{
	struct qed_header header = m->layer->header;
	uint8_t buf[QED_HEADER_BYTES];

	if (!m->undo.file)
		return 0;
	header.features &= ~QED_FEATURE_NEED_CHECK;
	qed_header_encode(&header, buf);
	return qed_undo_save(&m->undo, m->file, buf, sizeof(buf), 0);
}

static int clear_flag(struct mend *m)
{
	int ret = flush(m);

	if (ret < 0 || !m->report->need_check)
		return ret;
	ret = save_flag(m);
	if (ret < 0)
		return ret;
	ret = prepare_header(m);
	if (ret == 0)
		ret = qed_check_clear_flag(m->layer);
	m->report->need_check = ret < 0;
	return ret < 0 ? complain(m, ret, "cannot clear NEED_CHECK") : 0;
}

static int run(struct mend *m)
{
	bool mend = m->options->flags & QED_CHECK_LEAKS && !dry_run(m);
	int ret = passes(m);

	if (ret < 0)
		return ret;
	count_clusters(m);
	/* What looks leaked may be what a damaged table has lost. */
	mend = mend && !m->report->corruptions && !m->report->check_errors;
	if (mend)
		ret = clear_flag(m);
	if (ret == 0)
		ret = handle_leaks(m, mend);
	if (ret == 0 && mend && m->report->leaks_fixed)
		ret = flush(m);
	return ret;
}

static int open_image(struct mend *m, const char *path,
		      struct qed_engine *engine, bool writable)
{
	int ret = qed_file_open(path, writable, engine, &m->options->log,
				&m->file);

	if (ret < 0)
		return ret;
	if (!(m->options->flags & QED_CHECK_FORCE_SHARE))
		ret = qed_lock_take(m->file->fd, writable, path,
				    &m->options->log);
	if (ret < 0) {
		qed_file_close(m->file);
		return ret;
	}
	/* It owns the file, whatever happens. */
	return qed_layer_create(m->file, 0, false, NULL, &m->layer);
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

static int check_image(struct mend *m, const char *path,
		       struct qed_engine *engine)
{
	bool writable = m->options->flags & QED_CHECK_LEAKS && !dry_run(m);
	int ret = open_image(m, path, engine, writable);

	if (ret < 0)
		return ret;
	m->buf = malloc(COPY_BYTES);
	ret = m->buf ? run(m) : complain(m, -ENOMEM, "check");
	qed_scan_fini(&m->scan);
	qed_undo_close(&m->undo);
	qed_layer_destroy(m->layer);
	free(m->buf);
	return ret;
}

int qed_image_check_engine(const char *path,
			   const struct qed_check_options *options,
			   struct qed_engine *engine,
			   struct qed_check_report *report)
{
	struct mend m = { .options = options, .report = report };
	int ret;

	memset(report, 0, sizeof(*report));
	ret = check_image(&m, path, engine);
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
	ret = qed_engine_create(options->io, &engine);
	if (ret < 0) {
		qed_log_write(&options->log, QED_LOG_ERROR,
			      "%s: cannot start the I/O engine: %s", path,
			      strerror(-ret));
		return ret;
	}
	return qed_image_check_engine(path, options, engine, report);
}

int qed_image_check_undo_engine(const char *path, const struct qed_log *log,
				struct qed_engine *engine)
{
	struct qed_check_options options = { .log = *log };
	struct mend m = { .options = &options };
	int ret = open_image(&m, path, engine, true);

	if (ret == 0) {
		ret = qed_undo_apply(m.file);
		qed_layer_destroy(m.layer);
	}
	qed_engine_destroy(engine);
	return ret;
}

int qed_image_check_undo(const char *path, const struct qed_log *log)
{
	struct qed_engine *engine;
	int ret = qed_engine_create(QED_IO_AUTO, &engine);

	if (ret < 0) {
		qed_log_write(log, QED_LOG_ERROR,
			      "%s: cannot start the I/O engine: %s", path,
			      strerror(-ret));
		return ret;
	}
	return qed_image_check_undo_engine(path, log, engine);
}
