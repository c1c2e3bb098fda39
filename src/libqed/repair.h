/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A repair under way: what mend.c (the passes), copies.c, leaks.c and saving.c
 * share.
 */
#ifndef QED_REPAIR_H
#define QED_REPAIR_H

#include "scan.h"
#include "undo.h"

/*
 * Clusters that the first pass has copied to the end of the file, and for which
 * entries: those alone may name them, whatever else already had such a value.
 */
struct qed_repair_copies {
	uint64_t base;			/* file offset of the first */
	uint64_t *owner;		/* file offset of the entry, for each */
	uint64_t n, max;
};

/*
 * L2 tables that the second pass has copied, or an earlier run, by ascending
 * `to`.
 */
struct qed_repair_tables {
	struct qed_repair_table {
		uint64_t from, to;	/* file offsets */
	} *list;
	uint64_t n, max;
};

/* Places of tables that L1 entries named before they were changed. */
struct qed_repair_lost {
	uint64_t *file_off;
	uint64_t n, max;
	bool too_many;			/* to remember */
};

struct qed_repair {
	const struct qed_check_options *options;
	struct qed_check_report *report;
	struct qed_file *file;
	struct qed_layer *layer;
	struct qed_scan scan;		/* the pass under way, or the last */
	struct qed_undo undo;
	bool mending;			/* passes change entries */
	bool resumed;			/* undo is of a run before this one */
	bool stale;			/* there is one that does not fit */
	unsigned pass;			/* from 0 on */
	bool unsynced;			/* copies that are not durable */
	bool header_ready;		/* for the first change */
	bool said;			/* the one message of a failure */
	uint64_t faults;		/* of this pass */
	uint64_t fixed;			/* of them */
	uint64_t cut;			/* offset of the last cluster if it is
					 * cut short, else UINT64_MAX */
	/* before the first pass, or that of the run that this one resumes */
	uint64_t old_size;		/* of the file */
	uint64_t old_end, old_cut;
	uint64_t next;			/* where the next copy goes */
	struct qed_repair_copies copies;
	struct qed_repair_tables tables;
	struct qed_repair_lost lost;
	uint8_t *buf;			/* QED_REPAIR_BYTES */
	struct qed_fault fault;		/* not yet reported, if count */
};

#define QED_REPAIR_BYTES (UINT64_C(1) << 20)

/* Logs a failure, unless that has been done; returns err. */
int qed_repair_complain(struct qed_repair *r, int err, const char *what);
int qed_repair_complain_at(struct qed_repair *r, int err, const char *what,
			   uint64_t file_off);

/* Tells the caller of a fault; neighbours that are alike in one, at the latest
 * when flushed. */
void qed_repair_report(struct qed_repair *r, const struct qed_fault *fault,
		       enum qed_fault_action action);
void qed_repair_flush_report(struct qed_repair *r);

/*
 * What has to be durable before anything of the image is changed: 0, or -errno
 * without a message.
 */
int qed_repair_prepare(struct qed_repair *r);

/*
 * Goes on with the undo file that there may be, if the repair may need one; what
 * is not ours makes it fail.  Before the first pass.  0, or -errno after one
 * message.
 */
int qed_saving_resume(struct qed_repair *r);
/* To be called before each change: 0, or -errno after one message. */
int qed_saving_begin(struct qed_repair *r);
/* The image is mended, durably: 0, or -errno after one message. */
int qed_saving_end(struct qed_repair *r);
/* The file's size before the repair. */
void qed_saving_set_end(struct qed_repair *r, uint64_t size);

#define QED_COPIES_MAX (UINT64_C(1) << 22)	/* 64 MiB of memory at most */

/*
 * An entry has been given the copy that it names now: 0, or -errno after one
 * message.  And may it name that, as far as the file has grown meanwhile?
 */
int qed_copies_note(struct qed_repair *r, const struct qed_fault *fault,
		    uint64_t entry);
bool qed_copies_own(struct qed_scan *scan, uint64_t entry, uint64_t entry_off);
/*
 * An earlier run has copied a table: 0, or -errno after one message.  Sorted when
 * all of them are known.
 */
int qed_copies_note_table(struct qed_repair *r, uint64_t from, uint64_t to);
void qed_copies_sort_tables(struct qed_repair *r);
void qed_copies_fini(struct qed_repair *r);

/*
 * An L1 entry that named a table there, perhaps, will not do so any more: if
 * that is then leaked, it is saved before it is given back.
 */
void qed_leaks_note_table(struct qed_repair *r, uint64_t file_off);

/*
 * Reports what the last pass has found leaked, and if `mend` gives it back: 0,
 * or -errno after one message.
 */
int qed_leaks_handle(struct qed_repair *r, bool mend);

/* Frees what was noted. */
void qed_leaks_fini(struct qed_repair *r);

#endif
