/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qedimg info: what an image says about itself, in qemu-img's words and keys
 * where the meaning is the same.  Nothing that the image names is opened.
 */
#include "config.h"

#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

struct info_request {
	const char *file;
	const char *format;
	const char *output;
	bool force_share;
	bool help;
};

/* The facts to print. */
struct facts {
	const char *file;		/* as the user wrote it */
	struct qed_image_info info;
	uint64_t disk_size;		/* bytes the host has given the file */
	bool dirty;
};

static const struct feature {
	uint64_t bit;
	const char *name;
} features[] = {
	{ QED_FEATURE_BACKING_FILE, "backing-file" },
	{ QED_FEATURE_NEED_CHECK, "need-check" },
	{ QED_FEATURE_BACKING_FORMAT_NO_PROBE, "backing-format-no-probe" },
};

#define NFEATURES (sizeof(features) / sizeof(features[0]))

/* Adds `value`, which becomes the object's; false if memory is short. */
static bool add(struct json_object *object, const char *key,
		struct json_object *value)
{
	if (value && json_object_object_add(object, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool add_uint(struct json_object *object, const char *key,
		     uint64_t value)
{
	return add(object, key, json_object_new_uint64(value));
}

static bool add_name(struct json_object *object, const char *key,
		     const char *name)
{
	char *text = qedimg_utf8(name);
	bool ok;

	ok = text && add(object, key, json_object_new_string(text));
	free(text);
	return ok;
}

static struct json_object *feature_list(uint64_t bits)
{
	struct json_object *list = json_object_new_array(), *name;

	for (size_t i = 0; list && i < NFEATURES; i++) {
		if (!(bits & features[i].bit))
			continue;
		name = json_object_new_string(features[i].name);
		if (!name || json_object_array_add(list, name) != 0) {
			json_object_put(name);
			json_object_put(list);
			return NULL;
		}
	}
	return list;
}

static bool add_backing(struct json_object *object,
			const struct qed_image_info *info)
{
	if (!info->backing_filename)
		return true;
	if (!add_name(object, "backing-filename", info->backing_filename))
		return false;
	if (info->backing_path &&
	    !add_name(object, "full-backing-filename", info->backing_path))
		return false;
	return !info->backing_format ||
	       add_name(object, "backing-filename-format",
			info->backing_format);
}

/* The facts that QED alone has; null if memory is short. */
static struct json_object *specific_data(const struct qed_image_info *info)
{
	struct json_object *data = json_object_new_object();

	if (data && add_uint(data, "table-size", info->table_size) &&
	    add_uint(data, "header-size", info->header_size) &&
	    add_uint(data, "l1-table-offset", info->l1_table_offset) &&
	    add(data, "features", feature_list(info->features)) &&
	    add_uint(data, "compat-features", info->compat_features) &&
	    add_uint(data, "autoclear-features", info->autoclear_features))
		return data;
	json_object_put(data);
	return NULL;
}

static bool add_specific(struct json_object *object,
			 const struct qed_image_info *info)
{
	struct json_object *specific = json_object_new_object();

	return add(object, "format-specific", specific) &&
	       add_name(specific, "type", "qed") &&
	       add(specific, "data", specific_data(info));
}

static bool add_facts(struct json_object *object, const struct facts *facts)
{
	const struct qed_image_info *info = &facts->info;

	return add_name(object, "filename", facts->file) &&
	       add_name(object, "format", "qed") &&
	       add_uint(object, "virtual-size", info->virtual_size) &&
	       add_uint(object, "actual-size", facts->disk_size) &&
	       add_uint(object, "cluster-size", info->cluster_size) &&
	       add(object, "dirty-flag",
		   json_object_new_boolean(facts->dirty)) &&
	       add_backing(object, info) && add_specific(object, info);
}

static int print_json(const struct facts *facts)
{
	struct json_object *object = json_object_new_object();
	const char *text = NULL;

	if (object && add_facts(object, facts))
		text = json_object_to_json_string_ext(
			object, JSON_C_TO_STRING_PRETTY |
					JSON_C_TO_STRING_SPACED |
					JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		puts(text);
	else
		qedimg_error(facts->file, "%s", strerror(ENOMEM));
	json_object_put(object);
	return text ? 0 : 1;
}

static void print_backing(const struct qed_image_info *info)
{
	if (!info->backing_filename)
		return;
	fputs("backing file: ", stdout);
	qedimg_put(stdout, info->backing_filename);
	if (info->backing_path &&
	    strcmp(info->backing_path, info->backing_filename) != 0) {
		fputs(" (actual path: ", stdout);
		qedimg_put(stdout, info->backing_path);
		putchar(')');
	}
	putchar('\n');
	if (info->backing_format)
		printf("backing file format: %s\n", info->backing_format);
}

static void print_specific(const struct qed_image_info *info)
{
	const char *separator = "";

	puts("Format specific information:");
	printf("    table size: %u\n", info->table_size);
	printf("    header size: %u\n", info->header_size);
	printf("    L1 table offset: %llu\n",
	       (unsigned long long)info->l1_table_offset);
	fputs("    features: ", stdout);
	for (size_t i = 0; i < NFEATURES; i++) {
		if (!(info->features & features[i].bit))
			continue;
		printf("%s%s", separator, features[i].name);
		separator = ", ";
	}
	puts(*separator ? "" : "none");
	if (info->compat_features)
		printf("    unknown compat features: %#llx\n",
		       (unsigned long long)info->compat_features);
	if (info->autoclear_features)
		printf("    unknown autoclear features: %#llx\n",
		       (unsigned long long)info->autoclear_features);
}

static int print_human(const struct facts *facts)
{
	char virtual_size[QEDIMG_SIZE_TEXT], disk_size[QEDIMG_SIZE_TEXT];

	qedimg_format_size(facts->info.virtual_size, virtual_size);
	qedimg_format_size(facts->disk_size, disk_size);
	fputs("image: ", stdout);
	qedimg_put(stdout, facts->file);
	puts("\nfile format: qed");
	printf("virtual size: %s (%llu bytes)\n", virtual_size,
	       (unsigned long long)facts->info.virtual_size);
	printf("disk size: %s\n", disk_size);
	printf("cluster_size: %u\n", facts->info.cluster_size);
	if (facts->dirty)
		puts("cleanly shut down: no");
	print_backing(&facts->info);
	print_specific(&facts->info);
	return 0;
}

static int print_image(const struct info_request *request,
		       struct qed_image *image)
{
	struct facts facts = { .file = request->file };
	struct stat st;
	int err;

	qed_image_get_info(image, &facts.info);
	err = qed_image_stat(image, &st);
	if (err < 0) {
		qedimg_error(request->file, "%s", strerror(-err));
		return 1;
	}
	facts.disk_size = (uint64_t)st.st_blocks * 512;
	facts.dirty = facts.info.features & QED_FEATURE_NEED_CHECK;
	if (strcmp(request->output, "json") == 0)
		return print_json(&facts);
	return print_human(&facts);
}

static int info(const struct info_request *request)
{
	struct qed_open_options options;
	struct qed_image *image;
	int status;

	qed_open_options_init(&options);
	options.flags = QED_OPEN_NO_BACKING;
	if (request->force_share)
		options.flags |= QED_OPEN_FORCE_SHARE;
	options.log = qedimg_log;
	if (qed_image_open(request->file, &options, &image) < 0)
		return 1;
	status = print_image(request, image);
	qed_image_close(image);
	return status;
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct info_request *request)
{
	static const struct option long_options[] = {
		{ "force-share", no_argument, NULL, 'U' },
		{ "help", no_argument, NULL, 'h' },
		{ "output", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:Uh", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'f':
			request->format = optarg;
			break;
		case 'U':
			request->force_share = true;
			break;
		case 'h':
			request->help = true;
			break;
		case 'o':
			request->output = optarg;
			break;
		default:
			return -EINVAL;
		}
	}
	request->file = argv[optind];
	return 0;
}

static int check_values(const struct info_request *request)
{
	if (strcmp(request->format, "qed") != 0)
		qedimg_error(request->file, "format '%s' is not supported,"
			     " only qed", request->format);
	else if (strcmp(request->output, "human") != 0 &&
		 strcmp(request->output, "json") != 0)
		qedimg_error(request->file, "output '%s' is not supported, only"
			     " human and json", request->output);
	else if (!request->file)
		qedimg_error(NULL, "the name of the image is missing");
	else
		return 0;
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct info_request request = { .format = "qed", .output = "human" };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_info);
	if (request.help)
		return qedimg_help(&qedimg_info);
	if (check_values(&request) < 0)
		return qedimg_usage_error(&qedimg_info);
	if (argv[optind + 1]) {
		qedimg_error(request.file, "unexpected argument '%s'",
			     argv[optind + 1]);
		return qedimg_usage_error(&qedimg_info);
	}
	return info(&request);
}

const struct qedimg_command qedimg_info = {
	.name = "info",
	.summary = "tell what an image says about itself",
	.help =
	"Usage: qedimg info [-f qed] [--output=human|json] [-U] FILE\n"
	"\n"
	"Tell sizes, geometry, features and backing file of a QED image, from its\n"
	"header.  The image is not changed, its backing file not opened.\n"
	"\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  --output=FORMAT    human (the default) or json, with the keys of\n"
	"                     'qemu-img info'\n"
	"  -U, --force-share  also if another program writes the image now: what\n"
	"                     is told may be out of date\n"
	"  -h, --help         print this help\n",
	.run = run,
};
