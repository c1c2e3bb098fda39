/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The on-disk format: every rule at both of its edges. */
#include "format.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define TOP (UINT64_C(1) << 63)
#define ELEMS(a) (sizeof(a) / sizeof((a)[0]))

/* The header of a fresh image of 1 MiB at the default geometry. */
static struct qed_header sane_header(void)
{
	return (struct qed_header){
		.cluster_size = QED_CLUSTER_SIZE_DEFAULT,
		.table_size = QED_TABLE_SIZE_DEFAULT,
		.header_size = 1,
		.l1_table_offset = 64 * KIB,
		.image_size = MIB,
		.backing_filename_offset = QED_HEADER_BYTES,
		.backing_filename_size = 8,
	};
}

#define SANE_FILE_SIZE (5 * 64 * KIB)

/* One change to a sane header, and what must come of it. */
struct change {
	const char *label;
	size_t field;			/* offset in struct qed_header */
	size_t width;			/* 4 or 8 */
	uint64_t value;
	uint64_t features;
	uint64_t file_size;		/* 0: the sane one */
	int err;
	const char *message;
};

#define F32(name) offsetof(struct qed_header, name), 4
#define F64(name) offsetof(struct qed_header, name), 8
#define BACKED QED_FEATURE_BACKING_FILE

static const struct change changes[] = {
	{ "cluster 0", F32(cluster_size), 0, 0, 0, -EUCLEAN,
	  "cluster size 0 is not a power of two between 4096 and 67108864" },
	{ "cluster 2^11", F32(cluster_size), 2048, 0, 0, -EUCLEAN,
	  "cluster size 2048 is not" },
	{ "cluster 2^12 - 1", F32(cluster_size), 4095, 0, 0, -EUCLEAN,
	  "cluster size 4095 is not" },
	{ "cluster 2^12", F32(cluster_size), 4096, 0, 0, 0, NULL },
	{ "cluster 2^12 + 1", F32(cluster_size), 4097, 0, 0, -EUCLEAN,
	  "cluster size 4097 is not" },
	{ "cluster 3 * 2^14", F32(cluster_size), 49152, 0, 0, -EUCLEAN,
	  "cluster size 49152 is not" },
	{ "cluster 2^27", F32(cluster_size), 1u << 27, 0, 0, -EUCLEAN,
	  "cluster size 134217728 is not" },
	{ "cluster 2^31", F32(cluster_size), 1u << 31, 0, 0, -EUCLEAN,
	  "cluster size 2147483648 is not" },
	{ "cluster 2^32 - 1", F32(cluster_size), UINT32_MAX, 0, 0, -EUCLEAN,
	  "cluster size 4294967295 is not" },

	{ "table 0", F32(table_size), 0, 0, 0, -EUCLEAN,
	  "table size 0 is not a power of two between 1 and 16 clusters" },
	{ "table 1", F32(table_size), 1, 0, 0, 0, NULL },
	{ "table 3", F32(table_size), 3, 0, 0, -EUCLEAN, "table size 3 is" },
	{ "table 15", F32(table_size), 15, 0, 0, -EUCLEAN, "table size 15 is" },
	{ "table 16", F32(table_size), 16, 0, 17 * 64 * KIB, 0, NULL },
	{ "table 17", F32(table_size), 17, 0, GIB, -EUCLEAN,
	  "table size 17 is" },
	{ "table 32", F32(table_size), 32, 0, GIB, -EUCLEAN,
	  "table size 32 is" },
	{ "table 2^31", F32(table_size), 1u << 31, 0, GIB, -EUCLEAN,
	  "table size 2147483648 is" },

	{ "header 0", F32(header_size), 0, 0, 0, -EUCLEAN, "header size 0" },
	{ "header 2 over L1", F32(header_size), 2, 0, GIB, -EUCLEAN,
	  "L1 table offset 0x10000 lies inside the header of 131072 bytes" },
	{ "header of the file", F32(header_size), 5, 0, 0, -EUCLEAN,
	  "L1 table offset 0x10000 lies inside the header of 327680 bytes" },
	{ "header past the file", F32(header_size), 6, 0, 0, -EUCLEAN,
	  "header of 6 clusters (393216 bytes) reaches past the end of the "
	  "file (327680 bytes)" },
	{ "header 2^32 - 1", F32(header_size), UINT32_MAX, 0, 0, -EUCLEAN,
	  "header of 4294967295 clusters (281474976645120 bytes) reaches" },

	{ "L1 at 0", F64(l1_table_offset), 0, 0, 0, -EUCLEAN,
	  "L1 table offset 0x0 lies inside the header" },
	{ "L1 at 512", F64(l1_table_offset), 512, 0, 0, -EUCLEAN,
	  "L1 table offset 0x200 is not a multiple of the cluster size 65536" },
	{ "L1 off by one", F64(l1_table_offset), 65537, 0, 0, -EUCLEAN,
	  "L1 table offset 0x10001 is not a multiple" },
	{ "L1 off by a page", F64(l1_table_offset), 69632, 0, GIB, -EUCLEAN,
	  "L1 table offset 0x11000 is not a multiple" },
	{ "L1 one cluster on", F64(l1_table_offset), 2 * 64 * KIB, 0,
	  6 * 64 * KIB, 0, NULL },
	{ "L1 sticks out", F64(l1_table_offset), 2 * 64 * KIB, 0, 0, -EUCLEAN,
	  "L1 table at 0x20000 (262144 bytes) reaches past the end of the file "
	  "(327680 bytes)" },
	{ "L1 at the end", F64(l1_table_offset), 5 * 64 * KIB, 0, 0, -EUCLEAN,
	  "L1 table at 0x50000 (262144 bytes) reaches" },
	{ "L1 at 2^63", F64(l1_table_offset), TOP, 0, 0, -EUCLEAN,
	  "L1 table at 0x8000000000000000 (262144 bytes) reaches" },
	{ "L1 sum wraps to 0", F64(l1_table_offset), 0 - 4 * 64 * KIB, 0, 0,
	  -EUCLEAN, "L1 table at 0xfffffffffffc0000 (262144 bytes) reaches" },
	{ "L1 last cluster", F64(l1_table_offset), 0 - 64 * KIB, 0, 0,
	  -EUCLEAN, "L1 table at 0xffffffffffff0000 (262144 bytes) reaches" },
	{ "L1 cut by a byte", F64(l1_table_offset), 64 * KIB, 0,
	  SANE_FILE_SIZE - 1, -EUCLEAN, "the file (327679 bytes)" },
	{ "L1 fits exactly", F64(l1_table_offset), 64 * KIB, 0,
	  SANE_FILE_SIZE, 0, NULL },
	{ "a ragged tail", F64(l1_table_offset), 64 * KIB, 0,
	  SANE_FILE_SIZE + 65535, 0, NULL },

	{ "size 0", F64(image_size), 0, 0, 0, 0, NULL },
	{ "size 1", F64(image_size), 1, 0, 0, -EUCLEAN,
	  "virtual size 1 is not a multiple of 512" },
	{ "size 511", F64(image_size), 511, 0, 0, -EUCLEAN,
	  "virtual size 511 is not" },
	{ "size 512", F64(image_size), 512, 0, 0, 0, NULL },
	{ "size 513", F64(image_size), 513, 0, 0, -EUCLEAN,
	  "virtual size 513 is not" },
	{ "size at most", F64(image_size), 64 * TIB, 0, 0, 0, NULL },
	{ "size a sector more", F64(image_size), 64 * TIB + 512, 0, 0,
	  -EUCLEAN, "virtual size 70368744178176 exceeds 70368744177664, the "
	  "most for clusters of 65536 bytes and tables of 4 clusters" },
	{ "size 2^63", F64(image_size), TOP, 0, 0, -EUCLEAN,
	  "virtual size 9223372036854775808 exceeds" },
	{ "size 2^64 - 512", F64(image_size), 0 - UINT64_C(512), 0, 0,
	  -EUCLEAN, "virtual size 18446744073709551104 exceeds" },
	{ "size 2^64 - 1", F64(image_size), UINT64_MAX, 0, 0, -EUCLEAN,
	  "virtual size 18446744073709551615 is not" },

	{ "NEED_CHECK", F64(features), QED_FEATURE_NEED_CHECK, 0, 0, 0, NULL },
	{ "NO_PROBE alone", F64(features),
	  QED_FEATURE_BACKING_FORMAT_NO_PROBE, 0, 0, 0, NULL },
	{ "all known", F64(features), 7, 0, 0, 0, NULL },
	{ "feature bit 3", F64(features), 8, 0, 0, -ENOTSUP,
	  "unknown feature bits 0x8" },
	{ "feature bit 63", F64(features), TOP | 2, 0, 0, -ENOTSUP,
	  "unknown feature bits 0x8000000000000000" },
	{ "all features", F64(features), UINT64_MAX, 0, 0, -ENOTSUP,
	  "unknown feature bits 0xfffffffffffffff8" },
	{ "compat bits", F64(compat_features), UINT64_MAX, 0, 0, 0, NULL },
	{ "autoclear bits", F64(autoclear_features), UINT64_MAX, 0, 0, 0,
	  NULL },

	{ "name at 0", F32(backing_filename_offset), 0, BACKED, 0, -EUCLEAN,
	  "backing file name at offset 0 overlaps the header's fixed 64" },
	{ "name at 63", F32(backing_filename_offset), 63, BACKED, 0, -EUCLEAN,
	  "backing file name at offset 63 overlaps" },
	{ "name at 64", F32(backing_filename_offset), 64, BACKED, 0, 0, NULL },
	{ "name at the edge", F32(backing_filename_offset), 65528, BACKED, 0,
	  0, NULL },
	{ "name over the edge", F32(backing_filename_offset), 65529, BACKED, 0,
	  -EUCLEAN, "backing file name at offset 65529 (8 bytes) reaches past "
	  "the header of 65536 bytes" },
	{ "name sum wraps", F32(backing_filename_offset), UINT32_MAX - 3,
	  BACKED, 0, -EUCLEAN, "backing file name at offset 4294967292" },
	{ "name anywhere, unused", F32(backing_filename_offset), UINT32_MAX, 0,
	  0, 0, NULL },
	{ "name of 0", F32(backing_filename_size), 0, BACKED, 0, -EUCLEAN,
	  "backing file name of 0 bytes: it must have 1 to 1023" },
	{ "name of 1", F32(backing_filename_size), 1, BACKED, 0, 0, NULL },
	{ "name of 1023", F32(backing_filename_size), 1023, BACKED, 0, 0,
	  NULL },
	{ "name of 1024", F32(backing_filename_size), 1024, BACKED, 0,
	  -EUCLEAN, "backing file name of 1024 bytes" },
	{ "name of 2^32 - 1", F32(backing_filename_size), UINT32_MAX, BACKED,
	  0, -EUCLEAN, "backing file name of 4294967295 bytes" },
	{ "name of any size, unused", F32(backing_filename_size), UINT32_MAX,
	  0, 0, 0, NULL },
};

