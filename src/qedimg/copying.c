/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "copying.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int qedimg_check_format(const char *file, const char *what, const char *format)
{
	if (!format || strcmp(format, "qed") == 0 || strcmp(format, "raw") == 0)
		return 0;
	qedimg_error(file, "%s '%s' is not supported, only qed and raw", what,
		     format);
	return -EINVAL;
}

static int take_input(const struct qedimg_common *common, unsigned n,
		      struct qed_convert_options *options)
{
	if (n != 1)
		qedimg_error(NULL, "standard input cannot be one of several"
			     " sources");
	else if (!common->format || strcmp(common->format, "raw") != 0)
		qedimg_error(NULL, "standard input can only be raw, as tables"
			     " cannot be looked up in a pipe: add '-f raw'");
	else {
		options->input = STDIN_FILENO;
		return 0;
	}
	return -EINVAL;
}

int qedimg_copying_open(struct qedimg_copying *copying,
			const struct qedimg_common *common, char **names,
			unsigned n, struct qed_convert_options *options)
{
	bool raw = common->format && strcmp(common->format, "raw") == 0;
	int err = 0;

	*copying = (struct qedimg_copying){ .common = common };
	for (unsigned i = 0; i < n; i++)
		if (strcmp(names[i], "-") == 0)
			return take_input(common, n, options);
	copying->images = calloc(n, sizeof(*copying->images));
	if (!copying->images) {
		qedimg_error(NULL, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	for (; copying->n < n && err == 0; copying->n += err == 0)
		err = qedimg_open(names[copying->n], common,
				  raw ? QED_OPEN_RAW : 0,
				  &copying->images[copying->n]);
	options->sources = copying->images;
	options->nsources = copying->n;
	return err;
}

void qedimg_copying_close(struct qedimg_copying *copying)
{
	while (copying->n)
		qed_image_close(copying->images[--copying->n]);
	free(copying->images);
}

int qedimg_copying_run(struct qedimg_copying *copying, const char *target,
		       struct qed_convert_options *options)
{
	int err;

	options->log = qedimg_log;
	options->job = qedimg_common_job(copying->common);
	err = qed_image_convert(target, options);
	qedimg_progress_end();
	return err < 0;
}
