/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mkimage RECIPE OUTPUT: builds the image that a text recipe describes, and the
 * files that go with it in the same directory.  README beside this file
 * describes the language.
 *
 * It shares no code with the library: what it writes is a second opinion on the
 * format.  Nothing in a recipe is checked for making sense as an image, since
 * most of them are made not to.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define PATCHES_MAX 256
#define HEADER_BYTES 64

/* One place of the file that gets certain bytes, or `count` times one byte. */
struct patch {
	uint64_t offset;
	uint64_t count;
	uint8_t *bytes;			/* null: `fill` over and over */
	uint8_t fill;
};

enum field {
	CLUSTER_SIZE,
	TABLE_SIZE,
	HEADER_SIZE,
	FEATURES,
	COMPAT_FEATURES,
	AUTOCLEAR_FEATURES,
	L1_TABLE_OFFSET,
	IMAGE_SIZE,
	BACKING_FILENAME_OFFSET,
	BACKING_FILENAME_SIZE,
	FILE_SIZE,
	NFIELDS,
};

static const struct {
	const char *name;
	unsigned offset, width;		/* in the header */
	uint64_t preset;
} fields[NFIELDS] = {
	[CLUSTER_SIZE] = { "cluster_size", 4, 4, 65536 },
	[TABLE_SIZE] = { "table_size", 8, 4, 4 },
	[HEADER_SIZE] = { "header_size", 12, 4, 1 },
	[FEATURES] = { "features", 16, 8, 0 },
	[COMPAT_FEATURES] = { "compat_features", 24, 8, 0 },
	[AUTOCLEAR_FEATURES] = { "autoclear_features", 32, 8, 0 },
	[L1_TABLE_OFFSET] = { "l1_table_offset", 40, 8, 65536 },
	[IMAGE_SIZE] = { "image_size", 48, 8, 1 << 20 },
	[BACKING_FILENAME_OFFSET] = { "backing_filename_offset", 56, 4, 0 },
	[BACKING_FILENAME_SIZE] = { "backing_filename_size", 60, 4, 0 },
	[FILE_SIZE] = { "file_size", 0, 0, 5 * 65536 },
};

struct recipe {
	const char *path;
	unsigned line;
	const char *output;		/* the first image's path */
	int dir_len;			/* of its directory, slash included */

	/* the image being described */
	char image[LINE_MAX_BYTES];
	uint64_t value[NFIELDS];
	struct patch patch[PATCHES_MAX];
	size_t npatches;
};