static void apply(const struct change *change, struct qed_header *header)
{
	uint32_t narrow = (uint32_t)change->value;

	*header = sane_header();
	header->features = change->features;
	if (change->width == 4)
		memcpy((char *)header + change->field, &narrow, 4);
	else
		memcpy((char *)header + change->field, &change->value, 8);
}

static void check_change(const struct change *change)
{
	char message[QED_MESSAGE_MAX] = "untouched";
	struct qed_header header, out;
	uint8_t buf[QED_HEADER_BYTES];
	int ret;

	apply(change, &header);
	qed_header_encode(&header, buf);
	ret = qed_header_decode(buf, change->file_size ? change->file_size :
				SANE_FILE_SIZE, &out, message);
	if (ret != change->err)
		fail_msg("%s: %d (%s), not %d", change->label, ret, message,
			 change->err);
	if (change->err && !strstr(message, change->message))
		fail_msg("%s: says \"%s\"", change->label, message);
	if (strchr(message, '\n'))
		fail_msg("%s: more than one line", change->label);
}

static void every_rule_has_its_edges(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMS(changes); i++)
		check_change(&changes[i]);
}

static void what_is_encoded_is_decoded(void **state)
{
	struct qed_header in = sane_header(), out;
	char message[QED_MESSAGE_MAX];
	uint8_t buf[QED_HEADER_BYTES], again[QED_HEADER_BYTES];

	(void)state;
	in.features = 7;
	in.compat_features = UINT64_C(0x0123456789abcdef);
	in.autoclear_features = UINT64_C(0xfedcba9876543210);
	in.header_size = 3;
	in.l1_table_offset = 7 * 64 * KIB;
	qed_header_encode(&in, buf);
	assert_int_equal(qed_header_decode(buf, GIB, &out, message), 0);
	assert_true(out.compat_features == in.compat_features);
	assert_true(out.autoclear_features == in.autoclear_features);
	assert_true(out.l1_table_offset == in.l1_table_offset);
	assert_true(out.header_bytes == 3 * 64 * KIB);
	qed_header_encode(&out, again);
	assert_memory_equal(buf, again, sizeof(buf));
}

