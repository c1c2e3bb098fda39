/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pictures of where a disk's bytes are.  Each has a fixed number of cells, so
 * that its size does not depend on the image's.
 */
#include "config.h"

#include "common.h"
#include "outfile.h"
#include "picture.h"
#include "qedimg.h"
#include "size.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MIN  (UINT64_C(1) << 32)	/* bytes */
#define LOOKS_MAX 65536u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- the walk ---- */

typedef void visit_extent(void *opaque, uint64_t disk_off,
			  const struct qed_map_extent *extent);

struct walk {
	const struct qedimg_range *range;
	const struct qed_job *job;
	unsigned number, total;		/* which of how many */
	visit_extent *visit;
	void *opaque;
	struct qed_map_extent extent;	/* not visited yet, if it has a length */
	uint64_t disk_off;		/* of it */
};

static bool goes_on(const struct walk *walk, const struct qed_map_extent *next)
{
	const struct qed_map_extent *extent = &walk->extent;

	return extent->len > 0 && next->kind == extent->kind &&
	       next->depth == extent->depth && next->placed == extent->placed &&
	       (!next->placed ||
		next->file_off == extent->file_off + extent->len);
}

static void visit_last(struct walk *walk)
{
	if (walk->extent.len > 0)
		walk->visit(walk->opaque, walk->disk_off, &walk->extent);
	walk->extent.len = 0;
}

static void take(struct walk *walk, uint64_t off,
		 const struct qed_map_extent *next)
{
	if (goes_on(walk, next)) {
		walk->extent.len += next->len;
		return;
	}
	visit_last(walk);
	walk->extent = *next;
	walk->disk_off = off;
}

/* False with a message if it is to stop here. */
static bool step(const struct walk *walk, uint64_t off)
{
	const struct qed_job *job = walk->job;
	uint64_t len = walk->range->end - walk->range->start;

	job->progress(job->opaque,
		      off - walk->range->start + walk->number * len,
		      walk->total * len);
	if (!job->cancelled(job->opaque))
		return true;
	qedimg_error(walk->range->file, "stopped");
	return false;
}

/* One extent may be all of the disk: looks at parts of it, but not too many. */
static int run_walk(struct walk *walk)
{
	const struct qedimg_range *range = walk->range;
	uint64_t most = (range->end - range->start) / LOOKS_MAX;
	uint64_t off = range->start;
	struct qed_map_extent extent;

	if (most < LOOK_MIN)
		most = LOOK_MIN;
	while (step(walk, off)) {
		int err;

		if (off >= range->end) {
			visit_last(walk);
			return 0;
		}
		err = qed_map(range->image, off, min_u64(most, range->end - off),
			      &extent);
		if (err < 0) {
			visit_last(walk);
			qedimg_blame(range->file, range->image, "map", off, err);
			return 1;
		}
		take(walk, off, &extent);
		off += extent.len;
	}
	return 1;
}

int qedimg_walk(const struct qedimg_range *range, visit_extent *visit,
		void *opaque)
{
	struct walk walk = { .range = range,
			     .job = qedimg_progress_start(range->progress),
			     .total = 1,
			     .visit = visit,
			     .opaque = opaque };
	int status = run_walk(&walk);

	qedimg_progress_end();
	return status;
}

/* ---- blocks ---- */

#define LINE_BLOCKS 64u
#define MAX_BLOCKS  (LINE_BLOCKS * 16)

struct blocks {
	uint64_t start, size;		/* of the first one, bytes of each */
	struct {
		uint64_t own, backing, zero;	/* bytes */
	} block[MAX_BLOCKS];
};

static void count_blocks(void *opaque, uint64_t disk_off,
			 const struct qed_map_extent *extent)
{
	struct blocks *blocks = opaque;
	uint64_t pos = disk_off - blocks->start, end = pos + extent->len, n;

	for (; pos < end; pos += n) {
		uint64_t i = pos / blocks->size;

		n = min_u64(end - pos, blocks->size - pos % blocks->size);
		if (extent->kind == QED_MAP_DATA && extent->depth == 0)
			blocks->block[i].own += n;
		else if (extent->kind == QED_MAP_DATA)
			blocks->block[i].backing += n;
		else if (extent->kind == QED_MAP_ZERO)
			blocks->block[i].zero += n;
	}
}

static int block_char(const struct blocks *blocks, uint64_t i, uint64_t len)
{
	if (blocks->block[i].own)
		return blocks->block[i].own == len ? '#' : '+';
	if (blocks->block[i].backing)
		return blocks->block[i].backing == len ? '=' : '-';
	return blocks->block[i].zero ? '0' : '.';
}

