#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg commit writes past the host's page cache where a raw backing file has its
# space, and the usual way into holes.

in_memory=yes
# That turns off LeakSanitizer, which does not work under strace.
many_starts=yes
. "$(dirname "$0")/functions.sh"

need_loop
requires "$QEDIMG" qemu-img qemu-io fallocate mkfs.ext4 strace

cd "$TMP"
truncate -s 64M host.img
mkfs.ext4 -q -F host.img
mkdir host
mount_on host -o loop host.img

# ---- helpers ----

# overlay BASE: an image on it with other data
overlay() {
	qemu-img create -q -f qed -b "$1" -F raw top.qed
	for at in 0 4M 8M 11M; do
		qemu_do top.qed qed "write -P 9 $at 1M"
	done
	qemu-img convert -f qed -O raw top.qed want.raw
}

# committed BASE WRITES: so many of its writes go past the page cache
committed() {
	strace -f -qq -y -o trace -e trace=?open,openat,pwritev \
		"$QEDIMG" commit -q top.qed || fail "commit under strace"
	past=$(sed -n "s|.*O_DIRECT[|,].* = \\([0-9]*\\)<.*$1>.*|\\1|p" trace)
	n=0
	[ -z "$past" ] || n=$(grep -c "pwritev($past<" trace) || :
	[ "$n" -eq "$2" ] ||
		fail "$1: $n writes past the page cache, not $2: $(cat trace)"
	cmp "$1" want.raw || fail "$1: other bytes"
}

# ---- a file ----

head -c 12M /dev/urandom >host/full.raw
overlay host/full.raw
committed host/full.raw 4

head -c 12M /dev/urandom >host/holes.raw
fallocate -p -o 4M -l 2M host/holes.raw
overlay host/holes.raw
committed host/holes.raw 3

# Space that is reserved but was never written counts as a hole.
fallocate -l 12M host/reserved.raw
overlay host/reserved.raw
committed host/reserved.raw 0

# ---- a device ----

truncate -s 12M disk.img
device=$(attach_loop disk.img)
overlay "$device"
committed "$device" 4
