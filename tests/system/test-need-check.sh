#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# NEED_CHECK: repaired and reported when mounted read-write, left alone when
# not; and a read-only mount never changes a byte.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io "$QEDFS" "$QEDIMG" "$RANDOMIO" "$FILEOP"

cd "$TMP"
mkdir mnt

# The image, its times and its size on the host, as one line.
print_of() {
	stat -c '%s %b %y %z' "$1"
	sha256sum <"$1"
}

# frozen IMAGE CMD…: the command changes nothing of the image
frozen() {
	image=$1
	shift
	print_of "$image" >before
	"$@"
	print_of "$image" >after
	cmp -s before after || {
		diff before after >&2 || :
		fail "$image has changed"
	}
}

# Where entry INDEX of the first L2 table is in the file.
entry_at() {
	echo $(($(get_le 64 "$1" "$(get_le 64 "$1" 40)") + 8 * $2))
}

# Clusters 0 to 9 hold data, of 64 KiB each.
make_image() {
	"$RANDOMIO" init data.raw 4194304 1
	truncate -s 640K data.raw
	truncate -s 4M data.raw
	qemu-img convert -f raw -O qed data.raw disk.qed
	"$QEDIMG" create -q disk.qed 4M
	qemu_copy data.raw disk.qed 0 655360
}

need_check() {
	put_le 64 "$1" 16 $(($(get_le 64 "$1" 16) | 2))
}

look() {
	mount_qed disk.qed mnt -o ro
	cat mnt/disk.raw >copy
	expect_log mnt "$1"
	[ "$(wc -l <"$(mount_log mnt)")" -eq 1 ] ||
		fail "more than one line: $(cat "$(mount_log mnt)")"
	umount_qed mnt
}

open_rw() {
	mount_qed disk.qed mnt
	cat mnt/disk.raw >copy
}

# The flag alone: nothing is wrong, nothing is dropped.
flag_alone() {
	say "the flag alone"
	make_image
	need_check disk.qed
	frozen disk.qed look 'disk\.qed.*check'
	same_bytes copy data.raw
	need_check_set disk.qed
	open_rw
	same_bytes copy data.raw
	umount_qed mnt
	image_clean disk.qed
	same_disk disk.qed data.raw
}

# As a crash leaves it: both qedfs and QEMU die in the middle of writing.
after_crash() {
	say "after a crash"
	make_image
	mount_qed disk.qed mnt
	dd if=/dev/urandom of=tail.bin bs=64K count=4 status=none
	dd if=tail.bin of=mnt/disk.raw bs=64K seek=20 conv=notrunc,fsync \
		status=none
	kill_qed mnt
	need_check_set disk.qed || fail "no NEED_CHECK while writing"
	dd if=tail.bin of=data.raw bs=64K seek=20 conv=notrunc status=none
	open_rw
	same_bytes copy data.raw
	umount_qed mnt
	image_clean disk.qed

	qemu-io -f qed -c 'write -P 7 2M 64k' -c flush -c 'sigraise 9' \
		disk.qed >/dev/null 2>&1 || :
	need_check_set disk.qed || fail "QEMU left no NEED_CHECK"
	qemu_do data.raw raw 'write -P 7 2M 64k'
	open_rw
	same_bytes copy data.raw
	umount_qed mnt
	image_clean disk.qed
	same_disk disk.qed data.raw
}

# damaged VALUE INDEX: an entry of the L2 table that is wrong; its cluster is
# dropped and reported, others stay
damaged() {
	say "an L2 entry of $1"
	make_image
	put_le 64 disk.qed "$(entry_at disk.qed "$2")" "$1"
	need_check disk.qed
	cp disk.qed damaged.qed
	frozen disk.qed ro_damaged
	open_rw
	dropped $(($2 * 65536)) 65536
	umount_qed mnt
	cp data.raw want.raw
	qemu_do want.raw raw "write -z $(($2 * 65536)) 64k"
	same_bytes copy want.raw
	same_disk disk.qed want.raw
	as_repaired_by_qemu
}