static void put_blocks(const struct blocks *blocks, uint64_t len)
{
	char size[QEDIMG_SIZE_TEXT];

	qedimg_format_size(blocks->size, size);
	printf("Each character: %s of the disk\n"
	       "# data in the image   + in part   = data in backing files   "
	       "- in part\n"
	       "0 zeroes              . nothing\n",
	       size);
	for (uint64_t i = 0, pos = 0; pos < len; i++, pos += blocks->size) {
		if (i % LINE_BLOCKS == 0)
			printf("%s%#-16" PRIx64, i ? "\n" : "",
			       blocks->start + pos);
		putchar(block_char(blocks, i,
				   min_u64(blocks->size, len - pos)));
	}
	if (len > 0)
		putchar('\n');
}

int qedimg_print_blocks(const struct qedimg_range *range)
{
	struct blocks *blocks = calloc(1, sizeof(*blocks));
	uint64_t len = range->end - range->start;
	struct qed_image_info info;
	int status = 1;

	if (!blocks) {
		qedimg_error(range->file, "%s", strerror(ENOMEM));
		return 1;
	}
	qed_image_get_info(range->image, &info);
	blocks->start = range->start;
	blocks->size = info.cluster_size;
	while (len / blocks->size >= MAX_BLOCKS)
		blocks->size *= 2;
	if (qedimg_walk(range, count_blocks, blocks) == 0) {
		put_blocks(blocks, len);
		status = 0;
	}
	free(blocks);
	return status;
}

/* ---- SVG ---- */

#define COLUMNS 512u			/* along the disk */
#define ROWS    256u			/* along the files */
#define MARGIN  40u
#define LEGEND_LINE 16u
#define LEGEND_MAX 16u			/* images that it names */

static const char *const colours[] = { "#1f77b4", "#ff7f0e", "#2ca02c",
				       "#d62728", "#9467bd", "#8c564b",
				       "#e377c2", "#17becf" };

#define NCOLOURS (sizeof(colours) / sizeof(colours[0]))

struct canvas {
	uint64_t start;			/* disk offset of the first column */
	uint64_t width, height;		/* bytes of a column, of a row */
	uint64_t file_end;		/* the furthest byte of any file */
	uint8_t cell[ROWS][COLUMNS];	/* 0, or the upmost layer's depth + 1 */
};

static void find_file_end(void *opaque, uint64_t disk_off,
			  const struct qed_map_extent *extent)
{
	struct canvas *canvas = opaque;

	(void)disk_off;
	if (extent->kind == QED_MAP_DATA &&
	    extent->file_off + extent->len > canvas->file_end)
		canvas->file_end = extent->file_off + extent->len;
}

static void paint(void *opaque, uint64_t disk_off,
		  const struct qed_map_extent *extent)
{
	struct canvas *canvas = opaque;
	uint8_t depth = (uint8_t)min_u64(extent->depth, UINT8_MAX - 1);
	uint64_t x = disk_off - canvas->start, y = extent->file_off, n;

	if (extent->kind != QED_MAP_DATA)
		return;
	for (uint64_t left = extent->len; left > 0; left -= n) {
		uint8_t *cell = &canvas->cell[y / canvas->height]
					     [x / canvas->width];

		if (*cell == 0 || *cell > depth + 1)
			*cell = (uint8_t)(depth + 1);
		/* To the next column or row, whichever comes first. */
		n = min_u64(left, canvas->width - x % canvas->width);
		n = min_u64(n, canvas->height - y % canvas->height);
		x += n;
		y += n;
	}
}

static int fill_canvas(const struct qedimg_range *range, struct canvas *canvas)
{
	struct walk walk = { .range = range,
			     .job = qedimg_progress_start(range->progress),
			     .total = 2,
			     .visit = find_file_end,
			     .opaque = canvas };
	int status = run_walk(&walk);

	canvas->start = range->start;
	canvas->width = (range->end - range->start) / COLUMNS + 1;
	canvas->height = canvas->file_end / ROWS + 1;
	walk.number = 1;
	walk.visit = paint;
	if (status == 0)
		status = run_walk(&walk);
	qedimg_progress_end();
	return status;
}

/* Cells side by side that are alike make one rectangle. */
static void put_cells(FILE *out, const struct canvas *canvas, unsigned value)
{
	for (unsigned row = 0; row < ROWS; row++) {
		const uint8_t *cell = canvas->cell[row];

		for (unsigned x = 0, from; x < COLUMNS; x++) {
			if (cell[x] != value)
				continue;
			for (from = x; x < COLUMNS && cell[x] == value; x++)
				;
			fprintf(out, "M%u %uh%uv1h-%uz\n", from,
				ROWS - 1 - row, x - from, x - from);
		}
	}
}

