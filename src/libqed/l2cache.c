/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The slice cache.  Slots are made in chunks and never given back before the
 * cache is destroyed, so a lock-free reader may look at a slot that is being
 * reused: each slot is a sequence lock.  Whoever changes what a slot holds
 * makes `seq` odd, stores, and makes it even again; a reader that saw the same
 * even `seq` before and after has read one slice's entries.  Setting an entry
 * of a slice in place leaves `seq` alone: a reader gets the old or the new
 * mapping, and both are good.
 *
 * Thread model: `lock` guards everything but the peek path.  It is a leaf: no
 * other lock is taken and no waiter is woken under it.
 */
#include "config.h"

#include "l2cache.h"
#include "probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SLOTS     64u
#define BUDGET_MIN      4u		/* slots */
#define OVERFLOW_CHUNKS 1024u
#define CHAIN_STEPS_MAX 64		/* a reader may stray into a moved chain */

enum slice_state { SLICE_FREE, SLICE_LOADING, SLICE_READY };

struct chunk {
	struct qed_slice slices[CHUNK_SLOTS];
	_Atomic uint64_t entries[CHUNK_SLOTS][QED_SLICE_ENTRIES];
};

/* One slice being read. */
struct load {
	struct qed_io io;
	struct iovec iov;
	struct qed_l2cache *cache;
	struct qed_table_source *source;
	struct qed_slice *slice;
	struct load *next_free;
	union {
		struct qed_le64 disk[QED_SLICE_ENTRIES];
		uint64_t host[QED_SLICE_ENTRIES];
	} table;
};

struct qed_l2cache {
	pthread_mutex_t lock;
	uint32_t budget_slots;		/* constant */
	uint32_t nbuckets;		/* constant; a power of two */
	uint32_t max_chunks;		/* constant */
	uint32_t nslots;		/* under lock */
	uint32_t hand;			/* under lock: the sweep's position */
	struct qed_slice *dirty_head;	/* under lock */
	struct load *free_loads;	/* under lock */
	uint64_t loads;			/* under lock */
	uint64_t misses;		/* under lock */
	_Atomic unsigned ndirty;	/* stored under lock */
	_Atomic uint32_t *buckets;	/* slot + 1, 0: empty; stored under lock */
	_Atomic(struct chunk *) *chunks;
};

static uint64_t make_key(const struct qed_table_source *source,
			 uint64_t file_off)
{
	return (uint64_t)source->id << 51 | file_off / QED_SLICE_BYTES;
}

static uint32_t bucket_of(const struct qed_l2cache *cache, uint64_t key)
{
	return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
	       (cache->nbuckets - 1);
}

static struct qed_slice *slot_at(const struct qed_l2cache *cache, uint32_t slot)
{
	struct chunk *chunk = atomic_load_explicit(
		&cache->chunks[slot / CHUNK_SLOTS], memory_order_acquire);

	return &chunk->slices[slot % CHUNK_SLOTS];
}

int qed_l2cache_create(uint64_t budget, struct qed_l2cache **out)
{
	uint64_t slots = qed_max(budget / QED_SLICE_BYTES, BUDGET_MIN);
	struct qed_l2cache *cache = calloc(1, sizeof(*cache));

	*out = NULL;
	if (!cache)
		return -ENOMEM;
	pthread_mutex_init(&cache->lock, NULL);
	cache->budget_slots = (uint32_t)qed_min(slots, UINT32_MAX / 4);
	cache->max_chunks = cache->budget_slots / CHUNK_SLOTS + OVERFLOW_CHUNKS;
	cache->nbuckets = CHUNK_SLOTS;
	while (cache->nbuckets < cache->budget_slots)
		cache->nbuckets *= 2;
	cache->buckets = calloc(cache->nbuckets, sizeof(*cache->buckets));
	cache->chunks = calloc(cache->max_chunks, sizeof(*cache->chunks));
	if (!cache->buckets || !cache->chunks) {
		qed_l2cache_destroy(cache);
		return -ENOMEM;
	}
	*out = cache;
	return 0;
}

