/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg dd: copies a part of a disk into a new image or file, as qemu-img. */
#include "config.h"

#include "common.h"
#include "copying.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <string.h>

#define BLOCK_DEFAULT 512u

struct dd_request {
	struct qedimg_common common;	/* -f, -U, -p, -q, -h */
	struct qed_convert_options options;
	char *input;
	const char *output;
	const char *block_text, *count_text, *skip_text;
	uint64_t block, count, skip;
};

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct dd_request *request)
{
	int c;

	while ((c = getopt_long(argc, argv, "f:O:Uhpq", qedimg_disk_options,
				NULL)) != -1) {
		if (c == 'O')
			request->options.format = optarg;
		else if (qedimg_common_option(&request->common, c) < 0)
			return -EINVAL;
	}
	return 0;
}

/* A text of the command line, whose memory lasts. */
static int read_operand(struct dd_request *request, char *operand)
{
	static const struct {
		const char *name;
		size_t field;		/* offset in struct dd_request */
	} operands[] = {
		{ "bs=", offsetof(struct dd_request, block_text) },
		{ "count=", offsetof(struct dd_request, count_text) },
		{ "if=", offsetof(struct dd_request, input) },
		{ "of=", offsetof(struct dd_request, output) },
		{ "skip=", offsetof(struct dd_request, skip_text) },
	};

	for (size_t i = 0; i < sizeof(operands) / sizeof(operands[0]); i++) {
		size_t n = strlen(operands[i].name);

		if (strncmp(operand, operands[i].name, n) != 0)
			continue;
		*(char **)((char *)request + operands[i].field) = operand + n;
		return 0;
	}
	qedimg_error(NULL, "unrecognized operand '%s'", operand);
	return -EINVAL;
}

static int read_number(const char *name, const char *text, uint64_t least,
		       uint64_t most, uint64_t *value)
{
	int err;

	if (!text)
		return 0;
	err = qedimg_parse_size(text, value);
	if (err == -EINVAL)
		qedimg_error(NULL, "%s='%s' is not a number, optionally with one"
			     " of the suffixes b, k, M, G, T, P, E", name, text);
	else if (err < 0 || *value < least || *value > most)
		qedimg_error(NULL, "%s=%s is not between %llu and %llu", name,
			     text, (unsigned long long)least,
			     (unsigned long long)most);
	else
		return 0;
	return -EINVAL;
}

static int check_values(struct dd_request *request)
{
	if (qedimg_check_format(request->input, "format",
				request->common.format) < 0 ||
	    qedimg_check_format(request->output, "output format",
				request->options.format) < 0)
		return -EINVAL;
	if (!request->input || !request->output) {
		qedimg_error(NULL, "the name of the image is missing: if= and"
			     " of= are both needed");
		return -EINVAL;
	}
	if (qedimg_is_stream(request->input)) {
		qedimg_error(request->input, "standard input and pipes cannot"
			     " be images here: convert reads them");
		return -EINVAL;
	}
	if (read_number("bs", request->block_text, 1, INT32_MAX,
			&request->block) < 0 ||
	    read_number("count", request->count_text, 0, INT64_MAX,
			&request->count) < 0)
		return -EINVAL;
	return read_number("skip", request->skip_text, 0, INT64_MAX,
			   &request->skip);
}

/* Not more than 2^64 - 1, which is as good as any number past the disk's end. */
static uint64_t blocks(const struct dd_request *request, uint64_t n)
{
	uint64_t bytes;

	return __builtin_mul_overflow(n, request->block, &bytes) ? UINT64_MAX :
								   bytes;
}

/* As dd(1) and qemu-img: it says so, and copies nothing. */
static void warn_skip(const struct dd_request *request,
		      struct qed_image *image)
{
	struct qed_image_info info;

	qed_image_get_info(image, &info);
	if (request->options.skip > info.virtual_size)
		qedimg_error(request->input, "cannot skip to the offset: its"
			     " disk has only %llu bytes",
			     (unsigned long long)info.virtual_size);
}

static int dd(struct dd_request *request)
{
	struct qed_convert_options *options = &request->options;
	struct qedimg_copying copying;
	int status = 1;

	options->skip = blocks(request, request->skip);
	if (request->count_text)
		options->len = blocks(request, request->count);
	if (qedimg_copying_open(&copying, &request->common, &request->input, 1,
				options) == 0) {
		warn_skip(request, copying.images[0]);
		status = qedimg_copying_run(&copying, request->output, options);
	}
	qedimg_copying_close(&copying);
	return status;
}

static int run(int argc, char **argv)
{
	struct dd_request request = { .block = BLOCK_DEFAULT };
	int err;

	qed_convert_options_init(&request.options);
	err = read_options(argc, argv, &request);
	if (err == 0 && request.common.help)
		return qedimg_help(&qedimg_dd);
	for (int i = optind; err == 0 && i < argc; i++)
		err = read_operand(&request, argv[i]);
	if (err == 0)
		err = check_values(&request);
	return err < 0 ? qedimg_usage_error(&qedimg_dd) : dd(&request);
}

const struct qedimg_command qedimg_dd = {
	.name = "dd",
	.summary = "copy a part of a disk",
	.help =
	"Usage: qedimg dd [-f qed|raw] [-O raw|qed] [-U] [-p] [--progress=json]\n"
	"                 [-q] [bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=FILE\n"
	"                 of=TARGET\n"
	"\n"
	"Copy blocks of the disk of FILE, with all that its backing files have,\n"
	"into a new image or raw file TARGET: `count` blocks (all) of `bs` bytes\n"
	"(512), after `skip` blocks (0).  TARGET gets its name when it is\n"
	"complete.\n"
	"\n"
	"  -f FORMAT          format of FILE, qed (the default) or raw\n"
	"  -O FORMAT          format of TARGET, raw (the default) or qed\n"
	"  -U, --force-share  also if another program writes FILE now\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 say nothing but errors\n"
	"  -h, --help         print this help\n",
	.run = run,
};
