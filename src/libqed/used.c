/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A bit per cluster; used.h says how its memory is bounded. */
#include "config.h"

#include "used.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_WORDS (1u << (QED_USED_PAGE_BITS - 6))
#define PAGES_MAX  (UINT64_C(1) << 16)	/* 256 MiB of memory */
#define PAGES_FREE (UINT64_C(1) << 14)	/* 64 MiB, for whatever claims */
#define MAP_MAX    (UINT64_C(1) << 36)	/* bytes of addresses: 2 PiB at 4 KiB */

int qed_used_init(struct qed_used *used, uint64_t n)
{
	uint64_t pages = (n >> QED_USED_PAGE_BITS) + 1;
	uint64_t bytes = pages << (QED_USED_PAGE_BITS - 3);

	*used = (struct qed_used){ .n = n,
				   .last_page = UINT64_MAX,
				   .max_pages = PAGES_MAX };
	if (bytes > MAP_MAX)
		return -EFBIG;
	used->pages = calloc(1, pages / 8 + 1);
	if (!used->pages)
		return -ENOMEM;
	used->words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (used->words == MAP_FAILED) {
		used->words = NULL;
		qed_used_fini(used);
		return -ENOMEM;
	}
	used->mapped = bytes;
	/* A large page for a single bit would undo the bound. */
	(void)madvise(used->words, bytes, MADV_NOHUGEPAGE);
	return 0;
}

void qed_used_limit(struct qed_used *used, uint64_t nclusters)
{
	used->max_pages = qed_min(PAGES_MAX,
				  2 * (nclusters >> QED_USED_PAGE_BITS) +
					  PAGES_FREE);
}

void qed_used_fini(struct qed_used *used)
{
	if (used->words)
		munmap(used->words, used->mapped);
	free(used->pages);
	*used = (struct qed_used){ .n = 0 };
}

static bool has_page(const struct qed_used *used, uint64_t page)
{
	return used->pages[page / 8] >> page % 8 & 1;
}

int qed_used_touch(struct qed_used *used, uint64_t page)
{
	if (!has_page(used, page)) {
		if (used->npages >= used->max_pages)
			return -EFBIG;
		used->npages++;
		used->pages[page / 8] |= (uint8_t)(1u << page % 8);
	}
	used->last_page = page;
	return 0;
}

int64_t qed_used_mark_run(struct qed_used *used, uint64_t first, uint64_t n)
{
	uint64_t done = 0;

	while (done < n) {
		uint64_t at = first + done, bit = at % 64;
		uint64_t page = at >> QED_USED_PAGE_BITS;
		uint64_t len = qed_min(64 - bit, n - done);
		uint64_t mask = UINT64_MAX >> (64 - len) << bit, taken;

		if (page != used->last_page && qed_used_touch(used, page) < 0)
			return -EFBIG;
		taken = used->words[at / 64] & mask;
		if (taken)
			len = (unsigned)__builtin_ctzll(taken) - bit;
		if (len)
			used->words[at / 64] |= UINT64_MAX >> (64 - len) << bit;
		used->count += len;
		done += len;
		if (taken)
			break;
	}
	return (int64_t)done;
}

uint64_t qed_used_next(const struct qed_used *used, uint64_t from, bool in_use)
{
	while (from < used->n) {
		uint64_t word;

		if (!has_page(used, from >> QED_USED_PAGE_BITS)) {
			if (!in_use)
				return from;
			from = ((from >> QED_USED_PAGE_BITS) + 1)
			       << QED_USED_PAGE_BITS;
			continue;
		}
		word = used->words[from / 64];
		word = (in_use ? word : ~word) >> from % 64;
		if (word)
			return qed_min(from + (unsigned)__builtin_ctzll(word),
				       used->n);
		from = (from / 64 + 1) * 64;
	}
	return used->n;
}

static uint64_t end_in_page(const struct qed_used *used, uint64_t page)
{
	uint64_t first = page * PAGE_WORDS;

	for (uint64_t i = first + PAGE_WORDS; i-- > first;)
		if (used->words[i])
			return i * 64 + 64 -
			       (unsigned)__builtin_clzll(used->words[i]);
	return 0;
}

uint64_t qed_used_end(const struct qed_used *used)
{
	uint64_t end = 0;

	for (uint64_t page = (used->n >> QED_USED_PAGE_BITS) + 1;
	     end == 0 && page-- > 0;)
		if (has_page(used, page))
			end = end_in_page(used, page);
	return end;
}

uint64_t qed_used_count(const struct qed_used *used, uint64_t from, uint64_t to)
{
	uint64_t n = 0;

	while ((from = qed_used_next(used, from, true)) < to) {
		uint64_t next = qed_used_next(used, from, false);

		n += qed_min(next, to) - from;
		from = next;
	}
	return n;
}

uint64_t qed_used_find_run(const struct qed_used *used, uint64_t from,
			   uint64_t n)
{
	while ((from = qed_used_next(used, from, false)) < used->n) {
		uint64_t end = qed_used_next(used, from, true);

		if (end - from >= n)
			return from;
		from = end;
	}
	return used->n;
}

/* The word of bits that holds this cluster's; without touching memory for it. */
static uint64_t word_of(const struct qed_used *used, uint64_t cluster)
{
	return has_page(used, cluster >> QED_USED_PAGE_BITS) ?
		       used->words[cluster / 64] :
		       0;
}

uint64_t qed_used_room(const struct qed_used *used, uint64_t low, uint64_t high,
		       uint64_t n)
{
	while (high > low && n > 0) {
		uint64_t word = word_of(used, high - 1);

		/* A word at a time where it is all alike. */
		if (high % 64 == 0 && high - low >= 64 && word == UINT64_MAX) {
			high -= 64;
		} else if (high % 64 == 0 && high - low >= 64 && n >= 64 &&
			   word == 0) {
			high -= 64;
			n -= 64;
		} else {
			high--;
			n -= !(word >> high % 64 & 1);
		}
	}
	return high;
}
