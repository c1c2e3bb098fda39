/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg create: makes an empty image, with qemu-img's arguments. */
#include "config.h"

#include "common.h"
#include "preallocation.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * What the user asked for.  Zero and null: not given, apart from the size; another
 * zero that the user wrote is refused, the library would take it for "choose
 * yourself".
 */
struct create_request {
	const char *file;
	const char *backing;
	const char *backing_format;
	uint64_t size;
	bool sized;			/* that is given */
	uint64_t cluster_size;
	uint64_t table_size;
	const char *preallocation;
	bool relative;
	bool unopened;			/* -u */
	const struct qedimg_common *common;	/* -q and the progress */
};

/* The names that -o knows. */
struct create_option {
	const char *name;
	const char *help;
	size_t field;			/* offset in struct create_request */
	uint64_t max;			/* of a number; 0: a string */
};

static const struct create_option create_options[] = {
	{ "backing_file", "name of the backing file",
	  offsetof(struct create_request, backing), 0 },
	{ "backing_fmt", "format of the backing file, raw or qed",
	  offsetof(struct create_request, backing_format), 0 },
	{ "cluster_size", "bytes per cluster, a power of two, 4K to 64M",
	  offsetof(struct create_request, cluster_size), UINT32_MAX },
	{ "preallocation", "off, metadata, falloc or full",
	  offsetof(struct create_request, preallocation), 0 },
	{ "size", "virtual size of the disk",
	  offsetof(struct create_request, size), INT64_MAX },
	{ "table_size", "clusters per L1 or L2 table, 1, 2, 4, 8 or 16",
	  offsetof(struct create_request, table_size), UINT32_MAX },
};

#define NOPTIONS (sizeof(create_options) / sizeof(create_options[0]))

/* Who takes the disk from another image has fewer, and fewer still of no overlay. */
static bool is_known(const struct create_option *option, bool create,
		     bool backing)
{
	switch (option->field) {
	case offsetof(struct create_request, size):
	case offsetof(struct create_request, preallocation):
		return create;
	case offsetof(struct create_request, backing):
	case offsetof(struct create_request, backing_format):
		return backing;
	default:
		return true;
	}
}

static int print_options(bool create, bool backing)
{
	puts("Options for -o:");
	for (size_t i = 0; i < NOPTIONS; i++)
		if (is_known(&create_options[i], create, backing))
			printf("  %-14s %s\n", create_options[i].name,
			       create_options[i].help);
	return 0;
}

static bool is_help(const char *list)
{
	return strcmp(list, "help") == 0 || strcmp(list, "?") == 0;
}

bool qedimg_image_options_help(const char *list, bool backing)
{
	return is_help(list) && print_options(false, backing) == 0;
}

/* Reads the value of `name`: 0, or -EINVAL and a message. */
static int read_number(const char *file, const char *name, const char *text,
		       uint64_t max, uint64_t *value)
{
	int err = qedimg_parse_size(text, value);

	if (err == -EINVAL)
		qedimg_error(file, "%s '%s' is not a size: a number, optionally"
			     " with one of the suffixes b, k, M, G, T, P, E",
			     name, text);
	else if (err < 0 || *value > max)
		qedimg_error(file, "%s '%s' is too large", name, text);
	else if (*value == 0 && strcmp(name, "size") != 0)
		qedimg_error(file, "%s must be greater than zero", name);
	else
		return 0;
	return -EINVAL;
}

static int set_option(struct create_request *request, const char *name,
		      char *value)
{
	const struct create_option *option = create_options;
	char *field;

	while (option < create_options + NOPTIONS &&
	       strcmp(option->name, name) != 0)
		option++;
	if (option == create_options + NOPTIONS) {
		qedimg_error(request->file, "option '%s' of -o is not supported"
			     " ('-o help' lists those that are)", name);
		return -EINVAL;
	}
	if (!value || !*value) {
		qedimg_error(request->file, "option '%s' of -o needs a value",
			     name);
		return -EINVAL;
	}
	request->sized |= strcmp(name, "size") == 0;
	field = (char *)request + option->field;
	if (option->max)
		return read_number(request->file, name, value, option->max,
				   (uint64_t *)field);
	*(const char **)field = value;
	return 0;
}

/*
 * Cuts the first "name=value" off `list` in place, where two commas stand for
 * one of the value.  Returns what follows it, or null at the end of the list.
 */
