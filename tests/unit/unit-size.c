/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sizes as qedimg reads and writes them (src/qedimg/size.c). */
#include "qedimg/size.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define KIB (UINT64_C(1) << 10)
#define GIB (UINT64_C(1) << 30)
#define EIB (UINT64_C(1) << 60)
#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *text;
	uint64_t size;
} good[] = {
	{ "0", 0 },
	{ "1", 1 },
	{ "010", 10 },
	{ "9223372036854775807", INT64_MAX },
	{ "1b", 1 },
	{ "1B", 1 },
	{ "1k", KIB },
	{ "1K", KIB },
	{ "3m", 3 * KIB * KIB },
	{ "3M", 3 * KIB * KIB },
	{ "2g", 2 * GIB },
	{ "2G", 2 * GIB },
	{ "64T", 64 * KIB * GIB },
	{ "1p", KIB * KIB * GIB },
	{ "7E", 7 * EIB },
	{ "0x10", 16 },
	{ "0Xff", 255 },
	{ "0x7fffffffffffffff", INT64_MAX },
	{ "1.", 1 },
	{ "1.0", 1 },
	{ "1.000B", 1 },
	{ "0.k", 0 },
	{ "1.5k", KIB + KIB / 2 },
	{ "1.5G", GIB + GIB / 2 },
	{ "0.1k", 102 },	/* 102.4 */
	{ "0.9999k", 1024 },	/* 1023.8976 */
	{ "1.9995k", 2047 },	/* 2047.488 */
	{ "1.1T", 1209462790554 },	/* .4 */
	{ "0.00048828125k", 1 },	/* a half rounds up */
	{ "0.00048828124k", 0 },
	{ "7.5E", 7 * EIB + EIB / 2 },
	{ "1.123456789123456789999999999G", 1206302542 },
	{ "0.0000000000000000008673617379884035472059622406959533691E",
	  1 },
};

static const struct {
	const char *text;
	int err;
} bad[] = {
	{ "", -EINVAL },
	{ " 1", -EINVAL },
	{ "1 ", -EINVAL },
	{ "1 k", -EINVAL },
	{ "+1", -EINVAL },
	{ "-1", -EINVAL },
	{ "-0", -EINVAL },
	{ "k", -EINVAL },
	{ ".", -EINVAL },
	{ ".5G", -EINVAL },
	{ "1.5", -EINVAL },
	{ "1.5b", -EINVAL },
	{ "1..5k", -EINVAL },
	{ "1.5.5k", -EINVAL },
	{ "1,5k", -EINVAL },
	{ "1e3", -EINVAL },
	{ "1.5e1k", -EINVAL },
	{ "1kb", -EINVAL },
	{ "1KiB", -EINVAL },
	{ "1x", -EINVAL },
	{ "0x", -EINVAL },
	{ "0xk", -EINVAL },
	{ "0x 1", -EINVAL },
	{ "0x-1", -EINVAL },
	{ "0x10k", -EINVAL },
	{ "0x1.8", -EINVAL },
	{ "0b1", -EINVAL },
	{ "inf", -EINVAL },
	{ "nan", -EINVAL },
	{ "99999999999999999999z", -EINVAL },
	{ "8E", -ERANGE },
	{ "9223372036854775808", -ERANGE },
	{ "18446744073709551615", -ERANGE },
	{ "18446744073709551616", -ERANGE },
	{ "18446744073709551616k", -ERANGE },
	{ "9007199254740992k", -ERANGE },
	{ "7.9999999999999999999E", -ERANGE },
	{ "0x8000000000000000", -ERANGE },
	{ "0x10000000000000000", -ERANGE },
};

static const struct {
	uint64_t size;
	const char *text;
} shown[] = {
	{ 0, "0 B" },
	{ 512, "512 B" },
	{ 999, "999 B" },
	{ 1000, "0.977 KiB" },
	{ 1024, "1 KiB" },
	{ 1234944, "1.18 MiB" },
	{ 999 * KIB, "999 KiB" },
	{ 999 * KIB + 511, "999 KiB" },
	{ 999 * KIB + 512, "0.976 MiB" },
	{ GIB, "1 GiB" },
	{ GIB + GIB / 2, "1.5 GiB" },
	{ 64 * KIB * GIB, "64 TiB" },
	{ UINT64_MAX, "16 EiB" },
};

static void reads_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(good); i++) {
		uint64_t size = UINT64_MAX;

		if (qedimg_parse_size(good[i].text, &size) != 0)
			fail_msg("'%s' is refused", good[i].text);
		if (size != good[i].size)
			fail_msg("'%s' is read as %llu", good[i].text,
				 (unsigned long long)size);
	}
}

static void refuses_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(bad); i++) {
		uint64_t size = 42;
		int err = qedimg_parse_size(bad[i].text, &size);

		if (err != bad[i].err)
			fail_msg("'%s' gives %d", bad[i].text, err);
		assert_int_equal(size, 42);
	}
}

static void shows_sizes(void **state)
{
	char text[QEDIMG_SIZE_TEXT];

	(void)state;
	for (size_t i = 0; i < LEN(shown); i++) {
		qedimg_format_size(shown[i].size, text);
		assert_string_equal(text, shown[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_sizes),
		cmocka_unit_test(refuses_others),
		cmocka_unit_test(shows_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
