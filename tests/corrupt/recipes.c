/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What can be wrong: every value that an entry should not have, at every place
 * that is special; damage of other kinds; and any of these together at random.
 */
#include "config.h"

#include "corrupt.h"

#include <stdio.h>
#include <string.h>

#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))

/* --- one entry ------------------------------------------------------------------- */

/* Places: of an entry, given the image. */
static uint64_t in_l2(const struct image *image, unsigned table, uint64_t index)
{
	return image->t[table] + index * 8;
}

static const struct place {
	const char *name;
	unsigned level, table;		/* L2: which */
	int64_t index;			/* negative: from the end */
} places[] = {
	{ "first entry of the first table", 2, 0, 0 },
	{ "a hole in the first table", 2, 0, 3 },
	{ "a zero cluster", 2, 0, 10 },
	{ "last entry of the first table", 2, 0, -1 },
	{ "first entry of the second table", 2, 1, 0 },
	{ "the middle of the second table", 2, 1, 7 },
	{ "last entry of the second table", 2, 1, -1 },
	{ "the disk's last cluster", 2, 2, 4 },
	{ "past the disk's end", 2, 2, 5 },
	{ "first L1 entry", 1, 0, 0 },
	{ "second L1 entry", 1, 0, 1 },
	{ "last L1 entry in use", 1, 0, 2 },
	{ "an L1 entry past the disk's end", 1, 0, 3 },
	{ "last L1 entry", 1, 0, -1 },
};

static uint64_t place_off(const struct image *image, const struct place *p)
{
	uint64_t index = p->index < 0 ? image->nelems - 1 : (uint64_t)p->index;

	return p->level == 1 ? image->l1 + index * 8 :
			       in_l2(image, p->table, index);
}

enum value {
	V_RESERVED,			/* 2: neither mark nor offset */
	V_DATA_AND_1,
	V_DATA_AND_2048,
	V_ONES,
	V_UNALIGNED,
	V_IN_HEADER,
	V_L1,
	V_L1_END,			/* its last cluster */
	V_BEFORE_L1,			/* a table there reaches into it */
	V_T0,
	V_T1_END,
	V_T2,
	V_T0_PART,			/* a table there is half of that one */
	V_AT_END,
	V_ACROSS_END,			/* a table there sticks out */
	V_FAR,
	V_SIGN,
	V_WRAPS,			/* plus its length it is small */
	V_OTHER_DATA,
	V_DATA_ELSEWHERE,		/* another table's */
	V_LAST_DATA,
	NVALUES
};

static const char *const value_names[NVALUES] = {
	"2", "data and 1", "data and 2048", "all ones", "unaligned",
	"in the header", "the L1 table", "the L1 table's end",
	"before the L1 table", "the first table", "the second table's end",
	"the third table", "half of the first table", "the file's end",
	"across the file's end", "far away", "negative", "wraps",
	"other data", "another table's data", "the last data cluster",
};

/* 0: this geometry has no such thing. */
static uint64_t value_of(const struct image *image, enum value value)
{
	uint64_t c = image->g.cluster, end = image_end(image);

	switch (value) {
	case V_RESERVED:
		return 2;
	case V_DATA_AND_1:
		return image->data + 1;
	case V_DATA_AND_2048:
		return image->data + c + 2048;
	case V_ONES:
		return UINT64_MAX;
	case V_UNALIGNED:
		return c > 4096 ? image->data + 4096 : 0;
	case V_IN_HEADER:
		return image->g.header > 1 ? c : 0;
	case V_L1:
		return image->l1;
	case V_L1_END:
		return image->l1 + image->table_bytes - c;
	case V_BEFORE_L1:
		return image->g.apart && image->g.table > 1 ? image->l1 - c : 0;
	case V_T0:
		return image->t[0];
	case V_T1_END:
		return image->t[1] + image->table_bytes - c;
	case V_T2:
		return image->t[2];
	case V_T0_PART:
		return image->g.table > 1 ? image->t[0] + c : 0;
	case V_AT_END:
		return end;
	case V_ACROSS_END:
		return image->g.table > 1 ? end - c : 0;
	case V_FAR:
		return UINT64_C(1) << 41;
	case V_SIGN:
		return UINT64_C(1) << 63 | image->data;
	case V_WRAPS:
		return UINT64_MAX - c + 1;
	case V_OTHER_DATA:
		return image->data + 2 * c;
	case V_DATA_ELSEWHERE:
		return image->data + 6 * c;
	case V_LAST_DATA:
		return image->data + 11 * c;
	case NVALUES:
		break;
	}
	return 0;
}

static bool apply_entry(struct image *image, unsigned place, unsigned value,
			char name[200])
{
	uint64_t at = place_off(image, &places[place]);
	uint64_t entry = value_of(image, (enum value)value);

	snprintf(name, 200, "%s: %s", places[place].name, value_names[value]);
	if (!entry || image_get(image, at) == entry)
		return false;
	image_put(image, at, entry);
	return true;
}

/* --- other damage ------------------------------------------------------------------- */

static bool cut_in_data(struct image *image)
{
	image_resize(image, image->size - 100);
	return true;
}

static bool cut_data(struct image *image)
{
	image_resize(image, image->size - image->g.cluster);
	return true;
}

static bool cut_all_data(struct image *image)
{
	image_resize(image, image->data);
	return true;
}

/* With the L1 table before the others, the last of these goes as well. */
static bool cut_table(struct image *image)
{
	if (image->g.apart)
		return false;
	image_resize(image, image->data - 8);
	return true;
}

