/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qedimg info: what an image says about itself, in qemu-img's words and keys
 * where the meaning is the same.  Nothing that the image names is opened,
 * unless --backing-chain asks for it.
 */
#include "config.h"

#include "common.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

struct info_request {
	const char *file;
	struct qedimg_common common;
	bool backing_chain;
};

/* The facts to print, of one image. */
struct facts {
	const char *file;		/* as the user wrote it, or found */
	struct qed_image_info info;
	struct qed_usage usage;
	bool counted;			/* usage is valid */
	bool qed;			/* not raw */
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
	/* That it is a QED image is not what the header says. */
	return !(info->features & QED_FEATURE_BACKING_FORMAT_NO_PROBE) ||
	       add_name(object, "backing-filename-format", "raw");
}

static bool add_usage(struct json_object *data, const struct facts *facts)
{
	const struct qed_usage *usage = &facts->usage;

	return !facts->counted ||
	       (add_uint(data, "allocated-clusters", usage->data) &&
		add_uint(data, "zero-clusters", usage->zero) &&
		add_uint(data, "l2-tables", usage->tables) &&
		add_uint(data, "leaked-clusters", usage->leaked) &&
		add_uint(data, "damaged-entries", usage->damaged));
}

/* The facts that QED alone has; null if memory is short. */
static struct json_object *specific_data(const struct facts *facts)
{
	struct json_object *data = json_object_new_object();
	const struct qed_image_info *info = &facts->info;

	if (data && add_uint(data, "table-size", info->table_size) &&
	    add_uint(data, "header-size", info->header_size) &&
	    add_uint(data, "l1-table-offset", info->l1_table_offset) &&
	    add(data, "features", feature_list(info->features)) &&
	    add_uint(data, "compat-features", info->compat_features) &&
	    add_uint(data, "autoclear-features", info->autoclear_features) &&
	    add_usage(data, facts))
		return data;
	json_object_put(data);
	return NULL;
}

static bool add_specific(struct json_object *object, const struct facts *facts)
{
	struct json_object *specific = json_object_new_object();

	return add(object, "format-specific", specific) &&
	       add_name(specific, "type", "qed") &&
	       add(specific, "data", specific_data(facts));
}

static bool add_qed_facts(struct json_object *object,
			  const struct facts *facts)
{
	return !facts->qed ||
	       (add_uint(object, "cluster-size", facts->info.cluster_size) &&
		add_backing(object, &facts->info) &&
		add_specific(object, facts));
}

static bool add_facts(struct json_object *object, const struct facts *facts)
{
	const struct qed_image_info *info = &facts->info;

	return add_name(object, "filename", facts->file) &&
	       add_name(object, "format", info->format) &&
	       add_uint(object, "virtual-size", info->virtual_size) &&
	       add_uint(object, "actual-size", facts->disk_size) &&
	       add(object, "dirty-flag",
		   json_object_new_boolean(facts->dirty)) &&
	       add_qed_facts(object, facts);
}

static struct json_object *facts_object(const struct facts *facts)
{
	struct json_object *object = json_object_new_object();

	if (object && add_facts(object, facts))
		return object;
	json_object_put(object);
	return NULL;
}

/* One object, or an array of one for each image of the chain. */
static struct json_object *all_facts(const struct facts *facts, unsigned n,
				     bool chain)
{
	struct json_object *list, *object;

	if (!chain)
		return facts_object(facts);
	list = json_object_new_array();
	for (unsigned i = 0; list && i < n; i++) {
		object = facts_object(&facts[i]);
		if (!object || json_object_array_add(list, object) != 0) {
			json_object_put(object);
			json_object_put(list);
			return NULL;
		}
	}
	return list;
}

static int print_json(const struct facts *facts, unsigned n, bool chain)
{
	struct json_object *object = all_facts(facts, n, chain);
	const char *text = NULL;

	if (object)
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
	if (info->features & QED_FEATURE_BACKING_FORMAT_NO_PROBE)
		puts("backing file format: raw");
}

static void print_usage(const struct qed_usage *usage)
{
	printf("    allocated clusters: %" PRIu64 "\n", usage->data);
	printf("    zero clusters: %" PRIu64 "\n", usage->zero);
	printf("    L2 tables: %" PRIu64 "\n", usage->tables);
	printf("    leaked clusters: %" PRIu64 "\n", usage->leaked);
	if (usage->damaged)
		printf("    damaged entries: %" PRIu64 " (run a check)\n",
		       usage->damaged);
}

static void print_specific(const struct facts *facts)
{
	const struct qed_image_info *info = &facts->info;
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
	if (facts->counted)
		print_usage(&facts->usage);
}

static void print_human(const struct facts *facts)
{
	char virtual_size[QEDIMG_SIZE_TEXT], disk_size[QEDIMG_SIZE_TEXT];

	qedimg_format_size(facts->info.virtual_size, virtual_size);
	qedimg_format_size(facts->disk_size, disk_size);
	fputs("image: ", stdout);
	qedimg_put(stdout, facts->file);
	printf("\nfile format: %s\n", facts->info.format);
	printf("virtual size: %s (%llu bytes)\n", virtual_size,
	       (unsigned long long)facts->info.virtual_size);
	printf("disk size: %s\n", disk_size);
	if (!facts->qed)
		return;
	printf("cluster_size: %u\n", facts->info.cluster_size);
	if (facts->dirty)
		puts("cleanly shut down: no");
	print_backing(&facts->info);
	print_specific(facts);
}

