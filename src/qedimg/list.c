/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qedimg list: what qedfs has mounted where, by the kernel's own list. */
#include "config.h"

#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#define MOUNTINFO "/proc/self/mountinfo"

/* A mount, as a line of mountinfo has it. */
struct mount {
	char *image, *mountpoint;
	bool read_only;
};

/* Undoes the kernel's \040 for a blank and the like, in place. */
static void unescape(char *text)
{
	char *out = text;

	while (*text) {
		if (text[0] == '\\' && strspn(text + 1, "01234567") >= 3) {
			*out++ = (char)((text[1] - '0') << 6 |
					(text[2] - '0') << 3 | (text[3] - '0'));
			text += 4;
		} else {
			*out++ = *text++;
		}
	}
	*out = '\0';
}

/* Is "ro" one of the options? */
static bool is_read_only(const char *options)
{
	while (options) {
		if (strncmp(options, "ro", 2) == 0 &&
		    (options[2] == ',' || options[2] == '\0'))
			return true;
		options = strchr(options, ',');
		if (options)
			options++;
	}
	return false;
}

/*
 * Takes a line apart, in place: ID, parent, device, root, mountpoint, options,
 * any number of fields, "-", type, source, options of the file system.  False
 * if it is no mount of qedfs.
 */
static bool parse_mount(char *line, struct mount *mount)
{
	char *field[6], *type, *options, *save;

	line[strcspn(line, "\n")] = '\0';
	for (int i = 0; i < 6; i++) {
		field[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!field[i])
			return false;
	}
	do
		type = strtok_r(NULL, " ", &save);
	while (type && strcmp(type, "-") != 0);
	type = type ? strtok_r(NULL, " ", &save) : NULL;
	if (!type || strcmp(type, "fuse.qedfs") != 0)
		return false;
	mount->image = strtok_r(NULL, " ", &save);
	options = strtok_r(NULL, " ", &save);
	if (!mount->image || !options)
		return false;
	mount->mountpoint = field[4];
	mount->read_only = is_read_only(field[5]) || is_read_only(options);
	unescape(mount->image);
	unescape(mount->mountpoint);
	return true;
}

static int put_human(struct json_object *list, const struct mount *mount)
{
	(void)list;
	qedimg_put(stdout, mount->image);
	fputs(" on ", stdout);
	qedimg_put(stdout, mount->mountpoint);
	puts(mount->read_only ? " (ro)" : " (rw)");
	return 0;
}

static int add_name(struct json_object *object, const char *key,
		    const char *name)
{
	char *text = qedimg_utf8(name);
	struct json_object *value = text ? json_object_new_string(text) : NULL;

	free(text);
	if (value && json_object_object_add(object, key, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int add_json(struct json_object *list, const struct mount *mount)
{
	struct json_object *object = json_object_new_object();

	if (object && add_name(object, "image", mount->image) == 0 &&
	    add_name(object, "mountpoint", mount->mountpoint) == 0 &&
	    json_object_object_add(object, "read-only",
				   json_object_new_boolean(
					   mount->read_only)) == 0 &&
	    json_object_array_add(list, object) == 0)
		return 0;
	json_object_put(object);
	return -ENOMEM;
}

static int for_mounts(int (*visit)(struct json_object *list,
				   const struct mount *mount),
		      struct json_object *list)
{
	FILE *in = fopen(MOUNTINFO, "re");
	struct mount mount;
	char *line = NULL;
	size_t size = 0;
	int err = 0;

	if (!in)
		return -errno;
	errno = 0;
	while (err == 0 && getline(&line, &size, in) > 0)
		if (parse_mount(line, &mount))
			err = visit(list, &mount);
	if (err == 0 && ferror(in))
		err = errno ? -errno : -EIO;
	free(line);
	fclose(in);
	return err;
}

static int print_json(void)
{
	struct json_object *list = json_object_new_array();
	int err = list ? for_mounts(add_json, list) : -ENOMEM;
	const char *text = NULL;

	if (err == 0)
		text = json_object_to_json_string_ext(
			list, JSON_C_TO_STRING_PRETTY |
				      JSON_C_TO_STRING_SPACED |
				      JSON_C_TO_STRING_NOSLASHESCAPE);
	if (text)
		puts(text);
	else if (err == 0)
		err = -ENOMEM;
	json_object_put(list);
	return err;
}

static int list(bool json)
{
	int err = json ? print_json() : for_mounts(put_human, NULL);

	if (err == 0)
		return 0;
	qedimg_error(MOUNTINFO, "%s", strerror(-err));
	return 1;
}

static int run(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "output", required_argument, NULL, QEDIMG_OPTION_OUTPUT },
		{ NULL, 0, NULL, 0 },
	};
	struct qedimg_common common = { .format = NULL };
	int c;

	while ((c = getopt_long(argc, argv, "h", long_options, NULL)) != -1)
		if (qedimg_common_option(&common, c) < 0)
			return qedimg_usage_error(&qedimg_list);
	if (common.help)
		return qedimg_help(&qedimg_list);
	if (qedimg_output_check(&common, NULL) < 0 ||
	    qedimg_no_more(NULL, argv[optind]) < 0)
		return qedimg_usage_error(&qedimg_list);
	return list(qedimg_wants_json(&common));
}

const struct qedimg_command qedimg_list = {
	.name = "list",
	.summary = "tell which images are mounted where",
	.help =
	"Usage: qedimg list [--output=human|json]\n"
	"\n"
	"List the images that qedfs has mounted, a line each: the image, where, and\n"
	"whether it can be written (rw) or not (ro).\n"
	"\n"
	"  --output=FORMAT    human (the default) or json\n"
	"  -h, --help         print this help\n",
	.run = run,
};
