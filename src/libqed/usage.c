/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts what an image's clusters are used for, by the walk over its tables. */
#include "config.h"

#include "image.h"
#include "job.h"
#include "scan.h"

#include <errno.h>
#include <string.h>

static int count_damage(struct qed_scan *scan, const struct qed_fault *fault,
			uint64_t *entry)
{
	struct qed_usage *usage = scan->opaque;

	(void)fault;
	(void)entry;
	usage->damaged++;
	return 0;
}

/* Holes in tables are passed over without a word. */
static int last_step(const struct qed_scan *scan)
{
	uint64_t total;

	if (!qed_mul(scan->ntables + 1, scan->layer->header.table_bytes,
		     &total))
		total = UINT64_MAX;
	return qed_job_step(scan->job, total, total);
}

static int count(struct qed_layer *layer, const struct qed_job *job,
		 struct qed_usage *usage)
{
	struct qed_scan scan = {
		.layer = layer,
		.end = atomic_load(&layer->end),
		.job = job,
		.fault = count_damage,
		.opaque = usage,
	};
	int ret = qed_scan_run(&scan);

	if (ret == 0)
		ret = last_step(&scan);
	usage->data = scan.allocated;
	usage->zero = scan.zero;
	usage->tables = scan.ntables;
	/* A walk that has failed may have no map. */
	if (ret == 0)
		usage->leaked = qed_scan_leaks_end(&scan) - scan.used.count;
	qed_scan_fini(&scan);
	return ret;
}

int qed_image_get_usage(struct qed_image *image, unsigned layer,
			const struct qed_job *job, struct qed_usage *usage)
{
	memset(usage, 0, sizeof(*usage));
	if (layer >= image->chain.n)
		return -ENOENT;
	if (image->chain.layers[layer]->raw)
		return -EMEDIUMTYPE;
	return count(image->chain.layers[layer], job, usage);
}
