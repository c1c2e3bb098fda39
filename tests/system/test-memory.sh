#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the daemon has resident at most, however much is asked of it at once: the budget
# for tables and 32 MiB.

. "$(dirname "$0")/functions.sh"

need_root
requires "$QEDFS" "$QEDIMG" fio

# It would touch all of each buffer.
unset MALLOC_PERTURB_

cd "$TMP"
mkdir mnt
cleanup umount_from "$TMP/mnt"
head -c 256M /dev/urandom >disk.raw
"$QEDIMG" convert -q -f raw -O qed disk.raw big.qed
rm disk.raw
"$QEDIMG" create -q fresh.qed 8G
"$QEDIMG" create -q -b big.qed -F qed over.qed

# small NAME: its image is mounted, with little memory for tables
small() {
	name=$1
	mount_qed "$name.qed" mnt -o l2_cache=1M
	pid=$(mount_pid mnt)
}

# ask PATTERN SIZE DEPTH: of a disk that is not in the page cache, if it is read
ask() {
	sync "$name.qed"
	dd if="$name.qed" iflag=nocache count=0 status=none
	fio --name=ask --filename="mnt/$name.raw" --direct="${direct-1}" \
		--ioengine=libaio --rw="$1" --bs="$2" --iodepth="$3" \
		--io_size=256M >out 2>err ||
		fail "fio $*: $(cat err)"
	peak=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$pid/status")
	say "$*: VmHWM $peak KiB"
	[ "${QED_SANITIZER:-no}" = no ] || return 0
	[ "$peak" -le $((33 << 10)) ] || fail "$*: $peak KiB resident"
}

# ---- as many threads as it is let have ----

# workers: threads that wait for a request, when there is none
workers() {
	cat "/proc/$(mount_pid mnt)/task"/*/stack 2>/dev/null | grep -c fuse_dev_do_read
}

# hammer: more requests at once than there can be threads
hammer() {
	fio --name=hammer --filename=mnt/big.raw --direct=1 --rw=randwrite --bs=1m \
		--numjobs=24 --io_size=16M --thread --size=256M >out 2>err ||
		fail "fio: $(cat err)"
}

for n in 1 3; do
	mount_qed big.qed mnt -o max_threads=$n
	hammer
	[ "$(workers)" -eq $n ] || fail "max_threads=$n: $(workers) workers"
	umount_qed mnt
done
mount_qed big.qed mnt
hammer
[ "$(workers)" -gt 3 ] || fail "by default $(workers) workers"
umount_qed mnt
"$QEDIMG" check -q big.qed || fail "check: $?"
for value in 0 129 x ''; do
	qedfs_refuses "max_threads" -o "max_threads=$value" big.qed mnt
done
small big
ask randread 4k 64
ask randread 64k 128
ask randread 128k 128
ask randread 1m 64
ask randwrite 1m 64
ask randrw 1m 64
umount_qed mnt

# Into clusters that are not there yet, of a disk of its own and over the other.
for image in fresh over; do
	small $image
	ask randwrite 1m 64
	ask randwrite 4k 128
	ask randrw 64k 128
	direct=0 ask randwrite 4k 1
	umount_qed mnt
	"$QEDIMG" check -q $image.qed || fail "check of $image.qed: $?"
done
