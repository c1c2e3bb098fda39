#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg dd against qemu-img dd: the part that is copied, formats, exit status.

in_memory=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq

mkdir "$TMP/work"
cd "$TMP/work"

# disk_size IMAGE: bytes of a QED disk, by its header
disk_size() {
	get_le 64 "$1" 48
}

# allocated IMAGE: clusters that have data
allocated() {
	qemu-img check -f qed --output=json "$1" | jq '."allocated-clusters" // 0'
}

# same OUTPUT-FORMAT WORD…: ours is theirs.  compare -s is of no use: its block status
# is also about zeroes, which we leave out and qemu-img dd writes.
same() {
	output=$1
	shift
	if [ "$output" = raw ]; then
		same_bytes ours theirs
		return
	fi
	image_clean ours
	[ "$(disk_size ours)" -eq "$(disk_size theirs)" ] ||
		fail "dd $*: $(disk_size ours) bytes, not $(disk_size theirs)"
	qemu-img compare -q -f qed -F qed ours theirs || fail "dd $*: they differ"
	[ "$(allocated ours)" -le "$(allocated theirs)" ] ||
		fail "dd $*: $(allocated ours) clusters, not $(allocated theirs)"
}

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
	same "$output" "$@"
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

# Past the end: nothing is copied, and that is said, as qemu-img says it.
for output in raw qed; do
	for skip in 4 5 4194304T; do
		rm -f ours theirs
		ours=0 theirs=0
		"$QEDIMG" dd -f raw -O "$output" bs=1M "skip=$skip" if=base.raw \
			of=ours >../out 2>../err || ours=$?
		qemu-img dd -f raw -O "$output" bs=1M "skip=$skip" if=base.raw \
			of=theirs 2>../err.theirs || theirs=$?
		[ "$ours" -eq "$theirs" ] ||
			fail "skip=$skip: status $ours, qemu-img's is $theirs"
		[ ! -s ../out ] || fail "skip=$skip: prints $(cat ../out)"
		said=$(grep -c 'base.raw: cannot skip' ../err) || :
		[ "$said" -eq "$(grep -c 'cannot skip' ../err.theirs)" ] ||
			fail "skip=$skip: $(cat ../err)"
		[ "$(wc -l <../err)" -eq "$said" ] || fail "skip=$skip: $(cat ../err)"
		same "$output" "skip=$skip"
		[ "$output" = qed ] || [ ! -s ours ] || fail "skip=$skip: it copies"
	done
done

# ---- chains of all lengths, geometries, sizes ----

head -c 1000001 /dev/urandom >odd.raw
qemu-img create -q -f qed -b base.raw -F raw longer.qed 5M
qemu_do longer.qed qed 'write -P 1 1M 100k' 'write -P 2 4500k 64k'
qemu-img create -q -f qed -b longer.qed -F qed shorter.qed 2500k
qemu_do shorter.qed qed 'write -P 3 300k 200k' 'write -z 1M 64k'
qemu-img create -q -f qed -b odd.raw -F raw overodd.qed 3M
qemu_do overodd.qed qed 'write -P 4 999424 512'
qemu-img convert -f raw -O qed -o cluster_size=4k,table_size=2 base.raw small.qed
qemu-img convert -f raw -O qed -o cluster_size=1M,table_size=2 base.raw large.qed
qemu-img create -q -f qed -b large.qed -F qed -o cluster_size=4k mixed.qed 6M
qemu_do mixed.qed qed 'write -P 5 4k 4k' 'write -P 6 4M 1M' 'write -z 1M 1M'
qemu-img create -q -f qed empty.qed 3M
for source in longer shorter overodd small large mixed empty; do
	for output in raw qed; do
		both qed "$output" if=$source.qed
		both qed "$output" bs=64k skip=13 if=$source.qed
	done
	# All that the tool of the system makes of it, between two odd places.
	qemu-img convert -f qed -O raw $source.qed flat.raw
	dd status=none if=flat.raw of=theirs bs=1000 skip=777 count=1111
	truncate -s %512 theirs
	"$QEDIMG" dd bs=1000 skip=777 count=1111 if=$source.qed of=ours ||
		fail "dd of $source"
	same_bytes ours theirs
done
for output in raw qed; do
	both raw "$output" if=odd.raw
	both raw "$output" bs=7k skip=3 if=odd.raw
	both raw "$output" bs=1M count=1 if=odd.raw
done
: >nothing.raw
"$QEDIMG" dd -f raw if=nothing.raw of=ours || fail "dd of nothing"
[ ! -s ours ] || fail "of nothing comes something"

# Sparse and huge: what is not there takes no time.
qemu-img create -q -f qed huge.qed 64T
qemu_do huge.qed qed 'write -P 7 40T 1M' 'write -P 8 70368744112128 64k'
for output in raw qed; do
	timeout 300 "$QEDIMG" dd -O $output bs=1M skip=41943039 count=3 \
		if=huge.qed of=ours || fail "dd of 64T: status $?"
	qemu_do ours $output length 'read -P 0 0 1M' 'read -P 7 1M 1M' \
		'read -P 0 2M 1M'
	[ "$(qemu-img info --output=json -f $output ours |
		jq '."virtual-size"')" -eq 3145728 ] || fail "dd of 64T: its size"
	timeout 300 "$QEDIMG" dd -O $output bs=64k skip=1073741823 \
		if=huge.qed of=ours || fail "the end of 64T: status $?"
	qemu_do ours $output 'read -P 8 0 64k'
done

# ---- an image that another program writes ----

mkfifo in from
qemu-io -f qed mixed.qed <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *6*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'mixed.qed' if=mixed.qed
qemu-img convert -U -f qed -O raw mixed.qed theirs
for force in -U --force-share; do
	"$QEDIMG" dd $force if=mixed.qed of=ours || fail "dd $force"
	same_bytes ours theirs
done
exec 3>&- 4<&-
wait $!

# ---- progress, and what is refused ----

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

# ---- interrupted: the name is the old file's, or a complete copy's ----

head -c 64M /dev/urandom >big.raw
early=0
for signal in INT TERM KILL; do
	for output in raw qed; do
		for moment in 0.005 0.01 0.02 0.04; do
			echo old >"cut"
			timeout --foreground -s $signal $moment "$QEDIMG" dd -q -f raw \
				-O $output if=big.raw of=cut 2>../err || :
			if [ "$(head -c 4 cut | tr -d '\0')" = old ]; then
				early=$((early + 1))
			else
				"$QEDIMG" compare -q -f raw -F $output big.raw cut ||
					fail "$signal: a part of it is there"
			fi
			[ -z "$(find . -name '.qed-*')" ] ||
				fail "$signal: a file is left"
		done
		"$QEDIMG" dd -q -f raw -O $output if=big.raw of=cut 2>../err ||
			fail "after $signal: $(cat ../err)"
		"$QEDIMG" compare -q -f raw -F $output big.raw cut ||
			fail "after $signal: they differ"
	done
done
[ "$early" -gt 0 ] || fail "nothing was stopped"
