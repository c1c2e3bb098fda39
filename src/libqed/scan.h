/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A walk over all of an image's tables that judges every entry: the check at
 * open (check.c) and the check as a job of its own (mend.c) differ in what they
 * do about a fault.  First the header, the L1 table and all L2 tables are
 * marked in a map of clusters, then, table by table in file order, the data
 * clusters, so that an entry that points into any table is found whatever the
 * order.
 */
#ifndef QED_SCAN_H
#define QED_SCAN_H

#include "layer.h"
#include "used.h"

struct qed_scan_table {
	uint64_t file_off;
	uint64_t l1_index;
	uint64_t first, last;		/* data clusters named, 0: none */
};

struct qed_scan {
	/* the caller's */
	struct qed_layer *layer;	/* its L1 table need not be loaded */
	uint64_t end;			/* of the file's whole clusters */
	/*
	 * Not 0: what entries name behind this is past the end for them, unless
	 * `own` says that the entry at file_off, of whichever level, may: the
	 * file has grown since these were written.
	 */
	uint64_t known_end;
	bool (*own)(struct qed_scan *scan, uint64_t entry, uint64_t file_off);
	const struct qed_job *job;	/* or null */
	/*
	 * What to do about a faulty entry: may change *entry, which is then
	 * written when its part of the table is through.  A changed L1 entry
	 * that is not 0 names a new table, which the walk reads as well.
	 * 0, or -errno to stop.
	 */
	int (*fault)(struct qed_scan *scan, const struct qed_fault *fault,
		     uint64_t *entry);
	/* Writes changed entries; null where nothing ever changes. */
	int (*write)(struct qed_scan *scan, const void *entries, uint64_t len,
		     uint64_t file_off);
	/*
	 * Or both null.  Sees a part of a table, chunk, before it is judged, and
	 * may change what of it is judged.  And where, at or after a place, is
	 * there something to see, whether or not the host has stored any of it?
	 */
	void (*see)(struct qed_scan *scan, uint64_t len, uint64_t file_off);
	uint64_t (*next)(struct qed_scan *scan, uint64_t file_off);
	void *opaque;
	bool skip_unreadable;		/* log, count and go on */
	uint64_t spare;			/* clusters that `used` has past the end */

	/* results */
	struct qed_used used;
	uint64_t allocated;		/* data clusters named */
	uint64_t zero;			/* zero clusters */
	uint64_t fragments;		/* of them, not behind the one before */
	uint64_t unreadable;		/* parts of tables skipped */
	uint64_t failed_off;		/* of the part in the file that ended it,
					 * or 0 */
	struct qed_scan_table *tables;	/* after the walk by l1_index */
	uint64_t ntables;

	/* the walk's own */
	struct qed_le64 *chunk;		/* a part of a table */
	uint64_t dirty_first, dirty_end;	/* changed entries of chunk */
	uint64_t max_tables;
	uint64_t base, done;		/* bytes of tables: before these, now */
};

/*
 * Walks.  0, or -errno: that of a hook or of reading a table, -ECANCELED,
 * -ENOMEM, -EFBIG for a file of too many clusters.  To be ended by
 * qed_scan_fini() in any case.
 */
int qed_scan_run(struct qed_scan *scan);
void qed_scan_fini(struct qed_scan *scan);

/*
 * After a walk that has succeeded: the cluster from which on what nobody names
 * is not leaked.  A device has no end of its own, so there that is behind the
 * last one in use.
 */
static inline uint64_t qed_scan_leaks_end(const struct qed_scan *scan)
{
	return scan->layer->source.file->block_device ?
		       qed_used_end(&scan->used) : scan->used.n;
}

#endif
