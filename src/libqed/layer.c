/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One image of a chain.  The L1 table is in memory whole (an off_t can address
 * no disk that needs more than 2^21 entries of it).  Its bad entries
 * (unaligned, past the end, overlapping the header, the L1 table or another L2
 * table) are marked at open: requests that need them fail, all others are
 * served.
 *
 * Thread model: tables_lock is a leaf lock.  L1 entries are atomic words.
 */
#include "config.h"

#include "layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAINTS_MAX 100

static uint64_t table_end(const struct qed_layer *layer)
{
	return atomic_load_explicit(&layer->end, memory_order_acquire);
}

/* Index of the first table that starts after `file_off`. */
static uint64_t tables_after_locked(const struct qed_layer *layer,
				    uint64_t file_off)
{
	uint64_t low = 0, high = layer->ntables;

	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (layer->tables[mid] <= file_off)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Does [file_off, file_off + len) touch an L2 table? */
static bool hits_table_locked(const struct qed_layer *layer, uint64_t file_off,
			      uint64_t len)
{
	uint64_t i = tables_after_locked(layer, file_off);

	if (i < layer->ntables && layer->tables[i] - file_off < len)
		return true;
	return i > 0 &&
	       file_off - layer->tables[i - 1] < layer->header.table_bytes;
}

static bool data_ok_locked(struct qed_layer *layer, uint64_t file_off)
{
	const struct qed_header *h = &layer->header;

	return qed_data_offset_ok(h, file_off, table_end(layer)) &&
	       !qed_ranges_overlap(file_off, h->cluster_size,
				   h->l1_table_offset, h->table_bytes) &&
	       !hits_table_locked(layer, file_off, h->cluster_size);
}

bool qed_layer_data_ok(struct qed_layer *layer, uint64_t file_off)
{
	bool ok;

	pthread_rwlock_rdlock(&layer->tables_lock);
	ok = data_ok_locked(layer, file_off);
	pthread_rwlock_unlock(&layer->tables_lock);
	return ok;
}

static bool entries_ok(struct qed_table_source *source, const uint64_t *entries,
		       size_t n)
{
	struct qed_layer *layer = (struct qed_layer *)source;
	bool ok = true;

	pthread_rwlock_rdlock(&layer->tables_lock);
	for (size_t i = 0; i < n && ok; i++)
		ok = entries[i] <= QED_ENTRY_ZERO ||
		     data_ok_locked(layer, entries[i]);
	pthread_rwlock_unlock(&layer->tables_lock);
	return ok;
}

int qed_layer_add_table(struct qed_layer *layer, uint64_t l1_index,
			uint64_t file_off)
{
	uint64_t i;
	int ret = 0;

	pthread_rwlock_wrlock(&layer->tables_lock);
	if (layer->ntables == layer->max_tables) {
		uint64_t max = layer->max_tables * 2 + 64;
		uint64_t *tables =
			realloc(layer->tables, max * sizeof(*tables));

		ret = -ENOMEM;
		if (!tables)
			goto out_unlock;
		layer->tables = tables;
		layer->max_tables = max;
	}
	i = tables_after_locked(layer, file_off);
	memmove(layer->tables + i + 1, layer->tables + i,
		(layer->ntables - i) * sizeof(*layer->tables));
	layer->tables[i] = file_off;
	layer->ntables++;
	atomic_store_explicit(&layer->l1[l1_index], file_off,
			      memory_order_release);
	ret = 0;
out_unlock:
	pthread_rwlock_unlock(&layer->tables_lock);
	return ret;
}

void qed_layer_complain(struct qed_layer *layer, const char *what,
			uint64_t file_off, uint64_t disk_off)
{
	unsigned n;

	/* A job looks at it several times, and a guest tries again. */
	if (atomic_exchange(&layer->complained, file_off) == file_off)
		return;
	n = atomic_fetch_add(&layer->complaints, 1);
	if (n < COMPLAINTS_MAX)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: damaged: %s at file offset %" PRIu64
			      " (disk offset %" PRIu64
			      "); requests that need it fail, run a check",
			      layer->source.file->path, what, file_off,
			      disk_off);
	else if (n == COMPLAINTS_MAX)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: more damage; no longer logged",
			      layer->source.file->path);
}

