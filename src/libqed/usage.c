/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counts what an image's clusters are used for, by the walk over its tables. */
#include "config.h"

#include "image.h"
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

static int count(struct qed_layer *layer, struct qed_usage *usage)
{
	struct qed_scan scan = {
		.layer = layer,
		.end = atomic_load(&layer->end),
		.fault = count_damage,
		.opaque = usage,
	};
	int ret = qed_scan_run(&scan);

	usage->data = scan.allocated;
	usage->zero = scan.zero;
	usage->tables = scan.ntables;
	usage->leaked = scan.used.n - scan.used.count;
	qed_scan_fini(&scan);
	return ret;
}

int qed_image_get_usage(struct qed_image *image, unsigned layer,
			struct qed_usage *usage)
{
	memset(usage, 0, sizeof(*usage));
	if (layer >= image->chain.n)
		return -ENOENT;
	if (image->chain.layers[layer]->raw)
		return -EMEDIUMTYPE;
	return count(image->chain.layers[layer], usage);
}
