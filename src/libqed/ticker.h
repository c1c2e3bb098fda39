/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread that calls qed_meta_tick() at the commit interval. */
#ifndef QED_TICKER_H
#define QED_TICKER_H

#include "meta.h"

struct qed_ticker;

int qed_ticker_start(struct qed_meta *meta, unsigned seconds,
		     struct qed_ticker **ticker);
/* Returns when the thread has ended; null is fine. */
void qed_ticker_stop(struct qed_ticker *ticker);

#endif
