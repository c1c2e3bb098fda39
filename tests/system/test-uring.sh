#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# How requests come from the kernel: by io_uring where libfuse and the kernel can,
# and how far the kernel reads ahead.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires fio getfattr pkg-config qemu-img "$QEDFS" "$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt
switch=/sys/module/fuse/parameters/enable_uring

# kernel_offers Y|N
kernel_offers() {
	[ ! -e $switch ] || echo "$1" >$switch
}

# Writes, reads back, and lets QEMU say what is in the image.
work_on() {
	dd if=data of="mnt/$1.raw" bs=1M conv=notrunc status=none
	dd if=data of="mnt/$1.raw" bs=64k seek=300 oflag=direct conv=notrunc \
		status=none
	"$FILEOP" scatter "mnt/$1.raw" 7 500 20000 >/dev/null
	sync "mnt/$1.raw"
	cp --sparse=never "mnt/$1.raw" flat
	umount_qed mnt
	image_clean "$1.qed"
	same_disk "$1.qed" flat
}

# Writes are passed on at once, and lseek waits for nothing, so that no request that
# has a place in a ring waits for another one.
no_waiting() {
	printf 'no cache, no fsync' 1<>mnt/a.raw
	writes=$(getfattr --absolute-names --only-values -n user.qedfs.writes \
		mnt/a.raw)
	[ "$writes" -eq 1 ] || fail "$writes writes when there was one"
	exec 3<>mnt/a.raw
	[ "$("$FILEOP" map mnt/a.raw)" = "data 0 67108864" ] ||
		fail "a hole while there is a writer: $("$FILEOP" map mnt/a.raw)"
	exec 3>&-
	"$FILEOP" map mnt/a.raw | grep -q hole || fail "no hole without a writer"
}

# More requests of all kinds than a ring has places, for a while.
crowd() {
	timeout -k 5 60 fio --directory=mnt --filename=a.raw --size=32m \
		--time_based --runtime=1500ms --bs=4k --randrepeat=0 \
		--allow_file_create=0 --group_reporting --output=fio \
		--name=direct --rw=randrw --direct=1 --ioengine=libaio \
		--iodepth=64 --numjobs=2 \
		--name=mapped --rw=randwrite --ioengine=mmap --fsync=500 \
		--name=buffered --rw=randrw --ioengine=psync --numjobs=2 \
		--fsync=50 || {
		cat fio >&2
		fail "requests of all kinds at the same time"
	}
}

head -c $((8 << 20)) /dev/urandom >data
"$QEDIMG" create -q a.qed 64M

say "uring"
version=$(pkg-config --modversion fuse3)
case $version in
3.[0-9] | 3.[0-9].* | 3.1[0-7] | 3.1[0-7].*)
	qedfs_refuses 'uring: .*libfuse' -o uring a.qed mnt
	! is_mounted mnt || fail "it was refused, and mounted"
	exit 0
	;;
esac
cleanup kernel_offers "$(cat $switch 2>/dev/null || echo N)"
kernel_offers N
mount_qed a.qed mnt -o uring
cat mnt/a.raw >/dev/null
expect_log mnt 'uring: requests come without io_uring'
no_waiting
work_on a
[ -e $switch ] || exit 0
kernel_offers Y
# The library uses none with io=threads: what there is is libfuse's.
mount_qed a.qed mnt -o uring,io=threads
cat mnt/a.raw >/dev/null
rings=$(find "/proc/$(mount_pid mnt)/fd" -lname '*io_uring*' | wc -l)
if [ "$rings" -eq 0 ]; then		# libfuse was built without
	[ -z "${QED_URING-}" ] || fail "no io_uring: $(cat "$(mount_log mnt)")"
	expect_log mnt 'uring: requests come without io_uring'
fi
crowd
work_on a
