/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads spread over the shards.  A shard keeps one spare request of each
 * small class, taken and given back by one atomic exchange; what it has no room
 * for goes to lists that all share, under pool->lock.
 */
#include <config.h>

#include "pool.h"

#include <stdlib.h>
#include <string.h>

#define BUFFER_ALIGN 4096u		/* what O_DIRECT wants, at most */
#define NO_CLASS     QEDFS_POOL_CLASSES
#define DRAINING     0x80000000u	/* beside a shard's count */

/*
 * How much fits, and how many are kept.  Moving the bytes of a large one costs
 * far more than the lock, and memory is better shared.  Nor are there ever more
 * of these than keep a disk busy: the kernel may ask for 64 at once.
 */
static const struct {
	size_t size;
	unsigned keep;			/* in the shared list */
	unsigned most;			/* under way; 0: no limit */
	bool in_shards;
} classes[QEDFS_POOL_CLASSES] = {
	{ 0, 64, 0, true },
	{ 64 << 10, 64, 0, true },
	{ QEDFS_IO_MAX, 10, 10, false },
};

static unsigned class_for(size_t size)
{
	unsigned class = 0;

	while (class < QEDFS_POOL_CLASSES && size > classes[class].size)
		class++;
	return class;
}

static struct qedfs_pool_shard *my_shard(struct qedfs_pool *pool)
{
	static _Atomic unsigned next;
	static _Thread_local unsigned mine;	/* 1 + number; 0: none yet */

	if (!mine)
		mine = 1 + atomic_fetch_add(&next, 1) % QEDFS_POOL_SHARDS;
	return &pool->shards[mine - 1];
}

static struct qedfs_request *allocate(unsigned class, size_t size)
{
	struct qedfs_request *request = malloc(sizeof(*request));

	if (!request)
		return NULL;
	request->buf = NULL;
	request->class = class;
	if (class != NO_CLASS)
		size = classes[class].size;
	if (size == 0 ||
	    posix_memalign(&request->buf, BUFFER_ALIGN, size) == 0)
		return request;
	free(request);
	return NULL;
}

static void release(struct qedfs_request *request)
{
	if (request)
		free(request->buf);
	free(request);
}

static bool is_limited(unsigned class)
{
	return class != NO_CLASS && classes[class].most;
}

/*
 * Where there are as many as may be, waits until one is answered.  That needs no
 * worker: what has been started ends in a thread of the library.
 */
static void await_room(struct qedfs_pool *pool, unsigned class)
{
	if (!is_limited(class))
		return;
	pthread_mutex_lock(&pool->lock);
	while (pool->taken[class] == classes[class].most)
		pthread_cond_wait(&pool->room, &pool->lock);
	pool->taken[class]++;
	pthread_mutex_unlock(&pool->lock);
}

static void make_room(struct qedfs_pool *pool, unsigned class)
{
	if (!is_limited(class))
		return;
	pthread_mutex_lock(&pool->lock);
	pool->taken[class]--;
	pthread_cond_signal(&pool->room);
	pthread_mutex_unlock(&pool->lock);
}

static struct qedfs_request *take_shared(struct qedfs_pool *pool,
					 unsigned class)
{
	struct qedfs_request *request;

	pthread_mutex_lock(&pool->lock);
	request = pool->spare[class];
	if (request) {
		pool->spare[class] = request->next;
		pool->nspare[class]--;
	}
	pthread_mutex_unlock(&pool->lock);
	return request;
}

static struct qedfs_request *take_spare(struct qedfs_pool *pool,
					struct qedfs_pool_shard *shard,
					unsigned class)
{
	struct qedfs_request *request = NULL;

	if (class == NO_CLASS)
		return NULL;
	if (classes[class].in_shards)
		request = atomic_exchange(&shard->spare[class], NULL);
	return request ? request : take_shared(pool, class);
}

