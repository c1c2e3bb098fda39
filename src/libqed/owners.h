/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which entry names a data cluster: a word for each cluster of a stretch of the
 * file, made by a walk over all tables when a cluster outside of it is asked
 * for.  So memory is bounded, and who asks in file order makes few walks.
 */
#ifndef QED_OWNERS_H
#define QED_OWNERS_H

#include "relocate.h"

struct qed_owners {
	struct qed_relocation *r;
	uint64_t first, n;		/* clusters: the stretch; n 0: none yet */
	uint64_t max;			/* clusters of one */
	uint64_t *map;			/* owner + 1, 0 for none */
};

/* For stretches of `max` clusters.  0 or -ENOMEM; ended by _fini() anyway. */
int qed_owners_init(struct qed_owners *owners, struct qed_relocation *r,
		    uint64_t max);
void qed_owners_fini(struct qed_owners *owners);

/* 1; 0 if no entry names the cluster as data; or -errno after a message. */
int qed_owners_get(struct qed_owners *owners, uint64_t cluster,
		   uint64_t *owner);

/* Data has been moved. */
void qed_owners_update(struct qed_owners *owners, const struct qed_move *moves,
		       uint64_t n);

#endif
