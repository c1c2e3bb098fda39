/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The QED on-disk format; format.h states the contract.
 *
 * Nothing an image says is trusted: sums and products of its fields are taken
 * in 64 bits, with overflow checks where the fields' ranges do not already rule
 * an overflow out.  The end of the file counts rounded down to a whole cluster,
 * as only whole clusters can be used.
 *
 * The order of the checks is part of the contract: the magic, then unknown
 * features (whoever added one may have changed what follows), then geometry.
 */
#include "config.h"

#include "format.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const uint8_t qed_magic[4] = { 'Q', 'E', 'D', 0 };

/* The last multiple of a sector that an off_t can hold. */
#define QED_OFFSET_LIMIT ((UINT64_C(1) << 63) - QED_SECTOR)

/* Stores the message and returns `err`, so that a check is one statement. */
static int __attribute__((format(printf, 3, 4)))
refuse(char message[QED_MESSAGE_MAX], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(message, QED_MESSAGE_MAX, format, args);
	va_end(args);
	return err;
}

static bool power_of_two_within(uint32_t v, uint32_t min, uint32_t max)
{
	return v >= min && v <= max && (v & (v - 1)) == 0;
}

uint64_t qed_max_image_size(uint32_t cluster_size, uint32_t table_size)
{
	uint64_t nelems = (uint64_t)cluster_size * table_size / QED_ENTRY_BYTES;
	uint64_t max;

	if (!qed_mul(nelems, nelems, &max) ||
	    !qed_mul(max, cluster_size, &max))
		return QED_OFFSET_LIMIT;
	return qed_min(max, QED_OFFSET_LIMIT);
}

static int check_geometry(const struct qed_header *header, char *message)
{
	if (!power_of_two_within(header->cluster_size, QED_CLUSTER_SIZE_MIN,
				 QED_CLUSTER_SIZE_MAX))
		return refuse(message, -EUCLEAN,
			      "cluster size %" PRIu32 " is not a power of two "
			      "between %u and %u", header->cluster_size,
			      QED_CLUSTER_SIZE_MIN, QED_CLUSTER_SIZE_MAX);
	if (!power_of_two_within(header->table_size, QED_TABLE_SIZE_MIN,
				 QED_TABLE_SIZE_MAX))
		return refuse(message, -EUCLEAN,
			      "table size %" PRIu32 " is not a power of two "
			      "between %u and %u clusters", header->table_size,
			      QED_TABLE_SIZE_MIN, QED_TABLE_SIZE_MAX);
	if (header->header_size == 0)
		return refuse(message, -EUCLEAN,
			      "header size 0: the header takes at least one "
			      "cluster");
	return 0;
}

static int check_image_size(const struct qed_header *header, char *message)
{
	uint64_t max = qed_max_image_size(header->cluster_size,
					  header->table_size);

	if (header->image_size % QED_SECTOR)
		return refuse(message, -EUCLEAN,
			      "virtual size %" PRIu64
			      " is not a multiple of %u",
			      header->image_size, QED_SECTOR);
	if (header->image_size > max)
		return refuse(message, -EUCLEAN,
			      "virtual size %" PRIu64 " exceeds %" PRIu64
			      ", the most for clusters of %" PRIu32
			      " bytes and tables of %" PRIu32 " clusters",
			      header->image_size, max, header->cluster_size,
			      header->table_size);
	return 0;
}

int qed_header_derive(struct qed_header *header, char message[QED_MESSAGE_MAX])
{
	unsigned shift;
	int ret;

	ret = check_geometry(header, message);
	if (!ret)
		ret = check_image_size(header, message);
	if (ret)
		return ret;

	/* At most 2^32 * 2^26 and 2^4 * 2^26: neither can overflow. */
	header->header_bytes =
		(uint64_t)header->header_size * header->cluster_size;
	header->table_bytes =
		(uint64_t)header->table_size * header->cluster_size;
	header->table_nelems = header->table_bytes / QED_ENTRY_BYTES;
	header->cluster_bits = (unsigned)__builtin_ctz(header->cluster_size);
	header->table_bits = (unsigned)__builtin_ctzll(header->table_nelems);

	shift = header->cluster_bits + header->table_bits;
	header->l1_used = header->image_size ?
		((header->image_size - 1) >> shift) + 1 : 0;
	return 0;
}

static int check_l1(const struct qed_header *header, uint64_t file_size,
		    char *message)
{
	uint64_t offset = header->l1_table_offset;
	uint64_t file_end = qed_round_down(file_size, header->cluster_size);
	uint64_t end;

	if (header->header_bytes > file_end)
		return refuse(message, -EUCLEAN,
			      "header of %" PRIu32 " clusters (%" PRIu64
			      " bytes) reaches past the end of the file (%"
			      PRIu64 " bytes)", header->header_size,
			      header->header_bytes, file_size);
	if (offset % header->cluster_size)
		return refuse(message, -EUCLEAN,
			      "L1 table offset 0x%" PRIx64 " is not a multiple "
			      "of the cluster size %" PRIu32, offset,
			      header->cluster_size);
	if (offset < header->header_bytes)
		return refuse(message, -EUCLEAN,
			      "L1 table offset 0x%" PRIx64 " lies inside the "
			      "header of %" PRIu64 " bytes", offset,
			      header->header_bytes);
	if (!qed_add(offset, header->table_bytes, &end) || end > file_end)
		return refuse(message, -EUCLEAN,
			      "L1 table at 0x%" PRIx64 " (%" PRIu64 " bytes) "
			      "reaches past the end of the file (%" PRIu64
			      " bytes)", offset, header->table_bytes,
			      file_size);
	return 0;
}

