#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Large reads of cached data are spliced, as the calls that the daemon makes show;
# whatever the layout, the reader gets the disk's bytes.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img strace "$QEDFS" "$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt
disk=mnt/disk.raw
size=$((8 * 1048576))

# The kernel must be able to tell what it has cached, since Linux 6.5.
splices=yes
case $(uname -r) in
[1-5].* | 6.[0-4].* | 6.[0-4]-*) splices=no ;;
esac

new_image() {
	rm -f disk.qed
	"$QEDIMG" create -q -f qed "$@" disk.qed $size
	cp --sparse=always "${base:-/dev/null}" disk.twin
	truncate -s $size disk.twin
	mount_qed disk.qed mnt
}

# put OFFSET LENGTH, in units of 64 KiB: the same bytes to the disk and the twin
put() {
	for to in $disk disk.twin; do
		dd if=data of="$to" bs=64K seek="$1" skip="$1" count="$2" \
			conv=notrunc status=none
	done
}

# reads BLOCK [DD-OPTION…]: the disk read like that is the twin
reads() {
	bs=$1
	shift
	dd if=$disk of=got bs="$bs" status=none "$@"
	same_bytes got disk.twin
}

# calls CMD…: how many splices out of the image the daemon makes meanwhile
calls() {
	mkfifo messages
	exec 5<>messages
	strace -f -e trace=splice -o trace -p "$(mount_pid mnt)" 2>&5 &
	tracer=$!
	head -n 1 <&5 >seen		# it has attached to all threads
	"$@"
	kill $tracer
	wait $tracer || true
	exec 5>&-
	rm messages
	# A splice into a pipe names an offset in the file.
	grep -c 'splice([0-9]*, \[' trace || true
}

# spliced CMD…: it was; copied CMD…: it was not
spliced() {
	n=$(calls "$@")
	if [ $splices = no ]; then
		[ "$n" -eq 0 ] || fail "$*: $n splices"
	else
		[ "$n" -ge 8 ] || fail "$*: only $n splices"
	fi
}

copied() {
	n=$(calls "$@")
	[ "$n" -eq 0 ] || fail "$*: $n splices"
}

dd if=/dev/urandom of=data bs=1M count=8 status=none

say "in one piece"
new_image
put 0 128
reads 1M			# tables and data are in memory now
spliced reads 1M iflag=direct
spliced reads 64K iflag=direct
copied reads 32K iflag=direct
spliced reads 1M iflag=direct,skip_bytes,count_bytes skip=0 count=$size
umount_qed mnt

say "in pieces"
new_image
for i in 3 2 1 0; do
	put $((i * 32)) 32
done
for i in 127 126 125 7 6 5 4 3; do
	put $i 1
done
reads 1M
spliced reads 1M iflag=direct
umount_qed mnt

say "holes"
new_image
put 16 32
put 100 7
reads 1M
spliced reads 256K iflag=direct
umount_qed mnt

say "a cluster that is not whole in the file yet"
new_image
got=$("$FILEOP" reread $disk 66048 69632)
[ "$got" = "66048 69632" ] || fail "written and read: $got"
"$FILEOP" write disk.twin 0 66048 >/dev/null
reads 1M iflag=direct
umount_qed mnt

say "a chain"
base=base.raw
head -c 5000000 data >base.raw
new_image -F raw -b base.raw
put 10 40
reads 1M
spliced reads 256K iflag=direct
umount_qed mnt
image_clean disk.qed
same_disk disk.qed disk.twin

say "not cached"
# Whatever the kernel has dropped by then is read the other way.
mount_qed disk.qed mnt
dd of=disk.qed oflag=nocache conv=notrunc,fdatasync count=0 status=none
reads 1M iflag=direct
umount_qed mnt
