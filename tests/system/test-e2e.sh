#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Real input, end to end: an ext4 disk with this machine's own files, as one QED
# image and as a chain of three layers over a raw one, used as users would.

# make soak: a larger disk with more of them.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires qemu-img qemu-io mkfs.ext4 e2fsck debugfs tar cmp "$QEDFS" "$QEDIMG" \
	"$FILEOP"

files=100		# MiB
size=320M
if [ -n "${QED_SOAK:-}" ]; then
	files=400
	size=1G
fi

cd "$TMP"
mkdir mnt fs

# own_files MIB DIR: files of /usr, as many as fit, are copied to DIR
own_files() {
	mkdir "$2"
	find /usr/share /usr/lib /usr/bin -xdev -type f -size -32768k \
		-printf '%b %p\n' 2>/dev/null |
		awk -v "max=$1" '{ sum += $1; if (sum > max * 2048) exit
			sub(/^[0-9]+ /, ""); print }' >files.list
	tar -cf - -C / -T files.list 2>/dev/null | tar -xf - -C "$2"
	[ -n "$(ls "$2")" ] || fail "no files found in /usr"
}

# The disk keeps one big file, whose blocks the layers change at will without
# harm to the file system.
make_disk() {
	own_files "$files" tree
	dd if=/dev/urandom of=tree/canvas bs=1M count=32 status=none
	truncate -s "$size" disk.raw
	mkfs.ext4 -q -F -b 4096 -d tree disk.raw
	debugfs -R "blocks /canvas" disk.raw 2>/dev/null | tr ' ' '\n' |
		grep -v '^$' >canvas.blocks
	[ "$(wc -l <canvas.blocks)" -ge 8000 ] || fail "debugfs: no blocks"
	rm -r tree
}

# scribble IMAGE BYTE FIRST LAST: QEMU writes this byte to some of the canvas
scribble() {
	awk -v "byte=$2" -v "first=$3" -v "last=$4" '
		NR >= first && NR < last && NR % 3 == 0 {
			printf "write -P %s %.0f 3584\n", byte, $1 * 4096 }
		END { print "flush" }' canvas.blocks |
		qemu-io -f qed "$1" >io.out
	! grep -q 'failed\|rror' io.out || fail "qemu-io: $(cat io.out)"
}

make_chain() {
	cp --sparse=always disk.raw base.raw
	"$QEDIMG" create -q -b base.raw -F raw lower.qed
	scribble lower.qed 0x11 1 3000
	qemu-img create -q -f qed -b lower.qed -F qed mid.qed
	scribble mid.qed 0x22 2000 5000
	"$QEDIMG" create -q -b mid.qed -F qed -o cluster_size=16K top.qed
	scribble top.qed 0x33 4000 6000
	qemu-img convert -f qed -O raw top.qed top.raw
	sha256sum base.raw lower.qed mid.qed >layers.sum
}

# read_all IMAGE RAW: every usual way to read the disk gives the raw bytes
read_all() {
	name=$(basename "$1" .qed).raw
	mount_qed "$1" mnt -o ro
	same_bytes "mnt/$name" "$2"
	cp "mnt/$name" copy
	same_bytes copy "$2"
	dd if="mnt/$name" of=copy bs=1M iflag=direct status=none
	same_bytes copy "$2"
	rm copy
	cp --sparse=always "mnt/$name" copy
	same_bytes copy "$2"
	qemu-img compare -q -f raw -F raw "mnt/$name" "$2" ||
		fail "mnt/$name and $2 differ for QEMU"
	rm copy
	umount_qed mnt
}

# use_disk IMAGE [LOSETUP-OPTION]: a file system user's day
use_disk() {
	name=$(basename "$1" .qed).raw
	mount_qed "$1" mnt
	shift
	device=$(attach_loop "mnt/$name" "$@")
	e2fsck -fn "$device" >fsck.out 2>&1 || fail "e2fsck: $(cat fsck.out)"
	mount_on fs "$device"
	rm -rf fs/unpacked
	mkdir fs/unpacked
	tar -xf part.tar -C fs/unpacked
	umount_from fs
	e2fsck -fn "$device" >fsck.out 2>&1 || fail "e2fsck: $(cat fsck.out)"
	mount_on fs -o ro "$device"
	diff -r --no-dereference part fs/unpacked
	umount_from fs
	cp --sparse=always "$device" seen.raw
	detach_loop "$device"
	umount_qed mnt
}

# What the user saw last through qedfs is what QEMU reads.
as_seen() {
	image_clean "$1"
	same_disk "$1" seen.raw
	rm seen.raw
}

# The same known writes to the disk and to its raw twin.
write_twins() {
	image=$1
	name=$(basename "$1" .qed).raw
	qemu-img convert -f qed -O raw "$image" twin.raw
	mount_qed "$image" mnt
	for file in twin.raw "mnt/$name"; do
		"$FILEOP" scatter "$file" 1 1500 20000
		"$FILEOP" scatter "$file" 2 12 3000000
	done
	same_bytes twin.raw "mnt/$name"
	umount_qed mnt
	image_clean "$image"
	same_disk "$image" twin.raw
	rm twin.raw
}

# An ext4 made through qedfs, read by QEMU alone.
new_disk() {
	"$QEDIMG" create -q new.qed 1G
	mount_qed new.qed mnt
	mkfs.ext4 -q -F mnt/new.raw
	device=$(attach_loop mnt/new.raw)
	mount_on fs "$device"
	tar -xf part.tar -C fs
	umount_from fs
	detach_loop "$device"
	umount_qed mnt
	image_clean new.qed
	qemu-img convert -f qed -O raw new.qed new.raw
	e2fsck -fn new.raw >fsck.out 2>&1 || fail "e2fsck: $(cat fsck.out)"
	mkdir dump
	debugfs -R "rdump / dump" new.raw >/dev/null 2>&1
	rmdir dump/lost+found
	diff -r --no-dereference part dump
}

make_disk
own_files 32 part
tar -cf part.tar -C part .
qemu-img convert -f raw -O qed disk.raw disk.qed
make_chain

say "reading"
read_all disk.qed disk.raw
read_all top.qed top.raw

say "writing"
use_disk disk.qed
as_seen disk.qed
use_disk disk.qed --direct-io=on
as_seen disk.qed
use_disk top.qed --direct-io=on
as_seen top.qed
write_twins disk.qed
write_twins top.qed
sha256sum --quiet -c layers.sum || fail "a write changed a lower layer"

say "a new disk"
new_disk
