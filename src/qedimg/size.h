/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as people write and read them.  Pure functions. */
#ifndef QEDIMG_SIZE_H
#define QEDIMG_SIZE_H

#include <stdint.h>

/*
 * Reads a size as qemu-img does: a decimal number of bytes, or of units where a
 * suffix says so (b, k, M, G, T, P, E in either case: powers of 1024), then
 * also with a fraction, rounded to the nearest byte; or a hexadecimal number of
 * bytes (0x...).  0 with *size at most 2^63 - 1, -EINVAL, or -ERANGE if
 * greater.
 */
int qedimg_parse_size(const char *text, uint64_t *size);

/* Room for qedimg_format_size(). */
#define QEDIMG_SIZE_TEXT 32

/* "1.5 GiB": three significant digits, for people. */
void qedimg_format_size(uint64_t size, char text[QEDIMG_SIZE_TEXT]);

#endif
