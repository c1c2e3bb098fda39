#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# When tables reach the image: -o commit=SECONDS after a write that nobody flushes,
# with commit=0 not before a flush.  An image that is left alone becomes clean.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img "$QEDFS" "$QEDIMG"

cd "$TMP"
mkdir mnt never

# mapped IMAGE: does its L1 table, as it is on the host, name a table?
mapped() {
	[ "$(get_le 64 "$1" "$(get_le 64 "$1" 40)")" -ne 0 ]
}

# Without the kernel's cache, and without a flush.
write_page() {
	dd if=/dev/urandom of="$1" bs=4k count=1 oflag=direct conv=notrunc \
		status=none
}

say "commit=1 and commit=0"
"$QEDIMG" create -q timed.qed 64M
"$QEDIMG" create -q never.qed 64M
mount_qed never.qed never -o commit=0
mount_qed timed.qed mnt -o commit=1
write_page never/never.raw
write_page mnt/timed.raw
# shellcheck disable=SC2016 # for the inner shell
"$WAITFOR" until timed.qed "$(mount_pid mnt)" 300 sh -c '
	le() { od -An --endian=little -t u8 -j "$2" -N 8 "$1"; }
	[ "$(le "$1" "$(le "$1" 40 | tr -d " ")")" -ne 0 ] &&
		[ "$(($(le "$1" 16) & 2))" -eq 0 ]' sh timed.qed ||
	fail "commit=1: the tables have not been written, or the image is not clean"
cp timed.qed copy.qed
qemu-img compare -q -f qed -F raw copy.qed mnt/timed.raw ||
	fail "commit=1: not all of it is in the image"
! mapped never.qed || fail "commit=0: tables were written without a flush"
sync never/never.raw
mapped never.qed || fail "commit=0: a flush has not written the tables"
umount_qed mnt
umount_qed never
image_clean timed.qed
image_clean never.qed

say "a daemon below a file system it serves"
mount_qed timed.qed mnt -d
grep -q -e 'marked as an I/O flusher: 1' -e 'not marked as an I/O flusher: ' \
	"$(mount_log mnt)" ||
	fail "nothing in the debug log about PR_SET_IO_FLUSHER"
expect_log mnt '.'
umount_qed mnt
say "passed"
