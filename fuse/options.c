/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The command line.  Each `-o` name is one line of a table; what is not in the
 * table is refused by name, so that a typing error never goes unnoticed.
 */
#include <config.h>

#include "options.h"
#include "log.h"

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 128u			/* more than ever gain anything */

static const char usage_text[] =
	"usage: qedfs [-df] [-o option[,option...]] image mountpoint\n"
	"       qedfs -h | -V\n";

static const char help_text[] =
	"\n"
	"Shows the QED disk image as a flat raw file: MOUNTPOINT/NAME.raw, or on\n"
	"MOUNTPOINT itself if that is a regular file.\n"
	"\n"
	"  -f                  stay in the foreground, messages on stderr\n"
	"  -d                  the same with debugging messages\n"
	"  -h, --help          print this text\n"
	"  -V, --version       print the version\n"
	"  -o ro               read-only; default: read-write if possible\n"
	"  -o io=ENGINE        auto, uring or threads\n"
	"  -o l2_cache=SIZE    memory for mapping tables (K, M, G); default 32M\n"
	"  -o commit=SECONDS   commit metadata at least this often; default 5,\n"
	"                      0: only when a program asks for it\n"
	"  -o backing=PATH     use this backing file instead of the stored name\n"
	"  -o backing_format=FORMAT\n"
	"                      raw or qed: the backing file's format\n"
	"  -o nobacking        no backing file: holes read as zeroes; implies ro\n"
	"  -o nowriteback      do not let the kernel delay writes\n"
	"  -o readahead=SIZE   how far the kernel reads ahead in the file\n"
	"  -o max_threads=N    threads that take requests; default 4 to 12\n"
	"  -o uring            take the kernel's requests by io_uring (experimental);\n"
	"                      implies nowriteback\n"
	"  -o discard=off      refuse to punch holes; zeroing still works\n"
	"  -o detect_zeroes    store no clusters that are written as zeroes\n"
	"  -o uid=N, gid=N, umask=OCTAL\n"
	"                      owner and permissions to show\n"
	"  -o pidfile=PATH     exists while the image is in use\n"
	"  -o allow_other, allow_root, noexec, noatime, ...\n"
	"                      generic mount options\n";

/*
 * Values.
 */

static int parse_number(const char *text, int base, uint64_t max,
			uint64_t *number, const char **rest)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*number = strtoull(text, &end, base);
	if (errno || *number > max)
		return -EINVAL;
	*rest = end;
	return 0;
}

static int parse_plain(const char *text, int base, uint64_t max,
		       uint64_t *number)
{
	const char *rest;
	int ret = parse_number(text, base, max, number, &rest);

	return ret ? ret : *rest ? -EINVAL : 0;
}

static int parse_size(const char *text, uint64_t *size)
{
	static const char suffixes[] = "KMGT";
	const char *rest, *suffix;
	unsigned shift;

	if (parse_number(text, 10, UINT64_MAX, size, &rest))
		return -EINVAL;
	if (!*rest)
		return 0;
	suffix = strchr(suffixes, *rest >= 'a' ? *rest - 'a' + 'A' : *rest);
	if (!suffix || rest[1])
		return -EINVAL;
	shift = 10 * (unsigned)(suffix - suffixes + 1);
	if (*size > UINT64_MAX >> shift)
		return -EINVAL;
	*size <<= shift;
	return 0;
}

/* Frees the old value; -EINVAL for an empty one. */
static int replace_string(char **string, const char *value)
{
	char *copy;

	if (!*value)
		return -EINVAL;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*string);
	*string = copy;
	return 0;
}

/* The daemon leaves the directory it was started in. */
static int absolute_path(const char *path, char **absolute)
{
	char *cwd = NULL, *joined = NULL;

	if (*path == '/')
		return replace_string(absolute, path);
	if (!*path)
		return -EINVAL;
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&joined, "%s/%s", cwd, path) < 0) {
		free(cwd);
		return errno ? -errno : -ENOMEM;
	}
	free(cwd);
	free(*absolute);
	*absolute = joined;
	return 0;
}

