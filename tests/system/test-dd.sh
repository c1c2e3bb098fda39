#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg dd against qemu-img dd: the part that is copied, formats, exit status.

. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io

mkdir "$TMP/work"
cd "$TMP/work"

# both FORMAT OUTPUT-FORMAT OPERAND…: the same comes of it by both tools
both() {
	format=$1
	output=$2
	shift 2
	rm -f ours theirs
	"$QEDIMG" dd -f "$format" -O "$output" "$@" of=ours 2>../err ||
		fail "dd $*: $(cat ../err)"
	qemu-img dd -f "$format" -O "$output" "$@" of=theirs 2>../err ||
		fail "qemu-img dd $*: $(cat ../err)"
	if [ "$output" = raw ]; then
		same_bytes ours theirs
		return
	fi
	image_clean ours
	qemu-img compare -q -s -f qed -F qed ours theirs ||
		[ "$(qemu-img info --output=json ours | grep virtual-size)" = \
			"$(qemu-img info --output=json theirs | grep virtual-size)" ] ||
		fail "dd $*: the sizes differ"
	qemu-img compare -q -f qed -F qed ours theirs || fail "dd $*: they differ"
}

# refused TEXT ARG…: both refuse it, with status 1, and make nothing
refused() {
	text=$1
	shift
	status=0
	"$QEDIMG" dd "$@" of=none >../out 2>../err || status=$?
	[ "$status" -eq 1 ] || fail "dd $*: status $status"
	[ ! -s ../out ] || fail "dd $*: prints $(cat ../out)"
	grep -qF -e "$text" ../err || fail "dd $*: no '$text' in $(cat ../err)"
	[ ! -e none ] || fail "dd $*: it makes a file"
	! qemu-img dd "$@" of=none >../out 2>&1 || fail "qemu-img dd $*: accepts"
	rm -f none
}

head -c 3000000 /dev/urandom >base.raw
truncate -s 4M base.raw
qemu-img create -q -f qed -b base.raw -F raw over.qed
qemu_do over.qed qed 'write -P 1 1M 100k' 'write -z 2M 500k' \
	'write -P 5 4193792 512'

for source in 'raw if=base.raw' 'qed if=over.qed'; do
	# shellcheck disable=SC2086 # words
	set -- $source
	for output in raw qed; do
		both "$1" "$output" "$2"
		both "$1" "$output" bs=1M "$2"
		both "$1" "$output" bs=1M count=2 "$2"
		both "$1" "$output" bs=1M skip=1 "$2"
		both "$1" "$output" bs=4k count=1000000 skip=3 "$2"
		both "$1" "$output" bs=3M skip=1 "$2"
	done
done
both raw raw bs=1000 count=77 if=base.raw
both raw raw bs=1000 skip=77 if=base.raw

# After skip blocks count blocks, as dd(1) has it; some versions of qemu-img stop
# count blocks after the disk's start.
qemu-img convert -f qed -O raw over.qed over.raw
for operands in 'bs=1M skip=1 count=2' 'bs=64k skip=17 count=31' \
		'bs=1000 skip=5 count=77' 'bs=1 skip=511 count=10' \
		'bs=512 skip=8191 count=1' 'bs=1M skip=3 count=9'; do
	# shellcheck disable=SC2086 # words
	dd status=none if=over.raw of=theirs $operands
	# shellcheck disable=SC2086
	"$QEDIMG" dd $operands if=over.qed of=ours || fail "dd $operands"
	# Disks are whole sectors, in qemu-img's targets as well.
	truncate -s %512 theirs
	same_bytes ours theirs
done

# Past the end: nothing is copied, and that is said.
for skip in 5 4194304T; do
	rm -f ours
	"$QEDIMG" dd -f raw bs=1M skip=$skip if=base.raw of=ours 2>../err || :
	grep -q 'cannot skip' ../err || fail "skip=$skip: $(cat ../err)"
	[ ! -s ours ] || fail "skip=$skip: something is copied"
done

"$QEDIMG" dd --progress=json if=over.qed of=ours 2>../err ||
	fail "progress: $(cat ../err)"
grep -q '"percent": 100' ../err || fail "no progress: $(cat ../err)"
"$QEDIMG" dd -q -p if=over.qed of=ours 2>../err
[ ! -s ../err ] || fail "-q -p: $(cat ../err)"

refused 'of= are both needed'
refused "unrecognized operand 'zork'" if=over.qed zork
refused "unrecognized operand 'zork=1'" if=over.qed zork=1
refused "bs='x'" bs=x if=over.qed
refused 'bs=0' bs=0 if=over.qed
refused "count='-1'" count=-1 if=over.qed
refused "skip='y'" skip=y if=over.qed
refused "format 'zork'" -f zork if=over.qed
refused "format 'zork'" -O zork if=over.qed
refused 'No such file' if=missing.qed
status=0
"$QEDIMG" dd if=over.qed of=base.raw 2>../err || status=$?
[ "$status" -eq 1 ] || fail "a file of the chain is overwritten: $status"
grep -qF base.raw ../err || fail "overwritten: $(cat ../err)"