/* Counts what a file's clusters are for; a file that is too large is told. */
static int count_clusters(const struct info_request *request,
			  struct qed_image *image, unsigned layer,
			  struct facts *facts)
{
	int err = qed_image_get_usage(
		image, layer, qedimg_common_job(&request->common),
		&facts->usage);

	qedimg_progress_end();
	if (err == -ECANCELED)
		qedimg_error(facts->file, "stopped");
	else if (err == -EFBIG)
		qedimg_error(facts->file, "warning: the file is too large to"
			     " count its clusters");
	else if (err < 0)
		qedimg_error(facts->file, "cannot count the clusters: %s",
			     strerror(-err));
	facts->counted = err == 0;
	return err == -EFBIG ? 0 : err;
}

static int find_facts(const struct info_request *request,
		      struct qed_image *image, unsigned layer,
		      struct facts *facts)
{
	struct stat st;
	int err;

	facts->file = layer ? qed_image_get_path(image, layer) : request->file;
	err = qed_image_get_layer_info(image, layer, &facts->info);
	if (err == 0)
		err = qed_image_stat_layer(image, layer, &st);
	if (err < 0) {
		qedimg_error(facts->file, "%s", strerror(-err));
		return err;
	}
	facts->disk_size = (uint64_t)st.st_blocks * 512;
	facts->dirty = facts->info.features & QED_FEATURE_NEED_CHECK;
	facts->qed = strcmp(facts->info.format, "qed") == 0;
	return facts->qed ? count_clusters(request, image, layer, facts) : 0;
}

static int print_images(const struct info_request *request,
			const struct facts *facts, unsigned n)
{
	if (qedimg_wants_json(&request->common))
		return print_json(facts, n, request->backing_chain);
	for (unsigned i = 0; i < n; i++) {
		if (i > 0)
			putchar('\n');
		print_human(&facts[i]);
	}
	return 0;
}

static int describe(const struct info_request *request,
		    struct qed_image *image)
{
	struct qed_image_info info;
	struct facts *facts;
	int status = 1;
	unsigned i;

	qed_image_get_info(image, &info);
	facts = calloc(info.nlayers, sizeof(*facts));
	if (!facts) {
		qedimg_error(request->file, "%s", strerror(ENOMEM));
		return 1;
	}
	for (i = 0; i < info.nlayers; i++)
		if (find_facts(request, image, i, &facts[i]) < 0)
			break;
	if (i == info.nlayers)
		status = print_images(request, facts, i);
	free(facts);
	return status;
}

static int info(const struct info_request *request)
{
	struct qed_image *image;
	int status;

	if (qedimg_open(request->file, &request->common,
			request->backing_chain ? 0 : QED_OPEN_NO_BACKING, 0,
			&image) < 0)
		return 1;
	status = describe(request, image);
	qed_image_close(image);
	return status;
}

/* 0, or -EINVAL after getopt's own message. */
static int read_options(int argc, char **argv, struct info_request *request)
{
	static const struct option long_options[] = {
		{ "backing-chain", no_argument, NULL, 'c' },
		QEDIMG_COMMON_LONG_OPTIONS,
		QEDIMG_PROGRESS_LONG_OPTION,
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f:pUh", long_options,
				NULL)) != -1) {
		if (c == 'c')
			request->backing_chain = true;
		else if (qedimg_common_option(&request->common, c) < 0)
			return -EINVAL;
	}
	request->file = argv[optind];
	return 0;
}

static int check_values(const struct info_request *request)
{
	if (qedimg_common_check(&request->common, request->file) < 0)
		return -EINVAL;
	if (request->file)
		return 0;
	qedimg_error(NULL, "the name of the image is missing");
	return -EINVAL;
}

static int run(int argc, char **argv)
{
	struct info_request request = { .common.format = "qed" };

	if (read_options(argc, argv, &request) < 0)
		return qedimg_usage_error(&qedimg_info);
	if (request.common.help)
		return qedimg_help(&qedimg_info);
	if (check_values(&request) < 0 ||
	    qedimg_no_more(request.file, argv[optind + 1]) < 0)
		return qedimg_usage_error(&qedimg_info);
	return info(&request);
}

const struct qedimg_command qedimg_info = {
	.name = "info",
	.summary = "tell what an image says about itself",
	.help =
	"Usage: qedimg info [-f qed] [--output=human|json] [--backing-chain] [-U]\n"
	"                   [-p] [--progress=json] FILE\n"
	"\n"
	"Tell sizes, geometry, features and backing file of a QED image, and what\n"
	"its clusters are used for.  The image is not changed, its backing file\n"
	"not opened unless that is asked for.\n"
	"\n"
	"  --backing-chain    tell of all images of the backing chain, top first\n"
	"  -f FORMAT          format of the image; only qed\n"
	"  --output=FORMAT    human (the default) or json, with the keys of\n"
	"                     'qemu-img info'\n"
	"  -p                 show progress on a terminal\n"
	"  --progress=json    print progress as JSON, one object a line\n"
	"  -U, --force-share  also if another program writes the image now: what\n"
	"                     is told may be out of date\n"
	"  -h, --help         print this help\n",
	.run = run,
};
