/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* From clusters back to the entries that name them. */
#include "config.h"

#include "owners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int qed_owners_init(struct qed_owners *owners, struct qed_relocation *r,
		    uint64_t max)
{
	*owners = (struct qed_owners){ .r = r, .max = max };
	owners->map = calloc(max, sizeof(*owners->map));
	return owners->map ? 0 : qed_relocate_complain(r, -ENOMEM, "owners");
}

void qed_owners_fini(struct qed_owners *owners)
{
	free(owners->map);
}

static void set(struct qed_owners *owners, uint64_t file_off, uint64_t value)
{
	uint64_t cluster = file_off >>
			   qed_relocation_header(owners->r)->cluster_bits;

	if (cluster >= owners->first && cluster - owners->first < owners->n)
		owners->map[cluster - owners->first] = value;
}

static int walk(struct qed_owners *owners, uint64_t first)
{
	struct qed_entries entries;
	uint64_t owner, value;
	int ret = qed_entries_init(&entries, owners->r, 0,
				   owners->r->scan.ntables);

	if (owners->n)
		memset(owners->map, 0, owners->max * sizeof(*owners->map));
	owners->first = first;
	owners->n = owners->max;
	while (ret >= 0 &&
	       (ret = qed_entries_next(&entries, &owner, &value)) > 0)
		if (value > QED_ENTRY_ZERO)
			set(owners, value, owner + 1);
	qed_entries_fini(&entries);
	return ret;
}

int qed_owners_get(struct qed_owners *owners, uint64_t cluster, uint64_t *owner)
{
	uint64_t value;

	if (cluster < owners->first || cluster - owners->first >= owners->n) {
		int ret = walk(owners, cluster);

		if (ret < 0)
			return ret;
	}
	value = owners->map[cluster - owners->first];
	*owner = value - 1;
	return value != 0;
}

void qed_owners_update(struct qed_owners *owners, const struct qed_move *moves,
		       uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		set(owners, moves[i].from, 0);
	for (uint64_t i = 0; i < n; i++)
		set(owners, moves[i].to, moves[i].owner + 1);
}