static char *cut_item(char *list, char **value)
{
	char *out, *in;

	in = list + strcspn(list, "=,");
	*value = *in == '=' ? in + 1 : NULL;
	if (*value)
		in++;
	for (out = in; *in && (*in != ',' || in[1] == ','); in++) {
		if (*in == ',')
			in++;
		*out++ = *in;
	}
	list = *in ? in + 1 : NULL;
	*out = '\0';
	if (*value)
		(*value)[-1] = '\0';
	return list;
}

/* Takes a whole -o argument apart, in place. */
static int set_options(struct create_request *request, char *list)
{
	char *name, *value;
	int err = 0;

	while (list && !err) {
		name = list;
		list = cut_item(list, &value);
		err = set_option(request, name, value);
	}
	return err;
}

int qedimg_read_image_options(const char *file, char *list,
			      struct qed_create_options *image)
{
	struct create_request request = { .file = file,
					  .backing = image->backing,
					  .backing_format = image->backing_format,
					  .cluster_size = image->cluster_size,
					  .table_size = image->table_size };

	if (set_options(&request, list) < 0)
		return -EINVAL;
	if (request.sized || request.preallocation) {
		qedimg_error(file, "-o cannot hold size or preallocation here");
		return -EINVAL;
	}
	image->backing = request.backing;
	image->backing_format = request.backing_format;
	image->cluster_size = (uint32_t)request.cluster_size;
	image->table_size = (uint32_t)request.table_size;
	return 0;
}

static int check_request(const struct create_request *request)
{
	if (request->backing && !request->backing_format)
		qedimg_error(request->file, "the backing file's format is"
			     " missing: add '-F raw' or '-F qed'");
	else if (request->backing_format && !request->backing)
		qedimg_error(request->file, "a backing format without a backing"
			     " file: add '-b BACKING'");
	else if (request->unopened && !request->sized)
		qedimg_error(request->file, "the size is missing: with -u the"
			     " backing file is not opened to get it");
	else if (!request->backing && !request->sized)
		qedimg_error(request->file, "the size is missing: only a"
			     " backing file can give it (-b)");
	else if (request->relative && !request->backing)
		qedimg_error(request->file, "--relative is for the name of a"
			     " backing file: add '-b BACKING'");
	else
		return 0;
	return -EINVAL;
}

/* Says what was made, as the image itself tells it. */
static int print_result(const struct create_request *request)
{
	struct qed_open_options options;
	struct qed_image_info info;
	struct qed_image *image;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_NO_BACKING | QED_OPEN_FORCE_SHARE;
	options.log = qedimg_log;
	if (qed_image_open(request->file, &options, &image) < 0)
		return 1;
	qed_image_get_info(image, &info);
	fputs("Formatting '", stdout);
	qedimg_put(stdout, request->file);
	printf("', fmt=qed size=%llu", (unsigned long long)info.virtual_size);
	if (info.backing_filename) {
		fputs(" backing_file=", stdout);
		qedimg_put(stdout, info.backing_filename);
		printf(" backing_fmt=%s", request->backing_format);
	}
	printf(" cluster_size=%u table_size=%u\n", info.cluster_size,
	       info.table_size);
	qed_image_close(image);
	return 0;
}

static int create(const struct create_request *request)
{
	struct qed_create_options options = {
		.virtual_size = request->size,
		.cluster_size = (uint32_t)request->cluster_size,
		.table_size = (uint32_t)request->table_size,
		.backing = request->backing,
		.backing_format = request->backing_format,
		.flags = request->relative ? QED_CREATE_RELATIVE : 0,
		.log = qedimg_log,
	};
	int err;

	if (request->unopened)
		options.flags |= QED_CREATE_UNOPENED;
	if (request->sized)
		options.flags |= QED_CREATE_SIZED;
	if (request->preallocation &&
	    qedimg_read_preallocation(request->file, request->preallocation,
				      &options.preallocation) < 0)
		return 1;
	options.job = qedimg_common_job(request->common);
	err = qed_image_create(request->file, &options);
	qedimg_progress_end();
	if (err < 0)
		return 1;
	return request->common->quiet ? 0 : print_result(request);
}

/* What the command line holds, before -o and SIZE are read. */
struct create_words {
	struct create_request flags;	/* -b, -F, -u, --relative */
	struct qedimg_common common;	/* -f, -h, -p, -q */
	char **lists;			/* arguments of -o, null at the end */
	char **rest;			/* FILE and SIZE, null at the end */
};

enum { OPTION_RELATIVE = 300 };

