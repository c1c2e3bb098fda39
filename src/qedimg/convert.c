/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg convert: copies disks into a new image or file, as qemu-img. */
#include "config.h"

#include "common.h"
#include "copying.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 16u			/* as qemu-img; the library takes fewer */

struct convert_request {
	struct qedimg_common common;	/* -f, -U, -p, -q, -h */
	struct qed_convert_options options;
	char **sources;
	unsigned nsources;
	const char *target;
	const char *sparse, *threads, *cache, *max_size;	/* as written */
	char **lists;			/* arguments of -o, null at the end */
};

enum { OPTION_TARGET_IS_ZERO = 300, OPTION_MAX_SIZE };

static int take_option(struct convert_request *request, int c)
{
	struct qed_convert_options *options = &request->options;

	switch (c) {
	case 'O':
		options->format = optarg;
		return 0;
	case 'B':
		options->image.backing = optarg;
		return 0;
	case 'F':
		options->image.backing_format = optarg;
		return 0;
	case 'C':
		options->flags |= QED_CONVERT_OFFLOAD;
		return 0;
	case 'n':
		options->flags |= QED_CONVERT_IN_PLACE;
		return 0;
	case 'm':
		request->threads = optarg;
		return 0;
	case 'S':
		request->sparse = optarg;
		return 0;
	case 't':
		request->cache = optarg;
		return 0;
	case 'W':
		return 0;		/* writes are never kept in order */
	case OPTION_TARGET_IS_ZERO:
		options->flags |= QED_CONVERT_TARGET_IS_ZERO;
		return 0;
	case OPTION_MAX_SIZE:
		request->max_size = optarg;
		return 0;
	default:
		return qedimg_common_option(&request->common, c);
	}
}

/* 0, or -EINVAL after a message, getopt's own too. */
static int read_options(int argc, char **argv, struct convert_request *request)
{
	static const struct option long_options[] = {
		{ "force-share", no_argument, NULL, 'U' },
		{ "help", no_argument, NULL, 'h' },
		{ "max-size", required_argument, NULL, OPTION_MAX_SIZE },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "target-is-zero", no_argument, NULL, OPTION_TARGET_IS_ZERO },
		{ NULL, 0, NULL, 0 },
	};
	size_t nlists = 0;
	int c;

	while ((c = getopt_long(argc, argv, "f:O:B:F:o:m:S:t:CUWhnpq",
				long_options, NULL)) != -1) {
		if (c == 'o')
			request->lists[nlists++] = optarg;
		else if (take_option(request, c) < 0)
			return -EINVAL;
	}
	argc -= optind;
	argv += optind;
	request->sources = argv;
	request->nsources = argc > 1 ? (unsigned)argc - 1 : (unsigned)argc;
	request->target = argc > 1 ? argv[argc - 1] : NULL;
	return 0;
}

/* --- values ------------------------------------------------------------------------ */

static int read_cache(struct convert_request *request)
{
	const char *cache = request->cache;

	if (!cache || strcmp(cache, "writeback") == 0)
		return 0;
	if (strcmp(cache, "unsafe") == 0) {
		request->options.flags |= QED_CONVERT_UNSAFE;
		return 0;
	}
	qedimg_error(request->target, "cache mode '%s' is not supported, only"
		     " writeback and unsafe", cache);
	return -EINVAL;
}

static int read_sparse(struct convert_request *request)
{
	uint64_t size;

	if (!request->sparse)
		return 0;
	if (request->options.flags & QED_CONVERT_OFFLOAD) {
		qedimg_error(request->target, "-C and -S exclude each other");
		return -EINVAL;
	}
	if (qedimg_parse_size(request->sparse, &size) < 0 || size % 512 ||
	    size > 16 << 20) {
		qedimg_error(request->target, "-S '%s' is not a multiple of 512"
			     " up to 16M", request->sparse);
		return -EINVAL;
	}
	request->options.sparse_size = size;
	request->options.flags |= QED_CONVERT_SCAN;
	return 0;
}

static int read_numbers(struct convert_request *request)
{
	struct qed_convert_options *options = &request->options;
	uint64_t n;

	if (request->threads) {
		if (qedimg_parse_size(request->threads, &n) < 0 || n < 1 ||
		    n > THREADS_MAX) {
			qedimg_error(request->target, "-m '%s' is not a number"
				     " from 1 to 16", request->threads);
			return -EINVAL;
		}
		options->nworkers = (unsigned)n;
	}
	if (request->max_size &&
	    qedimg_parse_size(request->max_size, &options->max_size) < 0) {
		qedimg_error(request->target, "--max-size '%s' is not a size",
			     request->max_size);
		return -EINVAL;
	}
	return read_sparse(request);
}

/* -B and -F count before what -o says. */
static int read_lists(struct convert_request *request)
{
	struct qed_create_options *image = &request->options.image;
	struct qed_create_options flags = *image;

	for (char **list = request->lists; *list; list++)
		if (qedimg_read_image_options(request->target, *list,
					      image) < 0)
			return -EINVAL;
	if (flags.backing)
		image->backing = flags.backing;
	if (flags.backing_format)
		image->backing_format = flags.backing_format;
	return 0;
}