/* Byte for byte what the specification's table says. */
static void fields_lie_where_the_format_says(void **state)
{
	static const uint8_t expected[QED_HEADER_BYTES] = {
		'Q', 'E', 'D', 0, 0x00, 0x10, 0x00, 0x00,
		0x02, 0x00, 0x00, 0x00, 0x04, 0x03, 0x02, 0x01,
		0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
		0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
		0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
		0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
		0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,
		0x64, 0x63, 0x62, 0x61, 0x74, 0x73, 0x72, 0x71,
	};
	const struct qed_header header = {
		.cluster_size = 0x1000,
		.table_size = 2,
		.header_size = 0x01020304,
		.features = UINT64_C(0x1112131415161718),
		.compat_features = UINT64_C(0x2122232425262728),
		.autoclear_features = UINT64_C(0x3132333435363738),
		.l1_table_offset = UINT64_C(0x4142434445464748),
		.image_size = UINT64_C(0x5152535455565758),
		.backing_filename_offset = 0x61626364,
		.backing_filename_size = 0x71727374,
	};
	uint8_t buf[QED_HEADER_BYTES];

	(void)state;
	qed_header_encode(&header, buf);
	assert_memory_equal(buf, expected, sizeof(buf));
}

static int decode_magic(const char *magic, uint64_t features,
			uint32_t cluster_size, uint64_t file_size,
			char *message)
{
	struct qed_header header = sane_header(), out;
	uint8_t buf[QED_HEADER_BYTES];

	header.features = features;
	header.cluster_size = cluster_size;
	qed_header_encode(&header, buf);
	memcpy(buf, magic, 4);
	return qed_header_decode(buf, file_size, &out, message);
}