static void __attribute__((noreturn, format(printf, 2, 3)))
die(const struct recipe *r, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "mkimage: %s:%u: ", r->path, r->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static void *need(const struct recipe *r, void *memory)
{
	if (!memory)
		die(r, "out of memory");
	return memory;
}

static void start_image(struct recipe *r, const char *path)
{
	if (strlen(path) >= sizeof(r->image))
		die(r, "path too long: %s", path);
	strcpy(r->image, path);
	for (int f = 0; f < NFIELDS; f++)
		r->value[f] = fields[f].preset;
	for (size_t i = 0; i < r->npatches; i++)
		free(r->patch[i].bytes);
	r->npatches = 0;
}

/* The next word of a line, or null; *text moves behind it. */
static char *next_word(char **text)
{
	char *word = *text + strspn(*text, " \t=");
	size_t len = strcspn(word, " \t=");

	if (len == 0)
		return NULL;
	*text = word + len;
	if (**text)
		*(*text)++ = '\0';
	return word;
}

/* A whole number, decimal or hex, with an optional binary suffix. */
static uint64_t to_number(const struct recipe *r, const char *word)
{
	static const char suffixes[] = "KMGTPE";
	const char *suffix;
	uint64_t value;
	char *end;

	if (!word || !isdigit((unsigned char)*word))
		die(r, "'%s' is no number", word ? word : "");
	errno = 0;
	value = strtoull(word, &end, 0);
	if (errno)
		die(r, "'%s' is too large", word);
	if (*end == '\0')
		return value;
	suffix = strchr(suffixes, *end);
	if (!suffix || end[1] != '\0')
		die(r, "'%s' is no number", word);
	for (const char *s = suffixes; s <= suffix; s++)
		if (__builtin_mul_overflow(value, UINT64_C(1024), &value))
			die(r, "'%s' is too large", word);
	return value;
}

static uint64_t next_number(const struct recipe *r, char **text)
{
	return to_number(r, next_word(text));
}

static struct patch *add_patch(struct recipe *r, uint64_t offset,
			       uint64_t count)
{
	struct patch *patch;

	if (r->npatches == PATCHES_MAX)
		die(r, "more than %d places", PATCHES_MAX);
	patch = &r->patch[r->npatches++];
	*patch = (struct patch){ .offset = offset, .count = count };
	return patch;
}

static void add_bytes(struct recipe *r, uint64_t offset, const void *bytes,
		      size_t n)
{
	struct patch *patch = add_patch(r, offset, n);

	patch->bytes = need(r, malloc(n ? n : 1));
	memcpy(patch->bytes, bytes, n);
}

static void put_le(uint8_t *bytes, uint64_t value, unsigned width)
{
	for (unsigned i = 0; i < width; i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
}

static void add_entry(struct recipe *r, uint64_t table, uint64_t index,
		      uint64_t value)
{
	uint8_t bytes[8];

	put_le(bytes, value, 8);
	add_bytes(r, table + 8 * index, bytes, sizeof(bytes));
}

/* l1[INDEX] = VALUE, l2@OFFSET[INDEX] = VALUE */
static bool do_entry(struct recipe *r, char *word, char *rest)
{
	uint64_t table, index;
	char *open = strchr(word, '['), *close = strchr(word, ']');

	if (!open || !close || close < open || close[1] != '\0')
		return false;
	*open = *close = '\0';
	if (strcmp(word, "l1") == 0)
		table = r->value[L1_TABLE_OFFSET];
	else if (strncmp(word, "l2@", 3) == 0)
		table = to_number(r, word + 3);
	else
		return false;
	index = to_number(r, open + 1);
	add_entry(r, table, index, next_number(r, &rest));
	return true;
}

static bool do_field(struct recipe *r, const char *word, char *rest)
{
	for (int f = 0; f < NFIELDS; f++) {
		if (strcmp(word, fields[f].name) != 0)
			continue;
		r->value[f] = next_number(r, &rest);
		if (fields[f].width == 4 && r->value[f] > UINT32_MAX)
			die(r, "%s has 32 bits", word);
		return true;
	}
	return false;
}

static void do_backing(struct recipe *r, char *rest)
{
	char *name = rest + strspn(rest, " \t");

	r->value[FEATURES] |= 1;
	r->value[BACKING_FILENAME_OFFSET] = HEADER_BYTES;
	r->value[BACKING_FILENAME_SIZE] = (uint32_t)strlen(name);
	add_bytes(r, HEADER_BYTES, name, strlen(name));
}

static void do_bytes(struct recipe *r, char *rest)
{
	uint64_t offset = next_number(r, &rest);
	uint8_t bytes[LINE_MAX_BYTES];
	size_t n = 0;
	char *word, *end;

	while ((word = next_word(&rest))) {
		unsigned long value = strtoul(word, &end, 16);

		if (*end || value > 0xff)
			die(r, "'%s' is no byte in hex", word);
		bytes[n++] = (uint8_t)value;
	}
	add_bytes(r, offset, bytes, n);
}

static void do_fill(struct recipe *r, char *rest)
{
	uint64_t offset = next_number(r, &rest);
	uint64_t count = next_number(r, &rest);
	struct patch *patch = add_patch(r, offset, count);

	patch->fill = (uint8_t)next_number(r, &rest);
}

static void write_at(const struct recipe *r, int fd, const void *bytes,
		     size_t n, uint64_t offset)
{
	if (pwrite(fd, bytes, n, (off_t)offset) != (ssize_t)n)
		die(r, "%s: cannot write %zu bytes at %" PRIu64 ": %s",
		    r->image, n, offset, strerror(errno));
}

static void write_patch(const struct recipe *r, int fd,
			const struct patch *patch)
{
	uint8_t block[4096];
	uint64_t done, n;

	if (patch->bytes) {
		write_at(r, fd, patch->bytes, patch->count, patch->offset);
		return;
	}
	memset(block, patch->fill, sizeof(block));
	for (done = 0; done < patch->count; done += n) {
		n = patch->count - done;
		if (n > sizeof(block))
			n = sizeof(block);
		write_at(r, fd, block, n, patch->offset + done);
	}
}

static void write_header(const struct recipe *r, int fd)
{
	uint8_t header[HEADER_BYTES] = { 'Q', 'E', 'D', 0 };

	for (int f = 0; f < NFIELDS; f++)
		put_le(header + fields[f].offset, r->value[f],
		       fields[f].width);
	write_at(r, fd, header, sizeof(header), 0);
}

/* Everything in the order of the recipe, then the size: it may cut. */
static void finish_image(const struct recipe *r)
{
	int fd = open(r->image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

	if (fd < 0)
		die(r, "%s: %s", r->image, strerror(errno));
	write_header(r, fd);
	for (size_t i = 0; i < r->npatches; i++)
		write_patch(r, fd, &r->patch[i]);
	if (ftruncate(fd, (off_t)r->value[FILE_SIZE]) < 0 || close(fd) < 0)
		die(r, "%s: %s", r->image, strerror(errno));
}

/* The path of a companion in the output's directory: to be freed. */
static char *beside(const struct recipe *r, const char *name)
{
	char *path;

	if (!name || strchr(name, '/'))
		die(r, "a file name without a slash is needed");
	if (asprintf(&path, "%.*s%s", r->dir_len, r->output, name) < 0)
		die(r, "out of memory");
	return path;
}

static void do_image(struct recipe *r, char *rest)
{
	char *path = beside(r, next_word(&rest));

	finish_image(r);
	start_image(r, path);
	free(path);
}

/* file NAME SIZE [BYTE]: a raw companion of that size */
static void do_file(struct recipe *r, char *rest)
{
	char *path = beside(r, next_word(&rest));
	uint64_t size = next_number(r, &rest);
	char *byte = next_word(&rest);
	FILE *f = fopen(path, "we");

	if (!f)
		die(r, "%s: %s", path, strerror(errno));
	for (uint64_t i = 0; byte && i < size; i++)
		putc((int)(to_number(r, byte) & 0xff), f);
	if (fflush(f) != 0 || ftruncate(fileno(f), (off_t)size) < 0 ||
	    fclose(f) != 0)
		die(r, "%s: %s", path, strerror(errno));
	free(path);
}

static void do_dir(struct recipe *r, char *rest)
{
	char *path = beside(r, next_word(&rest));

	if (mkdir(path, 0777) < 0)
		die(r, "%s: %s", path, strerror(errno));
	free(path);
}

/* Lines for whoever runs the recipe. */
static bool is_for_the_test(const char *word)
{
	return strcmp(word, "expect") == 0 || strcmp(word, "expect-read") == 0;
}

static void do_line(struct recipe *r, char *line)
{
	char *rest = line, *word = next_word(&rest);

	if (!word || *word == '#' || is_for_the_test(word))
		return;
	if (strcmp(word, "backing") == 0)
		do_backing(r, rest);
	else if (strcmp(word, "bytes") == 0)
		do_bytes(r, rest);
	else if (strcmp(word, "fill") == 0)
		do_fill(r, rest);
	else if (strcmp(word, "image") == 0)
		do_image(r, rest);
	else if (strcmp(word, "file") == 0)
		do_file(r, rest);
	else if (strcmp(word, "dir") == 0)
		do_dir(r, rest);
	else if (!do_field(r, word, rest) && !do_entry(r, word, rest))
		die(r, "unknown line: %s", word);
}

static void read_recipe(struct recipe *r)
{
	char line[LINE_MAX_BYTES];
	FILE *f = fopen(r->path, "re");

	if (!f)
		die(r, "%s", strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		size_t len = strlen(line);

		r->line++;
		if (len == 0 || line[len - 1] != '\n')
			die(r, "line too long or without an end");
		line[len - 1] = '\0';
		do_line(r, line);
	}
	if (ferror(f))
		die(r, "%s", strerror(errno));
	fclose(f);
}

int main(int argc, char **argv)
{
	static struct recipe recipe;
	const char *slash;

	if (argc != 3) {
		fprintf(stderr, "usage: mkimage RECIPE OUTPUT\n");
		return 2;
	}
	recipe.path = argv[1];
	recipe.output = argv[2];
	slash = strrchr(argv[2], '/');
	recipe.dir_len = slash ? (int)(slash - argv[2]) + 1 : 0;
	start_image(&recipe, argv[2]);
	read_recipe(&recipe);
	finish_image(&recipe);
	return 0;
}