/* 0, or -EINVAL after a message, getopt's own too. */
static int read_words(int argc, char **argv, struct create_words *words)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		QEDIMG_PROGRESS_LONG_OPTION,
		{ "relative", no_argument, NULL, OPTION_RELATIVE },
		{ NULL, 0, NULL, 0 },
	};
	size_t nlists = 0;
	int c;

	while ((c = getopt_long(argc, argv, "qf:b:F:o:hpu", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'b':
			words->flags.backing = optarg;
			break;
		case 'F':
			words->flags.backing_format = optarg;
			break;
		case 'o':
			words->lists[nlists++] = optarg;
			break;
		case 'u':
			words->flags.unopened = true;
			break;
		case OPTION_RELATIVE:
			words->flags.relative = true;
			break;
		default:
			if (qedimg_common_option(&words->common, c) < 0)
				return -EINVAL;
		}
	}
	words->rest = argv + optind;
	return 0;
}

/* Settles the request: -b and -F count before what -o says. */
static int read_request(const struct create_words *words,
			struct create_request *request)
{
	const char *size = words->rest[1];

	request->file = words->rest[0];
	for (char **list = words->lists; *list; list++)
		if (set_options(request, *list) < 0)
			return -EINVAL;
	if (size && request->sized) {
		qedimg_error(request->file, "the size is given twice, '%s' and"
			     " in -o", size);
		return -EINVAL;
	}
	if (size && read_number(request->file, "size", size, INT64_MAX,
				&request->size) < 0)
		return -EINVAL;
	request->sized |= size != NULL;
	if (words->flags.backing)
		request->backing = words->flags.backing;
	if (words->flags.backing_format)
		request->backing_format = words->flags.backing_format;
	request->relative = words->flags.relative;
	request->unopened = words->flags.unopened;
	request->common = &words->common;
	return check_request(request);
}

static bool wants_option_list(const struct create_words *words)
{
	for (char **list = words->lists; *list; list++)
		if (is_help(*list))
			return true;
	return false;
}

static int run_words(const struct create_words *words)
{
	struct create_request request = { 0 };

	if (words->common.help)
		return qedimg_help(&qedimg_create);
	if (qedimg_common_check(&words->common, words->rest[0]) < 0)
		return 1;
	if (wants_option_list(words))
		return print_options(true, true);
	if (!words->rest[0]) {
		qedimg_error(NULL, "the name of the image is missing");
		return qedimg_usage_error(&qedimg_create);
	}
	if (words->rest[1] && words->rest[2]) {
		qedimg_error(words->rest[0], "unexpected argument '%s'",
			     words->rest[2]);
		return qedimg_usage_error(&qedimg_create);
	}
	return read_request(words, &request) < 0 ? 1 : create(&request);
}

static int run(int argc, char **argv)
{
	struct create_words words = { .lists = NULL };
	int status;

	words.lists = calloc((size_t)argc + 1, sizeof(*words.lists));
	if (!words.lists) {
		qedimg_error(NULL, "%s", strerror(ENOMEM));
		return 1;
	}
	if (read_words(argc, argv, &words) < 0)
		status = qedimg_usage_error(&qedimg_create);
	else
		status = run_words(&words);
	free(words.lists);
	return status;
}

const struct qedimg_command qedimg_create = {
	.name = "create",
	.summary = "make an empty image",
	.help =
	"Usage: qedimg create [-q] [-f qed] [-b BACKING -F raw|qed [-u]]\n"
	"                     [--relative] [-o OPTION=VALUE[,...]] [-p]\n"
	"                     [--progress=json] FILE [SIZE]\n"
	"\n"
	"Make an empty QED image with a virtual disk of SIZE bytes.  A file of\n"
	"that name is replaced, once the new image is complete.\n"
	"\n"
	"  -b BACKING         what the image does not hold is read from this file; a\n"
	"                     relative name counts from FILE's directory; SIZE may\n"
	"                     then be left out: that of the backing file\n"
	"  -F FORMAT          format of the backing file, raw or qed (needed with -b)\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  -o LIST            options, NAME=VALUE, separated by commas; a comma in a\n"
	"                     value is written twice; '-o help' lists them\n"
	"  --relative         BACKING counts from the working directory; the name\n"
	"                     that is stored counts from FILE's, so that both can\n"
	"                     be moved\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -u                 do not open BACKING, which need not be there yet; then\n"
	"                     SIZE is needed\n"
	"  -q                 say nothing but errors\n"
	"  -h, --help         print this help\n"
	"\n"
	"SIZE is a number of bytes or has a suffix: k, M, G, T, P, E for powers\n"
	"of 1024, then also with a fraction: 1.5G.\n",
	.run = run,
};