/* The first fault of several is told: magic, then features, then the rest. */
static void faults_have_an_order(void **state)
{
	char message[QED_MESSAGE_MAX];

	(void)state;
	assert_int_equal(decode_magic("QFI\xfb", 8, 1, GIB, message),
			 -EMEDIUMTYPE);
	assert_string_equal(message, "not a QED image: it starts with bytes "
			    "51 46 49 fb");
	assert_int_equal(decode_magic("QEDx", 8, 1, GIB, message),
			 -EMEDIUMTYPE);
	assert_int_equal(decode_magic("QED", 8, 1, GIB, message), -ENOTSUP);
	assert_int_equal(decode_magic("QED", 0, 1, GIB, message), -EUCLEAN);
	assert_non_null(strstr(message, "cluster size 1 is"));
}

static void short_files_are_no_images(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 3, 4, 63 };
	char message[QED_MESSAGE_MAX];

	(void)state;
	for (size_t i = 0; i < ELEMS(sizes); i++) {
		assert_int_equal(decode_magic("QED", 0, 65536, sizes[i],
					      message), -EMEDIUMTYPE);
		assert_non_null(strstr(message, "too short"));
	}
	/* From 64 bytes on it is one, if a damaged one. */
	assert_int_equal(decode_magic("QED", 0, 65536, 64, message),
			 -EUCLEAN);
	assert_non_null(strstr(message, "the file (64 bytes)"));
}

