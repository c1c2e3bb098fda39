/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const struct option qedimg_disk_options[] = {
	{ "force-share", no_argument, NULL, 'U' },
	{ "help", no_argument, NULL, 'h' },
	QEDIMG_PROGRESS_LONG_OPTION,
	{ NULL, 0, NULL, 0 },
};

static int take_progress(struct qedimg_common *common, const char *text)
{
	int ret = qedimg_progress_parse(text, &common->progress);

	if (ret < 0)
		qedimg_error(NULL, "progress '%s' is not supported, only json",
			     text);
	return ret;
}

int qedimg_common_option(struct qedimg_common *common, int c)
{
	switch (c) {
	case 'f':
		common->format = optarg;
		return 0;
	case 'p':
		if (common->progress == QEDIMG_PROGRESS_NONE)
			common->progress = QEDIMG_PROGRESS_BAR;
		return 0;
	case 'q':
		common->quiet = true;
		return 0;
	case 'U':
		common->force_share = true;
		return 0;
	case 'h':
		common->help = true;
		return 0;
	case QEDIMG_OPTION_OUTPUT:
		common->output = optarg;
		return 0;
	case QEDIMG_OPTION_PROGRESS:
		return take_progress(common, optarg);
	default:
		return -EINVAL;
	}
}

const struct qed_job *qedimg_common_job(const struct qedimg_common *common)
{
	enum qedimg_progress_form form = common->progress;

	/* A bar is for people; who asks for JSON is a program that reads it. */
	if (common->quiet && form == QEDIMG_PROGRESS_BAR)
		form = QEDIMG_PROGRESS_NONE;
	return qedimg_progress_start(form);
}

int qedimg_output_check(const struct qedimg_common *common, const char *file)
{
	const char *output = common->output;

	if (!output || !strcmp(output, "human") || !strcmp(output, "json"))
		return 0;
	qedimg_error(file, "output '%s' is not supported, only human and json",
		     output);
	return -EINVAL;
}

static bool refuse_empty(const char *file)
{
	if (*file)
		return false;
	qedimg_error(NULL, "the name of the image is empty");
	return true;
}

int qedimg_common_check(const struct qedimg_common *common, const char *file)
{
	if (file && refuse_empty(file))
		return -EINVAL;
	if (!common->format || strcmp(common->format, "qed") == 0)
		return qedimg_output_check(common, file);
	qedimg_error(file, "format '%s' is not supported, only qed",
		     common->format);
	return -EINVAL;
}

bool qedimg_wants_json(const struct qedimg_common *common)
{
	return common->output && strcmp(common->output, "json") == 0;
}

int qedimg_no_more(const char *file, const char *argument)
{
	if (!argument)
		return 0;
	qedimg_error(file, "unexpected argument '%s'", argument);
	return -EINVAL;
}

/* It says itself what it is, unless it is no QED image. */
static void hint_raw(const char *file, char option)
{
	char magic[4] = { 0 };
	struct stat st;
	bool special = stat(file, &st) < 0 ||
		       !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
	int fd = special ? -1 : open(file, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, magic, sizeof(magic), 0);

	if (fd >= 0)
		close(fd);
	if (n >= 0 && memcmp(magic, "QED", sizeof(magic)) != 0)
		fprintf(stderr, "If that is a raw file, add '-%c raw'.\n",
			option);
}

int qedimg_open(const char *file, const struct qedimg_common *common,
		uint32_t flags, char raw_option, struct qed_image **image)
{
	struct qed_open_options options;
	int err;

	if (refuse_empty(file))
		return -ENOENT;
	qed_open_options_init(&options);
	options.flags |= flags;
	if (common->force_share)
		options.flags |= QED_OPEN_FORCE_SHARE;
	options.log = qedimg_log;
	err = qed_image_open(file, &options, image);
	if (err == -EMEDIUMTYPE && raw_option && !(flags & QED_OPEN_RAW))
		hint_raw(file, raw_option);
	return err;
}

void qedimg_blame(const char *file, struct qed_image *image, const char *what,
		  uint64_t disk_off, int err)
{
	const char *below = qed_image_failed_below(image);

	qedimg_error(below ? below : file, "cannot %s disk offset %" PRIu64
		     ": %s; run it again when that is mended", what, disk_off,
		     strerror(-err));
}
