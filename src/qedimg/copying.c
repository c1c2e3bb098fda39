/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "copying.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int qedimg_check_format(const char *file, const char *what, const char *format)
{
	if (!format || strcmp(format, "qed") == 0 || strcmp(format, "raw") == 0)
		return 0;
	qedimg_error(file, "%s '%s' is not supported, only qed and raw", what,
		     format);
	return -EINVAL;
}

bool qedimg_is_stream(const char *name)
{
	struct stat st;

	return strcmp(name, "-") == 0 ||
	       (stat(name, &st) == 0 && S_ISFIFO(st.st_mode));
}

/* Waits until there is somebody who writes. */
static int open_pipe(struct qedimg_copying *copying, const char *name)
{
	int err;

	copying->pipe = open(name, O_RDONLY | O_CLOEXEC);
	if (copying->pipe >= 0)
		return copying->pipe;
	err = errno;
	qedimg_error(name, "cannot open: %s", strerror(err));
	return -err;
}

static int take_input(struct qedimg_copying *copying, const char *name,
		      unsigned n, struct qed_convert_options *options)
{
	const struct qedimg_common *common = copying->common;
	bool standard = strcmp(name, "-") == 0;
	const char *file = standard ? NULL : name;
	const char *what = standard ? "standard input" : "a pipe";

	if (n != 1)
		qedimg_error(file, "%s cannot be one of several sources", what);
	else if (!common->format || strcmp(common->format, "raw") != 0)
		qedimg_error(file, "%s can only be raw, as tables cannot be"
			     " looked up in a pipe: add '-f raw'", what);
	else {
		options->input_name = file;
		options->input = standard ? STDIN_FILENO :
					    open_pipe(copying, name);
		return options->input < 0 ? options->input : 0;
	}
	return -EINVAL;
}

int qedimg_copying_open(struct qedimg_copying *copying,
			const struct qedimg_common *common, char **names,
			unsigned n, struct qed_convert_options *options)
{
	bool raw = common->format && strcmp(common->format, "raw") == 0;
	int err = 0;

	*copying = (struct qedimg_copying){ .common = common, .pipe = -1 };
	for (unsigned i = 0; i < n; i++)
		if (qedimg_is_stream(names[i]))
			return take_input(copying, names[i], n, options);
	copying->images = calloc(n, sizeof(*copying->images));
	if (!copying->images) {
		qedimg_error(NULL, "%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	for (; copying->n < n && err == 0; copying->n += err == 0)
		err = qedimg_open(names[copying->n], common,
				  raw ? QED_OPEN_RAW : 0, 'f',
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
	if (copying->pipe >= 0)
		close(copying->pipe);
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