struct geometry {
	uint32_t cluster_size, table_size;
	uint64_t image_size;
	uint64_t max, nelems, l1_used;
};

static const struct geometry geometries[] = {
	{ 4096, 1, 0, GIB, 512, 0 },
	{ 4096, 1, 512, GIB, 512, 1 },
	{ 4096, 1, 2 * MIB, GIB, 512, 1 },
	{ 4096, 1, 2 * MIB + 512, GIB, 512, 2 },
	{ 4096, 1, GIB, GIB, 512, 512 },
	{ 4096, 16, 256 * GIB, 256 * GIB, 8192, 8192 },
	{ 65536, 4, 2 * GIB, 64 * TIB, 32768, 1 },
	{ 65536, 4, 2 * GIB + 512, 64 * TIB, 32768, 2 },
	{ 65536, 4, 64 * TIB, 64 * TIB, 32768, 32768 },
	/* 2^18 entries squared, times 2^21: 2^57 */
	{ 1u << 21, 1, UINT64_C(1) << 57, UINT64_C(1) << 57, 1u << 18,
	  1u << 18 },
	/* 2^62, the last geometry below the limit of an off_t */
	{ 1u << 22, 2, UINT64_C(1) << 62, UINT64_C(1) << 62, 1u << 20,
	  1u << 20 },
	/* 2^63 and more: the limit cuts */
	{ 1u << 23, 1, TOP - 512, TOP - 512, 1u << 20, 1u << 20 },
	{ 1u << 26, 1, TOP - 512, TOP - 512, 1u << 23, 1u << 14 },
	{ 1u << 26, 16, TOP - 512, TOP - 512, 1u << 27, 1u << 10 },
	{ 1u << 26, 16, 0, TOP - 512, 1u << 27, 0 },
};

static void check_geometry(const struct geometry *g)
{
	struct qed_header h = {
		.cluster_size = g->cluster_size,
		.table_size = g->table_size,
		.header_size = 1,
		.image_size = g->image_size,
	};
	char message[QED_MESSAGE_MAX];
	uint64_t last;

	assert_true(qed_max_image_size(g->cluster_size, g->table_size) ==
		    g->max);
	assert_int_equal(qed_header_derive(&h, message), 0);
	assert_true(h.table_nelems == g->nelems);
	assert_true(h.table_bytes == g->nelems * 8);
	assert_true(UINT64_C(1) << h.cluster_bits == g->cluster_size);
	assert_true(UINT64_C(1) << h.table_bits == g->nelems);
	if (h.l1_used != g->l1_used)
		fail_msg("%" PRIu32 "/%" PRIu32 ": %" PRIu64 " L1 entries",
			 g->cluster_size, g->table_size, h.l1_used);

	/* The indices of the last byte stay inside the tables. */
	last = g->image_size ? g->image_size - 1 : 0;
	assert_true(qed_l1_index(&h, last) ==
		    (g->l1_used ? g->l1_used - 1 : 0));
	assert_true(qed_l2_index(&h, last) < h.table_nelems);
	assert_true(qed_cluster_start(&h, last) + qed_in_cluster(&h, last) ==
		    last);
	if (g->max < TOP - 512) {
		h.image_size = g->max + 512;
		assert_int_equal(qed_header_derive(&h, message), -EUCLEAN);
	}
}

