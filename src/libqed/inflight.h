/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which clusters of the virtual disk, and which L2 tables, are being allocated
 * right now.  Two requests that want the same one are ordered here, and only
 * they: there is no queue for the whole image.
 */
#ifndef QED_INFLIGHT_H
#define QED_INFLIGHT_H

#include "util.h"

/* A claim on [first, first + n); owned by the claimant until released. */
struct qed_claim {
	uint64_t first, n;
	struct qed_waitlist waiters;	/* under the set's lock */
	struct qed_claim *prev, *next;	/* likewise */
};

struct qed_claims {
	pthread_mutex_t lock;		/* leaf */
	struct qed_claim *head;
};

void qed_claims_init(struct qed_claims *claims);
void qed_claims_fini(struct qed_claims *claims);

/*
 * Claims as much of [first, first + *n) as is free from `first` on, and stores
 * that in *n: 0.  If `first` itself is taken: QED_PENDING, and `waiter` is
 * woken (first come, first served) when that claim is released.
 */
int qed_claims_take(struct qed_claims *claims, struct qed_claim *claim,
		    uint64_t first, uint64_t *n, struct qed_waiter *waiter);

/* Releases a claim and wakes who waited for it. */
void qed_claims_release(struct qed_claims *claims, struct qed_claim *claim);

#endif
