#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The commands of qedimg on images of each geometry that the format has: 15 cluster
# sizes by 5 table sizes.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq

cd "$TMP"

# A disk that needs more than one L2 table where these are small, and has its data at
# both ends, alone and across clusters; two others, and what is written over the first.
random() {
	dd if=/dev/urandom of="$1" bs=4k seek=$(($2 / 4)) count=$(($3 / 4)) conv=notrunc \
		status=none
}
truncate -s 40M empty.raw base.raw
random base.raw 0 64
random base.raw 5000 300
random base.raw 40956 4
cp base.raw top.raw
random top.raw 5100 8
random top.raw 20000 72
dd if=/dev/zero of=top.raw bs=4k seek=3 count=5 conv=notrunc status=none
cp base.raw other.raw
random other.raw 5040 4
random other.raw 30000 4
cp top.raw larger.raw
truncate -s 50M larger.raw
head -c 21M top.raw >smaller.raw

# QEMU 7.2 refuses tables of one cluster, and geometries whose greatest disk has more
# bytes than 64 bits count, though the format has them.
for_qemu() {
	[ $table_bits -gt 0 ] && [ $((3 * cluster_bits + 2 * table_bits - 6)) -lt 64 ]
}

qemu() {
	! for_qemu || qemu-img "$@" || fail "$label: qemu-img $*"
}

# sound IMAGE RAW: both find nothing wrong, but for clusters that have been given back
# to the host; it has that disk
sound() {
	ours check -q "$1"
	status=0
	! for_qemu || qemu-img check -q -f qed "$1" || status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
		fail "$label: qemu-img check of $1: $status"
	ours compare -q -F raw "$1" "$2"
	qemu compare -q -f qed -F raw "$1" "$2"
}

ours() {
	"$QEDIMG" "$@" >out 2>err || fail "$label: $*: $(cat out err)"
}

# same_json COMMAND IMAGE FILTER: qemu-img says the same
same_json() {
	for_qemu || return 0
	qemu-img "$1" --output=json -f qed "$2" | jq -S "$3" >theirs.json
	ours "$1" --output=json "$2"
	jq -S "$3" out | diff theirs.json - || fail "$label: $1 of $2"
}

described='del(.children, .filename, ."actual-size", ."format-specific")'
mapped='map(if .data then . else del(.offset) end)'

try() {
	cluster=$((1 << cluster_bits))
	table=$((1 << table_bits))
	label="clusters of $cluster, tables of $table"
	options=cluster_size=$cluster,table_size=$table
	rm -f ./*.qed
	ours create -q -o $options new.qed 40M
	if for_qemu; then
		qemu-img create -q -f qed -o $options theirs.qed 40M
		same_bytes new.qed theirs.qed
	fi
	sound new.qed empty.raw
	# Into a new image, into one that is there, and out of it.
	ours convert -q -f raw -O qed -o $options base.raw base.qed
	sound base.qed base.raw
	same_json info base.qed "$described"
	same_json map base.qed "$mapped"
	ours convert -q -n -f raw -O qed base.raw new.qed
	sound new.qed base.raw
	ours convert -q base.qed out.raw
	same_bytes out.raw base.raw
	ours measure -O qed -o $options -f raw base.raw
	# An overlay, its backing file exchanged, and committed to one.
	ours convert -q -f raw -O qed -B base.qed -F qed -o $options top.raw top.qed
	sound top.qed top.raw
	same_json map top.qed "$mapped"
	cp top.qed copy.qed
	ours rebase -q -b other.raw -F raw top.qed
	sound top.qed top.raw
	ours rebase -q -b '' top.qed
	sound top.qed top.raw
	ours commit -q copy.qed
	sound base.qed top.raw
	sound copy.qed top.raw
	ours snapshot -q base.qed over.qed
	chmod u+w base.qed
	sound over.qed top.raw
	# Sizes, and space.
	ours resize -q top.qed 50M
	sound top.qed larger.raw
	ours resize -q --preallocation=metadata top.qed +1M
	ours resize -q --shrink top.qed 21M
	sound top.qed smaller.raw
	ours compact -q --defrag top.qed
	sound top.qed smaller.raw
	# Two entries that name one cluster, and a cluster that none names.
	l2=$(get_le 64 top.qed "$(get_le 64 top.qed 40)")
	put_le 64 top.qed $((l2 + table * cluster - 8)) "$(get_le 64 top.qed "$l2")"
	truncate -s "+$cluster" top.qed
	status=0
	"$QEDIMG" check -q top.qed >out 2>err || status=$?
	[ "$status" -eq 2 ] || fail "$label: damage is not found: $status"
	ours check -q -r all top.qed
	cp smaller.raw mended.raw
	at=$(((table * cluster / 8 - 1) * cluster))
	[ $at -ge 22020096 ] || dd if=smaller.raw of=mended.raw bs=4k \
		count=$((cluster / 4096)) seek=$((at / 4096)) conv=notrunc status=none
	sound top.qed mended.raw
}

for cluster_bits in $(few 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26); do
	for table_bits in 0 1 2 3 4; do
		try
	done
done
