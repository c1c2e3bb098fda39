/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg snapshot: freezes an image, and makes an overlay on it. */
#include "config.h"

#include "common.h"

#include <errno.h>
#include <getopt.h>

enum { OPTION_FORCE = 300, OPTION_ABSOLUTE, OPTION_KEEP_MODE };

struct snapshot_request {
	struct qedimg_common common;	/* -f, -q, -h */
	uint32_t flags;			/* QED_SNAPSHOT_* */
	const char *image, *overlay;
};

static int take_option(struct snapshot_request *request, int c)
{
	switch (c) {
	case OPTION_ABSOLUTE:
		request->flags |= QED_SNAPSHOT_ABSOLUTE;
		return 0;
	case OPTION_FORCE:
		request->flags |= QED_SNAPSHOT_REPLACE;
		return 0;
	case OPTION_KEEP_MODE:
		request->flags |= QED_SNAPSHOT_KEEP_MODE;
		return 0;
	default:
		return qedimg_common_option(&request->common, c);
	}
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct snapshot_request *request)
{
	static const struct option long_options[] = {
		{ "absolute", no_argument, NULL, OPTION_ABSOLUTE },
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "help", no_argument, NULL, 'h' },
		{ "keep-mode", no_argument, NULL, OPTION_KEEP_MODE },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:hq", long_options, NULL)) != -1)
		if (take_option(request, c) < 0)
			return -EINVAL;
	request->image = argv[optind];
	request->overlay = request->image ? argv[optind + 1] : NULL;
	return 0;
}

static int check_values(const struct snapshot_request *request)
{
	if (!request->image) {
		qedimg_error(NULL, "the name of the image is missing");
		return -EINVAL;
	}
	if (qedimg_common_check(&request->common, request->image) < 0)
		return -EINVAL;
	if (request->overlay)
		return 0;
	qedimg_error(request->image, "the name of the new overlay is missing");
	return -EINVAL;
}

static int snapshot(const struct snapshot_request *request)
{
	int ret;

	/* A moment later it is complete: it is not stopped half-way. */
	qedimg_progress_start(QEDIMG_PROGRESS_NONE);
	ret = qed_image_snapshot(request->image, request->overlay,
				 request->flags, &qedimg_log);
	qedimg_progress_end();
	if (ret < 0)
		return 1;
	if (request->common.quiet)
		return 0;
	fputs("Snapshot: '", stdout);
	qedimg_put(stdout, request->image);
	fputs("' is frozen, write to '", stdout);
	qedimg_put(stdout, request->overlay);
	puts("' from now on.");
	return 0;
}

static int run(int argc, char **argv)
{
	struct snapshot_request request = { .common = { .format = "qed" } };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_snapshot);
	if (request.common.help)
		return qedimg_help(&qedimg_snapshot);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.image, argv[optind + 2]) < 0)
		return qedimg_usage_error(&qedimg_snapshot);
	return snapshot(&request);
}

const struct qedimg_command qedimg_snapshot = {
	.name = "snapshot",
	.summary = "freeze an image, and make an overlay on it",
	.help =
	"Usage: qedimg snapshot [-q] [-f qed] [--force] [--absolute] [--keep-mode]\n"
	"                       FILE NEW\n"
	"\n"
	"Freeze the image FILE as it is, and make NEW, an empty image on top of it\n"
	"that gets what is written from now on.  Use NEW instead of FILE then.\n"
	"\n"
	"  -f FORMAT    format of FILE; only qed\n"
	"  --force      replace a file that is called NEW\n"
	"  --absolute   store the whole path of FILE in NEW; otherwise the name\n"
	"               counts from NEW's directory, so that both can be moved\n"
	"  --keep-mode  leave FILE's write permission; otherwise it is taken away,\n"
	"               since a change of FILE would damage NEW\n"
	"  -q           say nothing but errors\n"
	"  -h, --help   print this help\n",
	.run = run,
};
