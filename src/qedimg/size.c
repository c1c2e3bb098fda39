/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Sizes in qemu-img's notation.  Integers only: a size that has no exact binary
 * fraction still comes out as the nearest byte.
 */
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 19 digits after the point are finer than a byte, whatever the unit. */
#define FRACTION_DIGITS 19

static int parse_hex(const char *text, uint64_t *size)
{
	unsigned long long value;
	char *end;

	if (!isxdigit((unsigned char)text[2]))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 16);
	if (*end)
		return -EINVAL;
	if (errno || value > INT64_MAX)
		return -ERANGE;
	*size = value;
	return 0;
}

/* Skips the digits after a point; *scaled is their value times 10^19. */
static const char *parse_fraction(const char *text, uint64_t *scaled)
{
	uint64_t value = 0;
	int digits = 0;

	for (; isdigit((unsigned char)*text); text++) {
		if (digits == FRACTION_DIGITS)
			continue;
		value = value * 10 + (uint64_t)(*text - '0');
		digits++;
	}
	for (; digits < FRACTION_DIGITS; digits++)
		value *= 10;
	*scaled = value;
	return text;
}

/* The power of two that the suffix stands for, or -EINVAL. */
static int parse_suffix(const char *text)
{
	static const char suffixes[] = "bkmgtpe";
	const char *found;

	if (!*text)
		return 0;
	found = strchr(suffixes, tolower((unsigned char)*text));
	if (!found || text[1])
		return -EINVAL;
	return (int)(found - suffixes) * 10;
}

/*
 * The nearest whole number to scaled / 10^19 * 2^shift, bit by bit: doubling
 * the rest gives the next bit.
 */
static uint64_t scale_fraction(uint64_t scaled, int shift)
{
	const uint64_t one = UINT64_C(10000000000000000000);
	uint64_t value = 0, rest = scaled;

	for (; shift > 0; shift--) {
		bool bit = rest >= one - rest;

		value = value << 1 | bit;
		rest = bit ? rest - (one - rest) : rest << 1;
	}
	return value + (rest >= one - rest);
}

int qedimg_parse_size(const char *text, uint64_t *size)
{
	uint64_t scaled = 0, value;
	bool too_big;
	char *rest;
	int shift;

	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		return parse_hex(text, size);
	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &rest, 10);
	too_big = errno == ERANGE;
	text = rest;
	if (*text == '.')
		text = parse_fraction(text + 1, &scaled);
	shift = parse_suffix(text);
	if (shift < 0 || (shift == 0 && scaled))
		return -EINVAL;
	if (too_big || value > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	value = (value << shift) + scale_fraction(scaled, shift);
	if (value > INT64_MAX)
		return -ERANGE;
	*size = value;
	return 0;
}

void qedimg_format_size(uint64_t size, char text[QEDIMG_SIZE_TEXT])
{
	static const char *const units[] = { "B",   "KiB", "MiB", "GiB",
					     "TiB", "PiB", "EiB" };
	double value = (double)size;
	unsigned unit = 0;

	/* From 999.5 on three digits would show 1e+03. */
	while (value >= 999.5) {
		value /= 1024;
		unit++;
	}
	snprintf(text, QEDIMG_SIZE_TEXT, "%.3g %s", value, units[unit]);
}
