/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gives clusters and L2 tables of an image other places in its file, so that at
 * any moment the disk reads the same and nothing worse than a leak is on the
 * host.
 *
 * A batch: what moves is copied to places that no entry on the disk names;
 * sync; the entries are written.  The places left are free in the map at once,
 * but what the entries said before may be on the disk until
 * qed_relocate_settle(): who may be given such a place calls that first.
 *
 * One caller's thread, blocking; nobody else uses the file.
 */
#ifndef QED_RELOCATE_H
#define QED_RELOCATE_H

#include "scan.h"
#include "copier.h"

/*
 * An L2 entry has a number, its owner: that of its table in scan.tables times
 * the entries of a table, plus its index.  In order of their numbers entries
 * are in order of the disk.
 */
struct qed_move {
	uint64_t owner;			/* of tables: number of the table */
	uint64_t from;			/* file offset */
	uint64_t to;			/* the same; or of data the value that
					 * the entry gets instead */
};

struct qed_relocation {
	/* the caller's, from a walk that found no fault */
	struct qed_layer *layer;
	struct qed_scan scan;		/* its map and tables are kept up to date */
	uint64_t size;			/* of the file, bytes */
	const struct qed_job *job;
	uint64_t done, total;		/* bytes, for the job */

	/* the room's own, but to be read */
	struct qed_copier *copier;
	struct qed_le64 *buf;
	bool header_ready;		/* for changes, durably */
	bool unsettled;
	bool changed;			/* anything */
	bool full;			/* the file could not grow */
	uint64_t moved;			/* data clusters */
	uint64_t dropped;		/* data clusters */
	uint64_t moved_tables, dropped_tables;
};

static inline const struct qed_header *
qed_relocation_header(const struct qed_relocation *r)
{
	return &r->layer->header;
}

/* 0 or -ENOMEM.  `*r` holds what the caller fills in and else zeroes. */
int qed_relocate_init(struct qed_relocation *r);
/* Does not end the scan. */
void qed_relocate_fini(struct qed_relocation *r);

/*
 * Moves data clusters, or drops them where `to` is no place.  The places moved
 * to are marked in the map already.  Puts the moves in order of their owners.
 * Steps the job.  0, -ECANCELED with all of it done, or -errno after a message.
 */
int qed_relocate_data(struct qed_relocation *r, struct qed_move *moves,
		      uint64_t n);

/* The same for whole tables. */
int qed_relocate_tables(struct qed_relocation *r, struct qed_move *moves,
			uint64_t n);

/*
 * Takes an L2 table without mappings out of the L1 table; and all that have
 * been so out of scan.tables, which changes the numbers of those behind.
 */
int qed_relocate_drop_table(struct qed_relocation *r, uint64_t table);
void qed_relocate_sweep_tables(struct qed_relocation *r);

/* All is consistent: 0, or -ECANCELED if the job is to end. */
int qed_relocate_step(struct qed_relocation *r);

/* Makes everything so far durable: 0, or -errno after a message. */
int qed_relocate_settle(struct qed_relocation *r);

/*
 * Clears NEED_CHECK, durably, if it is set; the caller has settled.  The header
 * is ready for the file to be cut.  0, or -errno after a message.
 */
int qed_relocate_clear_flag(struct qed_relocation *r);

/* One message about the file; returns `err`. */
int qed_relocate_complain(const struct qed_relocation *r, int err,
			  const char *what);
/* The same with the place in the file. */
int qed_relocate_complain_at(const struct qed_relocation *r, int err,
			     const char *what, uint64_t file_off);

/*
 * All L2 entries of the image that are not 0, one after the other.  What was
 * read ahead may be old after a change; qed_entries_reread() forgets that.
 */
struct qed_entries {
	struct qed_relocation *r;
	uint64_t table, next;		/* the entry to look at */
	uint64_t end;			/* tables before this one */
	uint64_t first, n;		/* entries of `table` in buf */
	struct qed_le64 *buf;
};

/* Of the tables [table, end).  0 or -ENOMEM; ended by _fini() anyway. */
int qed_entries_init(struct qed_entries *e, struct qed_relocation *r,
		     uint64_t table, uint64_t end);
void qed_entries_fini(struct qed_entries *e);
/* 1 with the next one, 0 at the end, or -errno after a message. */
int qed_entries_next(struct qed_entries *e, uint64_t *owner, uint64_t *value);
static inline void qed_entries_reread(struct qed_entries *e)
{
	e->n = 0;
}

#endif