static int check_backing_name_size(size_t len, char *message)
{
	if (len == 0 || len > QED_BACKING_NAME_MAX)
		return refuse(message, -EUCLEAN,
			      "backing file name of %zu bytes: it must have 1 "
			      "to %u", len, QED_BACKING_NAME_MAX);
	return 0;
}

static int check_backing_place(const struct qed_header *header, char *message)
{
	uint32_t offset = header->backing_filename_offset;
	uint32_t len = header->backing_filename_size;
	int ret;

	/* Without the feature bit the two fields mean nothing. */
	if (!(header->features & QED_FEATURE_BACKING_FILE))
		return 0;
	ret = check_backing_name_size(len, message);
	if (ret)
		return ret;
	if (offset < QED_HEADER_BYTES)
		return refuse(message, -EUCLEAN,
			      "backing file name at offset %" PRIu32
			      " overlaps the header's fixed %u bytes", offset,
			      QED_HEADER_BYTES);
	if ((uint64_t)offset + len > header->header_bytes)
		return refuse(message, -EUCLEAN,
			      "backing file name at offset %" PRIu32 " (%"
			      PRIu32 " bytes) reaches past the header of %"
			      PRIu64 " bytes", offset, len,
			      header->header_bytes);
	return 0;
}

static void load_fields(const struct qed_disk_header *disk,
			struct qed_header *header)
{
	*header = (struct qed_header){
		.cluster_size = qed_le32_get(disk->cluster_size),
		.table_size = qed_le32_get(disk->table_size),
		.header_size = qed_le32_get(disk->header_size),
		.features = qed_le64_get(disk->features),
		.compat_features = qed_le64_get(disk->compat_features),
		.autoclear_features = qed_le64_get(disk->autoclear_features),
		.l1_table_offset = qed_le64_get(disk->l1_table_offset),
		.image_size = qed_le64_get(disk->image_size),
		.backing_filename_offset =
			qed_le32_get(disk->backing_filename_offset),
		.backing_filename_size =
			qed_le32_get(disk->backing_filename_size),
	};
}

int qed_header_decode(const void *buf, uint64_t file_size,
		      struct qed_header *header, char message[QED_MESSAGE_MAX])
{
	struct qed_disk_header disk;
	uint64_t unknown;
	int ret;

	if (file_size < QED_HEADER_BYTES)
		return refuse(message, -EMEDIUMTYPE,
			      "not a QED image: %" PRIu64 " bytes are too "
			      "short for a header of %u", file_size,
			      QED_HEADER_BYTES);
	memcpy(&disk, buf, sizeof(disk));
	if (memcmp(disk.magic, qed_magic, sizeof(qed_magic)) != 0)
		return refuse(message, -EMEDIUMTYPE,
			      "not a QED image: it starts with bytes %02x "
			      "%02x %02x %02x", disk.magic[0], disk.magic[1],
			      disk.magic[2], disk.magic[3]);
	load_fields(&disk, header);

	unknown = header->features & ~QED_FEATURES_KNOWN;
	if (unknown)
		return refuse(message, -ENOTSUP,
			      "unknown feature bits 0x%" PRIx64, unknown);
	ret = qed_header_derive(header, message);
	if (!ret)
		ret = check_l1(header, file_size, message);
	if (!ret)
		ret = check_backing_place(header, message);
	return ret;
}

int qed_header_check_backing_name(const char *name, size_t len,
				  char message[QED_MESSAGE_MAX])
{
	const char *nul;
	int ret;

	ret = check_backing_name_size(len, message);
	if (ret)
		return ret;
	nul = memchr(name, 0, len);
	if (nul)
		return refuse(message, -EUCLEAN,
			      "backing file name of %zu bytes holds a NUL at "
			      "its byte %zu", len, (size_t)(nul - name));
	return 0;
}

void qed_header_encode(const struct qed_header *header, void *buf)
{
	struct qed_disk_header disk = {
		.cluster_size = qed_le32_put(header->cluster_size),
		.table_size = qed_le32_put(header->table_size),
		.header_size = qed_le32_put(header->header_size),
		.features = qed_le64_put(header->features),
		.compat_features = qed_le64_put(header->compat_features),
		.autoclear_features = qed_le64_put(header->autoclear_features),
		.l1_table_offset = qed_le64_put(header->l1_table_offset),
		.image_size = qed_le64_put(header->image_size),
		.backing_filename_offset =
			qed_le32_put(header->backing_filename_offset),
		.backing_filename_size =
			qed_le32_put(header->backing_filename_size),
	};

	memcpy(disk.magic, qed_magic, sizeof(qed_magic));
	memcpy(buf, &disk, sizeof(disk));
}

bool qed_ranges_overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	if (alen == 0 || blen == 0)
		return false;
	return a <= b ? b - a < alen : a - b < blen;
}

/* Can `len` bytes at `entry` be anything but the header or the L1 table? */
static bool offset_ok(const struct qed_header *header, uint64_t entry,
		      uint64_t len, uint64_t file_end)
{
	return qed_in_cluster(header, entry) == 0 &&
	       entry >= header->header_bytes &&
	       len <= file_end && entry <= file_end - len &&
	       !qed_ranges_overlap(entry, len, header->l1_table_offset,
				   header->table_bytes);
}

bool qed_data_offset_ok(const struct qed_header *header, uint64_t entry,
			uint64_t file_end)
{
	return offset_ok(header, entry, header->cluster_size, file_end);
}

bool qed_table_offset_ok(const struct qed_header *header, uint64_t entry,
			 uint64_t file_end)
{
	return offset_ok(header, entry, header->table_bytes, file_end);
}

void qed_table_decode(uint64_t *dst, const struct qed_le64 *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = qed_le64_get(src[i]);
}

void qed_table_encode(struct qed_le64 *dst, const uint64_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = qed_le64_put(src[i]);
}
