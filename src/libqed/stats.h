/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an image has done so far, counted.  Each thread counts in a shard on
 * cache lines of its own, so that counting is an addition to memory which no
 * other processor wants; whoever reads a counter adds the shards up.
 */
#ifndef QED_STATS_H
#define QED_STATS_H

#include "util.h"

#include <stdatomic.h>

/* As the probes number them (qedfs(1)). */
enum qed_request_kind {
	QED_REQUEST_READ,
	QED_REQUEST_WRITE,
	QED_REQUEST_FLUSH,
	QED_REQUEST_ZERO,
	QED_REQUEST_PREALLOCATE,
	QED_REQUEST_SEEK,
	QED_REQUEST_KINDS,
};

/* The first ones are of the requests of each kind; a read needs one line. */
enum qed_counter {
	QED_COUNT_L2_HITS = QED_REQUEST_KINDS,
	QED_COUNT_BYTES_READ,
	QED_COUNT_BYTES_WRITTEN,
	QED_COUNT_ALLOCATIONS,
	QED_NCOUNTERS,
};

struct qed_counters {
	struct {
		_Alignas(QED_CACHE_LINE) _Atomic uint64_t n[QED_NCOUNTERS];
	} shards[QED_SHARDS];
};

/* Adds `n` to a counter.  Lock-free. */
void qed_count(struct qed_counters *counters, unsigned counter, uint64_t n);

/* A request is over: counts it and the bytes that it moved, if any. */
void qed_count_request(struct qed_counters *counters,
		       enum qed_request_kind kind, int64_t result);

/* What has been counted so far, by anybody. */
uint64_t qed_counted(const struct qed_counters *counters, unsigned counter);

#endif
