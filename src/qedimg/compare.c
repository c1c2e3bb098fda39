/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg compare: do two images have the same disk?  As qemu-img. */
#include "config.h"

#include "common.h"
#include "qedimg.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

/* Exit statuses, those of qemu-img; but wrong usage is no difference. */
enum {
	SAME = 0,
	DIFFERENT = 1,
	CANNOT_OPEN = 2,
	CANNOT_MAP = 3,
	CANNOT_READ = 4,
};

struct compare_request {
	const char *file[2];
	const char *format[2];
	bool strict;
	struct qedimg_common common;	/* -U and -h */
};

static void __attribute__((format(printf, 2, 3)))
say(const struct compare_request *request, const char *format, ...)
{
	va_list args;

	if (request->common.quiet)
		return;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
}

static int tell(const struct compare_request *request,
		const struct qed_difference *difference)
{
	switch (difference->kind) {
	case QED_SAME:
		say(request, "Images are identical.\n");
		return SAME;
	case QED_DIFFERENT_BYTES:
		say(request, "Content mismatch at offset %" PRIu64 "!\n",
		    difference->disk_off);
		break;
	case QED_DIFFERENT_SIZES:
		say(request, "Strict mode: Image size mismatch!\n");
		break;
	case QED_DIFFERENT_KINDS:
		say(request, "Strict mode: Offset %" PRIu64
		    " block status mismatch!\n", difference->disk_off);
		break;
	}
	return DIFFERENT;
}

/* As qemu-img: unless a difference is found where both have a disk. */
static void warn_size(const struct compare_request *request,
		      const struct qed_difference *difference, uint64_t size1,
		      uint64_t size2)
{
	uint64_t common = size1 < size2 ? size1 : size2;

	if (size1 != size2 && (difference->kind == QED_SAME ||
			       difference->disk_off >= common))
		say(request, "Warning: Image size mismatch!\n");
}

static int compare_images(const struct compare_request *request,
			  struct qed_image *image1, struct qed_image *image2)
{
	struct qed_difference difference;
	struct qed_image_info info1, info2;
	int err;

	qed_image_get_info(image1, &info1);
	qed_image_get_info(image2, &info2);
	err = qed_compare(image1, image2, request->strict,
			  qedimg_common_job(&request->common),
			  &difference);
	qedimg_progress_end();
	if (err == 0) {
		if (!request->strict)
			warn_size(request, &difference, info1.virtual_size,
				  info2.virtual_size);
		return tell(request, &difference);
	}
	if (err == -ECANCELED) {
		qedimg_error(NULL, "stopped before the disks were compared");
		return CANNOT_OPEN;
	}
	qedimg_blame(request->file[difference.image],
		     difference.image ? image2 : image1,
		     difference.mapping ? "map" : "read", difference.disk_off,
		     err);
	return difference.mapping ? CANNOT_MAP : CANNOT_READ;
}

static int open_image(const struct compare_request *request, unsigned i,
		      struct qed_image **image)
{
	bool raw = strcmp(request->format[i], "raw") == 0;

	return qedimg_open(request->file[i], &request->common,
			   raw ? QED_OPEN_RAW : 0, i ? 'F' : 'f', image);
}

static int compare(const struct compare_request *request)
{
	struct qed_image *image1, *image2;
	int status = CANNOT_OPEN;

	if (open_image(request, 0, &image1) < 0)
		return status;
	if (open_image(request, 1, &image2) == 0) {
		status = compare_images(request, image1, image2);
		qed_image_close(image2);
	}
	qed_image_close(image1);
	return status;
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct compare_request *request)
{
	int c;

	while ((c = getopt_long(argc, argv, "f:F:hpqsU", qedimg_disk_options,
				NULL)) != -1) {
		switch (c) {
		case 'f':
			request->format[0] = optarg;
			break;
		case 'F':
			request->format[1] = optarg;
			break;
		case 's':
			request->strict = true;
			break;
		default:
			if (qedimg_common_option(&request->common, c) < 0)
				return -EINVAL;
		}
	}
	request->file[0] = argv[optind];
	request->file[1] = request->file[0] ? argv[optind + 1] : NULL;
	return 0;
}

static int check_values(const struct compare_request *request)
{
	for (int i = 0; i < 2; i++) {
		const char *format = request->format[i];

		if (strcmp(format, "qed") == 0 || strcmp(format, "raw") == 0)
			continue;
		qedimg_error(request->file[i], "format '%s' is not supported,"
			     " only qed and raw", format);
		return -EINVAL;
	}
	if (request->file[1])
		return 0;
	qedimg_error(request->file[0], "the names of two images are needed");
	return -EINVAL;
}

static int usage_error(void)
{
	qedimg_usage_error(&qedimg_compare);
	return CANNOT_OPEN;
}

static int run(int argc, char **argv)
{
	struct compare_request request = { .format = { "qed", "qed" } };

	if (read_options(argc, argv, &request) < 0)
		return usage_error();
	if (request.common.help)
		return qedimg_help(&qedimg_compare);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.file[0], argv[optind + 2]) < 0)
		return usage_error();
	return compare(&request);
}

const struct qedimg_command qedimg_compare = {
	.name = "compare",
	.summary = "tell whether two images have the same disk",
	.help =
	"Usage: qedimg compare [-f qed|raw] [-F qed|raw] [-pqsU]\n"
	"                      [--progress=json] FILE1 FILE2\n"
	"\n"
	"Compare the disks of two images.  A shorter one counts as followed by\n"
	"zeroes.  Exit status: 0 if they are the same, 1 if they differ, 2 and more\n"
	"if that could not be found out.\n"
	"\n"
	"  -f FORMAT          format of FILE1, qed (the default) or raw\n"
	"  -F FORMAT          format of FILE2, likewise\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -q                 say nothing but errors\n"
	"  -s                 strict: sizes have to be the same, and what is\n"
	"                     allocated\n"
	"  -U, --force-share  also if another program writes an image now\n"
	"  -h, --help         print this help\n",
	.run = run,
};