static int set_io(struct qedfs_options *options, const char *value)
{
	static const char *const names[] = {
		[QED_IO_AUTO] = "auto",
		[QED_IO_URING] = "uring",
		[QED_IO_THREADS] = "threads",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			options->open.io = (enum qed_io_engine)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_discard(struct qedfs_options *options, const char *value)
{
	options->discard = strcmp(value, "on") == 0;
	return options->discard || strcmp(value, "off") == 0 ? 0 : -EINVAL;
}

static int set_l2_cache(struct qedfs_options *options, const char *value)
{
	return parse_size(value, &options->open.l2_cache);
}

static int set_readahead(struct qedfs_options *options, const char *value)
{
	uint64_t bytes;

	if (parse_size(value, &bytes) || bytes < 4096 || bytes > 1u << 30)
		return -EINVAL;
	options->readahead = bytes;
	return 0;
}

static int set_max_threads(struct qedfs_options *options, const char *value)
{
	uint64_t n;

	if (parse_plain(value, 10, MAX_THREADS, &n) || n == 0)
		return -EINVAL;
	options->max_threads = (unsigned)n;
	return 0;
}

static int set_commit(struct qedfs_options *options, const char *value)
{
	uint64_t seconds;

	if (parse_plain(value, 10, 86400, &seconds))
		return -EINVAL;
	options->open.commit_seconds = (unsigned)seconds;
	return 0;
}

static int set_backing(struct qedfs_options *options, const char *value)
{
	return absolute_path(value, &options->backing);
}

static int set_backing_format(struct qedfs_options *options, const char *value)
{
	if (strcmp(value, "raw") != 0 && strcmp(value, "qed") != 0)
		return -EINVAL;
	return replace_string(&options->backing_format, value);
}

static int set_pidfile(struct qedfs_options *options, const char *value)
{
	return absolute_path(value, &options->pidfile);
}

static int set_uid(struct qedfs_options *options, const char *value)
{
	uint64_t id;

	/* The highest value means "no user" to system calls. */
	if (parse_plain(value, 10, UINT32_MAX - 1, &id))
		return -EINVAL;
	options->owner.uid = (uid_t)id;
	options->owner.set_uid = true;
	return 0;
}

static int set_gid(struct qedfs_options *options, const char *value)
{
	uint64_t id;

	if (parse_plain(value, 10, UINT32_MAX - 1, &id))
		return -EINVAL;
	options->owner.gid = (gid_t)id;
	options->owner.set_gid = true;
	return 0;
}

static int set_umask(struct qedfs_options *options, const char *value)
{
	uint64_t mask;

	if (parse_plain(value, 8, 0777, &mask))
		return -EINVAL;
	options->owner.umask = (mode_t)mask;
	options->owner.set_umask = true;
	return 0;
}

/*
 * The table of -o names.
 */

enum option_kind {
	OPTION_TRUE,			/* sets a bool */
	OPTION_FALSE,			/* clears a bool */
	OPTION_VALUE,			/* NAME=VALUE, read by a function */
	OPTION_PASS,			/* goes on to the kernel as it is */
	OPTION_IGNORE,			/* means something to mount(8) alone */
	OPTION_IGNORE_PREFIX,		/* likewise whatever follows the name */
};

struct option_entry {
	const char *name;
	enum option_kind kind;
	size_t field;			/* of a bool in struct qedfs_options */
	/* 0, -EINVAL if the value is not usable, or another -errno */
	int (*set)(struct qedfs_options *options, const char *value);
};

#define FIELD(name) offsetof(struct qedfs_options, name)

/* The first that matches counts. */
static const struct option_entry table[] = {
	{ "ro",			OPTION_TRUE,	FIELD(read_only), NULL },
	{ "rw",			OPTION_FALSE,	FIELD(read_only), NULL },
	{ "nobacking",		OPTION_TRUE,	FIELD(no_backing), NULL },
	{ "writeback",		OPTION_TRUE,	FIELD(writeback), NULL },
	{ "nowriteback",	OPTION_FALSE,	FIELD(writeback), NULL },
	{ "detect_zeroes",	OPTION_TRUE,	FIELD(detect_zeroes), NULL },
	{ "discard",		OPTION_VALUE,	0, set_discard },
	{ "io",			OPTION_VALUE,	0, set_io },
	{ "l2_cache",		OPTION_VALUE,	0, set_l2_cache },
	{ "commit",		OPTION_VALUE,	0, set_commit },
	{ "readahead",		OPTION_VALUE,	0, set_readahead },
	{ "max_threads",	OPTION_VALUE,	0, set_max_threads },
	{ "uring",		OPTION_TRUE,	FIELD(uring), NULL },
	{ "backing",		OPTION_VALUE,	0, set_backing },
	{ "backing_format",	OPTION_VALUE,	0, set_backing_format },
	{ "pidfile",		OPTION_VALUE,	0, set_pidfile },
	{ "uid",		OPTION_VALUE,	0, set_uid },
	{ "gid",		OPTION_VALUE,	0, set_gid },
	{ "umask",		OPTION_VALUE,	0, set_umask },

	{ "allow_other",	OPTION_PASS,	0, NULL },
	{ "allow_root",		OPTION_PASS,	0, NULL },
	{ "exec",		OPTION_PASS,	0, NULL },
	{ "noexec",		OPTION_PASS,	0, NULL },
	{ "async",		OPTION_PASS,	0, NULL },
	{ "sync",		OPTION_PASS,	0, NULL },
	{ "dirsync",		OPTION_PASS,	0, NULL },
	{ "noatime",		OPTION_PASS,	0, NULL },

	{ "user=",		OPTION_IGNORE_PREFIX, 0, NULL },
	{ "comment=",		OPTION_IGNORE_PREFIX, 0, NULL },
	{ "x-",			OPTION_IGNORE_PREFIX, 0, NULL },
	{ "X-",			OPTION_IGNORE_PREFIX, 0, NULL },

	/* Always so for a mount that shows one file. */
	{ "default_permissions", OPTION_IGNORE,	0, NULL },
	{ "nosuid",		OPTION_IGNORE,	0, NULL },
	{ "nodev",		OPTION_IGNORE,	0, NULL },
	/* What mount(8) and its helpers add by themselves. */
	{ "suid",		OPTION_IGNORE,	0, NULL },
	{ "dev",		OPTION_IGNORE,	0, NULL },

	{ "atime",		OPTION_IGNORE,	0, NULL },
	{ "diratime",		OPTION_IGNORE,	0, NULL },
	/* Not known to each libfuse; a directory's times here never change. */
	{ "nodiratime",		OPTION_IGNORE,	0, NULL },
	{ "relatime",		OPTION_IGNORE,	0, NULL },
	{ "norelatime",		OPTION_IGNORE,	0, NULL },
	{ "strictatime",	OPTION_IGNORE,	0, NULL },
	{ "nostrictatime",	OPTION_IGNORE,	0, NULL },
	{ "lazytime",		OPTION_IGNORE,	0, NULL },
	{ "nolazytime",		OPTION_IGNORE,	0, NULL },
	{ "defaults",		OPTION_IGNORE,	0, NULL },
	{ "auto",		OPTION_IGNORE,	0, NULL },
	{ "noauto",		OPTION_IGNORE,	0, NULL },
	{ "nofail",		OPTION_IGNORE,	0, NULL },
	{ "user",		OPTION_IGNORE,	0, NULL },
	{ "nouser",		OPTION_IGNORE,	0, NULL },
	{ "users",		OPTION_IGNORE,	0, NULL },
	{ "nousers",		OPTION_IGNORE,	0, NULL },
	{ "owner",		OPTION_IGNORE,	0, NULL },
	{ "noowner",		OPTION_IGNORE,	0, NULL },
	{ "group",		OPTION_IGNORE,	0, NULL },
	{ "nogroup",		OPTION_IGNORE,	0, NULL },
	{ "_netdev",		OPTION_IGNORE,	0, NULL },
	{ "silent",		OPTION_IGNORE,	0, NULL },
	{ "loud",		OPTION_IGNORE,	0, NULL },
};

static bool entry_matches(const struct option_entry *entry, const char *option)
{
	size_t len = strlen(entry->name);

	if (strncmp(option, entry->name, len) != 0)
		return false;
	if (entry->kind == OPTION_IGNORE_PREFIX)
		return true;
	return option[len] == '\0' || option[len] == '=';
}

static const struct option_entry *find_entry(const char *option)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (entry_matches(&table[i], option))
			return &table[i];
	return NULL;
}

static int pass_on(struct qedfs_options *options, const char *option)
{
	char *joined;

	if (!options->mount_options)
		return replace_string(&options->mount_options, option);
	if (asprintf(&joined, "%s,%s", options->mount_options, option) < 0)
		return -ENOMEM;
	free(options->mount_options);
	options->mount_options = joined;
	return 0;
}

static int apply_entry(struct qedfs_options *options,
		       const struct option_entry *entry, const char *option,
		       const char *value)
{
	bool *flag = (bool *)((char *)options + entry->field);

	if (entry->kind == OPTION_IGNORE_PREFIX)
		return 0;
	if (!value != (entry->kind != OPTION_VALUE))
		return -EINVAL;
	switch (entry->kind) {
	case OPTION_TRUE:
	case OPTION_FALSE:
		*flag = entry->kind == OPTION_TRUE;
		return 0;
	case OPTION_VALUE:
		return entry->set(options, value);
	case OPTION_PASS:
		return pass_on(options, option);
	default:
		return 0;
	}
}

static int apply_option(struct qedfs_options *options, const char *option)
{
	const struct option_entry *entry = find_entry(option);
	const char *value = strchr(option, '=');
	int ret;

	if (!entry) {
		qedfs_log(QED_LOG_ERROR, "unknown option '-o %s'", option);
		return -EINVAL;
	}
	ret = apply_entry(options, entry, option, value ? value + 1 : NULL);
	if (ret == -EINVAL && entry->kind == OPTION_VALUE && !value)
		qedfs_log(QED_LOG_ERROR, "option '-o %s' needs a value", option);
	else if (ret == -EINVAL)
		qedfs_log(QED_LOG_ERROR, "unusable value in '-o %s'", option);
	else if (ret)
		qedfs_log(QED_LOG_ERROR, "-o %s: %s", option, strerror(-ret));
	return ret;
}

/*
 * Cuts the first option off a comma-separated list, in place; a backslash takes
 * the special meaning from the character that follows it.  Returns the rest.
 */
static char *cut_option(char *list)
{
	char *to = list;

	while (*list && *list != ',') {
		if (*list == '\\' && list[1])
			list++;
		*to++ = *list++;
	}
	if (*list)
		list++;
	*to = '\0';
	return list;
}

static int apply_list(struct qedfs_options *options, char *list)
{
	while (*list) {
		char *option = list;
		int ret;

		list = cut_option(list);
		ret = *option ? apply_option(options, option) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * The command line as a whole.
 */

static int print_help(void)
{
	printf("%s%s", usage_text, help_text);
	return 0;
}

static int print_version(void)
{
	printf("qedfs %s\n", qed_version());
	return 0;
}

static int refuse(void)
{
	fprintf(stderr, "%s", usage_text);
	return 1;
}

/* Returns -1 to go on or the exit status, as qedfs_options_parse() does. */
static int parse_switches(struct qedfs_options *options, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "dfhVo:", long_options,
				NULL)) != -1) {
		switch (c) {
		case 'd':
			options->debug = true;
			options->foreground = true;
			break;
		case 'f':
			options->foreground = true;
			break;
		case 'h':
			return print_help();
		case 'V':
			return print_version();
		case 'o':
			if (apply_list(options, optarg))
				return 1;
			break;
		default:
			return refuse();
		}
	}
	return -1;
}

