/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg resize: gives the disk of an image another size, as qemu-img does. */
#include "config.h"

#include "common.h"
#include "preallocation.h"
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

struct resize_request {
	struct qedimg_common common;
	struct qed_resize_options options;
	const char *preallocation;
	const char *file;
	const char *size;
};

enum {
	OPTION_PREALLOCATION = 300,
	OPTION_SHRINK,
};

/* Takes a last argument like -1G away, which getopt would read as options. */
static const char *take_negative_size(int *argc, char **argv)
{
	char *last = *argc > 1 ? argv[*argc - 1] : NULL;

	if (!last || last[0] != '-' || !isdigit((unsigned char)last[1]))
		return NULL;
	argv[--*argc] = NULL;
	return last;
}

static int read_options(int argc, char **argv, struct resize_request *request)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "preallocation", required_argument, NULL,
		  OPTION_PREALLOCATION },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "shrink", no_argument, NULL, OPTION_SHRINK },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:hpq", long_options, NULL)) !=
	       -1) {
		switch (c) {
		case OPTION_PREALLOCATION:
			request->preallocation = optarg;
			break;
		case OPTION_SHRINK:
			request->options.flags |= QED_RESIZE_SHRINK;
			break;
		default:
			if (qedimg_common_option(&request->common, c) < 0)
				return -EINVAL;
		}
	}
	return 0;
}

/* The arguments that are no options: 0, or -EINVAL with a message. */
static int read_words(char **words, struct resize_request *request)
{
	request->file = words[0];
	if (!words[0]) {
		qedimg_error(NULL, "the name of the image is missing");
		return -EINVAL;
	}
	if (words[1] && !request->size) {
		request->size = words[1];
		words++;
	}
	if (!request->size) {
		qedimg_error(request->file, "the new size is missing");
		return -EINVAL;
	}
	return qedimg_no_more(request->file, words[1]);
}

static int read_size(struct resize_request *request)
{
	const char *text = request->size;
	int err;

	if (*text == '+' || *text == '-')
		request->options.by = *text++ == '+' ? QED_RESIZE_MORE :
						       QED_RESIZE_LESS;
	err = qedimg_parse_size(text, &request->options.size);
	if (err == -ERANGE)
		qedimg_error(request->file, "size '%s' is too large", text);
	else if (err < 0)
		qedimg_error(request->file, "size '%s' is not a size: a number,"
			     " optionally with + or - before it and one of the"
			     " suffixes b, k, M, G, T, P, E", request->size);
	return err;
}

static int resize(struct resize_request *request)
{
	int ret;

	request->options.log = qedimg_log;
	request->options.job = qedimg_common_job(&request->common);
	ret = qed_image_resize(request->file, &request->options);
	qedimg_progress_end();
	if (ret == 0 && !request->common.quiet)
		puts("Image resized.");
	return ret < 0;
}

static int run(int argc, char **argv)
{
	struct resize_request request = { .common = { .format = "qed" } };

	request.size = take_negative_size(&argc, argv);
	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_resize);
	if (request.common.help)
		return qedimg_help(&qedimg_resize);
	if (qedimg_common_check(&request.common, argv[optind]) < 0)
		return 1;
	if (read_words(argv + optind, &request) < 0)
		return qedimg_usage_error(&qedimg_resize);
	if (request.preallocation &&
	    qedimg_read_preallocation(request.file, request.preallocation,
				      &request.options.preallocation) < 0)
		return 1;
	return read_size(&request) < 0 ? 1 : resize(&request);
}

const struct qedimg_command qedimg_resize = {
	.name = "resize",
	.summary = "change the size of an image's disk",
	.help =
	"Usage: qedimg resize [-f qed] [--preallocation=off|metadata|falloc|full]\n"
	"                     [-q] [--shrink] [-p] [--progress=json]\n"
	"                     FILE [+|-]SIZE\n"
	"\n"
	"Give the disk in a QED image the size SIZE, or with + or - before it so\n"
	"much more or less.  What is added reads as zeroes.\n"
	"\n"
	"  -f FORMAT            format of the image; only qed\n"
	"  --preallocation=HOW  what becomes of clusters that are added: off (the\n"
	"                       default), metadata (a place in the file), falloc\n"
	"                       (space on the host), full (zeroes written there)\n"
	"  --shrink             allow a smaller size: what lies behind is lost\n"
	"  -p                   show progress on a terminal\n"
	"  --progress=json      print progress as JSON, one object a line\n"
	"  -q                   say nothing but errors\n"
	"  -h, --help           print this help\n"
	"\n"
	"SIZE is a number of bytes or has a suffix: k, M, G, T, P, E for powers\n"
	"of 1024, then also with a fraction: 1.5G.\n",
	.run = run,
};
