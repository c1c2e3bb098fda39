#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A host that is full fails the write that needs space and nothing else.  A host
# that loses what it was given makes the daemon stop: no more writes, an exit
# status that tells, NEED_CHECK kept, and what was synced before is all there.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires mkfs.ext4 qemu-img "$QEDFS" "$QEDIMG"

cd "$TMP"
mkdir mnt small host
MIB=$((1 << 20))
mount_on small -t tmpfs -o size=40m none

# fill DIR: nothing is left of its space
fill() {
	dd if=/dev/zero of="$1/filler" bs=64k status=none 2>/dev/null || :
	[ "$(df --output=avail "$1" | tail -n 1)" -lt 64 ] ||
		fail "$1 is not full"
}

# result EXPECTED WRITE-ARGUMENT...: of write, fsync and close
result() {
	expected=$1
	shift
	[ "$("$FILEOP" write "$@")" = "$expected" ] ||
		fail "write $*: $("$FILEOP" write "$@") where $expected was due"
}

head -c $((8 * MIB)) /dev/urandom >data
tr '\0' 'w' </dev/zero | head -c $((2 * MIB)) >letters

# letters_at OFFSET LENGTH: what fileop has written, on the twin
letters_at() {
	dd if=letters of=twin bs=512 seek=$(($1 / 512)) count=$(($2 / 512)) \
		conv=notrunc status=none
}

for engine in auto threads; do
	say "a full host, io=$engine"
	rm -f small/*
	"$QEDIMG" create -q small/a.qed 1G
	truncate -s 1G twin
	mount_qed small/a.qed mnt -o io=$engine
	disk=mnt/a.raw
	dd if=data of=$disk bs=1M conv=notrunc,fsync status=none
	dd if=data of=twin bs=1M conv=notrunc status=none
	fill small
	case $("$FILEOP" write $disk $((64 * MIB)) $((2 * MIB)) direct) in
	ENOSPC*) ;;
	*) fail "a write found space on a full host" ;;
	esac
	expect_log mnt 'write: No space left on device'
	result "65536 0 0" $disk $((MIB + 512)) 65536 direct
	letters_at $((MIB + 512)) 65536
	cmp -n $((16 * MIB)) $disk twin || fail "a full host: wrong data"
	rm small/filler
	result "$((2 * MIB)) 0 0" $disk $((64 * MIB)) $((2 * MIB)) direct
	letters_at $((64 * MIB)) $((2 * MIB))
	cmp $disk twin || fail "after the host was full: wrong data"
	umount_qed mnt
	image_clean small/a.qed
	same_disk small/a.qed twin
done

# A file system without a journal on a device that promises more than it has: its
# writes fail when the kernel carries them out, so fsync(2) does.
broken_host() {
	rm -f small/*
	truncate -s 256M small/device
	mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=0 small/device
	device=$(attach_loop small/device)
	mount_on host "$device"
	"$QEDIMG" create -q host/a.qed 1G
}

# ends_badly DIR: the daemon of an unmounted DIR says so by its status
ends_badly() {
	state=$(mount_state "$1")
	"$WAITFOR" exit "$(cat "$state/runner")" 300 ||
		fail "the daemon of $1 did not end"
	touch "$state/ended"
	[ "$(cat "$state/status")" -ne 0 ] ||
		fail "the daemon of $1 lost data and ended with status 0"
}

for engine in auto threads; do
	say "a host that loses writes, io=$engine"
	broken_host
	rm -f twin
	truncate -s 1G twin
	mount_qed host/a.qed mnt -o io=$engine,commit=0
	disk=mnt/a.raw
	dd if=data of=$disk bs=1M conv=notrunc,fsync status=none
	dd if=data of=twin bs=1M conv=notrunc status=none
	sync -f host
	fill small
	answer=$("$FILEOP" write $disk $((64 * MIB)) $((2 * MIB)) direct)
	case $answer in		# as the device said it
	"$((2 * MIB)) EIO 0" | "$((2 * MIB)) ENOSPC 0") ;;
	*) fail "a flush that lost data: $answer" ;;
	esac
	for offset in 0 $((64 * MIB)) $((200 * MIB)); do
		answer=$("$FILEOP" write $disk $offset 4096 direct)
		[ "$answer" = "EIO EIO 0" ] ||
			fail "after a failed flush, at $offset: $answer"
	done
	cmp -n $((16 * MIB)) $disk twin || fail "reads have ended too"
	log=$(mount_log mnt)
	[ "$(grep -c 'a flush failed' "$log")" -eq 1 ] ||
		fail "not one line about the flush: $(cat "$log")"
	unmount mnt
	ends_badly mnt
	need_check_set host/a.qed || fail "NEED_CHECK has been cleared"
	rm small/filler
	mount_qed host/a.qed mnt
	cmp -n $((16 * MIB)) $disk twin || fail "what was synced is lost"
	result "65536 0 0" $disk $((64 * MIB)) 65536 direct
	unmount mnt
	"$WAITFOR" exit "$(cat "$(mount_state "$PWD/mnt")/runner")" 300 ||
		fail "the daemon did not end"
	touch "$(mount_state "$PWD/mnt")/ended"
	qemu-img check -q -f qed host/a.qed || [ $? -eq 3 ] ||
		fail "the repaired image is damaged"
	umount_from host
	detach_loop "$device"
done
say "passed"
