#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Zeroing, discarding and preallocating ranges, through the file, through a loop
# device and by fstrim: zeroes at once, after a remount and for QEMU; nothing else
# changes; the host gets its space back and the image uses it again.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires fallocate blkdiscard fstrim mkfs.ext4 e2fsck qemu-img "$QEDFS" "$QEDIMG"

cd "$TMP"
mkdir mnt fs
size=$((48 << 20))

# in_use FILE: what it occupies on the host, in KiB
in_use() {
	du -k "$1" | cut -f 1
}

# sound IMAGE: no fault but clusters that were freed and not used again
sound() {
	status=0
	qemu-img check -f qed "$1" >checked 2>&1 || status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || fail "$1: $(cat checked)"
	"$LEAKS" "$1" >leaked || fail "$1 is damaged"
	! need_check_set "$1" || fail "NEED_CHECK is still set in $1"
}

# both MODE OFFSET LENGTH: the same on the disk and on its plain twin
both() {
	fallocate "$1" -o "$2" -l "$3" "mnt/$name.raw" ||
		fail "fallocate $1 $2 $3"
	fallocate "$1" -o "$2" -l "$3" twin
}

# The disk is its twin now, after a remount, and for QEMU.
compare_all() {
	cmp "mnt/$name.raw" twin || fail "$1: the disk is wrong"
	umount_qed mnt
	sound "$name.qed"
	qemu-img compare -q -f qed -F raw "$name.qed" twin ||
		fail "$1: QEMU reads something else"
	mount_qed "$name.qed" mnt
	cmp "mnt/$name.raw" twin || fail "$1: wrong after a remount"
}

change_ranges() {
	both -p $((1 << 20)) $((4 << 20))		# whole clusters
	both -p $((8 << 20 | 1000)) 3000		# within one
	both -p $((10 << 20 | 512)) $((300 << 10))	# with both edges
	both -z $((16 << 20)) $((2 << 20))
	both -z $((20 << 20 | 77)) $((200 << 10))
	both -p $((size - 100000)) 100000		# to the very end
	both -p $((1 << 20)) $((4 << 20))		# again
}

say "ranges, nothing behind the image"
head -c $size /dev/urandom >data
name=plain
"$QEDIMG" create -q plain.qed $size
mount_qed plain.qed mnt
cp data twin
cp data mnt/plain.raw
sync -f mnt
before=$(in_use plain.qed)
change_ranges
compare_all "without backing"
[ "$(in_use plain.qed)" -le $((before - 5 * 1024)) ] ||
	fail "the host got nothing back: $before KiB, then $(in_use plain.qed)"

say "freed clusters are used again"
before=$(in_use plain.qed)
both -p 0 $((24 << 20))
sync mnt/plain.raw
# They are punched after the flush, then free.
# shellcheck disable=SC2016 # for the inner shell
"$WAITFOR" until plain.qed "$(mount_pid mnt)" 300 sh -c \
	'[ "$(du -k "$1" | cut -f 1)" -le "$2" ]' sh plain.qed \
	$((before - 15 * 1024)) || fail "what was discarded is not given back"
length=$(stat -c %s plain.qed)
dd if=data of=mnt/plain.raw bs=1M count=20 conv=notrunc,fsync status=none
dd if=data of=twin bs=1M count=20 conv=notrunc status=none
[ "$(stat -c %s plain.qed)" -le $((length + (5 << 20))) ] ||
	fail "the image grew from $length to $(stat -c %s plain.qed) bytes"
compare_all "reused"

say "preallocation"
fallocate -o $((30 << 20)) -l $((4 << 20)) mnt/plain.raw
compare_all "preallocated"
umount_qed mnt
"$QEDIMG" create -q empty.qed 64M
name=empty
mount_qed empty.qed mnt
fallocate -o 1000 -l $((16 << 20)) mnt/empty.raw
truncate -s 64M empty
cmp mnt/empty.raw empty || fail "preallocation shows bytes"
umount_qed mnt
[ "$(in_use empty.qed)" -ge $((16 << 10)) ] || fail "nothing was reserved"
image_clean empty.qed

say "ranges, a backing file behind the image, shorter and longer"
for backing in 30 60; do
	rm -f over.qed twin
	head -c ${backing}M /dev/urandom >base.raw
	"$QEDIMG" create -q -b base.raw -F raw over.qed $size
	head -c $size base.raw >twin
	truncate -s $size twin
	name=over
	mount_qed over.qed mnt
	dd if=data of=mnt/over.raw bs=64k seek=20 count=40 conv=notrunc \
		status=none
	dd if=data of=twin bs=64k seek=20 count=40 conv=notrunc status=none
	change_ranges
	compare_all "over ${backing}M"
	# into what was zeroed, a part of a cluster
	dd if=data of=mnt/over.raw bs=512 seek=2100 count=3 conv=notrunc \
		status=none
	dd if=data of=twin bs=512 seek=2100 count=3 conv=notrunc status=none
	compare_all "written again over ${backing}M"
	umount_qed mnt
done

say "options"
mount_qed plain.qed mnt -o discard=off
cmp -n $((1 << 20)) mnt/plain.raw data || fail "plain.qed has changed"
if fallocate -p -o 0 -l 65536 mnt/plain.raw 2>err; then
	fail "discard=off: a hole was punched"
fi
grep -q -i 'unsupported' err || fail "discard=off: $(cat err)"
cmp -n $((1 << 20)) mnt/plain.raw data || fail "a refused hole has effect"
fallocate -z -o 0 -l 65536 mnt/plain.raw
cmp -n 65536 mnt/plain.raw /dev/zero || fail "discard=off: not zeroed"
umount_qed mnt
"$QEDIMG" create -q detect.qed 64M
mount_qed detect.qed mnt -o detect_zeroes
dd if=/dev/zero of=mnt/detect.raw bs=1M count=32 oflag=direct conv=notrunc \
	status=none
dd if=data of=mnt/detect.raw bs=64k seek=600 count=2 oflag=direct \
	conv=notrunc status=none
umount_qed mnt
[ "$(stat -c %s detect.qed)" -le $((1 << 20)) ] ||
	fail "detect_zeroes: zeroes were stored"

say "past the end"
mount_qed empty.qed mnt
if fallocate -o $((63 << 20)) -l $((2 << 20)) mnt/empty.raw 2>err; then
	fail "a preallocation past the end"
fi
grep -q 'File too large' err || fail "past the end: $(cat err)"
[ "$(stat -c %s mnt/empty.raw)" -eq $((64 << 20)) ] || fail "the size changed"
umount_qed mnt

say "a loop device and fstrim"
"$QEDIMG" create -q loop.qed 256M
mount_qed loop.qed mnt
loop=$(attach_loop mnt/loop.raw)
mkfs.ext4 -q "$loop"
mount_on fs "$loop"
head -c 100M /dev/urandom >fs/big
echo kept >fs/small
sync -f fs
sync -f mnt
full=$(in_use loop.qed)
rm fs/big
sync -f fs
fstrim fs
umount_from fs
e2fsck -fn "$loop" >/dev/null 2>&1 || fail "the file system is damaged"
blkdiscard -f -o $((200 << 20)) -l $((1 << 20)) "$loop" || fail "blkdiscard"
detach_loop "$loop"
umount_qed mnt
sound loop.qed
[ "$(in_use loop.qed)" -le $((full - 90 * 1024)) ] ||
	fail "fstrim: $full KiB, then $(in_use loop.qed)"
