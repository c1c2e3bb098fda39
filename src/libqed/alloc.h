/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where new clusters of the top image come from: clusters that were freed or
 * that a failed write gave back, else the end of the file.
 */
#ifndef QED_ALLOC_H
#define QED_ALLOC_H

#include "layer.h"

struct qed_free_range {
	uint64_t file_off;
	uint64_t len;
	bool zeroed;			/* it was punched: reads as zeroes */
	struct qed_free_range *next;
};

/* Frees a list of ranges. */
void qed_free_ranges(struct qed_free_range *ranges);

struct qed_alloc {
	pthread_mutex_t lock;		/* leaf; layer->end is stored under it */
	struct qed_layer *layer;
	uint64_t fresh;			/* under lock: from here on nothing was
					 * ever written, all reads as zeroes */
	uint64_t limit;			/* constant: where the file must end */
	struct qed_free_range *free;	/* under lock: ascending, merged */
	struct qed_free_range *hint;	/* under lock: linked in last, or null */
	uint64_t written_end;		/* under lock: the file reaches here */
	uint64_t mapped_end;		/* under lock: entries reach here */
};

/* Contiguous clusters at file_off. */
struct qed_clusters {
	uint64_t file_off;
	uint64_t n;
	bool zeroed;			/* they read as zeroes */
	bool reused;			/* something else may have been here */
};

int qed_alloc_init(struct qed_alloc *alloc, struct qed_layer *layer);
void qed_alloc_fini(struct qed_alloc *alloc);

/*
 * Takes at least one and at most `want` contiguous clusters.  0, -ENOSPC at the
 * end of a block device or of what an off_t can address, or -errno of
 * ftruncate(2) where the file has to be extended first.
 */
int qed_alloc_data(struct qed_alloc *alloc, uint64_t want,
		   struct qed_clusters *out);

/* Takes the clusters of a new table, fresh ones at the end of the file. */
int qed_alloc_table(struct qed_alloc *alloc, struct qed_clusters *out);

/* Gives clusters back that no table entry ever named. */
void qed_alloc_release(struct qed_alloc *alloc, uint64_t file_off, uint64_t n);

/*
 * Makes a range that was freed, and that nothing refers to any more, available;
 * takes it over.
 */
void qed_alloc_add_free(struct qed_alloc *alloc, struct qed_free_range *range);

/* Bytes up to `file_end` have been written, so the file reaches there. */
void qed_alloc_note_written(struct qed_alloc *alloc, uint64_t file_end);
/* A table entry names clusters up to `file_end`. */
void qed_alloc_note_mapped(struct qed_alloc *alloc, uint64_t file_end);

/*
 * Must the file be grown before the tables may be written, for it to hold all
 * mapped clusters whole?  The size to grow to, or 0.
 */
uint64_t qed_alloc_grow_target(struct qed_alloc *alloc);

#endif
