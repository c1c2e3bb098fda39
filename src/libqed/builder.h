/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lays out a new QED file: each L2 table where the first cluster of its range
 * is about to be placed, clusters in the order of the disk, no gaps.  Tables
 * are written as the layout leaves them behind, a window of each in memory; the
 * header comes last.  Nothing is synced, and there is no NEED_CHECK: whoever
 * publishes the file syncs it before it has a name.
 */
#ifndef QED_BUILDER_H
#define QED_BUILDER_H

#include "file.h"
#include "format.h"

#define QED_WINDOW_ENTRIES 8192u

/* The part of one table that is being filled in. */
struct qed_table_window {
	uint64_t file_off;		/* of the table */
	uint64_t first;			/* entry that the window begins with */
	bool dirty;
	struct qed_le64 *entries;	/* QED_WINDOW_ENTRIES */
};

struct qed_builder {
	struct qed_file *file;
	const struct qed_header *header;
	uint64_t end;			/* the file's, in whole clusters */
	uint64_t l1_index;		/* of the L2 table at hand */
	bool have_l2;
	struct qed_table_window l1, l2;
};

/* The file is empty.  0 or -ENOMEM; qed_builder_fini() is due in either case. */
int qed_builder_init(struct qed_builder *builder, struct qed_file *file,
		     const struct qed_header *header);
void qed_builder_fini(struct qed_builder *builder);

/*
 * Give the cluster at disk_off a place, where its data is to be written by the
 * caller (the file reads as zeroes there before), or make it a zero cluster.
 * One call at a time, disk offsets ascending.  0 or -errno.
 */
int qed_builder_place(struct qed_builder *builder, uint64_t disk_off,
		      uint64_t *file_off);
int qed_builder_zero(struct qed_builder *builder, uint64_t disk_off);

/*
 * Writes what is left of the tables, then header and backing name: 0 or -errno.
 * All data has been written; the header's image_size may have changed
 * meanwhile.
 */
int qed_builder_finish(struct qed_builder *builder, const char *backing);

#endif
