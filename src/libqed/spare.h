/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory of requests that are over, kept for the next ones, so that in the long
 * run a request allocates none.  There are two sizes: a small one, which holds
 * what a state machine keeps about its request, and that of a cluster.  What is
 * larger comes from malloc() each time.
 */
#ifndef QED_SPARE_H
#define QED_SPARE_H

#include "util.h"

#include <stdatomic.h>

/* Bytes of a small one: room for any state and a short scatter list. */
#define QED_SPARE_SMALL 1024u
/* The most that a buffer is kept for. */
#define QED_SPARE_LARGEST (UINT64_C(1) << 20)

#define QED_SPARE_SMALL_SLOTS 2		/* a request and one piece of it */

struct qed_spare;

/* One thread's, mostly; each slot is taken by one atomic exchange. */
struct qed_spare_shard {
	_Alignas(QED_CACHE_LINE) _Atomic(struct qed_spare *)
		small[QED_SPARE_SMALL_SLOTS];
	_Atomic(struct qed_spare *) buffer[1];
};

/* What the shards have no room for, as when a request ends on another thread. */
struct qed_spare_list {
	struct qed_spare *head;		/* under the spares' lock */
	unsigned n;			/* likewise */
	unsigned max;			/* constant once set */
};

struct qed_spares {
	struct qed_spare_shard shards[QED_SHARDS];
	size_t buffer_size;		/* constant once set; 0: none are kept */
	bool buffers_in_shards;		/* likewise */
	pthread_mutex_t lock;		/* leaf */
	struct qed_spare_list small, buffers;
};

void qed_spares_init(struct qed_spares *spares);
/* What most buffers need, cut to QED_SPARE_LARGEST; before the first is got. */
void qed_spares_set_buffer(struct qed_spares *spares, uint64_t size);
/* Frees what is kept; everything has been put back. */
void qed_spares_fini(struct qed_spares *spares);

/*
 * `len` bytes (not 0), which hold anything; null without memory.  They start at
 * a page if `len` is more than QED_SPARE_SMALL.  put() is told the same length,
 * and takes a null pointer.  Any thread; no lock unless its own shard is empty,
 * or full.
 */
void *qed_spare_get(struct qed_spares *spares, size_t len);
void qed_spare_put(struct qed_spares *spares, void *memory, size_t len);

#endif
