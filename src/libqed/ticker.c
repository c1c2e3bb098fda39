/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The commit interval.  The thread is joined before anything that it uses goes
 * away, so there is no timer that a close could outlive.
 */
#include "config.h"

#include "ticker.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

struct qed_ticker {
	struct qed_meta *meta;
	unsigned seconds;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool stop;	/* under lock */
};

/* Sleeps for one interval: false if it is time to end. */
static bool wait_interval(struct qed_ticker *ticker)
{
	struct timespec until;
	bool stop;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)ticker->seconds;
	pthread_mutex_lock(&ticker->lock);
	while (!ticker->stop && ret != ETIMEDOUT)
		ret = pthread_cond_timedwait(&ticker->cond, &ticker->lock,
					     &until);
	stop = ticker->stop;
	pthread_mutex_unlock(&ticker->lock);
	return !stop;
}

static void *ticker_main(void *opaque)
{
	struct qed_ticker *ticker = opaque;

	while (wait_interval(ticker))
		qed_meta_tick(ticker->meta);
	return NULL;
}

static int spawn(struct qed_ticker *ticker)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&ticker->thread, NULL, ticker_main, ticker);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

static void destroy(struct qed_ticker *ticker)
{
	pthread_cond_destroy(&ticker->cond);
	pthread_mutex_destroy(&ticker->lock);
	free(ticker);
}

int qed_ticker_start(struct qed_meta *meta, unsigned seconds,
		     struct qed_ticker **out)
{
	struct qed_ticker *ticker = calloc(1, sizeof(*ticker));
	pthread_condattr_t attr;
	int ret;

	*out = NULL;
	if (!ticker)
		return -ENOMEM;
	ticker->meta = meta;
	ticker->seconds = seconds;
	pthread_mutex_init(&ticker->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&ticker->cond, &attr);
	pthread_condattr_destroy(&attr);
	ret = spawn(ticker);
	if (ret < 0) {
		destroy(ticker);
		return ret;
	}
	*out = ticker;
	return 0;
}

void qed_ticker_stop(struct qed_ticker *ticker)
{
	if (!ticker)
		return;
	pthread_mutex_lock(&ticker->lock);
	ticker->stop = true;
	pthread_cond_signal(&ticker->cond);
	pthread_mutex_unlock(&ticker->lock);
	pthread_join(ticker->thread, NULL);
	destroy(ticker);
}
