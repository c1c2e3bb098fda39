/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg rebase: gives an image another backing file.  As qemu-img. */
#include "config.h"

#include "common.h"
#include "qedimg.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>

#define OPTION_ALLOW_MISSING 300

struct rebase_request {
	const char *file;
	const char *backing;		/* -b; "": none */
	const char *backing_format;	/* -F */
	bool unsafe;			/* -u */
	bool missing;			/* --allow-missing */
	struct qedimg_common common;
};

static int rebase(const struct rebase_request *request)
{
	struct qed_rebase_options options = {
		.backing = *request->backing ? request->backing : NULL,
		/* Of no file it means nothing. */
		.backing_format = *request->backing ? request->backing_format :
						      NULL,
		.log = qedimg_log,
	};
	int ret;

	if (request->unsafe)
		options.flags |= QED_REBASE_UNSAFE;
	if (request->missing)
		options.flags |= QED_REBASE_MISSING;
	options.job = qedimg_common_job(&request->common);
	ret = qed_image_rebase(request->file, &options);
	qedimg_progress_end();
	if (ret == 0 && request->unsafe && !request->common.quiet)
		puts("Only the name was changed: nothing has been compared.");
	return ret < 0 ? 1 : 0;
}

static int set_option(struct rebase_request *request, int c)
{
	switch (c) {
	case 'b':
		request->backing = optarg;
		return 0;
	case 'F':
		request->backing_format = optarg;
		return 0;
	case 'u':
		request->unsafe = true;
		return 0;
	case OPTION_ALLOW_MISSING:
		request->missing = true;
		return 0;
	default:
		return qedimg_common_option(&request->common, c);
	}
}

static int read_options(int argc, char **argv, struct rebase_request *request)
{
	static const struct option long_options[] = {
		{ "allow-missing", no_argument, NULL, OPTION_ALLOW_MISSING },
		{ "help", no_argument, NULL, 'h' },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "b:f:F:hpqu", long_options,
				NULL)) != -1)
		if (set_option(request, c) < 0)
			return -EINVAL;
	request->file = argv[optind];
	return 0;
}

/* What is wrong with the options, or null. */
static const char *clash(const struct rebase_request *request)
{
	if (!request->backing)
		return "the new backing file is missing: -b NAME, or -b \"\" for "
		       "none";
	if (*request->backing && !request->backing_format)
		return "the format of the backing file is missing: -F raw or "
		       "-F qed";
	if (request->missing && !request->unsafe)
		return "--allow-missing needs -u: a file that is missing cannot "
		       "be compared with";
	return NULL;
}

static int check_arguments(const struct rebase_request *request,
			   const char *extra)
{
	const char *wrong;

	if (!request->file) {
		qedimg_error(NULL, "the name of the image is missing");
		return -EINVAL;
	}
	if (qedimg_no_more(request->file, extra) < 0 ||
	    qedimg_common_check(&request->common, request->file) < 0)
		return -EINVAL;
	wrong = clash(request);
	if (!wrong)
		return 0;
	qedimg_error(request->file, "%s", wrong);
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct rebase_request request = { .common = { .format = "qed" } };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_rebase);
	if (request.common.help)
		return qedimg_help(&qedimg_rebase);
	if (check_arguments(&request, argv[optind] ? argv[optind + 1] : NULL) < 0)
		return qedimg_usage_error(&qedimg_rebase);
	return rebase(&request);
}

const struct qedimg_command qedimg_rebase = {
	.name = "rebase",
	.summary = "give an image another backing file, or none",
	.help =
	"Usage: qedimg rebase [-f qed] [-u [--allow-missing]] -b BACKING -F raw|qed\n"
	"                     [-q] [-p] [--progress=json] FILE\n"
	"       qedimg rebase [-f qed] [-u] -b \"\" [-q] [-p] [--progress=json] FILE\n"
	"\n"
	"Give the image another backing file.  What its disk holds stays: what the\n"
	"new backing file shows differently is copied into the image first.\n"
	"\n"
	"  -b BACKING         the new backing file, stored as given; a relative\n"
	"                     name counts from FILE's directory; \"\": none, the\n"
	"                     image gets everything\n"
	"  -F FORMAT          format of BACKING, raw or qed; never guessed\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  -u                 unsafe: change the name alone, without comparing; for\n"
	"                     a backing file that was moved or renamed\n"
	"  --allow-missing    with -u: BACKING need not exist yet\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 print nothing but errors\n"
	"  -h, --help         print this help\n",
	.run = run,
};
