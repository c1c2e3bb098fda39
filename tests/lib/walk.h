/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A reader of QED structures for tests, which shares no code with the library: it
 * judges an image, finds its tables and tells data from metadata.
 */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stdint.h>

#define WALK_NEED_CHECK UINT64_C(2)

struct walk {
	uint8_t *file;			/* its bytes */
	uint64_t size;
	uint64_t cluster, table_bytes, nelems, header_bytes;
	uint64_t features, l1_off, disk_size;
	uint64_t ntables, ndata, nleaked;	/* clusters, but for tables */
	unsigned errors;
	char message[200];		/* the first error */
};

/* Reads and judges the image at `path`; aborts only if it cannot be read. */
struct walk *walk_open(const char *path);
void walk_close(struct walk *walk);

/* The L2 table that maps disk_off, and the entry in it, or 0. */
uint64_t walk_table(const struct walk *walk, uint64_t disk_off);
uint64_t walk_entry(const struct walk *walk, uint64_t disk_off);

/* Is `file_off` in the header, the L1 table or an L2 table? */
bool walk_is_metadata(const struct walk *walk, uint64_t file_off);

#endif
