/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A new image on a fake engine, in a directory of its own, for tests of what
 * requests cost at the file layer; one at a time.  Blocks; fails the cmocka test.
 */
#ifndef COUNTED_H
#define COUNTED_H

#include "fake-engine.h"
#include "image.h"

#define CLUSTER UINT64_C(65536)
#define PAGE    4096u
#define SIZE    (UINT64_C(256) << 20)	/* of the disk, bytes */
#define TOP     "top.qed"
#define BASE    "base.raw"

extern struct fake *counted_fake;	/* it records */
extern struct qed_image *counted_image;
extern uint64_t counted_leaks;		/* clusters that may be left over */

/*
 * Set-up and tear-down for cmocka: the image alone, or over a raw disk with data
 * (pattern 1) in its first 16 MiB.  In the end tables have to be right.
 */
int counted_plain(void **state);
int counted_backed(void **state);
int counted_leave(void **state);

#define PLAIN(name) \
	cmocka_unit_test_setup_teardown(name, counted_plain, counted_leave)
#define BACKED(name) \
	cmocka_unit_test_setup_teardown(name, counted_backed, counted_leave)

/* Opens it again, on a new fake, after both were closed. */
void counted_open(void);

/* Operations on the image since counted_forget(). */
unsigned counted_ops(enum qed_op op);
void counted_forget(void);

/* Writes `len` bytes of pattern 2, of 512 KiB at most. */
void counted_put(uint64_t off, uint64_t len);
/* The disk holds the pattern of that number there, of 512 KiB at most. */
void counted_assert_disk(uint64_t id, uint64_t off, uint64_t len);

/* Sets NEED_CHECK and makes the first table: what follows is the usual case. */
void counted_warm_up(void);

#endif
