#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A disk of 64 TiB costs no more to mount than a small one, and what is written
# anywhere in it is found again.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io "$QEDFS" "$QEDIMG" "$FILEOP"

# It makes malloc touch what it gives, which is not how the daemon runs.
unset MALLOC_PERTURB_

measure=$(built tests/system/measure)
size=$((64 << 40))
cluster=65536
cd "$TMP"
mkdir mnt
cleanup umount_from "$TMP/mnt"

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

# memory_within WHAT KIB: of the daemon, now and at most ever.  Sanitizers need more.
memory_within() {
	pid=$(mount_pid mnt)
	rss=$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status")
	peak=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$pid/status")
	say "$1: VmRSS $rss KiB, VmHWM $peak KiB"
	[ "${QED_SANITIZER:-no}" = no ] || return 0
	[ "$peak" -le "$2" ] || fail "$peak KiB of memory, at most $2 expected"
}

# As users mount: the command returns when the disk is there.
mount_timed() {
	"$measure" took "$QEDFS" -o pidfile="$TMP/pid" big.qed mnt
	pid=$(cat pid)
	say "$1: mounted after $(cut -d ' ' -f 2 took) ms"
	unmount mnt
	"$WAITFOR" exit "$pid" 300 || fail "the daemon did not end"
	mount_qed big.qed mnt
	[ "$(stat -c %s mnt/big.raw)" -eq $size ] || fail "not $size bytes"
}

# Where data is written, in order, as clusters of the disk.
places() {
	echo 0
	echo 1
	echo $(((2 << 30) / cluster - 1))	# the first table's last
	echo $(((2 << 30) / cluster))
	echo $(((1 << 40) / cluster + 12345))
	echo $(((17 << 40) / cluster))
	echo $(((32 << 40) / cluster - 1))
	echo $(((48 << 40) / cluster + 7))
	echo $((size / cluster - 1))
}

write_places() {
	places | while read -r place; do
		dd if=data of=mnt/big.raw bs=$cluster seek="$place" count=1 \
			skip=$((place % 13)) conv=notrunc,fsync status=none
	done
}

# read_places CMD…: the command writes the cluster in its last argument to stdout
read_places() {
	places | while read -r place; do
		"$@" "$place" >seen
		dd if=data of=want bs=$cluster count=1 skip=$((place % 13)) \
			status=none
		cmp seen want || fail "the cluster at $place is wrong"
	done
}

read_by_dd() {
	dd if=mnt/big.raw bs=$cluster count=1 skip="$1" status=none
}

# QEMU as the second opinion, without a mount.
read_by_qemu() {
	offset=$(($1 * cluster))
	qemu-img convert -O raw --image-opts \
		"driver=raw,offset=$offset,size=$cluster,file.driver=qed,file.file.driver=file,file.file.filename=big.qed" \
		one.raw
	cat one.raw
}

# The map that SEEK_DATA and SEEK_HOLE give, in whole runs.
expected_map() {
	places | awk -v cluster=$cluster -v size=$size '
		function hole(to) {
			if (to > end) printf "hole %.0f %.0f\n", end, to - end }
		function flush() {
			if (len) printf "data %.0f %.0f\n", start, len
			end = start + len; len = 0 }
		{ at = $1 * cluster
		  if (len && at == start + len) { len += cluster; next }
		  flush(); hole(at); start = at; len = cluster }
		END { flush(); hole(size) }'
}

check_map() {
	begin=$(now_ms)
	limited 300 "$FILEOP" map mnt/big.raw >seen.map ||
		fail "no map of the disk within 60 s"
	say "$1: data and holes mapped after $(($(now_ms) - begin)) ms"
}

# 64 TiB times nothing: the file is small, whatever is in it.
empty() {
	"$QEDIMG" create -q big.qed 64T
	mount_timed "empty"
	memory_within "empty" 16384
	check_map "empty"
	echo "hole 0 $size" | cmp - seen.map
	umount_qed mnt
	image_clean big.qed
}

scattered() {
	dd if=/dev/urandom of=data bs=$cluster count=13 status=none
	mount_timed "to write"
	write_places
	read_places read_by_dd
	memory_within "written" 16384
	umount_qed mnt
	image_clean big.qed

	mount_timed "9 clusters"
	check_map "9 clusters"
	expected_map | cmp - seen.map || fail "not the map expected: $(cat seen.map)"
	read_places read_by_dd
	memory_within "read" 16384
	umount_qed mnt
	read_places read_by_qemu
	[ "$(du -k big.qed | cut -f 1)" -lt 8192 ] ||
		fail "the image takes $(du -k big.qed)"
}

# Tables all over the disk: 2 000 of 256 KiB each, which do not fit the budget.
many_tables() {
	mount_timed "to fill"
	"$FILEOP" scatter mnt/big.raw 4711 2000 512
	memory_within "tables written" $((64 * 1024))
	umount_qed mnt
	image_clean big.qed
	mount_timed "2000 tables"
	memory_within "2000 tables" 16384
	check_map "2000 tables"
	memory_within "2000 tables mapped" $((64 * 1024))
	[ "$(grep -c ^data seen.map)" -gt 1900 ] || fail "few runs of data in the map"
	read_places read_by_dd
	umount_qed mnt
	image_clean big.qed
}

empty
scattered
many_tables
