/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg compact: makes an image's file as short as it can be, in place. */
#include "config.h"

#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>

enum {
	OPTION_DEFRAG = 1000,
	OPTION_DRY_RUN,
	OPTION_ZEROES,
};

struct compact_request {
	const char *file;
	uint32_t flags;			/* QED_COMPACT_* */
	struct qedimg_common common;	/* -f, -h, -p and -q */
};

static void put_report(const struct compact_request *request,
		       const struct qed_compact_report *r)
{
	bool dry_run = request->flags & QED_COMPACT_DRY_RUN;

	printf("Image end offset: %" PRIu64 ", %s %" PRIu64 "\n"
	       "File size: %" PRIu64 ", %s %" PRIu64 "\n",
	       r->end_before, dry_run ? "would be" : "now", r->end_after,
	       r->size_before, dry_run ? "would be" : "now", r->size_after);
	if (dry_run) {
		printf("Fragmented clusters: %" PRIu64 " of %" PRIu64 "\n",
		       r->fragments_before, r->clusters);
		return;
	}
	printf("Moved: %" PRIu64 " clusters, %" PRIu64 " tables; dropped: %"
	       PRIu64 " clusters of zeroes, %" PRIu64 " empty tables\n"
	       "Fragmented clusters: %" PRIu64 ", now %" PRIu64 " of %" PRIu64
	       "\n",
	       r->moved, r->moved_tables, r->dropped, r->dropped_tables,
	       r->fragments_before, r->fragments_after, r->clusters);
}

static int compact(const struct compact_request *request)
{
	struct qed_compact_options options = {
		.flags = request->flags,
		.log = qedimg_log,
	};
	struct qed_compact_report report;
	int ret;

	options.job = qedimg_common_job(&request->common);
	ret = qed_image_compact(request->file, &options, &report);
	qedimg_progress_end();
	if (ret < 0)
		return 1;
	if (!request->common.quiet)
		put_report(request, &report);
	return 0;
}

static int set_option(struct compact_request *request, int c)
{
	switch (c) {
	case OPTION_DEFRAG:
		request->flags |= QED_COMPACT_DEFRAG;
		return 0;
	case OPTION_DRY_RUN:
		request->flags |= QED_COMPACT_DRY_RUN;
		return 0;
	case OPTION_ZEROES:
		request->flags |= QED_COMPACT_ZEROES;
		return 0;
	default:
		return qedimg_common_option(&request->common, c);
	}
}

/* 0, or -EINVAL after a message. */
static int read_options(int argc, char **argv, struct compact_request *request)
{
	static const struct option long_options[] = {
		{ "defrag", no_argument, NULL, OPTION_DEFRAG },
		{ "dry-run", no_argument, NULL, OPTION_DRY_RUN },
		{ "help", no_argument, NULL, 'h' },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "zeroes", no_argument, NULL, OPTION_ZEROES },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:hpq", long_options, NULL)) != -1)
		if (set_option(request, c) < 0)
			return -EINVAL;
	request->file = argv[optind];
	return 0;
}

static int check_values(const struct compact_request *request)
{
	if (!request->file) {
		qedimg_error(NULL, "the name of the image is missing");
		return -EINVAL;
	}
	if (request->flags & QED_COMPACT_DRY_RUN &&
	    request->flags & QED_COMPACT_ZEROES) {
		qedimg_error(request->file, "--dry-run reads no data: it cannot"
			     " be used with --zeroes");
		return -EINVAL;
	}
	return qedimg_common_check(&request->common, request->file);
}

static int run(int argc, char **argv)
{
	struct compact_request request = { .common = { .format = "qed" } };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_compact);
	if (request.common.help)
		return qedimg_help(&qedimg_compact);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.file, argv[optind + 1]) < 0)
		return qedimg_usage_error(&qedimg_compact);
	return compact(&request);
}

const struct qedimg_command qedimg_compact = {
	.name = "compact",
	.summary = "make an image's file as short as it can be",
	.help =
	"Usage: qedimg compact [-q] [-f qed] [--defrag] [--zeroes | --dry-run] [-p]\n"
	"                      [--progress=json] FILE\n"
	"\n"
	"Give the space back that a QED image does not use, in place: move clusters\n"
	"down over leaks and holes and cut the file.  It can be stopped at any time\n"
	"and run again.\n"
	"\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  --defrag           also put all clusters into the order of the disk; the\n"
	"                     file may grow meanwhile by 64 MiB or what its tables\n"
	"                     take up\n"
	"  --zeroes           also drop clusters that hold zeroes only; reads all\n"
	"                     data\n"
	"  --dry-run          only say how short the file would get\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 print nothing but errors\n"
	"  -h, --help         print this help\n",
	.run = run,
};
