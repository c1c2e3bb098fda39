/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED on-disk format: encode, decode, validate.  Pure functions on memory:
 * no I/O, no locks, safe from any thread.  Past this room only checked values
 * in host byte order travel.  Facts: the QED Image File Format Specification of
 * the QEMU project; man/qed.5 retells them.
 */
#ifndef QED_FORMAT_H
#define QED_FORMAT_H

#include "qed.h"

#include <assert.h>
#include <stddef.h>

#define QED_HEADER_BYTES     64u
#define QED_CLUSTER_SIZE_MIN (1u << 12)
#define QED_CLUSTER_SIZE_MAX (1u << 26)
#define QED_TABLE_SIZE_MIN   1u
#define QED_TABLE_SIZE_MAX   16u
#define QED_SECTOR           512u	/* the virtual size's granularity */
#define QED_BACKING_NAME_MAX 1023u	/* bytes; QEMU's own limit */
#define QED_ENTRY_BYTES      8u
#define QED_FEATURES_KNOWN                                                   \
	(QED_FEATURE_BACKING_FILE | QED_FEATURE_NEED_CHECK |                  \
	 QED_FEATURE_BACKING_FORMAT_NO_PROBE)

/* Little-endian integers: distinct types, so that a missed swap won't compile. */
struct qed_le32 { uint8_t b[4]; };
struct qed_le64 { uint8_t b[8]; };

static inline uint32_t qed_le32_get(struct qed_le32 v)
{
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 |
	       (uint32_t)v.b[2] << 16 | (uint32_t)v.b[3] << 24;
}

static inline uint64_t qed_le64_get(struct qed_le64 v)
{
	uint64_t r = 0;

	for (int i = 7; i >= 0; i--)
		r = r << 8 | v.b[i];
	return r;
}

static inline struct qed_le32 qed_le32_put(uint32_t v)
{
	return (struct qed_le32){ { (uint8_t)v, (uint8_t)(v >> 8),
				    (uint8_t)(v >> 16), (uint8_t)(v >> 24) } };
}

static inline struct qed_le64 qed_le64_put(uint64_t v)
{
	struct qed_le64 r;

	for (int i = 0; i < 8; i++)
		r.b[i] = (uint8_t)(v >> (8 * i));
	return r;
}

struct qed_disk_header {
	uint8_t magic[4];		/*  0: 'Q' 'E' 'D' 0 */
	struct qed_le32 cluster_size;	/*  4: bytes */
	struct qed_le32 table_size;	/*  8: clusters */
	struct qed_le32 header_size;	/* 12: clusters */
	struct qed_le64 features;	/* 16 */
	struct qed_le64 compat_features;	/* 24 */
	struct qed_le64 autoclear_features;	/* 32 */
	struct qed_le64 l1_table_offset;	/* 40: bytes */
	struct qed_le64 image_size;	/* 48: bytes */
	struct qed_le32 backing_filename_offset;	/* 56: bytes */
	struct qed_le32 backing_filename_size;	/* 60: bytes */
};
static_assert(sizeof(struct qed_disk_header) == QED_HEADER_BYTES, "header");
static_assert(offsetof(struct qed_disk_header, features) == 16, "header");
static_assert(offsetof(struct qed_disk_header, image_size) == 48, "header");

/* A header's checked values, and what follows from them. */
struct qed_header {
	uint32_t cluster_size;		/* bytes */
	uint32_t table_size;		/* clusters */
	uint32_t header_size;		/* clusters */
	uint64_t features;
	uint64_t compat_features;
	uint64_t autoclear_features;
	uint64_t l1_table_offset;	/* file offset */
	uint64_t image_size;		/* bytes of virtual disk */
	uint32_t backing_filename_offset;	/* valid with BACKING_FILE */
	uint32_t backing_filename_size;

	/* derived */
	uint64_t header_bytes;		/* header_size * cluster_size */
	uint64_t table_bytes;		/* table_size * cluster_size */
	uint64_t table_nelems;		/* table_bytes / 8 */
	unsigned cluster_bits;		/* log2(cluster_size) */
	unsigned table_bits;		/* log2(table_nelems) */
	uint64_t l1_used;		/* L1 entries that image_size reaches */
};

/* Room for one message of qed_header_decode(). */
#define QED_MESSAGE_MAX 256

/*
 * Decodes and validates the 64 bytes at `buf` against a file of `file_size`
 * bytes, by every rule of the format.  On success fills *header, returns 0.
 * Otherwise writes what is wrong (without the file's name) into `message` and
 * returns -EMEDIUMTYPE (no QED magic), -ENOTSUP (unknown features) or -EUCLEAN.
 */
int qed_header_decode(const void *buf, uint64_t file_size,
		      struct qed_header *header,
		      char message[QED_MESSAGE_MAX]);

/*
 * Checks a backing file name of `len` bytes as read from the header area:
 * 0, or -EUCLEAN with a message (empty, too long, holds a NUL).
 */
int qed_header_check_backing_name(const char *name, size_t len,
				  char message[QED_MESSAGE_MAX]);

/* Writes the 64 bytes that *header stands for into `buf`. */
void qed_header_encode(const struct qed_header *header, void *buf);

/*
 * Fills the derived fields from cluster_size, table_size, header_size and
 * image_size, after checking those by the format's rules (not the file-bound
 * ones): 0, or -EUCLEAN with a message.
 */
int qed_header_derive(struct qed_header *header, char message[QED_MESSAGE_MAX]);

/*
 * The greatest virtual size a geometry allows: n * n * cluster_size with n
 * entries a table, cut to the 2^63 - 512 that an off_t can address.
 */
uint64_t qed_max_image_size(uint32_t cluster_size, uint32_t table_size);

/* Table entries.  L1: 0 = no table.  L2: 0 = unallocated, 1 = zero cluster. */
#define QED_ENTRY_UNALLOCATED UINT64_C(0)
#define QED_ENTRY_ZERO        UINT64_C(1)

/*
 * Is `entry`, neither 0 nor 1, a possible data cluster: cluster-aligned, after
 * the header, wholly before `file_end` (a whole number of clusters)?
 */
bool qed_data_offset_ok(const struct qed_header *header, uint64_t entry,
			uint64_t file_end);

/* The same for a non-zero L1 entry: a whole table must fit, not the L1 itself. */
bool qed_table_offset_ok(const struct qed_header *header, uint64_t entry,
			 uint64_t file_end);

/* Do [a, a + alen) and [b, b + blen) share a byte?  Overflow-safe. */
bool qed_ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen);

/* Host byte order <-> little-endian, `n` table entries. */
void qed_table_decode(uint64_t *dst, const struct qed_le64 *src, size_t n);
void qed_table_encode(struct qed_le64 *dst, const uint64_t *src, size_t n);

/* Where a disk offset is mapped. */
static inline uint64_t qed_l1_index(const struct qed_header *h, uint64_t disk_off)
{
	unsigned shift = h->cluster_bits + h->table_bits;

	return shift > 63 ? 0 : disk_off >> shift;
}

static inline uint64_t qed_l2_index(const struct qed_header *h, uint64_t disk_off)
{
	return (disk_off >> h->cluster_bits) & (h->table_nelems - 1);
}

static inline uint64_t qed_cluster_start(const struct qed_header *h, uint64_t off)
{
	return off & ~(uint64_t)(h->cluster_size - 1);
}

static inline uint64_t qed_in_cluster(const struct qed_header *h, uint64_t off)
{
	return off & (h->cluster_size - 1);
}

#endif