static void geometries_are_derived(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMS(geometries); i++)
		check_geometry(&geometries[i]);
	/* Whatever is asked, the answer is a size. */
	assert_true(qed_max_image_size(1u << 31, 1u << 31) == TOP - 512);
	assert_true(qed_max_image_size(UINT32_MAX, UINT32_MAX) == TOP - 512);
	assert_true(qed_max_image_size(0, 4) == 0);
}

struct extreme {
	uint64_t file_size;
	uint64_t l1;
	int err;
};

/* The largest tables there are: 1 GiB of L1, wholly inside the file or not. */
static void the_largest_tables_fit_or_not(void **state)
{
	static const struct extreme cases[] = {
		{ 17 * 64 * MIB, 64 * MIB, 0 },
		{ 17 * 64 * MIB - 1, 64 * MIB, -EUCLEAN },
		{ TOP, TOP - GIB, 0 },
		{ TOP, TOP - GIB + 64 * MIB, -EUCLEAN },
		{ UINT64_MAX, 0 - 2 * GIB, 0 },
		{ UINT64_MAX, 0 - GIB, -EUCLEAN },
	};

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		struct qed_header h = {
			.cluster_size = QED_CLUSTER_SIZE_MAX,
			.table_size = QED_TABLE_SIZE_MAX,
			.header_size = 1,
			.image_size = TOP - 512,
			.l1_table_offset = cases[i].l1,
		};
		char message[QED_MESSAGE_MAX];
		uint8_t buf[QED_HEADER_BYTES];

		qed_header_encode(&h, buf);
		assert_int_equal(qed_header_decode(buf, cases[i].file_size, &h,
						   message), cases[i].err);
	}
}

static void backing_names_are_checked(void **state)
{
	char message[QED_MESSAGE_MAX], name[1100];

	(void)state;
	memset(name, 'n', sizeof(name));
	assert_int_equal(qed_header_check_backing_name(name, 1, message), 0);
	assert_int_equal(qed_header_check_backing_name(name, 1023, message),
			 0);
	assert_int_equal(qed_header_check_backing_name(name, 0, message),
			 -EUCLEAN);
	assert_non_null(strstr(message, "of 0 bytes"));
	assert_int_equal(qed_header_check_backing_name(name, 1024, message),
			 -EUCLEAN);
	assert_non_null(strstr(message, "of 1024 bytes"));
	name[7] = '\0';
	assert_int_equal(qed_header_check_backing_name(name, 7, message), 0);
	assert_int_equal(qed_header_check_backing_name(name, 8, message),
			 -EUCLEAN);
	assert_string_equal(message, "backing file name of 8 bytes holds a "
			    "NUL at its byte 7");
}

struct entry {
	uint64_t offset;
	bool data, table;
};

/* Clusters of 4 KiB, tables of 2, header 0-1, L1 4-5, the file's end 16. */
static const struct entry entries[] = {
	{ 0, false, false },
	{ 1, false, false },
	{ 0x1000, false, false },	/* in the header */
	{ 0x2000, true, true },
	{ 0x2001, false, false },
	{ 0x2800, false, false },
	{ 0x3000, true, false },	/* a table would reach into the L1 */
	{ 0x4000, false, false },	/* the L1 */
	{ 0x5000, false, false },
	{ 0x6000, true, true },
	{ 0xe000, true, true },
	{ 0xf000, true, false },	/* the last cluster */
	{ 0x10000, false, false },	/* the end */
	{ 0x11000, false, false },
	{ TOP, false, false },
	{ 0 - UINT64_C(0x2000), false, false },
	{ 0 - UINT64_C(0x1000), false, false },
	{ UINT64_MAX, false, false },
};

static struct qed_header small_header(void)
{
	struct qed_header h = {
		.cluster_size = 4096,
		.table_size = 2,
		.header_size = 2,
		.image_size = MIB,
		.l1_table_offset = 0x4000,
	};
	char message[QED_MESSAGE_MAX];

