/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How long a new image's file would be. */
#include "config.h"

#include "job.h"
#include "request.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LOOK_MIN  (UINT64_C(1) << 32)	/* bytes */
#define LOOKS_MAX 65536u

/* Clusters and tables that extents, in order, need: each counted once. */
struct need {
	const struct qed_header *header;
	uint64_t clusters, tables;
	uint64_t next_cluster, next_table;	/* the first not yet counted */
};

/* Of the units first to last, all not before *next are new. */
static uint64_t count_new(uint64_t first, uint64_t last, uint64_t *next)
{
	first = qed_max(first, *next);
	if (first > last)
		return 0;
	*next = last + 1;
	return last + 1 - first;
}

static void need_data(struct need *need, uint64_t disk_off, uint64_t len)
{
	const struct qed_header *h = need->header;
	uint64_t last = disk_off + len - 1;

	need->clusters += count_new(disk_off >> h->cluster_bits,
				    last >> h->cluster_bits,
				    &need->next_cluster);
	need->tables += count_new(qed_l1_index(h, disk_off),
				  qed_l1_index(h, last), &need->next_table);
}

/* Header, L1 table, and what is needed; not more than an off_t can say. */
static uint64_t file_bytes(const struct need *need)
{
	const struct qed_header *h = need->header;
	uint64_t tables, data, sum;

	if (!qed_mul(need->tables + 1, h->table_bytes, &tables) ||
	    !qed_mul(need->clusters, h->cluster_size, &data) ||
	    !qed_add(tables, data, &sum) ||
	    !qed_add(sum, h->header_bytes, &sum))
		return INT64_MAX;
	return qed_min(sum, INT64_MAX);
}

static int fail_map(struct qed_image *image, const struct qed_log *log,
		    uint64_t disk_off, int err)
{
	const char *below = qed_image_failed_below(image);

	qed_log_write(log, QED_LOG_ERROR, "%s: cannot map disk offset %" PRIu64
		      ": %s; %s", below ? below : qed_image_get_path(image, 0),
		      disk_off, strerror(-err), qed_next_step(err));
	return err;
}

/* One extent may be all of the disk: looks at parts of it, but not too many. */
static int walk(struct qed_image *image,
		const struct qed_create_options *options, struct need *need)
{
	const struct qed_job *job = options->job;
	uint64_t end = qed_min(image->size, need->header->image_size), off = 0;
	uint64_t most = qed_max(LOOK_MIN, end / LOOKS_MAX);
	int ret = qed_job_step(job, off, end);

	while (ret == 0 && off < end) {
		struct qed_map_extent extent;

		ret = qed_map(image, off, qed_min(most, end - off), &extent);
		if (ret < 0)
			return fail_map(image, &options->log, off, ret);
		if (extent.kind == QED_MAP_DATA)
			need_data(need, off, extent.len);
		off += extent.len;
		ret = qed_job_step(job, off, end);
	}
	return ret;
}

static int make_header(struct qed_image *image,
		       const struct qed_create_options *options,
		       struct qed_header *h)
{
	char message[QED_MESSAGE_MAX];
	uint64_t size = options->virtual_size;
	int ret;

	if (!size && image)
		size = image->size;
	*h = (struct qed_header){
		.cluster_size = options->cluster_size ?
			options->cluster_size : QED_CLUSTER_SIZE_DEFAULT,
		.table_size = options->table_size ?
			options->table_size : QED_TABLE_SIZE_DEFAULT,
		.header_size = 1,
		.image_size = qed_round_up(qed_min(size, INT64_MAX),
					   QED_SECTOR),
	};
	ret = qed_header_derive(h, message);
	if (ret == 0)
		return 0;
	qed_log_write(&options->log, QED_LOG_ERROR, "%s", message);
	return -EINVAL;
}

int qed_measure(struct qed_image *image,
		const struct qed_create_options *options,
		struct qed_measurement *measurement)
{
	struct qed_header header;
	struct need now = { .header = &header }, full = now;
	int ret = make_header(image, options, &header);

	if (ret == 0 && image)
		ret = walk(image, options, &now);
	if (ret < 0)
		return ret;
	if (header.image_size)
		need_data(&full, 0, header.image_size);
	measurement->required = file_bytes(&now);
	measurement->fully_allocated = file_bytes(&full);
	return 0;
}
