/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Thread model: a shard's slots are atomic; the lists that all threads share
 * are under `lock`, a leaf.  At most 5.3 MiB stay allocated.
 */
#include "config.h"

#include "spare.h"

#include <stdlib.h>
#include <string.h>

#define SMALL_KEPT   256u		/* more than requests under way */
#define BUFFERS_KEPT (UINT64_C(4) << 20) /* bytes */
#define IN_SHARDS    (UINT64_C(64) << 10) /* larger ones are better shared */
#define PAGE         4096u

/* In the memory itself. */
struct qed_spare {
	struct qed_spare *next;
};

/* A use after it was put back is to be found all the same. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define HIDE(memory, len) \
	ASAN_POISON_MEMORY_REGION((char *)(memory) + sizeof(struct qed_spare), \
				  (len) - sizeof(struct qed_spare))
#define SHOW(memory, len) ASAN_UNPOISON_MEMORY_REGION(memory, len)
#else
#define HIDE(memory, len) ((void)(memory), (void)(len))
#define SHOW(memory, len) ((void)(memory), (void)(len))
#endif

/* One of the two sizes, and where such memory is kept. */
struct kind {
	size_t len;			/* 0: it is not kept */
	_Atomic(struct qed_spare *) *slots;
	unsigned nslots;
	struct qed_spare_list *list;
};

static struct kind kind_of(struct qed_spares *spares, size_t len)
{
	struct qed_spare_shard *shard = &spares->shards[qed_thread_shard()];

	if (len <= QED_SPARE_SMALL)
		return (struct kind){ .len = QED_SPARE_SMALL,
				      .slots = shard->small,
				      .nslots = QED_SPARE_SMALL_SLOTS,
				      .list = &spares->small };
	if (len > spares->buffer_size)
		return (struct kind){ .len = 0 };
	return (struct kind){ .len = spares->buffer_size,
			      .slots = shard->buffer,
			      .nslots = spares->buffers_in_shards,
			      .list = &spares->buffers };
}

void qed_spares_init(struct qed_spares *spares)
{
	memset(spares, 0, sizeof(*spares));
	pthread_mutex_init(&spares->lock, NULL);
	spares->small.max = SMALL_KEPT;
}

void qed_spares_set_buffer(struct qed_spares *spares, uint64_t size)
{
	spares->buffer_size = qed_min(size, QED_SPARE_LARGEST);
	spares->buffers_in_shards = spares->buffer_size <= IN_SHARDS;
	spares->buffers.max = (unsigned)(BUFFERS_KEPT / spares->buffer_size);
}

static void release(struct qed_spare *spare, size_t len)
{
	if (!spare)
		return;
	SHOW(spare, len);
	free(spare);
}

static void release_list(struct qed_spare_list *list, size_t len)
{
	while (list->head) {
		struct qed_spare *spare = list->head;

		list->head = spare->next;
		release(spare, len);
	}
}

void qed_spares_fini(struct qed_spares *spares)
{
	for (unsigned i = 0; i < QED_SHARDS; i++) {
		struct qed_spare_shard *shard = &spares->shards[i];

		for (unsigned k = 0; k < QED_SPARE_SMALL_SLOTS; k++)
			release(atomic_load(&shard->small[k]),
				QED_SPARE_SMALL);
		release(atomic_load(&shard->buffer[0]), spares->buffer_size);
	}
	release_list(&spares->small, QED_SPARE_SMALL);
	release_list(&spares->buffers, spares->buffer_size);
	pthread_mutex_destroy(&spares->lock);
}

static struct qed_spare *take_shared(struct qed_spares *spares,
				     struct qed_spare_list *list)
{
	struct qed_spare *spare;

	pthread_mutex_lock(&spares->lock);
	spare = list->head;
	if (spare) {
		list->head = spare->next;
		list->n--;
	}
	pthread_mutex_unlock(&spares->lock);
	return spare;
}

static bool keep_shared(struct qed_spares *spares, struct qed_spare_list *list,
			struct qed_spare *spare)
{
	bool room;

	pthread_mutex_lock(&spares->lock);
	room = list->n < list->max;
	if (room) {
		spare->next = list->head;
		list->head = spare;
		list->n++;
	}
	pthread_mutex_unlock(&spares->lock);
	return room;
}

/* Looks before it takes: most slots that it passes are empty, or full. */
static struct qed_spare *take(struct qed_spares *spares,
			      const struct kind *kind)
{
	struct qed_spare *spare;

	for (unsigned i = 0; i < kind->nslots; i++) {
		if (!atomic_load_explicit(&kind->slots[i],
					  memory_order_relaxed))
			continue;
		spare = atomic_exchange(&kind->slots[i], NULL);
		if (spare)
			return spare;
	}
	return take_shared(spares, kind->list);
}

static bool keep(struct qed_spares *spares, const struct kind *kind,
		 struct qed_spare *spare)
{
	for (unsigned i = 0; i < kind->nslots; i++) {
		struct qed_spare *none = NULL;

		if (!atomic_load_explicit(&kind->slots[i],
					  memory_order_relaxed) &&
		    atomic_compare_exchange_strong(&kind->slots[i], &none,
						   spare))
			return true;
	}
	return keep_shared(spares, kind->list, spare);
}

static void *allocate(size_t len)
{
	void *memory;

	if (len <= QED_SPARE_SMALL)
		return malloc(len);
	return posix_memalign(&memory, PAGE, len) ? NULL : memory;
}

void *qed_spare_get(struct qed_spares *spares, size_t len)
{
	struct kind kind = kind_of(spares, len);
	void *memory;

	if (!kind.len)
		return allocate(len);
	memory = take(spares, &kind);
	if (!memory)
		return allocate(kind.len);
	SHOW(memory, kind.len);
	return memory;
}

void qed_spare_put(struct qed_spares *spares, void *memory, size_t len)
{
	struct kind kind = kind_of(spares, len);

	if (!memory)
		return;
	if (kind.len)
		HIDE(memory, kind.len);
	if (!kind.len || !keep(spares, &kind, memory))
		release(memory, kind.len);
}