/* What goes together, said in terms of the options. */
static int check_request(const struct convert_request *request)
{
	const struct qed_convert_options *options = &request->options;
	bool in_place = options->flags & QED_CONVERT_IN_PLACE;
	const char *what = NULL;

	if (options->image.backing && !options->image.backing_format)
		what = "the backing file's format is missing: add '-F raw' or"
		       " '-F qed'";
	else if (options->image.backing_format && !options->image.backing)
		what = "a backing format without a backing file: add '-B"
		       " BACKING'";
	else if (options->image.backing && strcmp(options->format, "qed") != 0)
		what = "a backing file (-B) is for '-O qed'";
	else if (options->image.backing && in_place)
		what = "a backing file (-B) is for a new image, not for one"
		       " that is there (-n)";
	else if (options->image.backing && request->nsources != 1)
		what = "a backing file (-B) is for one source";
	else if (request->lists[0] &&
		 (in_place || strcmp(options->format, "qed") != 0))
		what = "-o is for a new QED image";
	else if (options->flags & QED_CONVERT_TARGET_IS_ZERO && !in_place)
		what = "--target-is-zero is for a target that is there: add -n";
	if (!what)
		return 0;
	qedimg_error(request->target, "%s", what);
	return -EINVAL;
}

static int check_names(const struct convert_request *request)
{
	if (request->nsources == 0)
		qedimg_error(NULL, "the name of the image is missing");
	else if (!request->target)
		qedimg_error(request->sources[0],
			     "the name of the target is missing");
	else
		return 0;
	return -EINVAL;
}

static int check_values(struct convert_request *request)
{
	const char *first = request->nsources ? request->sources[0] : NULL;

	if (qedimg_check_format(first, "format", request->common.format) < 0 ||
	    qedimg_check_format(first, "output format",
				request->options.format) < 0 ||
	    check_names(request) < 0 || read_lists(request) < 0 ||
	    check_request(request) < 0 || read_cache(request) < 0)
		return -EINVAL;
	return read_numbers(request);
}

/* --- doing it ------------------------------------------------------------------------ */

static int convert(struct convert_request *request)
{
	struct qedimg_copying copying;
	int status = 1;

	if (qedimg_copying_open(&copying, &request->common, request->sources,
				request->nsources, &request->options) == 0)
		status = qedimg_copying_run(&copying, request->target,
					    &request->options);
	qedimg_copying_close(&copying);
	return status;
}

static int run_request(int argc, char **argv, struct convert_request *request)
{
	if (read_options(argc, argv, request) < 0)
		return qedimg_usage_error(&qedimg_convert);
	if (request->common.help)
		return qedimg_help(&qedimg_convert);
	for (char **list = request->lists; *list; list++)
		if (qedimg_image_options_help(*list, true))
			return 0;
	if (check_values(request) < 0)
		return qedimg_usage_error(&qedimg_convert);
	return convert(request);
}

static int run(int argc, char **argv)
{
	struct convert_request request = { .nsources = 0 };
	int status;

	qed_convert_options_init(&request.options);
	request.lists = calloc((size_t)argc + 1, sizeof(*request.lists));
	if (!request.lists) {
		qedimg_error(NULL, "%s", strerror(ENOMEM));
		return 1;
	}
	status = run_request(argc, argv, &request);
	free(request.lists);
	return status;
}

const struct qedimg_command qedimg_convert = {
	.name = "convert",
	.summary = "copy disks into a new image or file",
	.help =
	"Usage: qedimg convert [-f qed|raw] [-O raw|qed] [-B BACKING -F raw|qed]\n"
	"                      [-o OPTION=VALUE[,...]] [-n] [--target-is-zero]\n"
	"                      [-S SIZE] [-C] [-m NUMBER] [-W]\n"
	"                      [-t writeback|unsafe] [--max-size=SIZE] [-U]\n"
	"                      [-p] [--progress=json] [-q] FILE... TARGET\n"
	"\n"
	"Copy the disk of FILE, with all that its backing files have, into a new\n"
	"image or raw file TARGET, which gets its name when it is complete.  Of\n"
	"several files the disks follow each other.  FILE may be a pipe or -, standard\n"
	"input, and a raw TARGET -, standard output, a pipe, or a block device.\n"
	"\n"
	"  -f FORMAT          format of FILE, qed (the default) or raw\n"
	"  -O FORMAT          format of TARGET, raw (the default) or qed\n"
	"  -B BACKING         a QED image over this file: only what differs from\n"
	"                     it is written\n"
	"  -F FORMAT          format of BACKING, raw or qed (needed with -B)\n"
	"  -o LIST            with '-O qed': cluster_size, table_size, backing_file and\n"
	"                     backing_fmt, as for 'qedimg create'\n"
	"  -n                 write into TARGET, which has to be there\n"
	"  --target-is-zero   with -n: it reads as zeroes; they are not written\n"
	"  -S SIZE            leave out runs of zeroes from this size on, 4k by\n"
	"                     default; 0: none, allocate everything\n"
	"  -C                 let the host copy data, without a look at it\n"
	"  -m NUMBER          threads that copy, 1 to 16\n"
	"  -W                 write in any order, which is done always\n"
	"  -t MODE            writeback (the default): TARGET is durable at the\n"
	"                     end; unsafe: the host writes it when it likes\n"
	"  --max-size=SIZE    refuse a larger disk\n"
	"  -U, --force-share  also if another program writes FILE now\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 say nothing but errors\n"
	"  -h, --help         print this help\n",
	.run = run,
};
