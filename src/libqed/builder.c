/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "builder.h"
#include "create.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t window_entries(const struct qed_builder *b)
{
	return qed_min(QED_WINDOW_ENTRIES, b->header->table_nelems);
}

static int window_write(struct qed_builder *b, struct qed_table_window *window)
{
	uint64_t n = window_entries(b);
	int ret;

	if (!window->dirty)
		return 0;
	ret = qed_file_write(b->file, window->entries, n * QED_ENTRY_BYTES,
			     window->file_off + window->first * QED_ENTRY_BYTES);
	if (ret < 0)
		return ret;
	memset(window->entries, 0, n * QED_ENTRY_BYTES);
	window->dirty = false;
	return 0;
}

static int window_set(struct qed_builder *b, struct qed_table_window *window,
		      uint64_t index, uint64_t value)
{
	uint64_t first = qed_round_down(index, window_entries(b));

	if (first != window->first) {
		int ret = window_write(b, window);

		if (ret < 0)
			return ret;
		window->first = first;
	}
	window->entries[index - first] = qed_le64_put(value);
	window->dirty = true;
	return 0;
}

int qed_builder_init(struct qed_builder *builder, struct qed_file *file,
		     const struct qed_header *header)
{
	*builder = (struct qed_builder){
		.file = file,
		.header = header,
		.end = header->l1_table_offset + header->table_bytes,
		.l1.file_off = header->l1_table_offset,
	};
	builder->l1.entries = calloc(window_entries(builder), QED_ENTRY_BYTES);
	builder->l2.entries = calloc(window_entries(builder), QED_ENTRY_BYTES);
	return builder->l1.entries && builder->l2.entries ? 0 : -ENOMEM;
}

void qed_builder_fini(struct qed_builder *builder)
{
	free(builder->l1.entries);
	free(builder->l2.entries);
}

/* Takes `len` bytes, whole clusters, at the end of the file. */
static int extend(struct qed_builder *b, uint64_t len, uint64_t *file_off)
{
	*file_off = b->end;
	if (!qed_add(b->end, len, &b->end) || b->end > INT64_MAX)
		return -EFBIG;
	return 0;
}

/* Sees that the L2 table at hand is that of disk_off. */
static int need_l2(struct qed_builder *b, uint64_t disk_off)
{
	uint64_t index = qed_l1_index(b->header, disk_off);
	int ret;

	if (b->have_l2 && b->l1_index == index)
		return 0;
	ret = window_write(b, &b->l2);
	if (ret == 0)
		ret = extend(b, b->header->table_bytes, &b->l2.file_off);
	if (ret == 0)
		ret = window_set(b, &b->l1, index, b->l2.file_off);
	b->l2.first = 0;
	b->l1_index = index;
	b->have_l2 = ret == 0;
	return ret;
}

int qed_builder_place(struct qed_builder *builder, uint64_t disk_off,
		      uint64_t *file_off)
{
	const struct qed_header *header = builder->header;
	int ret = need_l2(builder, disk_off);

	if (ret == 0)
		ret = extend(builder, header->cluster_size, file_off);
	if (ret == 0)
		ret = window_set(builder, &builder->l2,
				 qed_l2_index(header, disk_off), *file_off);
	return ret;
}

int qed_builder_zero(struct qed_builder *builder, uint64_t disk_off)
{
	int ret = need_l2(builder, disk_off);

	if (ret == 0)
		ret = window_set(builder, &builder->l2,
				 qed_l2_index(builder->header, disk_off),
				 QED_ENTRY_ZERO);
	return ret;
}

int qed_builder_finish(struct qed_builder *builder, const char *backing)
{
	int ret = window_write(builder, &builder->l2);

	if (ret == 0)
		ret = window_write(builder, &builder->l1);
	if (ret == 0)
		ret = qed_create_write_header(builder->file, builder->header,
					      backing);
	/* Over the last cluster, written in part, or a table's empty end. */
	if (ret == 0)
		ret = qed_file_lengthen(builder->file, builder->end);
	return ret;
}
