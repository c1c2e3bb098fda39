/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "stats.h"
#include "log.h"
#include "ops.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "user.qedfs."
#define CUT_SHORT "..."

struct snapshot {
	struct qed_image *image;
	struct qed_image_info info;
	struct qed_stats stats;
};

static void print_format(FILE *out, const struct snapshot *s)
{
	(void)s;
	fputs("qed", out);
}

static void print_virtual_size(FILE *out, const struct snapshot *s)
{
	fprintf(out, "%" PRIu64, s->info.virtual_size);
}

static void print_cluster_size(FILE *out, const struct snapshot *s)
{
	fprintf(out, "%" PRIu32, s->info.cluster_size);
}

static void print_table_size(FILE *out, const struct snapshot *s)
{
	fprintf(out, "%" PRIu32, s->info.table_size);
}

/* What could end a line, or fake one, is written in octal: how many bytes. */
static size_t print_path(FILE *out, const char *path)
{
	size_t len = 0;

	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;
		bool plain = c >= ' ' && c != 0x7f && c != '\\';

		len += plain ? 1 : 4;
		if (out)
			fprintf(out, plain ? "%c" : "\\%03o", c);
	}
	return len;
}

/* A line for each path, as far as they fit into what an attribute can hold. */
static void print_chain(FILE *out, const struct snapshot *s)
{
	size_t room = XATTR_SIZE_MAX - sizeof(CUT_SHORT);
	const char *path;

	for (unsigned i = 0; (path = qed_image_get_path(s->image, i)); i++) {
		size_t len = print_path(NULL, path) + 1;

		if (i)
			putc('\n', out);
		if (len > room) {
			fputs(CUT_SHORT, out);
			return;
		}
		room -= len;
		print_path(out, path);
	}
}

static void print_chain_depth(FILE *out, const struct snapshot *s)
{
	fprintf(out, "%u", s->info.nlayers);
}

static void print_io(FILE *out, const struct snapshot *s)
{
	fputs(s->info.io_engine, out);
}

static void print_l2_cache(FILE *out, const struct snapshot *s)
{
	fprintf(out, "%" PRIu64, s->info.l2_cache);
}

static void print_requests(FILE *out, const struct snapshot *s)
{
	const struct qed_stats *n = &s->stats;

	fprintf(out, "%" PRIu64,
		n->reads + n->writes + n->flushes + n->zeroes +
			n->preallocations + n->seeks);
}

/* In the order in which they are listed; qedfs(1) describes each. */
static const struct attribute {
	const char *name;
	bool logged;
	void (*print)(FILE *out, const struct snapshot *s);
	size_t counter;			/* in struct qed_stats, without print */
} attributes[] = {
#define FACT(name)    { #name, false, print_##name, 0 }
#define COUNTER(name) { #name, true, NULL, offsetof(struct qed_stats, name) }
	FACT(format),
	FACT(virtual_size),
	FACT(cluster_size),
	FACT(table_size),
	FACT(chain),
	FACT(chain_depth),
	FACT(io),
	FACT(l2_cache),
	{ "requests", true, print_requests, 0 },
	COUNTER(reads),
	COUNTER(writes),
	COUNTER(flushes),
	COUNTER(zeroes),
	COUNTER(preallocations),
	COUNTER(seeks),
	COUNTER(bytes_read),
	COUNTER(bytes_written),
	COUNTER(l2_hits),
	COUNTER(l2_misses),
	COUNTER(l2_loads),
	COUNTER(allocations),
	COUNTER(commits),
	COUNTER(syncs),
};

#define NATTRIBUTES (sizeof(attributes) / sizeof(attributes[0]))

static void take_snapshot(struct snapshot *s, struct qed_image *image)
{
	s->image = image;
	qed_image_get_info(image, &s->info);
	qed_image_get_stats(image, &s->stats);
}

static void print_value(FILE *out, const struct attribute *attribute,
			const struct snapshot *s)
{
	uint64_t value;

	if (attribute->print) {
		attribute->print(out, s);
		return;
	}
	memcpy(&value, (const char *)&s->stats + attribute->counter,
	       sizeof(value));
	fprintf(out, "%" PRIu64, value);
}

/* A text in memory, printed to `out`. */
struct text {
	FILE *out;
	char *start;
	size_t len;
};

static bool text_begin(struct text *text)
{
	text->start = NULL;
	text->out = open_memstream(&text->start, &text->len);
	return text->out;
}

/* True if all of it is there; it is to be freed in any case. */
static bool text_end(struct text *text)
{
	bool failed = ferror(text->out);

	return !fclose(text->out) && !failed;
}

/* As getxattr(2) and listxattr(2): a size of 0 asks for the size. */
static void reply(fuse_req_t req, const struct text *text, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, text->len);
	else if (size < text->len)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, text->start, text->len);
}

static void reply_value(fuse_req_t req, const struct qedfs_mount *mount,
			const struct attribute *attribute, size_t size)
{
	struct snapshot snapshot;
	struct text text;

	if (!text_begin(&text)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	take_snapshot(&snapshot, mount->tree->image);
	print_value(text.out, attribute, &snapshot);
	if (text_end(&text))
		reply(req, &text, size);
	else
		fuse_reply_err(req, ENOMEM);
	free(text.start);
}

static const struct attribute *find(const char *name)
{
	size_t skip = strlen(PREFIX);

	if (strncmp(name, PREFIX, skip) != 0)
		return NULL;
	for (size_t i = 0; i < NATTRIBUTES; i++)
		if (strcmp(name + skip, attributes[i].name) == 0)
			return &attributes[i];
	return NULL;
}

/* After ENOSYS the kernel does not ask again, for any name. */
void qedfs_stats_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			  size_t size)
{
	const struct qedfs_mount *mount = fuse_req_userdata(req);
	const struct attribute *attribute = find(name);

	if (!mount->xattrs)
		fuse_reply_err(req, ENOSYS);
	else if (ino != mount->tree->file_ino || !attribute)
		fuse_reply_err(req, ENODATA);
	else
		reply_value(req, mount, attribute, size);
}

void qedfs_stats_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct qedfs_mount *mount = fuse_req_userdata(req);
	size_t n = ino == mount->tree->file_ino ? NATTRIBUTES : 0;
	struct text text;

	if (!mount->xattrs) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (!text_begin(&text)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (size_t i = 0; i < n; i++)
		fprintf(text.out, PREFIX "%s%c", attributes[i].name, '\0');
	if (text_end(&text))
		reply(req, &text, size);
	else
		fuse_reply_err(req, ENOMEM);
	free(text.start);
}

void qedfs_stats_log(struct qed_image *image, const char *mountpoint)
{
	struct snapshot snapshot;
	struct text text;

	if (!text_begin(&text))
		return;
	take_snapshot(&snapshot, image);
	for (size_t i = 0; i < NATTRIBUTES; i++) {
		if (!attributes[i].logged)
			continue;
		fprintf(text.out, " %s=", attributes[i].name);
		print_value(text.out, &attributes[i], &snapshot);
	}
	if (text_end(&text))
		qedfs_log_asked("%s:%s", mountpoint, text.start);
	free(text.start);
}