static void keep_shared(struct qedfs_pool *pool, struct qedfs_request *request)
{
	unsigned class = request->class;
	bool room;

	pthread_mutex_lock(&pool->lock);
	room = pool->nspare[class] < classes[class].keep;
	if (room) {
		request->next = pool->spare[class];
		pool->spare[class] = request;
		pool->nspare[class]++;
	}
	pthread_mutex_unlock(&pool->lock);
	if (!room)
		release(request);
}

static void keep(struct qedfs_pool *pool, struct qedfs_pool_shard *shard,
		 struct qedfs_request *request)
{
	unsigned class = request->class;
	struct qedfs_request *none = NULL;

	if (class == NO_CLASS)
		release(request);
	else if (!classes[class].in_shards ||
		 !atomic_compare_exchange_strong(&shard->spare[class], &none,
						 request))
		keep_shared(pool, request);
}

/* While nobody drains, the count is the last of the pool that is touched. */
static void count_out(struct qedfs_pool *pool, struct qedfs_pool_shard *shard)
{
	unsigned n = atomic_load(&shard->under_way);

	while (!(n & DRAINING))
		if (atomic_compare_exchange_weak(&shard->under_way, &n, n - 1))
			return;
	pthread_mutex_lock(&pool->lock);
	atomic_fetch_sub(&shard->under_way, 1);
	pthread_cond_broadcast(&pool->idle);
	pthread_mutex_unlock(&pool->lock);
}

struct qedfs_request *qedfs_pool_get(struct qedfs_pool *pool, fuse_req_t req,
				     size_t size)
{
	struct qedfs_pool_shard *shard = my_shard(pool);
	unsigned class = class_for(size);
	struct qedfs_request *request;

	atomic_fetch_add(&shard->under_way, 1);
	await_room(pool, class);
	request = take_spare(pool, shard, class);
	if (!request)
		request = allocate(class, size);
	if (!request) {
		make_room(pool, class);
		count_out(pool, shard);
		return NULL;
	}
	*request = (struct qedfs_request){
		.shard = shard,
		.class = request->class,
		.req = req,
		.buf = request->buf,
		.iov = { .iov_base = request->buf, .iov_len = size },
		.size = size,
	};
	return request;
}

void qedfs_pool_put(struct qedfs_pool *pool, struct qedfs_request *request)
{
	struct qedfs_pool_shard *shard = request->shard;
	unsigned class = request->class;	/* it may be freed now */

	keep(pool, shard, request);
	make_room(pool, class);
	count_out(pool, shard);
}

void qedfs_pool_init(struct qedfs_pool *pool)
{
	memset(pool, 0, sizeof(*pool));
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->idle, NULL);
	pthread_cond_init(&pool->room, NULL);
}

static bool is_idle(const struct qedfs_pool *pool)
{
	for (unsigned i = 0; i < QEDFS_POOL_SHARDS; i++)
		if (atomic_load(&pool->shards[i].under_way) != DRAINING)
			return false;
	return true;
}

void qedfs_pool_drain(struct qedfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	for (unsigned i = 0; i < QEDFS_POOL_SHARDS; i++)
		atomic_fetch_or(&pool->shards[i].under_way, DRAINING);
	while (!is_idle(pool))
		pthread_cond_wait(&pool->idle, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}

void qedfs_pool_finish(struct qedfs_pool *pool)
{
	qedfs_pool_drain(pool);
	for (unsigned class = 0; class < QEDFS_POOL_CLASSES; class++) {
		struct qedfs_request *request;

		for (unsigned i = 0; i < QEDFS_POOL_SHARDS; i++)
			release(atomic_load(&pool->shards[i].spare[class]));
		while ((request = pool->spare[class])) {
			pool->spare[class] = request->next;
			release(request);
		}
	}
	pthread_cond_destroy(&pool->room);
	pthread_cond_destroy(&pool->idle);
	pthread_mutex_destroy(&pool->lock);
}
