/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A table in which a piece has one possible slot.  A slot's `seq` is odd while
 * it is written; who reads it looks at `seq` before and after.
 */
#include "config.h"

#include "hints.h"

#include <stdlib.h>

#define SLOTS      32768u
#define LAYER_MASK UINT64_C(0x7ff)	/* file offsets are multiples of 4096 */
#define ZERO       UINT64_C(0x800)

struct qed_hint_slot {
	_Atomic uint64_t seq;
	_Atomic uint64_t piece;		/* 1 + its number; 0: none */
	_Atomic uint64_t where;
};

void qed_hints_init(struct qed_hints *hints, unsigned shift)
{
	hints->shift = shift;
	hints->slots = calloc(SLOTS, sizeof(*hints->slots));
}

void qed_hints_fini(struct qed_hints *hints)
{
	free(hints->slots);
	hints->slots = NULL;
}

static struct qed_hint_slot *slot_of(const struct qed_hints *hints,
				     uint64_t piece)
{
	return &hints->slots[piece % SLOTS];
}

bool qed_hints_get(const struct qed_hints *hints, uint64_t piece,
		   struct qed_hint *hint)
{
	struct qed_hint_slot *slot = slot_of(hints, piece);
	uint64_t seq = atomic_load_explicit(&slot->seq, memory_order_acquire);
	uint64_t is = atomic_load_explicit(&slot->piece, memory_order_acquire);
	uint64_t where = atomic_load_explicit(&slot->where,
					      memory_order_acquire);

	if (is != piece + 1 || seq & 1 ||
	    atomic_load_explicit(&slot->seq, memory_order_acquire) != seq)
		return false;
	hint->layer = (unsigned)(where & LAYER_MASK);
	hint->zero = where & ZERO;
	hint->file_off = where & ~(LAYER_MASK | ZERO);
	return true;
}

void qed_hints_put(struct qed_hints *hints, uint64_t piece,
		   const struct qed_hint *hint)
{
	struct qed_hint_slot *slot = slot_of(hints, piece);
	uint64_t seq = atomic_load_explicit(&slot->seq, memory_order_relaxed);

	if (hint->layer > LAYER_MASK || hint->file_off & (LAYER_MASK | ZERO))
		return;
	/* Another thread that writes it has as good a hint. */
	if (seq & 1 || !atomic_compare_exchange_strong(&slot->seq, &seq,
						       seq + 1))
		return;
	atomic_store_explicit(&slot->piece, piece + 1, memory_order_release);
	atomic_store_explicit(&slot->where,
			      hint->file_off | hint->layer |
				      (hint->zero ? ZERO : 0),
			      memory_order_release);
	atomic_store_explicit(&slot->seq, seq + 2, memory_order_release);
}
