/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg map: the extents of the disk over the whole chain, as qemu-img. */
#include "config.h"

#include "common.h"
#include "picture.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct map_request {
	const char *file;
	struct qedimg_common common;	/* no output: blocks on a terminal */
	const char *svg;
	const char *start_text, *length_text;
	uint64_t start, length;
	bool blocks;
};

struct list {
	struct qed_image *image;
	const char *separator;		/* before the next one, in JSON */
};

static const char *truth(bool value)
{
	return value ? "true" : "false";
}

static void put_json(void *opaque, uint64_t disk_off,
		     const struct qed_map_extent *extent)
{
	struct list *list = opaque;

	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
	       list->separator, disk_off, extent->len, extent->depth,
	       truth(extent->kind != QED_MAP_HOLE),
	       truth(extent->kind != QED_MAP_DATA),
	       truth(extent->kind == QED_MAP_DATA));
	if (extent->placed)
		printf(", \"offset\": %" PRIu64, extent->file_off);
	putchar('}');
	list->separator = ",\n";
}

static void put_human(void *opaque, uint64_t disk_off,
		      const struct qed_map_extent *extent)
{
	struct list *list = opaque;

	if (extent->kind != QED_MAP_DATA)
		return;
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64, disk_off,
	       extent->len, extent->file_off);
	qedimg_put(stdout, qed_image_get_path(list->image, extent->depth));
	putchar('\n');
}

static int print_json(const struct qedimg_range *range)
{
	struct list list = { .image = range->image, .separator = "" };
	int status;

	putchar('[');
	/* As qemu-img: an empty range has one entry. */
	if (range->start >= range->end)
		printf("{ \"start\": %" PRIu64 ", \"length\": 0, \"depth\": 0, "
		       "\"present\": false, \"zero\": false, \"data\": false}",
		       range->start);
	status = qedimg_walk(range, put_json, &list);
	if (status == 0)
		puts("]");
	return status;
}

static int print_human(const struct qedimg_range *range)
{
	struct list list = { .image = range->image };

	printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	return qedimg_walk(range, put_human, &list);
}

static bool is_list(const struct map_request *request)
{
	return !request->svg && !request->blocks &&
	       (request->common.output || !isatty(STDOUT_FILENO));
}

static int print(const struct map_request *request,
		 const struct qedimg_range *range)
{
	if (request->svg)
		return qedimg_draw_svg(range, request->svg);
	if (!is_list(request))
		return qedimg_print_blocks(range);
	if (qedimg_wants_json(&request->common))
		return print_json(range);
	return print_human(range);
}

/* On a terminal a list shows by itself how far it is. */
static enum qedimg_progress_form form_of(const struct map_request *request)
{
	if (request->common.progress == QEDIMG_PROGRESS_BAR &&
	    is_list(request) && isatty(STDOUT_FILENO))
		return QEDIMG_PROGRESS_NONE;
	return request->common.progress;
}

static int map(const struct map_request *request)
{
	struct qedimg_range range = { .file = request->file,
				      .progress = form_of(request) };
	struct qed_image_info info;
	int status;

	if (qedimg_open(request->file, &request->common, 0, 0, &range.image) < 0)
		return 1;
	qed_image_get_info(range.image, &info);
	range.start = request->start;
	range.end = info.virtual_size;
	if (range.end < range.start)
		range.end = range.start;
	if (request->length < range.end - range.start)
		range.end = range.start + request->length;
	status = print(request, &range);
	qed_image_close(range.image);
	return status;
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct map_request *request)
{
	static const struct option long_options[] = {
		{ "blocks", no_argument, NULL, 'b' },
		QEDIMG_COMMON_LONG_OPTIONS,
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "max-length", required_argument, NULL, 'l' },
		{ "start-offset", required_argument, NULL, 's' },
		{ "svg", required_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:l:ps:Uh", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'b':
			request->blocks = true;
			break;
		case 'l':
			request->length_text = optarg;
			break;
		case 's':
			request->start_text = optarg;
			break;
		case 'v':
			request->svg = optarg;
			break;
		default:
			if (qedimg_common_option(&request->common, c) < 0)
				return -EINVAL;
		}
	}
	request->file = argv[optind];
	return 0;
}

/* Reads a size, if it is given. */
static int read_size(const char *option, const char *text, uint64_t *size)
{
	int err = text ? qedimg_parse_size(text, size) : 0;

	if (err < 0)
		qedimg_error(NULL, "%s '%s' is %s", option, text,
			     err == -ERANGE ? "too large" :
			     "not a size: a number, optionally with one of the"
			     " suffixes b, k, M, G, T, P, E");
	return err;
}

static int check_values(struct map_request *request)
{
	bool output = request->common.output;

	if (qedimg_common_check(&request->common, request->file) < 0)
		return -EINVAL;
	if (output + request->blocks + !!request->svg > 1)
		qedimg_error(request->file, "--output, --blocks and --svg"
			     " exclude each other");
	else if (!request->file)
		qedimg_error(NULL, "the name of the image is missing");
	else if (read_size("--start-offset", request->start_text,
			   &request->start) == 0 &&
		 read_size("--max-length", request->length_text,
			   &request->length) == 0)
		return 0;
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct map_request request = { .common.format = "qed",
				       .length = UINT64_MAX };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_map);
	if (request.common.help)
		return qedimg_help(&qedimg_map);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.file, argv[optind + 1]) < 0)
		return qedimg_usage_error(&qedimg_map);
	return map(&request);
}

const struct qedimg_command qedimg_map = {
	.name = "map",
	.summary = "tell which file holds which part of the disk",
	.help =
	"Usage: qedimg map [-f qed] [--output=human|json | --blocks | --svg=SVG]\n"
	"                  [-s OFFSET] [-l LENGTH] [-U] [-p] [--progress=json] FILE\n"
	"\n"
	"List the extents of an image's disk and which file of its backing chain\n"
	"holds them where; on a terminal, show them as a picture.\n"
	"\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  --output=FORMAT    human (data alone, a line each) or json (all, with\n"
	"                     the keys of 'qemu-img map')\n"
	"  --blocks           a picture of characters; the default on a terminal\n"
	"  --svg=SVG          draw into the file SVG where the clusters lie\n"
	"  -s, --start-offset=OFFSET  begin there, not at the start of the disk\n"
	"  -l, --max-length=LENGTH  go no further than so many bytes\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -U, --force-share  also if another program writes the image now: what\n"
	"                     is told may be out of date\n"
	"  -h, --help         print this help\n",
	.run = run,
};