ro_damaged() {
	mount_qed disk.qed mnt -o ro
	cmp -n 65536 mnt/disk.raw data.raw || fail "cluster 0 is not affected"
	cat mnt/disk.raw >/dev/null 2>&1 || :
	expect_log mnt 'disk\.qed'
	umount_qed mnt
}

# dropped OFFSET LEN: this was said, in bytes of the virtual disk
dropped() {
	expect_log mnt "disk\\.qed.*offset $1, length $2 "
	expect_log mnt 'disk\.qed: .*the check dropped [0-9]* '
	[ "$(wc -l <"$(mount_log mnt)")" -eq 2 ] ||
		fail "not two lines: $(cat "$(mount_log mnt)")"
}

# Neither mends leaks.
as_repaired_by_qemu() {
	qemu-img check -q -f qed -r all damaged.qed || :
	image_clean disk.qed "$("$LEAKS" damaged.qed)"
	qemu-img compare -q -f qed -F qed disk.qed damaged.qed ||
		fail "QEMU repairs this image to another disk"
}

# Neighbours that are dropped together are reported as one range.
damaged_run() {
	say "a run of bad entries"
	make_image
	for index in 4 5 6; do
		put_le 64 disk.qed "$(entry_at disk.qed $index)" $((1 << 40))
	done
	need_check disk.qed
	cp disk.qed damaged.qed
	open_rw
	dropped 262144 196608
	umount_qed mnt
	as_repaired_by_qemu
}

# The L1 entry is bad: a whole table goes.
damaged_l1() {
	say "a bad L1 entry"
	make_image
	put_le 64 disk.qed "$(get_le 64 disk.qed 40)" $((1 << 40))
	need_check disk.qed
	cp disk.qed damaged.qed
	open_rw
	dropped 0 4194304
	umount_qed mnt
	as_repaired_by_qemu
	truncate -s 0 zeroes.raw
	truncate -s 4M zeroes.raw
	same_bytes copy zeroes.raw
}

# What a user does with a read-only mount, and with all of the options.
browse() {
	mount_qed disk.qed mnt -o "ro$1"
	cat mnt/disk.raw >/dev/null
	"$FILEOP" map mnt/disk.raw >/dev/null
	for call in "truncate mnt/disk.raw 0" "open mnt/disk.raw rw" \
		"utimens mnt/disk.raw" "chmod mnt/disk.raw 777"; do
		# shellcheck disable=SC2086 # words
		[ "$("$FILEOP" try $call)" != 0 ] || fail "$call worked"
	done
	umount_qed mnt
}

read_only() {
	say "read-only mounts"
	make_image
	for opts in '' ,io=threads ,nowriteback ,commit=1; do
		frozen disk.qed browse "$opts"
	done
}

# Unknown autoclear bits stay until the first write, whatever is mounted.
autoclear() {
	say "autoclear bits"
	make_image
	put_le 64 disk.qed 32 $((1 << 62 | 5))
	frozen disk.qed browse ''
	mount_qed disk.qed mnt
	cat mnt/disk.raw >/dev/null
	umount_qed mnt
	[ "$(get_le 64 disk.qed 32)" -eq $((1 << 62 | 5)) ] ||
		fail "autoclear bits were cleared without a write"
	mount_qed disk.qed mnt
	[ "$("$FILEOP" write mnt/disk.raw 0 512)" = '512 0 0' ]
	[ "$(get_le 64 disk.qed 32)" -eq 0 ] ||
		fail "autoclear bits are still there after a write"
	umount_qed mnt
	image_clean disk.qed
}

flag_alone
after_crash
damaged $((1 << 40)) 3			# past the end of the file
damaged $((1 << 18 | 1 << 12)) 2	# inside of a cluster
damaged 4096 4				# inside of the header
damaged_run
damaged_l1
read_only
autoclear
