#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Backing chains: depth, names, sizes, formats, and what must be refused.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io "$QEDFS" "$QEDIMG" "$RANDOMIO" "$FILEOP"

cd "$TMP"
mkdir mnt
kib=1024
mib=1048576

# as_qemu IMAGE [OPTIONS…]: qedfs shows what QEMU reads, and what is then
# written through qedfs reads the same in QEMU
as_qemu() {
	image=$1
	name=$(basename "$image" .qed).raw
	shift
	mnt=$TMP/mnt
	qemu-img convert -f qed -O raw "$image" twin.raw
	mount_qed "$image" "$mnt" "$@"
	same_bytes "$mnt/$name" twin.raw
	for file in "$mnt/$name" twin.raw; do
		"$FILEOP" scatter "$file" 3 200 9000
	done
	same_bytes "$mnt/$name" twin.raw
	umount_qed "$mnt"
	image_clean "$image"
	same_disk "$image" twin.raw
}

unchanged() {
	sha256sum --quiet -c "$1" || fail "a backing file was changed"
}

# 255 images over a raw file; each changes a sector and a cluster of its own,
# and some bytes that many others change as well.
deep() {
	say "a chain of 256 layers"
	"$RANDOMIO" init 0.raw $((8 * mib)) 1
	below=0.raw
	format=raw
	layer=1
	while [ "$layer" -lt 256 ]; do
		"$QEDIMG" create -q -b "$below" -F "$format" \
			-o cluster_size=4096,table_size=2 "$layer.qed"
		below=$layer.qed
		format=qed
		layer=$((layer + 1))
	done
	# Through mounts: QEMU opens the whole chain once a command.
	for layer in 1 2 64 128 129 254 255; do
		mount_qed "$layer.qed" mnt
		"$FILEOP" scatter "mnt/$layer.raw" "$layer" 40 6000
		umount_qed mnt
	done
	sha256sum 0.raw 1.qed 128.qed 254.qed >sums
	as_qemu 255.qed -o l2_cache=64K
	unchanged sums
	rm ./*.qed 0.raw
}

# Names count from the directory of the image that has them, wherever qedfs is
# started; `file:` may stand before them (QEMU then counts a relative one from
# the working directory: here that is the same).
names() {
	say "names"
	mkdir -p store/deep elsewhere
	"$RANDOMIO" init store/base.raw $((4 * mib)) 2
	"$QEDIMG" create -q -b ../base.raw -F raw store/deep/mid.qed
	"$QEDIMG" create -q -b deep/mid.qed -F qed store/top.qed
	"$QEDIMG" create -q -b "file:$TMP/store/top.qed" -F qed store/abs.qed
	qemu_do store/deep/mid.qed qed "write -P 3 60k 80k"
	cd elsewhere
	as_qemu ../store/top.qed
	cd "$TMP"
	as_qemu store/abs.qed
	cd store
	"$QEDIMG" create -q -b file:deep/mid.qed -F qed prefix.qed
	as_qemu prefix.qed
	cd "$TMP"
	mkdir "odd, name" 
	"$QEDIMG" create -q -b "../store/base.raw" -F raw "odd, name/a,b\\c.qed"
	mount_qed "odd, name/a,b\\c.qed" mnt
	same_bytes "mnt/a,b\\c.raw" store/base.raw
	umount_qed mnt
}

# sizes BASE-SIZE SIZE: a base that ends before or after the disk, inside a
# cluster, below clusters that are written in part
sizes() {
	say "a backing file of $1 bytes below $2"
	rm -f base.raw mid.qed top.qed
	"$RANDOMIO" init base.raw "$1" 3
	"$QEDIMG" create -q -b base.raw -F raw mid.qed "$2"
	"$QEDIMG" create -q -b mid.qed -F qed top.qed $(($2 + 200 * kib))
	at=$(($1 < $2 ? $1 : $2))
	qemu_do top.qed qed "write -P 0x66 $(((at >> 10) << 9)) 512"
	sha256sum base.raw mid.qed >sums
	as_qemu top.qed
	unchanged sums
}

# A QED layer that shows less than its own backing file holds hides the rest.
shadowed() {
	say "a short layer between"
	"$RANDOMIO" init base.raw $((4 * mib)) 4
	rm -f mid.qed top.qed
	"$QEDIMG" create -q -b base.raw -F raw mid.qed $((1 * mib + 512))
	"$QEDIMG" create -q -b mid.qed -F qed top.qed $((4 * mib))
	as_qemu top.qed
}

# Zero clusters hide what lies below.
zeroes() {
	say "zero clusters"
	"$RANDOMIO" init base.raw $((4 * mib)) 5
	rm -f top.qed
	"$QEDIMG" create -q -b base.raw -F raw top.qed
	qemu_do top.qed qed "write -z 64k 256k" "write -z 1M 64k" \
		"write -P 9 70k 1k"
	as_qemu top.qed
}

refusals() {
	say "refusals"
	rm -f ./*.qed
	# Two images that are each other's backing file.
	truncate -s 1M base.raw
	"$QEDIMG" create -q -b base.raw -F raw one.qed
	"$QEDIMG" create -q -b one.qed -F qed two.qed
	qemu-img rebase -u -f qed -b two.qed -F qed one.qed
	qedfs_refuses 'one\.qed' one.qed mnt
	grep -q 'contains itself' err || fail "no loop: $(cat err)"
	qedfs_refuses 'two\.qed.*contains itself\|contains itself.*two\.qed' two.qed mnt
	# The same by another name.
	ln one.qed alias.qed
	qemu-img rebase -u -f qed -b alias.qed -F qed one.qed
	qedfs_refuses 'alias\.qed.*contains itself' one.qed mnt
	for image in one.qed two.qed; do
		limited 300 "$QEDIMG" info "$image" >/dev/null ||
			fail "qedimg info $image"
	done

	"$QEDIMG" create -q -b base.raw -F raw orphan.qed
	mv base.raw gone.raw
	qedfs_refuses 'base\.raw' orphan.qed mnt
	mv gone.raw base.raw

	# Without a format only QED images are taken for what they look like.
	"$QEDIMG" create -q -b base.raw -F raw probe.qed
	put_le 64 probe.qed 16 1
	qedfs_refuses 'backing_format=raw' probe.qed mnt
	grep -q 'base\.raw' err || fail "the file is not named: $(cat err)"
	mount_qed probe.qed mnt -o backing_format=raw
	same_bytes mnt/probe.raw base.raw
	umount_qed mnt

	# QEMU follows these; here they are not files.
	for name in nbd://localhost/x 'json:{"driver":"null-co"}'; do
		qemu-img create -q -u -f qed -b "$name" -F raw proto.qed 1M
		qedfs_refuses 'proto\.qed\|nbd\|json' proto.qed mnt
	done
	is_mounted mnt && fail "a refused image was mounted"
	[ -z "$(ls mnt)" ]
}

options() {
	say "-o backing and -o nobacking"
	rm -f ./*.qed
	"$RANDOMIO" init base.raw $((2 * mib)) 6
	"$RANDOMIO" init other.raw $((2 * mib)) 7
	"$QEDIMG" create -q -b base.raw -F raw top.qed
	qemu_do top.qed qed "write -P 0x42 128k 64k"
	sha256sum base.raw other.raw top.qed >sums

	cp other.raw want.raw
	qemu_do want.raw raw "write -P 0x42 128k 64k"
	mkdir -p elsewhere
	cd elsewhere
	mount_qed ../top.qed ../mnt -o ro,backing=../other.raw,backing_format=raw
	cd ..
	same_bytes mnt/top.raw want.raw
	umount_qed mnt

	truncate -s 0 want.raw
	truncate -s 2M want.raw
	qemu_do want.raw raw "write -P 0x42 128k 64k"
	mount_qed top.qed mnt -o nobacking
	same_bytes mnt/top.raw want.raw
	[ "$("$FILEOP" try open mnt/top.raw rw)" != 0 ] ||
		fail "-o nobacking is not read-only"
	umount_qed mnt
	rm base.raw
	mount_qed top.qed mnt -o nobacking
	same_bytes mnt/top.raw want.raw
	umount_qed mnt
	sha256sum --quiet -c --ignore-missing sums
}

deep
names
sizes $((1 * mib + 3 * 512)) $((2 * mib))
sizes $((1 * mib - 700)) $((2 * mib + 512))
sizes $((3 * mib)) $((1 * mib + 512))
sizes 512 $((1 * mib))
shadowed
zeroes
refusals
options