static int set_paths(struct qedfs_options *options, const char *image,
		     const char *mountpoint)
{
	int ret = absolute_path(image, &options->image);

	if (ret) {
		qedfs_log(QED_LOG_ERROR, "'%s': %s", image,
			  *image ? strerror(-ret) : "not a file name");
		return ret;
	}
	options->mountpoint = realpath(mountpoint, NULL);
	if (!options->mountpoint) {
		ret = -errno;
		qedfs_log(QED_LOG_ERROR, "mountpoint '%s': %s", mountpoint,
			  strerror(-ret));
	}
	return ret;
}

int qedfs_options_parse(struct qedfs_options *options, int argc, char **argv)
{
	int ret;

	memset(options, 0, sizeof(*options));
	options->writeback = true;
	options->discard = true;
	qed_open_options_init(&options->open);
	ret = parse_switches(options, argc, argv);
	if (ret >= 0)
		return ret;
	if (argc - optind != 2) {
		qedfs_log(QED_LOG_ERROR, argc - optind < 2 ?
			  "an image and a mountpoint are needed" :
			  "too many arguments");
		return refuse();
	}
	if (options->no_backing)
		options->read_only = true;
	if (options->uring)
		options->writeback = false;
	return set_paths(options, argv[optind], argv[optind + 1]) ? 1 : -1;
}

void qedfs_options_free(struct qedfs_options *options)
{
	free(options->image);
	free(options->mountpoint);
	free(options->pidfile);
	free(options->backing);
	free(options->backing_format);
	free(options->mount_options);
}
