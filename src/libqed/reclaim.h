/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What becomes of clusters whose mapping was taken away.  When that is durable
 * (the metadata writer says so) they wait for a grace period: until every
 * request that may have seen the old mapping is over.  Then they are punched in
 * the host file, and may be allocated again.
 */
#ifndef QED_RECLAIM_H
#define QED_RECLAIM_H

#include "alloc.h"

/* Requests under way, by the parity of the period in which they began. */
struct qed_reclaim_shard {
	_Alignas(QED_CACHE_LINE) _Atomic uint64_t count[2];
};

struct qed_reclaim {
	struct qed_reclaim_shard shards[QED_SHARDS];
	_Atomic unsigned period;
	_Atomic bool waiting;		/* for requests to end */

	pthread_mutex_t lock;		/* alloc's lock is taken under it */
	pthread_cond_t idle;
	struct qed_alloc *alloc;
	struct qed_free_range *next;	/* under lock: for the next grace period */
	struct qed_free_range *grace;	/* under lock: in this one */
	struct qed_free_range *punch;	/* under lock: past it */
	int phase;			/* under lock */
	bool punching;			/* under lock */
	struct qed_io io;		/* the punch that is under way */
};

void qed_reclaim_init(struct qed_reclaim *reclaim, struct qed_alloc *alloc);
void qed_reclaim_fini(struct qed_reclaim *reclaim);

/*
 * Every request that looks mappings up and then uses the clusters is between
 * these two, from before the look-up on; leave takes what enter returned, on
 * any thread.  Lock-free unless clusters wait.
 */
unsigned qed_reclaim_enter(struct qed_reclaim *reclaim);
void qed_reclaim_leave(struct qed_reclaim *reclaim, unsigned token);

/* The loss of the ranges' mappings is durable; takes the list over. */
void qed_reclaim_add(struct qed_reclaim *reclaim, struct qed_free_range *ranges);

/* Waits until nothing is left to reclaim.  No request is under way. */
void qed_reclaim_drain(struct qed_reclaim *reclaim);

#endif