	assert_int_equal(qed_header_derive(&h, message), 0);
	return h;
}

static void table_entries_are_judged(void **state)
{
	struct qed_header h = small_header();

	(void)state;
	for (size_t i = 0; i < ELEMS(entries); i++) {
		const struct entry *e = &entries[i];

		if (qed_data_offset_ok(&h, e->offset, 0x10000) != e->data)
			fail_msg("data at 0x%" PRIx64, e->offset);
		if (qed_table_offset_ok(&h, e->offset, 0x10000) != e->table)
			fail_msg("table at 0x%" PRIx64, e->offset);
	}
	/* A file that ends before a table could. */
	assert_false(qed_table_offset_ok(&h, 0x2000, 0x1000));
	assert_false(qed_data_offset_ok(&h, 0x2000, 0));
	/* The far end of what 64 bits can say. */
	assert_true(qed_data_offset_ok(&h, TOP - 0x1000, TOP));
	assert_true(qed_table_offset_ok(&h, TOP - 0x2000, TOP));
	assert_false(qed_table_offset_ok(&h, TOP - 0x1000, TOP));
}

struct ranges {
	uint64_t a, alen, b, blen;
	bool overlap;
};

static void overlaps_are_found(void **state)
{
	static const struct ranges cases[] = {
		{ 0, 1, 0, 1, true },
		{ 0, 1, 1, 1, false },
		{ 0, 2, 1, 1, true },
		{ 10, 10, 0, 10, false },
		{ 10, 10, 0, 11, true },
		{ 10, 10, 12, 2, true },
		{ 10, 10, 20, 1, false },
		{ 10, 0, 10, 5, false },
		{ 12, 0, 10, 5, false },
		{ 0, 0, 0, 0, false },
		{ UINT64_MAX, 1, UINT64_MAX, 1, true },
		{ UINT64_MAX, 1, 0, UINT64_MAX, false },
		{ UINT64_MAX - 9, 100, 0, 5, false },
		{ 0, UINT64_MAX, UINT64_MAX - 1, 5, true },
	};

	(void)state;
	for (size_t i = 0; i < ELEMS(cases); i++) {
		const struct ranges *r = &cases[i];

		if (qed_ranges_overlap(r->a, r->alen, r->b, r->blen) !=
			    r->overlap ||
		    qed_ranges_overlap(r->b, r->blen, r->a, r->alen) !=
			    r->overlap)
			fail_msg("case %zu", i);
	}
}

static void tables_are_little_endian(void **state)
{
	static const uint8_t bytes[16] = { 1, 2, 3, 4, 5, 6, 7, 8,
					   0xf8, 0, 0, 0, 0, 0, 0, 0x80 };
	struct qed_le64 disk[2];
	uint64_t host[2];

	(void)state;
	memcpy(disk, bytes, sizeof(disk));
	qed_table_decode(host, disk, 2);
	assert_true(host[0] == UINT64_C(0x0807060504030201));
	assert_true(host[1] == UINT64_C(0x80000000000000f8));
	memset(disk, 0xee, sizeof(disk));
	qed_table_encode(disk, host, 1);
	assert_memory_equal(disk, bytes, 8);
	assert_int_equal(disk[1].b[0], 0xee);
	qed_table_encode(disk, host, 2);
	assert_memory_equal(disk, bytes, 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_rule_has_its_edges),
		cmocka_unit_test(what_is_encoded_is_decoded),
		cmocka_unit_test(fields_lie_where_the_format_says),
		cmocka_unit_test(faults_have_an_order),
		cmocka_unit_test(short_files_are_no_images),
		cmocka_unit_test(geometries_are_derived),
		cmocka_unit_test(the_largest_tables_fit_or_not),
		cmocka_unit_test(backing_names_are_checked),
		cmocka_unit_test(table_entries_are_judged),
		cmocka_unit_test(overlaps_are_found),
		cmocka_unit_test(tables_are_little_endian),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
