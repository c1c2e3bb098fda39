/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Damaged images by recipe, for `qedimg check`.  Nothing here is the library's:
 * what is wrong, and what must be there afterwards, is judged a second time.
 *
 *	image.c		an image in memory, and what the guest sees of it
 *	recipes.c	what can be wrong with one
 *	oracle.c	what a check must say of it
 *	corrupt.c	runs qedimg and qemu-img on each, and compares
 */
#ifndef CORRUPT_H
#define CORRUPT_H

#include "../lib/rng.h"

#include <stdbool.h>
#include <stdint.h>

#define NEED_CHECK UINT64_C(2)

struct geometry {
	uint64_t cluster, table, header;	/* bytes, clusters, clusters */
	bool apart;			/* the L1 table does not follow the header */
};

/* With three L2 tables t[], and data clusters of which each has bytes of its own. */
struct image {
	struct geometry g;
	uint8_t *bytes;
	uint64_t size, room;		/* bytes: of the file, of memory */
	uint64_t nelems, table_bytes, span;	/* span: of disk, by a table */
	uint64_t l1, t[3];		/* file offsets */
	uint64_t data;			/* of the first data cluster */
	uint64_t disk_size;		/* ends inside a cluster */
};

struct image *image_create(const struct geometry *g, bool backing);
/* Of the file at `path`. */
struct image *image_read(const char *path);
struct image *image_copy(const struct image *image);
void image_write(const struct image *image, const char *path);
void image_free(struct image *image);

uint64_t image_get(const struct image *image, uint64_t off);
void image_put(struct image *image, uint64_t off, uint64_t value);
/* Makes the file longer, by bytes that are not zero, or shorter. */
void image_resize(struct image *image, uint64_t size);
/* Its whole clusters end here. */
uint64_t image_end(const struct image *image);

enum kind {
	GOOD,
	RESERVED_BITS,
	UNALIGNED,
	PAST_END,
	IN_HEADER,
	IN_L1_TABLE,
	IN_L2_TABLE,
	SHARED,
	LEAK,
};

/* What is wrong with an entry by itself; `len` is what it must have room for. */
enum kind image_judge(const struct image *image, uint64_t entry, uint64_t len);

/* What the guest sees of a cluster. */
enum held { UNALLOCATED, ZERO, DATA, BAD };
enum held image_held(const struct image *image, uint64_t l1_index,
		     uint64_t l2_index, uint64_t *file_off);
/* One cluster of data there; zero past the end of a file that is cut. */
void image_data(const struct image *image, uint64_t file_off, uint8_t *buf);

/* What a check says. */
struct fault {
	enum kind kind;
	char action[16];
	unsigned level;
	uint64_t file_off, entry, start, len, count;
	bool far;			/* behind the disk's end: no start */
};

struct report {
	struct fault *faults;
	unsigned nfaults, room;		/* room: for faults */
};

/*
 * Does the report say what is wrong with the image, all of it and nothing else?
 * The message is empty if so.
 */
void oracle_judge(const struct image *image, const struct report *report,
		  char message[300]);
/* Entries that are wrong; and, if none is, clusters that are leaked. */
uint64_t oracle_count(const struct image *image, uint64_t *nleaked);

/* Recipes are numbered from 0 on. */
unsigned recipes(void);
/*
 * Applies one; false if this geometry has no such damage.  `name` says what it
 * is.
 */
bool recipe_apply(unsigned n, struct image *image, struct rng *rng,
		  char name[200]);

void die(const char *what) __attribute__((noreturn));

#endif
