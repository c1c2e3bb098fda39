/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One image of a chain: a QED file with its header and L1 table in memory, or a
 * raw file.  What is wrong with an L1 table is found here, at open; a slice of
 * an L2 table is judged here when the cache has read it.
 */
#ifndef QED_LAYER_H
#define QED_LAYER_H

#include "l2cache.h"
#include "stats.h"

struct qed_layer {
	struct qed_table_source source;	/* file, and its place in the chain */
	bool raw;
	uint64_t size;			/* bytes of virtual disk */
	struct qed_log log;
	struct qed_l2cache *cache;	/* the chain's; null for raw layers */
	struct qed_counters *counters;	/* the image's */

	/* QED only; constant after open unless a comment says otherwise */
	struct qed_header header;	/* features change under meta's lock */
	char *backing_name;		/* as stored, or null */
	_Atomic uint64_t *l1;		/* atomic; header.l1_used entries and
					 * what fills their last slice */
	uint64_t l1_loaded;		/* entries in l1 */
	uint8_t *l1_bad;		/* bit per entry, or null: none bad */
	_Atomic uint64_t end;		/* the next cluster past the last one in
					 * use; stored under alloc's lock */
	_Atomic unsigned complaints;	/* damage logged so far, */
	_Atomic uint64_t complained;	/* and where in the file it was last */

	pthread_rwlock_t tables_lock;
	uint64_t *tables;		/* under tables_lock: file offsets of
					 * all L2 tables, ascending */
	uint64_t ntables;		/* under tables_lock */
	uint64_t max_tables;		/* under tables_lock */
};

/*
 * Makes a layer of the open file, which it owns from then on, even on failure.
 * `raw`: it has no format.  0, or -errno after one error message.
 */
int qed_layer_create(struct qed_file *file, unsigned id, bool raw,
		     struct qed_l2cache *cache, struct qed_layer **layer);
void qed_layer_destroy(struct qed_layer *layer);

/*
 * Reads and checks the header alone into *header, and the backing name, if
 * there is one, into *name (to be freed): 0, or -errno after one error message.
 */
int qed_layer_read_header(struct qed_file *file, struct qed_header *header,
			  char **name);

/*
 * Makes the header durable as layer->header has it, the backing name apart.
 * What it relies on has to be durable before.  Blocks; nobody else writes it.
 * 0 or -errno.
 */
int qed_layer_write_header(struct qed_layer *layer);

/* Reads the L1 table.  After any repair of the file. */
int qed_layer_load_l1(struct qed_layer *layer);

/* Does the file at hand begin with the QED magic?  1, 0 or -errno. */
int qed_layer_probe(struct qed_file *file);

static inline bool qed_layer_l1_is_bad(const struct qed_layer *layer,
				       uint64_t index)
{
	return layer->l1_bad && layer->l1_bad[index / 8] >> index % 8 & 1;
}

/*
 * Is this data cluster offset, neither 0 nor 1, one that may be used: inside
 * the clusters of the file and in no table?  Takes tables_lock.
 */
bool qed_layer_data_ok(struct qed_layer *layer, uint64_t file_off);

/* Publishes a new, empty L2 table.  Takes tables_lock.  0 or -ENOMEM. */
int qed_layer_add_table(struct qed_layer *layer, uint64_t l1_index,
			uint64_t file_off);

/* Logs damage, the first hundred times, and not the same twice in a row. */
void qed_layer_complain(struct qed_layer *layer, const char *what,
			uint64_t file_off, uint64_t disk_off);

/* Bytes of disk that have a data cluster here, by the file's size. */
uint64_t qed_layer_allocated(struct qed_layer *layer);

#endif
