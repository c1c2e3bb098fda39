/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check and repair at open.  A bad entry is cleared; what it mapped is
 * reported.  Order on disk: cleared entries, sync, header without NEED_CHECK,
 * sync; an interruption leaves NEED_CHECK set and the check is run again.
 */
#include "config.h"

#include "check.h"
#include "scan.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct check {
	struct qed_scan scan;
	struct qed_check_result *result;
	uint64_t lost_off, lost_len;	/* range of disk not yet reported */
};

static void report_lost(struct check *check)
{
	struct qed_layer *layer = check->scan.layer;

	if (check->lost_len)
		qed_log_write(&layer->log, QED_LOG_WARNING,
			      "%s: dropped a damaged mapping: disk offset "
			      "%" PRIu64 ", length %" PRIu64
			      " now reads as if never written",
			      layer->source.file->path, check->lost_off,
			      check->lost_len);
	check->lost_len = 0;
}

/* Neighbouring losses make one message. */
static void note_lost(struct check *check, uint64_t disk_off, uint64_t len)
{
	check->result->dropped++;
	if (!len)
		return;
	if (check->lost_len &&
	    check->lost_off + check->lost_len == disk_off) {
		check->lost_len += len;
		return;
	}
	report_lost(check);
	check->lost_off = disk_off;
	check->lost_len = len;
}

static int judge(struct qed_scan *scan, const struct qed_fault *fault,
		 uint64_t *entry)
{
	struct check *check = scan->opaque;

	if (fault->kind == QED_FAULT_SHARED ||
	    fault->kind == QED_FAULT_IN_L2_TABLE) {
		check->result->shared++;
		return 0;
	}
	*entry = QED_ENTRY_UNALLOCATED;
	note_lost(check, fault->disk_off, fault->len);
	return 0;
}

static int write_entries(struct qed_scan *scan, const void *entries,
			 uint64_t len, uint64_t file_off)
{
	return qed_file_write(scan->layer->source.file, entries, len, file_off);
}

int qed_check_clear_flag(struct qed_layer *layer)
{
	int ret = qed_file_flush(layer->source.file);

	if (ret < 0)
		return ret;
	layer->header.features &= ~QED_FEATURE_NEED_CHECK;
	return qed_layer_write_header(layer);
}

int qed_check_repair(struct qed_layer *layer, struct qed_check_result *result)
{
	struct check check = {
		.scan = {
			.layer = layer,
			.end = atomic_load(&layer->end),
			.fault = judge,
			.write = write_entries,
			.opaque = &check,
		},
		.result = result,
	};
	int ret;

	memset(result, 0, sizeof(*result));
	ret = qed_scan_run(&check.scan);
	report_lost(&check);
	qed_scan_fini(&check.scan);
	if (ret == 0 && !result->shared)
		ret = qed_check_clear_flag(layer);
	if (ret < 0)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: cannot check the image: %s; open it "
			      "read-only, or free memory and space",
			      layer->source.file->path, strerror(-ret));
	return ret;
}

/* --- before a job ----------------------------------------------------------------- */

static int count(struct qed_scan *scan, const struct qed_fault *fault,
		 uint64_t *entry)
{
	uint64_t *faults = scan->opaque;

	(void)fault;
	(void)entry;
	++*faults;
	return 0;
}

static int complain_unread(const struct qed_scan *scan, int err)
{
	const struct qed_log *log = &scan->layer->log;
	const char *path = scan->layer->source.file->path;

	if (err == -EFBIG) {
		qed_log_write(log, QED_LOG_WARNING,
			      "%s: has too many clusters for a look at all of "
			      "its tables before it is changed", path);
		return 0;
	}
	if (scan->failed_off)
		qed_log_write(log, QED_LOG_ERROR,
			      "%s: cannot read its tables at file offset %" PRIu64
			      ": %s; nothing was changed: %s", path,
			      scan->failed_off, strerror(-err),
			      qed_next_step(err));
	else
		qed_log_write(log, QED_LOG_ERROR,
			      "%s: cannot look at all of its tables: %s; nothing "
			      "was changed: %s", path, strerror(-err),
			      qed_next_step(err));
	return err;
}

int qed_check_sound(struct qed_layer *layer, const struct qed_job *job)
{
	uint64_t faults = 0;
	struct qed_scan scan = {
		.layer = layer,
		.end = atomic_load(&layer->end),
		.job = job,
		.fault = count,
		.opaque = &faults,
	};
	int ret = qed_scan_run(&scan);

	qed_scan_fini(&scan);
	if (ret < 0)
		return complain_unread(&scan, ret);
	if (!faults)
		return 0;
	qed_log_write(&layer->log, QED_LOG_ERROR,
		      "%s: damaged: %" PRIu64 " entries of its tables are wrong; "
		      "nothing was changed, mend it first with "
		      "'qedimg check -r all'", layer->source.file->path, faults);
	return -EUCLEAN;
}