uint64_t qed_layer_allocated(struct qed_layer *layer)
{
	const struct qed_header *h = &layer->header;
	uint64_t meta, end;
	struct stat st;

	if (layer->raw) {
		if (fstat(layer->source.file->fd, &st) < 0)
			return layer->size;
		return qed_min((uint64_t)st.st_blocks * 512, layer->size);
	}
	end = table_end(layer);
	pthread_rwlock_rdlock(&layer->tables_lock);
	meta = h->header_bytes + h->table_bytes * (1 + layer->ntables);
	pthread_rwlock_unlock(&layer->tables_lock);
	return qed_min(end > meta ? end - meta : 0, layer->size);
}

int qed_layer_probe(struct qed_file *file)
{
	char magic[4];
	int ret = qed_file_read(file, magic, sizeof(magic), 0);

	return ret < 0 ? ret : memcmp(magic, "QED", 4) == 0;
}

static int read_backing_name(struct qed_file *file,
			     const struct qed_header *header, char **out,
			     char message[QED_MESSAGE_MAX])
{
	uint32_t len = header->backing_filename_size;
	char *name = malloc((size_t)len + 1);
	int ret = -ENOMEM;

	if (!name)
		return ret;
	ret = qed_file_read(file, name, len, header->backing_filename_offset);
	if (ret == 0)
		ret = qed_header_check_backing_name(name, len, message);
	if (ret < 0) {
		free(name);
		return ret;
	}
	name[len] = '\0';
	*out = name;
	return 0;
}

int qed_layer_read_header(struct qed_file *file, struct qed_header *header,
			  char **name)
{
	char message[QED_MESSAGE_MAX] = "";
	uint8_t buf[QED_HEADER_BYTES];
	uint64_t size;
	int ret = qed_file_size(file, &size);

	*name = NULL;
	if (ret == 0)
		ret = qed_file_read(file, buf, sizeof(buf), 0);
	if (ret == 0)
		ret = qed_header_decode(buf, size, header, message);
	if (ret == 0 && header->features & QED_FEATURE_BACKING_FILE)
		ret = read_backing_name(file, header, name, message);
	if (ret < 0)
		qed_log_write(&file->log, QED_LOG_ERROR, "%s: %s%s", file->path,
			      *message ? "" : "cannot read the header: ",
			      *message ? message : strerror(-ret));
	return ret;
}