void qed_l2cache_destroy(struct qed_l2cache *cache)
{
	if (!cache)
		return;
	while (cache->free_loads) {
		struct load *load = cache->free_loads;

		cache->free_loads = load->next_free;
		free(load);
	}
	for (uint32_t i = 0; cache->chunks && i < cache->max_chunks; i++)
		free(atomic_load(&cache->chunks[i]));
	free(cache->chunks);
	free(cache->buckets);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

void qed_slice_run(const struct qed_slice *slice, unsigned index, uint64_t max,
		   uint32_t stride, struct qed_run *run)
{
	uint64_t n = qed_min(max, QED_SLICE_ENTRIES - index);
	_Atomic uint64_t *entry = slice->entries + index;
	uint64_t first = atomic_load_explicit(entry, memory_order_acquire);
	uint64_t step = first > QED_ENTRY_ZERO ? stride : 0;
	uint64_t i = 1;

	while (i < n && atomic_load_explicit(entry + i, memory_order_acquire) ==
				first + i * step)
		i++;
	run->first = first;
	run->count = i;
}

/* The slot that holds `key`, looked up without the lock; may miss, never lies. */
static struct qed_slice *find_unlocked(const struct qed_l2cache *cache,
				       uint64_t key, uint64_t *seq)
{
	uint32_t at = atomic_load_explicit(
		&cache->buckets[bucket_of(cache, key)], memory_order_acquire);

	for (int steps = 0; at && steps < CHAIN_STEPS_MAX; steps++) {
		struct qed_slice *slice = slot_at(cache, at - 1);

		*seq = atomic_load_explicit(&slice->seq, memory_order_acquire);
		if (atomic_load_explicit(&slice->key, memory_order_acquire) ==
		    key)
			return *seq & 1 ? NULL : slice;
		at = atomic_load_explicit(&slice->next, memory_order_acquire);
	}
	return NULL;
}

bool qed_l2cache_peek(struct qed_l2cache *cache,
		      const struct qed_table_source *source, uint64_t file_off,
		      unsigned index, uint64_t max, uint32_t stride,
		      struct qed_run *run)
{
	uint64_t key = make_key(source, file_off), seq;
	struct qed_slice *slice = find_unlocked(cache, key, &seq);

	if (!slice || atomic_load_explicit(&slice->bad, memory_order_acquire))
		return false;
	qed_slice_run(slice, index, max, stride, run);
	if (atomic_load_explicit(&slice->seq, memory_order_acquire) != seq)
		return false;
	/* Test first: a store would take the cache line from other readers. */
	if (!atomic_load_explicit(&slice->referenced, memory_order_relaxed))
		atomic_store_explicit(&slice->referenced, 1,
				      memory_order_relaxed);
	return true;
}

static struct qed_slice *find_locked(struct qed_l2cache *cache, uint64_t key)
{
	uint32_t at = atomic_load(&cache->buckets[bucket_of(cache, key)]);

	while (at) {
		struct qed_slice *slice = slot_at(cache, at - 1);

		if (atomic_load(&slice->key) == key)
			return slice;
		at = atomic_load(&slice->next);
	}
	return NULL;
}

static void insert_locked(struct qed_l2cache *cache, struct qed_slice *slice,
			  uint64_t key)
{
	_Atomic uint32_t *bucket = &cache->buckets[bucket_of(cache, key)];

	atomic_store(&slice->key, key);
	atomic_store(&slice->next, atomic_load(bucket));
	atomic_store(bucket, slice->slot + 1);
}

static void remove_locked(struct qed_l2cache *cache, struct qed_slice *slice)
{
	uint64_t key = atomic_load(&slice->key);
	_Atomic uint32_t *link = &cache->buckets[bucket_of(cache, key)];

	while (atomic_load(link) != slice->slot + 1)
		link = &slot_at(cache, atomic_load(link) - 1)->next;
	atomic_store(link, atomic_load(&slice->next));
	atomic_store(&slice->key, 0);	/* the header's place: never a table */
}

/* Contents are about to change: readers must not believe what they read. */
static void unpublish_locked(struct qed_slice *slice)
{
	if (!(atomic_load(&slice->seq) & 1))
		atomic_fetch_add(&slice->seq, 1);
}

static void publish_locked(struct qed_slice *slice)
{
	atomic_fetch_add(&slice->seq, 1);
}

static struct qed_slice *new_slot_locked(struct qed_l2cache *cache)
{
	uint32_t slot = cache->nslots, c = slot / CHUNK_SLOTS;
	struct qed_slice *slice;
	struct chunk *chunk;

	if (c >= cache->max_chunks)
		return NULL;
	if (!atomic_load(&cache->chunks[c])) {
		chunk = calloc(1, sizeof(*chunk));
		if (!chunk)
			return NULL;
		atomic_store_explicit(&cache->chunks[c], chunk,
				      memory_order_release);
	}
	chunk = atomic_load(&cache->chunks[c]);
	cache->nslots++;
	slice = &chunk->slices[slot % CHUNK_SLOTS];
	slice->slot = slot;
	slice->entries = chunk->entries[slot % CHUNK_SLOTS];
	qed_waitlist_init(&slice->waiters);
	return slice;
}

/* Can this slot be reused now?  A used one gets a second chance. */
static bool reusable_locked(struct qed_slice *slice)
{
	if (slice->state == SLICE_FREE)
		return true;
	if (slice->state != SLICE_READY || slice->dirty || slice->pins)
		return false;
	return !atomic_exchange(&slice->referenced, 0);
}

static struct qed_slice *sweep_locked(struct qed_l2cache *cache)
{
	for (uint64_t n = 2 * (uint64_t)cache->nslots; n; n--) {
		struct qed_slice *slice = slot_at(cache, cache->hand);

		cache->hand = (cache->hand + 1) % cache->nslots;
		if (!reusable_locked(slice))
			continue;
		unpublish_locked(slice);
		if (slice->state == SLICE_READY)
			remove_locked(cache, slice);
		return slice;
	}
	return NULL;
}

static struct qed_slice *take_slot_locked(struct qed_l2cache *cache)
{
	struct qed_slice *slice = NULL;

	if (cache->nslots >= cache->budget_slots)
		slice = sweep_locked(cache);
	return slice ? slice : new_slot_locked(cache);
}

static struct load *take_load_locked(struct qed_l2cache *cache)
{
	struct load *load = cache->free_loads;

	if (load)
		cache->free_loads = load->next_free;
	else
		load = malloc(sizeof(*load));
	return load;
}

/* Starts to fill a slot with the slice for `key`; pinned for the loader. */
static struct load *begin_load_locked(struct qed_l2cache *cache, uint64_t key,
				      uint64_t file_off)
{
	struct load *load = take_load_locked(cache);
	struct qed_slice *slice = load ? take_slot_locked(cache) : NULL;

	if (!slice) {
		if (load) {
			load->next_free = cache->free_loads;
			cache->free_loads = load;
		}
		return NULL;
	}
	unpublish_locked(slice);
	slice->state = SLICE_LOADING;
	slice->pins = 1;
	slice->file_off = file_off;
	insert_locked(cache, slice, key);
	load->cache = cache;
	load->slice = slice;
	cache->loads++;
	return load;
}

static void fill_locked(struct qed_slice *slice, const uint64_t *entries,
			bool bad)
{
	for (unsigned i = 0; i < QED_SLICE_ENTRIES; i++)
		atomic_store_explicit(&slice->entries[i], entries[i],
				      memory_order_release);
	atomic_store(&slice->bad, bad);
	atomic_store(&slice->referenced, 1);
	slice->state = SLICE_READY;
	publish_locked(slice);
}

static void remove_waiter(struct qed_waitlist *list,
			  const struct qed_waiter *waiter)
{
	struct qed_waitlist rest;

	qed_waitlist_init(&rest);
	for (struct qed_waiter *w = list->head, *next; w; w = next) {
		next = w->next;
		if (w != waiter)
			qed_waitlist_add(&rest, w);
	}
	qed_waitlist_init(list);
	qed_waitlist_move(list, &rest);
}

/*
 * Ends a load: publishes the slice and wakes who waits for it, except `self`,
 * which goes on by itself.  The loader's pin is still held afterwards if `err`
 * is 0.
 */
static void end_load(struct load *load, int err, const struct qed_waiter *self)
{
	struct qed_l2cache *cache = load->cache;
	struct qed_slice *slice = load->slice;
	struct qed_waitlist woken;
	bool ok = false;

	qed_waitlist_init(&woken);
	if (!err) {
		qed_table_decode(load->table.host, load->table.disk,
				 QED_SLICE_ENTRIES);
		ok = load->source->entries_ok(load->source, load->table.host,
					      QED_SLICE_ENTRIES);
	}
	pthread_mutex_lock(&cache->lock);
	qed_waitlist_move(&woken, &slice->waiters);
	if (err) {
		remove_locked(cache, slice);
		slice->state = SLICE_FREE;
		slice->pins = 0;
	} else {
		fill_locked(slice, load->table.host, !ok);
	}
	load->next_free = cache->free_loads;
	cache->free_loads = load;
	pthread_mutex_unlock(&cache->lock);
	if (self)
		remove_waiter(&woken, self);
	qed_waitlist_wake(&woken, err);
}

static void load_done(struct qed_io *io, int err)
{
	struct load *load = (struct load *)io;
	struct qed_l2cache *cache = load->cache;
	struct qed_slice *slice = load->slice;

	end_load(load, err, NULL);
	if (!err)
		qed_l2cache_put(cache, slice);
}

static int run_load(struct load *load, struct qed_table_source *source,
		    uint64_t file_off, struct qed_waiter *waiter,
		    struct qed_slice **out)
{
	struct qed_slice *slice = load->slice;
	int ret;

	load->source = source;
	load->iov.iov_base = load->table.disk;
	load->iov.iov_len = QED_SLICE_BYTES;
	load->io = (struct qed_io){ .op = QED_OP_READ,
				    .file_off = file_off,
				    .len = QED_SLICE_BYTES,
				    .iov = &load->iov,
				    .iovcnt = 1,
				    .done = load_done };
	QED_PROBE2(l2_load, source->id, file_off);
	ret = qed_file_start(source->file, &load->io);
	if (ret == QED_PENDING)
		return ret;
	end_load(load, ret, waiter);
	*out = slice;
	return ret;
}

/* Lets the waiter wait for the slice. */
static void miss_locked(struct qed_l2cache *cache, struct qed_slice *slice,
			struct qed_waiter *waiter)
{
	cache->misses++;
	waiter->missed = true;
	qed_waitlist_add(&slice->waiters, waiter);
}

int qed_l2cache_get(struct qed_l2cache *cache, struct qed_table_source *source,
		    uint64_t file_off, struct qed_waiter *waiter,
		    struct qed_slice **out)
{
	uint64_t key = make_key(source, file_off);
	struct qed_slice *slice;
	struct load *load;

	pthread_mutex_lock(&cache->lock);
	slice = find_locked(cache, key);
	if (slice && slice->state == SLICE_READY) {
		slice->pins++;
		atomic_store(&slice->referenced, 1);
		pthread_mutex_unlock(&cache->lock);
		*out = slice;
		return 0;
	}
	QED_PROBE2(l2_miss, source->id, file_off);
	if (slice) {
		miss_locked(cache, slice, waiter);
		pthread_mutex_unlock(&cache->lock);
		return QED_PENDING;
	}
	load = begin_load_locked(cache, key, file_off);
	if (load)
		miss_locked(cache, load->slice, waiter);
	pthread_mutex_unlock(&cache->lock);
	return load ? run_load(load, source, file_off, waiter, out) : -ENOMEM;
}

void qed_l2cache_put(struct qed_l2cache *cache, struct qed_slice *slice)
{
	pthread_mutex_lock(&cache->lock);
	slice->pins--;
	pthread_mutex_unlock(&cache->lock);
}

static void make_dirty_locked(struct qed_l2cache *cache,
			      struct qed_slice *slice, unsigned index,
			      unsigned n)
{
	uint16_t from = (uint16_t)index, to = (uint16_t)(index + n);

	if (slice->dirty) {
		slice->dirty_from = (uint16_t)qed_min(slice->dirty_from, from);
		slice->dirty_to = (uint16_t)qed_max(slice->dirty_to, to);
		return;
	}
	slice->dirty = true;
	slice->dirty_from = from;
	slice->dirty_to = to;
	slice->dirty_next = cache->dirty_head;
	cache->dirty_head = slice;
	atomic_fetch_add(&cache->ndirty, 1);
}

void qed_l2cache_set(struct qed_l2cache *cache, struct qed_slice *slice,
		     unsigned index, unsigned n, uint64_t first,
		     uint32_t stride)
{
	pthread_mutex_lock(&cache->lock);
	for (unsigned i = 0; i < n; i++)
		atomic_store_explicit(&slice->entries[index + i],
				      first + (uint64_t)i * stride,
				      memory_order_release);
	make_dirty_locked(cache, slice, index, n);
	pthread_mutex_unlock(&cache->lock);
}

void qed_l2cache_put_back(struct qed_l2cache *cache,
			  const struct qed_dirty_slice *copy)
{
	struct qed_slice *slice = copy->slice;

	pthread_mutex_lock(&cache->lock);
	make_dirty_locked(cache, slice,
			  (unsigned)((copy->file_off - slice->file_off) /
				     QED_ENTRY_BYTES),
			  (unsigned)(copy->len / QED_ENTRY_BYTES));
	slice->pins--;
	pthread_mutex_unlock(&cache->lock);
}

uint64_t qed_l2cache_budget(const struct qed_l2cache *cache)
{
	return (uint64_t)cache->budget_slots * QED_SLICE_BYTES;
}

unsigned qed_l2cache_dirty(const struct qed_l2cache *cache)
{
	return atomic_load_explicit(&cache->ndirty, memory_order_relaxed);
}

static void copy_dirty_locked(const struct qed_slice *slice, bool whole,
			      struct qed_dirty_slice *copy)
{
	unsigned from = whole ? 0 : slice->dirty_from;
	unsigned n = whole ? QED_SLICE_ENTRIES : slice->dirty_to - from;

	for (unsigned i = 0; i < n; i++)
		copy->page[i] = qed_le64_put(atomic_load_explicit(
			&slice->entries[from + i], memory_order_relaxed));
	copy->file_off = slice->file_off + (uint64_t)from * QED_ENTRY_BYTES;
	copy->len = (size_t)n * QED_ENTRY_BYTES;
}

unsigned qed_l2cache_collect(struct qed_l2cache *cache,
			     struct qed_dirty_slice *out, unsigned max)
{
	unsigned n = 0;
	bool whole;

	pthread_mutex_lock(&cache->lock);
	/*
	 * Of a few slices the entries that have not changed need no copy.  Where
	 * most are dirty neighbours are too, and go out in one write if they are
	 * whole.
	 */
	whole = atomic_load(&cache->ndirty) > cache->nslots / 2;
	while (cache->dirty_head && n < max) {
		struct qed_slice *slice = cache->dirty_head;

		cache->dirty_head = slice->dirty_next;
		slice->dirty = false;
		slice->pins++;
		out[n].slice = slice;
		copy_dirty_locked(slice, whole, &out[n++]);
	}
	atomic_fetch_sub(&cache->ndirty, n);
	pthread_mutex_unlock(&cache->lock);
	return n;
}

void qed_l2cache_get_stats(struct qed_l2cache *cache,
			   struct qed_l2cache_stats *stats)
{
	pthread_mutex_lock(&cache->lock);
	stats->loads = cache->loads;
	stats->misses = cache->misses;
	stats->slots = cache->nslots;
	stats->budget = cache->budget_slots;
	pthread_mutex_unlock(&cache->lock);
}
