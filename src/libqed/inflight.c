/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims on ranges.  There are at most as many as requests under way, so a list
 * is searched faster than any tree.
 */
#include "config.h"

#include "inflight.h"

void qed_claims_init(struct qed_claims *claims)
{
	pthread_mutex_init(&claims->lock, NULL);
	claims->head = NULL;
}

void qed_claims_fini(struct qed_claims *claims)
{
	pthread_mutex_destroy(&claims->lock);
}

static bool covers(const struct qed_claim *claim, uint64_t at)
{
	return at >= claim->first && at - claim->first < claim->n;
}

int qed_claims_take(struct qed_claims *claims, struct qed_claim *claim,
		    uint64_t first, uint64_t *n, struct qed_waiter *waiter)
{
	pthread_mutex_lock(&claims->lock);
	for (struct qed_claim *c = claims->head; c; c = c->next) {
		if (covers(c, first)) {
			qed_waitlist_add(&c->waiters, waiter);
			pthread_mutex_unlock(&claims->lock);
			return QED_PENDING;
		}
		if (c->first > first)
			*n = qed_min(*n, c->first - first);
	}
	claim->first = first;
	claim->n = *n;
	qed_waitlist_init(&claim->waiters);
	claim->prev = NULL;
	claim->next = claims->head;
	if (claim->next)
		claim->next->prev = claim;
	claims->head = claim;
	pthread_mutex_unlock(&claims->lock);
	return 0;
}

void qed_claims_release(struct qed_claims *claims, struct qed_claim *claim)
{
	struct qed_waitlist woken;

	qed_waitlist_init(&woken);
	pthread_mutex_lock(&claims->lock);
	if (claim->prev)
		claim->prev->next = claim->next;
	else
		claims->head = claim->next;
	if (claim->next)
		claim->next->prev = claim->prev;
	qed_waitlist_move(&woken, &claim->waiters);
	pthread_mutex_unlock(&claims->lock);
	qed_waitlist_wake(&woken, 0);
}