static bool has_cells(const struct canvas *canvas, unsigned value)
{
	return memchr(canvas->cell, (int)value, sizeof(canvas->cell));
}

/* A name may be any bytes: XML gets printable ASCII and UTF-8 of its own. */
static void put_xml(FILE *out, const char *text)
{
	char *safe = qedimg_utf8(text);

	for (const char *p = safe ? safe : ""; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			fprintf(out, "\\x%02x", (unsigned)*p);
		else if (strchr("<>&\"", *p))
			fprintf(out, "&#%d;", *p);
		else
			fputc(*p, out);
	}
	free(safe);
}

static void put_legend(FILE *out, struct qed_image *image)
{
	const char *path;

	for (unsigned i = 0; i < LEGEND_MAX &&
			     (path = qed_image_get_path(image, i)); i++) {
		unsigned y = ROWS + MARGIN + 30 + i * LEGEND_LINE;

		fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"10\" "
			"height=\"10\" fill=\"%s\"/>\n<text x=\"%u\" y=\"%u\">",
			MARGIN, y - 9, colours[i % NCOLOURS], MARGIN + 16, y);
		put_xml(out, path);
		fputs("</text>\n", out);
	}
}

static void put_axes(FILE *out, const struct qedimg_range *range,
		     const struct canvas *canvas)
{
	char first[QEDIMG_SIZE_TEXT], last[QEDIMG_SIZE_TEXT];
	char end[QEDIMG_SIZE_TEXT];

	qedimg_format_size(range->start, first);
	qedimg_format_size(range->end, last);
	qedimg_format_size(canvas->file_end, end);
	fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" "
		"fill=\"#f4f4f4\" stroke=\"#888\"/>\n", MARGIN, MARGIN, COLUMNS,
		ROWS);
	fprintf(out, "<text x=\"%u\" y=\"%u\">%s</text>\n", MARGIN,
		ROWS + MARGIN + 14, first);
	fprintf(out, "<text x=\"%u\" y=\"%u\" text-anchor=\"middle\">"
		"offset in the disk</text>\n", MARGIN + COLUMNS / 2,
		ROWS + MARGIN + 14);
	fprintf(out, "<text x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>\n",
		MARGIN + COLUMNS, ROWS + MARGIN + 14, last);
	fprintf(out, "<text x=\"%u\" y=\"%u\">offset in the file, up to %s"
		"</text>\n", MARGIN, MARGIN - 8, end);
}

static void put_svg(FILE *out, const struct qedimg_range *range,
		    const struct canvas *canvas)
{
	struct qed_image_info info;
	unsigned height;

	qed_image_get_info(range->image, &info);
	height = ROWS + 2 * MARGIN +
		 LEGEND_LINE * (unsigned)min_u64(info.nlayers, LEGEND_MAX);
	fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" "
		"viewBox=\"0 0 %u %u\" font-family=\"sans-serif\" "
		"font-size=\"11\">\n<title>", COLUMNS + 2 * MARGIN, height);
	put_xml(out, range->file);
	fputs("</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
	      out);
	put_axes(out, range, canvas);
	fprintf(out, "<g transform=\"translate(%u %u)\" "
		"shape-rendering=\"crispEdges\">\n", MARGIN, MARGIN);
	for (unsigned value = 1; value <= UINT8_MAX; value++) {
		if (!has_cells(canvas, value))
			continue;
		fprintf(out, "<path fill=\"%s\" d=\"",
			colours[(value - 1) % NCOLOURS]);
		put_cells(out, canvas, value);
		fputs("\"/>\n", out);
	}
	fputs("</g>\n", out);
	put_legend(out, range->image);
	fputs("</svg>\n", out);
}

static int save_svg(const struct qedimg_range *range,
		    const struct canvas *canvas, const char *svg)
{
	struct qedimg_outfile outfile;
	FILE *out = qedimg_outfile_begin(&outfile, svg, range->image);

	if (out)
		put_svg(out, range, canvas);
	return qedimg_outfile_end(&outfile) ? 0 : 1;
}

int qedimg_draw_svg(const struct qedimg_range *range, const char *svg)
{
	struct canvas *canvas = calloc(1, sizeof(*canvas));
	int status;

	if (!canvas) {
		qedimg_error(range->file, "%s", strerror(ENOMEM));
		return 1;
	}
	status = fill_canvas(range, canvas);
	if (status == 0)
		status = save_svg(range, canvas, svg);
	free(canvas);
	return status;
}
