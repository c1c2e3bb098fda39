#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Random operations by several threads, against a shadow copy: see randomio.c.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img "$QEDFS" "$QEDIMG" "$RANDOMIO"

mib=1048576
seed=${QED_SEED:-$(date +%s)}
ops=34000
case ${QED_SANITIZER-} in *address* | *thread*) ops=10000 ;; esac
[ -z "${QED_SOAK:-}" ] || ops=2000000
cd "$TMP"
mkdir mnt

# The shadow as a flat image, with nothing below.
flat() {
	"$QEDIMG" create -q -o "$2" disk.qed "$1"
	qemu_copy shadow disk.qed 0 "$1"
}

# Three layers: a base that is shorter than the disk, holds other bytes in
# places, and two images that put them right.
chain() {
	cp --sparse=always shadow base.raw
	truncate -s "$((($1 >> 11) * 3 * 512))" base.raw
	yes garbage | dd of=base.raw bs=1M seek=5 count=9 iflag=fullblock \
		conv=notrunc status=none
	"$QEDIMG" create -q -b base.raw -F raw -o "$2" mid.qed "$1"
	qemu_copy shadow mid.qed $((5 * mib)) $((6 * mib))
	qemu_copy shadow mid.qed $((40 * mib)) $(($1 - 40 * mib))
	"$QEDIMG" create -q -b mid.qed -F qed -o "$2" disk.qed "$1"
	qemu_copy shadow disk.qed $((10 * mib + 4608)) $((4 * mib))
	sha256sum base.raw mid.qed >lower.sum
}

unchanged_below() {
	[ ! -e lower.sum ] || sha256sum --quiet -c lower.sum ||
		fail "a write changed a backing file"
}

# round SIZE LAYOUT GEOMETRY OPTIONS
round() {
	say "seed $seed: $*"
	"$RANDOMIO" init shadow "$1" "$seed"
	rm -f lower.sum
	"$2" "$1" "$3"
	same_disk disk.qed shadow

	mount_qed disk.qed mnt -o "$4"
	"$RANDOMIO" run mnt/disk.raw shadow "$seed" "$ops" >/dev/null
	umount_qed mnt
	image_clean disk.qed
	same_disk disk.qed shadow
	unchanged_below

	mount_qed disk.qed mnt -o "$4,ro"
	same_bytes mnt/disk.raw shadow
	umount_qed mnt
	seed=$((seed + 1))
}

small=cluster_size=4096,table_size=2
round $((64 * mib + 7 * 512)) flat $small io=uring,l2_cache=64K
round $((64 * mib + 7 * 512)) chain $small io=threads,l2_cache=64K
round $((64 * mib + 4096 + 512)) chain cluster_size=64K io=uring,l2_cache=64K
round $((64 * mib)) flat cluster_size=64K io=threads
round $((56 * mib + 512)) chain cluster_size=1M io=uring,nowriteback
round $((56 * mib - 512)) flat $small io=threads,l2_cache=64K,nowriteback
