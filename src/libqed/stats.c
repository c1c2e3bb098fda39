/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters; all of it is atomic and nothing is ordered by it. */
#include "config.h"

#include "stats.h"

static void add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

void qed_count(struct qed_counters *counters, unsigned counter, uint64_t n)
{
	add(&counters->shards[qed_thread_shard()].n[counter], n);
}

void qed_count_request(struct qed_counters *counters,
		       enum qed_request_kind kind, int64_t result)
{
	_Atomic uint64_t *mine = counters->shards[qed_thread_shard()].n;

	add(&mine[kind], 1);
	if (result <= 0)
		return;
	if (kind == QED_REQUEST_READ)
		add(&mine[QED_COUNT_BYTES_READ], (uint64_t)result);
	else if (kind == QED_REQUEST_WRITE)
		add(&mine[QED_COUNT_BYTES_WRITTEN], (uint64_t)result);
}

uint64_t qed_counted(const struct qed_counters *counters, unsigned counter)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < QED_SHARDS; i++)
		sum += atomic_load_explicit(&counters->shards[i].n[counter],
					    memory_order_relaxed);
	return sum;
}
