/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg commit: merges an image into one that lies below it.  As qemu-img. */
#include "config.h"

#include "common.h"
#include "qedimg.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

struct commit_request {
	const char *file;
	const char *base;		/* -b */
	bool drop;			/* -d */
	const char *then;		/* its argument, or null */
	const char *next;		/* the argument that followed a bare -d */
	const char *extra;		/* an argument too many, or null */
	struct qedimg_common common;
};

static const char *const then_names[] = {
	[QED_THEN_EMPTY] = "empty",
	[QED_THEN_KEEP] = "keep",
	[QED_THEN_DELETE] = "delete",
};

#define NTHEN (sizeof(then_names) / sizeof(then_names[0]))

/* The word's place in the list, or NTHEN. */
static unsigned find_then(const char *word)
{
	unsigned i = 0;

	while (i < NTHEN && strcmp(then_names[i], word) != 0)
		i++;
	return i;
}

/* As qemu-img, -b alone implies that the image is kept. */
static enum qed_then choose_then(const struct commit_request *request)
{
	if (request->then)
		return (enum qed_then)find_then(request->then);
	return request->drop || request->base ? QED_THEN_KEEP : QED_THEN_EMPTY;
}

static void tell(const struct commit_request *request, enum qed_then then)
{
	if (request->common.quiet)
		return;
	puts("Image committed.");
	if (then == QED_THEN_EMPTY)
		puts("It is empty now.");
	else if (then == QED_THEN_DELETE)
		puts("Its file has been deleted.");
	puts(request->base ?
		     "Images between the two, and others on top of any of them, "
		     "are no longer valid." :
		     "Other images on top of its backing file are no longer "
		     "valid.");
}

static int commit(const struct commit_request *request)
{
	struct qed_commit_options options = {
		.base = request->base,
		.then = choose_then(request),
		.log = qedimg_log,
	};
	int ret;

	options.job = qedimg_common_job(&request->common);
	ret = qed_image_commit(request->file, &options);
	qedimg_progress_end();
	if (ret == 0)
		tell(request, options.then);
	return ret < 0 ? 1 : 0;
}

static int set_option(struct commit_request *request, int c, const char *next)
{
	switch (c) {
	case 'b':
		request->base = optarg;
		return 0;
	case 'd':
		request->drop = true;
		request->then = optarg;
		request->next = optarg ? NULL : next;
		return 0;
	default:
		return qedimg_common_option(&request->common, c);
	}
}

/*
 * qemu-img's -d has no argument, and there is one file: so of two names the one
 * that follows a bare -d is its argument.  Returns how many are left, the file
 * first.
 */
static int take_then(struct commit_request *request, char **names, int n)
{
	for (int i = 0; n == 2 && request->next && i < 2; i++) {
		if (names[i] != request->next)
			continue;
		request->then = names[i];
		names[0] = names[1 - i];
		return 1;
	}
	return n;
}

static int read_options(int argc, char **argv, struct commit_request *request)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ NULL, 0, NULL, 0 },
	};
	int c, n;

	while ((c = getopt_long(argc, argv, "b:d::f:hpq", long_options,
				NULL)) != -1)
		if (set_option(request, c, argv[optind]) < 0)
			return -EINVAL;
	n = take_then(request, argv + optind, argc - optind);
	request->file = argv[optind];
	request->extra = n > 1 ? argv[optind + 1] : NULL;
	return 0;
}

static int check_values(const struct commit_request *request)
{
	if (!request->file)
		qedimg_error(NULL, "the name of the image is missing");
	else if (request->then && find_then(request->then) == NTHEN)
		qedimg_error(request->file, "-d %s is not supported, only -d "
			     "keep, empty and delete", request->then);
	else
		return 0;
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct commit_request request = { .common = { .format = "qed" } };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_commit);
	if (request.common.help)
		return qedimg_help(&qedimg_commit);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.file, request.extra) < 0 ||
	    qedimg_common_check(&request.common, request.file) < 0)
		return qedimg_usage_error(&qedimg_commit);
	return commit(&request);
}

const struct qedimg_command qedimg_commit = {
	.name = "commit",
	.summary = "merge an image into its backing file",
	.help =
	"Usage: qedimg commit [-f qed] [-b BASE] [-d [keep|empty|delete]] [-q] [-p]\n"
	"                     [--progress=json] FILE\n"
	"\n"
	"Write what the image holds into its backing file, which is made larger if it\n"
	"is too small, and empty the image.  All other images on top of that backing\n"
	"file break.\n"
	"\n"
	"  -b BASE            commit to this image further down, with all that lie\n"
	"                     between, which break; FILE is kept unless -d says\n"
	"                     otherwise\n"
	"  -d WHAT            what becomes of FILE: 'empty' (the default), 'keep' it\n"
	"                     as it is, 'delete' it; -d alone keeps it, as qemu-img's\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 print nothing but errors\n"
	"  -h, --help         print this help\n",
	.run = run,
};
