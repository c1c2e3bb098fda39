/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A new L2 table: fresh clusters, reserved on the host before the L1 entry
 * names them, so that a later commit into them cannot run out of space.  They
 * read as an empty table already.  Two requests that need the same table are
 * ordered by a claim on its L1 index.
 */
#include "config.h"

#include "table.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>

struct new_table {
	struct qed_io io;
	struct qed_image *image;
	struct qed_claim claim;		/* on one L1 index */
	struct qed_clusters clusters;
	struct qed_waiter *waiter;	/* who asked first */
};

/* Maps the table if it could be reserved, else gives its clusters back. */
static int table_end(struct new_table *table, int err)
{
	struct qed_image *image = table->image;

	if (!err)
		err = qed_meta_map_table(image->meta, table->claim.first,
					 table->clusters.file_off);
	if (!err)
		qed_alloc_note_written(&image->alloc,
				       table->clusters.file_off +
					       image->top->header.table_bytes);
	else
		qed_alloc_release(&image->alloc, table->clusters.file_off,
				  table->clusters.n);
	qed_claims_release(&image->tables, &table->claim);
	free(table);
	return err;
}

static void table_done(struct qed_io *io, int err)
{
	struct new_table *table = qed_container_of(io, struct new_table, io);
	struct qed_waiter *waiter = table->waiter;

	waiter->wake(waiter, table_end(table, err));
}

static int table_reserve(struct new_table *table)
{
	struct qed_layer *top = table->image->top;
	int ret;

	table->io = (struct qed_io){ .op = QED_OP_GROW,
				     .file_off = table->clusters.file_off,
				     .len = top->header.table_bytes,
				     .done = table_done };
	ret = qed_file_start(top->source.file, &table->io);
	return ret == QED_PENDING ? ret : table_end(table, ret);
}

/* With the claim held; frees `table` unless it is under way. */
static int table_make(struct new_table *table)
{
	struct qed_image *image = table->image;
	int ret = 0;

	/* It may have been made since the caller looked. */
	if (!atomic_load(&image->top->l1[table->claim.first])) {
		ret = qed_alloc_table(&image->alloc, &table->clusters);
		if (ret == 0)
			return table_reserve(table);
	}
	qed_claims_release(&image->tables, &table->claim);
	free(table);
	return ret;
}

int qed_table_require(struct qed_image *image, uint64_t disk_off,
		      struct qed_waiter *waiter)
{
	uint64_t l1_index = qed_l1_index(&image->top->header, disk_off);
	struct new_table *table;
	uint64_t one = 1;
	int ret;

	if (atomic_load_explicit(&image->top->l1[l1_index],
				 memory_order_acquire))
		return 0;
	table = calloc(1, sizeof(*table));
	if (!table)
		return -ENOMEM;
	table->image = image;
	table->waiter = waiter;
	ret = qed_claims_take(&image->tables, &table->claim, l1_index, &one,
			      waiter);
	if (ret == QED_PENDING) {
		free(table);
		return ret;
	}
	return table_make(table);
}
