#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every way to end a mount keeps what was written, and leaves a clean image.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img fsfreeze pgrep mkfs.ext4 fusermount3 "$QEDFS" "$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt
"$QEDIMG" create -q disk.qed 64M
truncate -s 64M twin.raw
seed=1

# The same writes for both, never synced; the file stays open on descriptor 3
# where "held" is asked for, so that closing it does not push them out.
write_both() {
	dd if=/dev/urandom of=piece bs=4096 count=150 status=none
	for file in mnt/disk.raw twin.raw; do
		dd if=piece of="$file" bs=4096 seek=$((seed * 400)) \
			conv=notrunc status=none
	done
	if [ "$1" = held ]; then
		exec 3<>mnt/disk.raw
		printf 'the last words %d' "$seed" >&3
		printf 'the last words %d' "$seed" |
			dd of=twin.raw conv=notrunc status=none
	fi
	seed=$((seed + 1))
}

# thaw DIR: it may be thawed already
thaw() {
	fsfreeze -u "$1" 2>/dev/null || :
}

ended_well() {
	await_qed mnt
	! is_mounted mnt || fail "mnt is still mounted"
	image_clean disk.qed
	same_disk disk.qed twin.raw
}

# ends NAME CMD…: with what was written and closed
ends() {
	say "$1"
	shift
	mount_qed disk.qed mnt
	write_both closed
	"$@"
	ended_well
}

# signalled SIGNAL: while a program has the disk open, with unsynced data
signalled() {
	say "SIG$1 with the disk in use"
	mount_qed disk.qed mnt
	write_both held
	kill -s "$1" "$(mount_pid mnt)"
	await_qed mnt
	! dd bs=512 count=1 status=none <&3 >piece 2>err ||
		fail "the file can be read after the end"
	grep -q 'not connected' err || fail "after the end: $(cat err)"
	exec 3>&-
	ended_well
}

signal_daemon() {
	kill -s "$1" "$(mount_pid mnt)"
}

ends umount umount mnt
ends "fusermount3 -u" fusermount3 -u mnt
for signal in TERM INT HUP; do
	ends "SIG$signal" signal_daemon "$signal"
	signalled "$signal"
done

# Its own cache is being written, the host does not answer, and then it is killed:
# whoever waits for it must not wait for ever.
if [ -c /dev/loop-control ]; then
	say "SIGKILL after SIGTERM, on a host that hangs"
	mkdir host
	truncate -s 256M device
	mkfs.ext4 -q device
	mount_on host "$(attach_loop device)"
	"$QEDIMG" create -q host/frozen.qed 64M
	mount_qed host/frozen.qed mnt -o io=threads
	dd if=/dev/urandom of=mnt/frozen.raw bs=1M count=4 conv=notrunc \
		status=none
	cleanup thaw host
	fsfreeze -f host
	kill -s TERM "$(mount_pid mnt)"
	until child=$(pgrep -P "$(mount_pid mnt)"); do
		kill -0 "$(mount_pid mnt)" || fail "the daemon has ended"
	done
	kill -s KILL "$(mount_pid mnt)"
	thaw host
	state=$(mount_state mnt)
	"$WAITFOR" exit "$(cat "$state/runner")" 300 ||
		fail "the daemon hangs after SIGKILL"
	"$WAITFOR" exit "$child" 300 || fail "its child hangs"
	touch "$state/ended"
	! is_mounted mnt || fail "mnt is still mounted"
	umount_from host
fi

say "umount -l while the disk is in use"
mount_qed disk.qed mnt
write_both held
umount -l mnt
exec 3>&-
ended_well

say "umount of a busy mount is refused, and does no harm"
mount_qed disk.qed mnt
write_both held
! umount mnt 2>/dev/null || fail "a busy mount was unmounted"
printf ' and more' >&3
exec 3>&-
printf 'the last words %d and more' $((seed - 1)) |
	dd of=twin.raw conv=notrunc status=none
umount_qed mnt
ended_well

say "without a write nothing is written"
before=$(sha256sum <disk.qed)
mount_qed disk.qed mnt
cat mnt/disk.raw >/dev/null
! need_check_set disk.qed || fail "NEED_CHECK is set without a write"
umount_qed mnt
[ "$(sha256sum <disk.qed)" = "$before" ] || fail "the image has changed"

say "a loop device outlives SIGTERM as an error, not as a hang"
if command -v losetup >/dev/null && [ -c /dev/loop-control ]; then
	mount_qed disk.qed mnt
	device=$(attach_loop mnt/disk.raw)
	dd if=piece of="$device" bs=4096 conv=fsync status=none
	dd if=piece of=twin.raw bs=4096 conv=notrunc status=none
	signal_daemon TERM
	await_qed mnt
	! dd if="$device" of=/dev/null bs=4096 skip=9000 count=1 \
		iflag=direct status=none 2>/dev/null ||
		fail "a loop device without its disk still reads"
	detach_loop "$device"
	ended_well
fi