static bool leak_tail(struct image *image)
{
	image_resize(image, image->size + 3 * image->g.cluster);
	return true;
}

static bool leak_ragged_tail(struct image *image)
{
	image_resize(image, image->size + image->g.cluster + 700);
	return true;
}

static bool leak_inner(struct image *image)
{
	image_put(image, in_l2(image, 0, 1), 0);
	image_put(image, in_l2(image, 1, 7), 1);
	return true;
}

static bool leak_table(struct image *image)
{
	image_put(image, image->l1 + 8, 0);
	return true;
}

static bool leak_and_corrupt(struct image *image)
{
	leak_inner(image);
	leak_tail(image);
	image_put(image, in_l2(image, 1, 0), 2);
	return true;
}

static bool nothing(struct image *image)
{
	(void)image;
	return true;
}

/* All three tables are one. */
static bool one_table(struct image *image)
{
	image_put(image, image->l1 + 8, image->t[0]);
	image_put(image, image->l1 + 16, image->t[0]);
	return true;
}

static bool share_widely(struct image *image)
{
	for (uint64_t i = 20; i < 30; i++)
		image_put(image, in_l2(image, 0, i), image->data);
	image_put(image, in_l2(image, 1, 3), image->data);
	image_put(image, in_l2(image, 2, 3), image->data);
	return true;
}

static bool swap_table_and_data(struct image *image)
{
	image_put(image, image->l1 + 8, image->data);
	image_put(image, in_l2(image, 0, 0), image->t[1]);
	return true;
}

static bool table_of_itself(struct image *image)
{
	for (uint64_t i = 0; i < 16; i++)
		image_put(image, in_l2(image, 0, i), image->t[0]);
	return true;
}

static bool tables_in_a_ring(struct image *image)
{
	image_put(image, in_l2(image, 0, 4), image->t[1]);
	image_put(image, in_l2(image, 1, 4), image->t[2]);
	image_put(image, in_l2(image, 2, 1), image->t[0]);
	return true;
}

static bool garbage_table(struct image *image)
{
	for (uint64_t i = 0; i < image->nelems; i++)
		image_put(image, in_l2(image, 1, i), rng_mix(i + 1));
	return true;
}

static bool garbage_l1(struct image *image)
{
	for (uint64_t i = 3; i < image->nelems; i++)
		image_put(image, image->l1 + i * 8, rng_mix(i) | 1);
	return true;
}

/* Entries for what is behind the end, where copies will be. */
static bool future(struct image *image)
{
	for (uint64_t i = 0; i < 6; i++)
		image_put(image, in_l2(image, 0, 20 + i),
			  image_end(image) + i * image->g.cluster);
	image_put(image, in_l2(image, 0, 40), image->t[0]);
	image_put(image, in_l2(image, 0, 41), image->data);
	image_put(image, in_l2(image, 1, 41), image->data);
	return true;
}

static bool future_table(struct image *image)
{
	image_put(image, image->l1 + 3 * 8, image_end(image));
	image_put(image, in_l2(image, 0, 40), image->t[1]);
	image_put(image, image->l1 + 2 * 8, image->t[0]);
	return true;
}

/* A run of neighbours that is reported in one. */
static bool many_alike(struct image *image)
{
	for (uint64_t i = 30; i < 90; i++)
		image_put(image, in_l2(image, 1, i), UINT64_C(1) << 42);
	return true;
}

static const struct special {
	const char *name;
	bool (*apply)(struct image *image);
} specials[] = {
	{ "nothing", nothing },
	{ "cut in the last data cluster", cut_in_data },
	{ "cut before the last data cluster", cut_data },
	{ "cut before all data", cut_all_data },
	{ "cut in a table", cut_table },
	{ "leaks at the end", leak_tail },
	{ "leaks at a ragged end", leak_ragged_tail },
	{ "leaks inside", leak_inner },
	{ "a leaked table", leak_table },
	{ "leaks and corruption", leak_and_corrupt },
	{ "one table three times", one_table },
	{ "data twelve times", share_widely },
	{ "table and data swapped", swap_table_and_data },
	{ "a table's entries name itself", table_of_itself },
	{ "tables name each other", tables_in_a_ring },
	{ "a table of garbage", garbage_table },
	{ "an L1 table of garbage", garbage_l1 },
	{ "data where copies will be", future },
	{ "a table where copies will be", future_table },
	{ "many alike", many_alike },
};

/* --- all of them ----------------------------------------------------------------------- */

#define NENTRIES ((unsigned)ELEMS(places) * NVALUES)
#define NRANDOM  30u

unsigned recipes(void)
{
	return NENTRIES + (unsigned)ELEMS(specials) + NRANDOM;
}

static bool apply_random(struct image *image, struct rng *rng, char name[200])
{
	char ignored[200];
	int n = 2 + (int)rng_below(rng, 7);

	if (rng_chance(rng, 30))
		specials[rng_below(rng, ELEMS(specials))].apply(image);
	for (int i = 0; i < n; i++)
		apply_entry(image, (unsigned)rng_below(rng, ELEMS(places)),
			    (unsigned)rng_below(rng, NVALUES), ignored);
	snprintf(name, 200, "%d at random", n);
	return true;
}

bool recipe_apply(unsigned n, struct image *image, struct rng *rng,
		  char name[200])
{
	if (n < NENTRIES)
		return apply_entry(image, n / NVALUES, n % NVALUES, name);
	n -= NENTRIES;
	if (n >= ELEMS(specials))
		return apply_random(image, rng, name);
	snprintf(name, 200, "%s", specials[n].name);
	return specials[n].apply(image);
}
