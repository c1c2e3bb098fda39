/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Emptying.  Order on disk: NEED_CHECK, sync; the L1 table's entries, sync; the
 * file is cut; sync; NEED_CHECK cleared, sync.  Entries may go in any order:
 * each takes a range of the disk with it that the backing file shows just so.
 * Nothing is cut before no entry is left that could name it.
 */
#include "config.h"

#include "check.h"
#include "empty.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK UINT64_C(65536)

static int set_need_check(struct qed_layer *layer)
{
	struct qed_file *file = layer->source.file;
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	layer->header.features |= QED_FEATURE_NEED_CHECK;
	layer->header.autoclear_features = 0;
	qed_header_encode(&layer->header, buf);
	ret = qed_file_write(file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(file);
}

/* Also entries that no disk of this size has any use for. */
static int clear_l1(struct qed_layer *layer)
{
	const struct qed_header *h = &layer->header;
	struct qed_file *file = layer->source.file;
	uint64_t off = h->l1_table_offset, end = off + h->table_bytes;
	static const uint8_t zeroes[CHUNK];
	uint8_t *buf = malloc(CHUNK);
	int ret = buf ? 0 : -ENOMEM;

	while (ret == 0 && off < end) {
		uint64_t data = qed_file_next_data(file, off), len;

		/* Entries are 8 bytes long, holes begin where blocks do. */
		off = qed_max(off, qed_round_down(qed_min(data, end), CHUNK));
		len = qed_min(CHUNK, end - off);
		if (len)
			ret = qed_file_read(file, buf, len, off);
		if (ret == 0 && !qed_is_zero(buf, len))
			ret = qed_file_write(file, zeroes, len, off);
		off += len;
	}
	free(buf);
	return ret < 0 ? ret : qed_file_flush(file);
}

/* Of what lies before an L1 table that was moved, the space at least. */
static int give_back(struct qed_layer *layer)
{
	const struct qed_header *h = &layer->header;
	struct qed_file *file = layer->source.file;
	int ret = 0;

	if (h->l1_table_offset > h->header_bytes)
		ret = qed_file_run(file, QED_OP_PUNCH, h->header_bytes,
				   h->l1_table_offset - h->header_bytes);
	if (ret < 0 && ret != -EOPNOTSUPP && ret != -ENOSYS)
		return ret;
	return qed_file_cut(file, h->l1_table_offset + h->table_bytes);
}

int qed_layer_empty(struct qed_layer *layer)
{
	int ret = set_need_check(layer);

	if (ret == 0)
		ret = clear_l1(layer);
	if (ret == 0)
		ret = give_back(layer);
	return ret < 0 ? ret : qed_check_clear_flag(layer);
}
