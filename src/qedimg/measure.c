/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg measure: how long the file of a copy would be, as qemu-img. */
#include "config.h"

#include "common.h"
#include "copying.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct measure_request {
	const char *file;		/* null: of size alone */
	struct qedimg_common common;
	const char *target;		/* the copy's format */
	const char *size_text;
	uint64_t size;
	struct qed_create_options geometry;
	bool options_help;		/* was asked for, and printed */
};

static void print(const struct measure_request *request,
		  const struct qed_measurement *m)
{
	if (qedimg_wants_json(&request->common))
		printf("{\n    \"required\": %" PRIu64 ",\n"
		       "    \"fully-allocated\": %" PRIu64 "\n}\n",
		       m->required, m->fully_allocated);
	else
		printf("required size: %" PRIu64 "\n"
		       "fully allocated size: %" PRIu64 "\n", m->required,
		       m->fully_allocated);
}

/* A raw copy is as long as the disk, in whole sectors, whatever is in it. */
static void measure_raw(uint64_t size, struct qed_measurement *m)
{
	m->required = (size + 511) / 512 * 512;
	m->fully_allocated = m->required;
}

static int measure_image(const struct measure_request *request,
			 struct qed_image *image)
{
	struct qed_create_options options = request->geometry;
	struct qed_image_info info;
	struct qed_measurement m;
	uint64_t size = request->size;
	int err;

	if (image) {
		qed_image_get_info(image, &info);
		size = info.virtual_size;
	}
	if (strcmp(request->target, "raw") == 0) {
		measure_raw(size, &m);
	} else {
		options.virtual_size = size;
		options.log = qedimg_log;
		options.job = qedimg_common_job(&request->common);
		err = qed_measure(image, &options, &m);
		qedimg_progress_end();
		if (err == -ECANCELED)
			qedimg_error(request->file, "stopped");
		if (err < 0)
			return 1;
	}
	print(request, &m);
	return 0;
}

static int measure(const struct measure_request *request)
{
	bool raw = strcmp(request->common.format, "raw") == 0;
	struct qed_image *image;
	int status;

	if (!request->file)
		return measure_image(request, NULL);
	if (qedimg_open(request->file, &request->common,
			raw ? QED_OPEN_RAW : 0, 'f', &image) < 0)
		return 1;
	status = measure_image(request, image);
	qed_image_close(image);
	return status;
}

/* 0, or -EINVAL after a message, getopt's own too. */
static int read_options(int argc, char **argv, struct measure_request *request)
{
	static const struct option long_options[] = {
		QEDIMG_COMMON_LONG_OPTIONS,
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "size", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:O:o:pUh", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'O':
			request->target = optarg;
			break;
		case 'o':
			request->options_help =
				qedimg_image_options_help(optarg, false);
			if (request->options_help)
				return 0;
			if (qedimg_read_image_options(
				    NULL, optarg, &request->geometry) < 0)
				return -EINVAL;
			break;
		case 's':
			request->size_text = optarg;
			break;
		default:
			if (qedimg_common_option(&request->common, c) < 0)
				return -EINVAL;
		}
	}
	request->file = argv[optind];
	return 0;
}

static int read_size(struct measure_request *request)
{
	int err = request->size_text ?
		qedimg_parse_size(request->size_text, &request->size) : 0;

	/* The greatest whole number of sectors. */
	if (err == -ERANGE || request->size > (uint64_t)INT64_MAX - 511)
		qedimg_error(NULL, "size '%s' is too large",
			     request->size_text);
	else if (err < 0)
		qedimg_error(NULL, "size '%s' is not a size: a number,"
			     " optionally with one of the suffixes b, k, M, G,"
			     " T, P, E", request->size_text);
	else
		return 0;
	return -EINVAL;
}

static int check_values(struct measure_request *request)
{
	bool geometry = request->geometry.cluster_size ||
			request->geometry.table_size;

	if (qedimg_check_format(request->file, "format",
				request->common.format) < 0 ||
	    qedimg_output_check(&request->common, request->file) < 0)
		return -EINVAL;
	if (strcmp(request->target, "raw") && strcmp(request->target, "qed"))
		qedimg_error(request->file, "output format '%s' is not"
			     " supported, only raw and qed", request->target);
	else if (request->geometry.backing || request->geometry.backing_format)
		qedimg_error(request->file, "-o cannot hold a backing file here:"
			     " the copy that is measured has none");
	else if (geometry && strcmp(request->target, "qed") != 0)
		qedimg_error(request->file, "-o is for '-O qed'");
	else if (request->file && request->size_text)
		qedimg_error(request->file, "an image and --size exclude each"
			     " other");
	else if (!request->file && !request->size_text)
		qedimg_error(NULL, "the name of the image is missing, and"
			     " --size is not given");
	else
		return read_size(request);
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct measure_request request = { .common.format = "qed",
					   .target = "raw" };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_measure);
	if (request.common.help)
		return qedimg_help(&qedimg_measure);
	if (request.options_help)
		return 0;
	if (check_values(&request) < 0 ||
	    (request.file &&
	     qedimg_no_more(request.file, argv[optind + 1]) < 0))
		return qedimg_usage_error(&qedimg_measure);
	return measure(&request);
}

const struct qedimg_command qedimg_measure = {
	.name = "measure",
	.summary = "tell how long the file of a copy would be",
	.help =
	"Usage: qedimg measure [-f qed|raw] [-O raw|qed] [-o OPTION=VALUE[,...]]\n"
	"                      [--output=human|json] [-U] [-p] [--progress=json]\n"
	"                      (FILE | --size=SIZE)\n"
	"\n"
	"Tell how many bytes the file of a copy of the image's disk would have, and\n"
	"how many if all of the disk were written.\n"
	"\n"
	"  -f FORMAT          format of FILE, qed (the default) or raw\n"
	"  -O FORMAT          format of the copy, raw (the default) or qed\n"
	"  -o LIST            with '-O qed': cluster_size and table_size, as for\n"
	"                     'qedimg create'\n"
	"  --output=FORMAT    human (the default) or json, with the keys of\n"
	"                     'qemu-img measure'\n"
	"  --size=SIZE        measure an empty disk of that size, not an image\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -U, --force-share  also if another program writes the image now: what\n"
	"                     is told may be out of date\n"
	"  -h, --help         print this help\n",
	.run = run,
};
