#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every cluster size with every table size: made by qedimg, written through
# qedfs and by QEMU, read through both.

in_memory=yes
many_starts=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io "$QEDFS" "$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt

# QEMU 7.2 does not open images whose tables have a single cluster, nor those
# whose greatest size, 2 to the power of this, overflows its 64 bits.
for_qemu() {
	[ "$table" -eq 1 ] || [ "$size_bits" -ge 64 ] || "$@"
}

log2() (
	bits=0
	while [ "$((1 << bits))" -lt "$1" ]; do
		bits=$((bits + 1))
	done
	echo "$bits"
)

# geometry CLUSTER TABLE: both in the units of the format
geometry() {
	cluster=$1
	table=$2
	entries=$((cluster * table / 8))
	size_bits=$((shift_by + 2 * $(log2 $entries)))
	span=$((entries * cluster))	# what one L2 table maps
	size=$((5 * span < 6 << 30 ? 5 * span : 6 << 30))
	size=$((size - 1536))
	rm -f disk.qed twin.raw
	truncate -s "$size" twin.raw
	"$QEDIMG" create -q -o "cluster_size=$cluster,table_size=$table" \
		disk.qed "$size"
	[ "$(get_le 32 disk.qed 4)" -eq "$cluster" ] ||
		fail "the header's cluster_size is wrong"
	[ "$(get_le 32 disk.qed 8)" -eq "$table" ] ||
		fail "the header's table_size is wrong"
	for_qemu image_clean disk.qed
}

# The same writes for both: across a cluster boundary and, where there is one,
# across a boundary of L2 tables; at both ends; and at random.
write_both() {
	for file in mnt/disk.raw twin.raw; do
		"$FILEOP" scatter "$file" "$cluster" 12 9000
		for at in $((cluster - 700)) $((span - 5000)) \
			$((size - 6000)) 0; do
			[ "$at" -lt "$((size - 5000))" ] || continue
			dd if=/etc/passwd of="$file" bs=5000 count=1 \
				oflag=seek_bytes seek="$at" conv=notrunc \
				status=none
		done
	done
}

# QEMU writes over what is there, and a cluster that is not.
write_by_qemu() {
	at=$((cluster * 2 + 512))
	for image in "qed disk.qed" "raw twin.raw"; do
		qemu_do "${image#* }" "${image% *}" \
			"write -P 0xa5 512 4096" \
			"write -P 0x5a $at 2048" \
			"write -P 0x77 $((size - 1024)) 1024"
	done
	image_clean disk.qed
}

# By way of the holes that qedfs reports: reading 6 GiB would take long.
compare_mounted() {
	mount_qed disk.qed mnt -o ro
	qemu-img compare -q -f raw -F raw mnt/disk.raw twin.raw ||
		fail "disk.raw and twin.raw differ"
	umount_qed mnt
}

# Sanitizers look for other things: each cluster size and each table size, but not
# with every other.
tables() {
	if [ "${QED_SANITIZER:-no}" = no ]; then
		echo 1 2 4 8 16
	else
		echo $((1 << shift_by % 5))
	fi
}

shift_by=12
while [ "$shift_by" -le 26 ]; do
	for table in $(tables); do
		geometry $((1 << shift_by)) "$table"
		say "cluster_size $cluster, table_size $table"
		mount_qed disk.qed mnt
		write_both
		umount_qed mnt
		for_qemu image_clean disk.qed
		for_qemu same_disk disk.qed twin.raw
		compare_mounted
		for_qemu write_by_qemu
		for_qemu compare_mounted
	done
	shift_by=$((shift_by + 1))
done
