/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where below the top image a piece of the disk was found.  What backing files
 * hold does not change while they are open, so a deep chain is walked once for
 * a piece, not for every small read.  A hint that is overwritten, or is
 * missing, costs a walk and nothing else.  Lock-free, from any thread.
 */
#ifndef QED_HINTS_H
#define QED_HINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct qed_hint_slot;

struct qed_hints {
	struct qed_hint_slot *slots;	/* null: none are kept */
	unsigned shift;			/* a piece has 1 << shift bytes */
};

/* What is in all of a piece. */
struct qed_hint {
	unsigned layer;
	bool zero;			/* it reads as zeroes */
	uint64_t file_off;		/* else: of its first byte */
};

/* Without memory none are kept. */
void qed_hints_init(struct qed_hints *hints, unsigned shift);
void qed_hints_fini(struct qed_hints *hints);

bool qed_hints_get(const struct qed_hints *hints, uint64_t piece,
		   struct qed_hint *hint);
void qed_hints_put(struct qed_hints *hints, uint64_t piece,
		   const struct qed_hint *hint);

#endif