int qed_layer_write_header(struct qed_layer *layer)
{
	struct qed_file *file = layer->source.file;
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	qed_header_encode(&layer->header, buf);
	ret = qed_file_write(file, buf, sizeof(buf), 0);
	return ret < 0 ? ret : qed_file_flush(file);
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* All non-zero L1 entries that could be tables, ascending, into `tables`. */
static void collect_tables(struct qed_layer *layer)
{
	layer->ntables = 0;
	for (uint64_t i = 0; i < layer->l1_loaded; i++) {
		uint64_t entry = atomic_load(&layer->l1[i]);

		if (entry && qed_table_offset_ok(&layer->header, entry,
						 table_end(layer)))
			layer->tables[layer->ntables++] = entry;
	}
	qsort(layer->tables, layer->ntables, sizeof(*layer->tables), by_offset);
}

/* Does the table at `file_off` share a cluster with another one? */
static bool table_aliased(const struct qed_layer *layer, uint64_t file_off)
{
	uint64_t after = tables_after_locked(layer, file_off);
	uint64_t size = layer->header.table_bytes;

	if (after < layer->ntables && layer->tables[after] - file_off < size)
		return true;
	/* tables[after - 1] is the table itself */
	return after > 1 && file_off - layer->tables[after - 2] < size;
}

static bool l1_entry_ok(const struct qed_layer *layer, uint64_t entry)
{
	return !entry || (qed_table_offset_ok(&layer->header, entry,
					      table_end(layer)) &&
			  !table_aliased(layer, entry));
}

static int mark_bad_tables(struct qed_layer *layer)
{
	for (uint64_t i = 0; i < layer->l1_loaded; i++) {
		if (l1_entry_ok(layer, atomic_load(&layer->l1[i])))
			continue;
		if (!layer->l1_bad)
			layer->l1_bad = calloc(1, layer->l1_loaded / 8 + 1);
		if (!layer->l1_bad)
			return -ENOMEM;
		layer->l1_bad[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return 0;
}

static uint64_t count_tables(const struct qed_layer *layer)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < layer->l1_loaded; i++)
		n += atomic_load(&layer->l1[i]) != 0;
	return n;
}

static int read_l1(struct qed_layer *layer)
{
	struct qed_le64 *disk = (struct qed_le64 *)layer->l1;
	int ret = qed_file_read(layer->source.file, disk,
				layer->l1_loaded * QED_ENTRY_BYTES,
				layer->header.l1_table_offset);

	for (uint64_t i = 0; ret == 0 && i < layer->l1_loaded; i++)
		atomic_init(&layer->l1[i], qed_le64_get(disk[i]));
	return ret;
}

int qed_layer_load_l1(struct qed_layer *layer)
{
	int ret = -ENOMEM;

	/* Tables are whole slices: l1_loaded never passes the table's end. */
	layer->l1_loaded =
		qed_round_up(layer->header.l1_used, QED_SLICE_ENTRIES);
	layer->l1 = calloc(layer->l1_loaded + 1, sizeof(*layer->l1));
	if (!layer->l1)
		goto out;
	ret = read_l1(layer);
	if (ret < 0)
		goto out;
	layer->max_tables = count_tables(layer) + 1;
	layer->tables = calloc(layer->max_tables, sizeof(*layer->tables));
	ret = -ENOMEM;
	if (!layer->tables)
		goto out;
	collect_tables(layer);
	ret = mark_bad_tables(layer);
out:
	if (ret < 0)
		qed_log_write(&layer->log, QED_LOG_ERROR,
			      "%s: cannot read the L1 table at file offset %"
			      PRIu64 ": %s", layer->source.file->path,
			      layer->header.l1_table_offset, strerror(-ret));
	return ret;
}

static int open_qed(struct qed_layer *layer)
{
	struct qed_file *file = layer->source.file;
	uint64_t size;
	int ret = qed_layer_read_header(file, &layer->header,
					&layer->backing_name);

	if (ret < 0)
		return ret;
	ret = qed_file_size(file, &size);
	if (ret < 0)
		return ret;
	/* A last cluster that is cut short does not count, as in QEMU. */
	atomic_init(&layer->end,
		    qed_round_down(size, layer->header.cluster_size));
	layer->size = layer->header.image_size;
	return 0;
}

static int open_raw(struct qed_layer *layer)
{
	struct qed_file *file = layer->source.file;
	int ret = qed_file_size(file, &layer->size);

	if (ret < 0)
		qed_log_write(&layer->log, QED_LOG_ERROR, "%s: %s", file->path,
			      strerror(-ret));
	return ret;
}

int qed_layer_create(struct qed_file *file, unsigned id, bool raw,
		     struct qed_l2cache *cache, struct qed_layer **out)
{
	struct qed_layer *layer = calloc(1, sizeof(*layer));
	int ret;

	*out = NULL;
	if (!layer) {
		qed_file_close(file);
		return -ENOMEM;
	}
	pthread_rwlock_init(&layer->tables_lock, NULL);
	layer->source.file = file;
	layer->source.id = id;
	layer->source.entries_ok = entries_ok;
	layer->raw = raw;
	layer->log = file->log;
	layer->cache = cache;
	ret = raw ? open_raw(layer) : open_qed(layer);
	if (ret < 0) {
		qed_layer_destroy(layer);
		return ret;
	}
	*out = layer;
	return 0;
}

void qed_layer_destroy(struct qed_layer *layer)
{
	if (!layer)
		return;
	qed_file_close(layer->source.file);
	free(layer->backing_name);
	free(layer->l1);
	free(layer->l1_bad);
	free(layer->tables);
	pthread_rwlock_destroy(&layer->tables_lock);
	free(layer);
}
