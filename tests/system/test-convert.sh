#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg convert against qemu-img convert on the same inputs: QED to raw, raw to
# QED, chains, sizes, geometries, -B, -n, -S, and what is refused.

many_starts=yes
. "$(dirname "$0")/functions.sh"

need_root
requires "$QEDIMG" qemu-img qemu-io jq setpriv strace

mkdir "$TMP/work"
cd "$TMP/work"

# refused TEXT ARG…: convert ARG… ends with status 1 and one line with TEXT, and
# leaves no file that was not there
refused() {
	text=$1
	shift
	ls -A >../before
	status=0
	"$QEDIMG" convert "$@" >../out 2>../err </dev/null ||
		status=$?
	ls -A >../after
	[ "$status" -eq 1 ] || fail "convert $*: status $status, not 1"
	[ ! -s ../out ] || fail "convert $*: prints $(cat ../out)"
	grep -qF -e "$text" ../err ||
		fail "convert $*: no '$text' in: $(cat ../err)"
	[ "$(grep -c '^qedimg[a-z ]*: ' ../err)" -eq 1 ] ||
		fail "convert $*: not one message: $(cat ../err)"
	diff ../before ../after || fail "convert $*: leaves files"
}

convert() {
	"$QEDIMG" convert "$@" >../out 2>../err || fail "convert $*: $(cat ../err)"
	cat ../out ../err >../said
	[ ! -s ../said ] || fail "convert $*: says $(cat ../said)"
	[ -z "$(find . -name '.qed-*')" ] || fail "a temporary file is left"
}

# to_qed FORMAT SOURCE [OPTION…]: into ours.qed, which is right by all measures,
# takes no more space than QEMU's, and is out.raw when QEMU makes that of it
to_qed() {
	format=$1
	source=$2
	shift 2
	convert -f "$format" -O qed "$@" "$source" ours.qed
	image_clean ours.qed
	qemu-img convert -f "$format" -O raw "$source" theirs.raw
	qemu-img convert -f qed -O raw ours.qed out.raw
	same_bytes theirs.raw out.raw
	"$QEDIMG" check -q ours.qed || fail "check of $source as QED"
}

# data_clusters IMAGE: how many it has
data_clusters() {
	qemu-img check -f qed --output=json "$1" |
		jq '."allocated-clusters" // 0'
}

# to_raw FORMAT SOURCE [OPTION…]
to_raw() {
	format=$1
	source=$2
	shift 2
	convert -f "$format" "$@" "$source" ours.raw
	qemu-img convert -f "$format" -O raw "$source" theirs.raw
	same_bytes ours.raw theirs.raw
}

# ---- sources of all kinds ----

head -c 9000000 /dev/urandom >random.raw
truncate -s 20M random.raw
dd if=/dev/urandom of=random.raw bs=4k count=3 seek=4000 conv=notrunc status=none
: >empty.raw
truncate -s 8M hole.raw
head -c 5M /dev/zero >zeroes.raw
qemu-img create -q -f qed empty.qed 20M
qemu-img create -q -f qed nothing.qed 0
qemu-img convert -f raw -O qed -S 0 random.raw full.qed
qemu-img create -q -f qed -b random.raw -F raw over.qed
qemu_do over.qed qed 'write -P 1 1M 100k' 'write -P 2 12345678 1' \
	'write -z 2M 1M' 'write -P 0 3M 1M' 'write -P 5 20971008 512'
# Shorter and longer than what is below.
qemu-img create -q -f qed -b over.qed -F qed -o cluster_size=4k,table_size=2 \
	short.qed 7M
qemu-img create -q -f qed -b short.qed -F qed long.qed 30M
qemu_do long.qed qed 'write -P 7 6M 3M' 'write -z 29M 1M'

for size in 1 511 512 513 65535 65536 65537 1048575 1049088 3000001; do
	head -c "$size" random.raw >odd-$size.raw
done

for raw in random empty hole zeroes $(few odd-3000001 odd-1 odd-511 odd-512 odd-513 \
		odd-65535 odd-65536 odd-65537 odd-1048575 odd-1049088); do
	to_raw raw "$raw.raw"
	to_qed raw "$raw.raw"
	qemu-img convert -f raw -O qed "$raw.raw" theirs.qed
	[ "$(data_clusters ours.qed)" -le "$(data_clusters theirs.qed)" ] ||
		fail "$raw: more clusters than QEMU's"
done
to_raw raw hole.raw
[ "$(stat -c %b ours.raw)" -eq 0 ] || fail "a hole is written"
to_raw raw zeroes.raw
[ "$(stat -c %b ours.raw)" -eq 0 ] || fail "zeroes are not left out"
for qed in empty nothing full over short long; do
	to_raw qed $qed.qed
	to_qed qed $qed.qed
	! "$QEDIMG" info ours.qed | grep -qi backing || fail "$qed: backing"
done

# ---- geometries ----

for geometry in $(few 4k,2 4k,16 8k,4 64k,2 64k,16 1M,4 2M,2); do
	list=cluster_size=${geometry%,*},table_size=${geometry#*,}
	to_qed qed long.qed -o "$list"
	to_qed raw random.raw -o "$list"
	to_raw qed ours.qed
done
# QEMU does not open these.
qemu-img convert -f qed -O raw long.qed theirs.raw
for geometry in $(few 4k,1 8k,1 64k,1 2M,1 2M,16 4M,16); do
	convert -O qed -o "cluster_size=${geometry%,*}" \
		-o "table_size=${geometry#*,}" long.qed ours.qed
	"$QEDIMG" check -q ours.qed || fail "check of $geometry"
	convert ours.qed ours.raw
	same_bytes ours.raw theirs.raw
done
# A table that goes on beyond one of the windows in which tables are written, and
# several tables.
truncate -s 1G wide.raw
for at in 0 4095 4096 250000 262143; do
	dd if=random.raw of=wide.raw bs=4k count=1 seek=$at conv=notrunc \
		status=none
done
to_qed raw wide.raw -o cluster_size=4k,table_size=16
to_qed raw wide.raw -o cluster_size=4k,table_size=2
to_raw qed ours.qed
# QEMU takes minutes for this one, and counts wrongly in it.
truncate -s 200M large.raw
for at in 0 70 130 199; do
	dd if=random.raw of=large.raw bs=1M count=1 seek=$at conv=notrunc \
		status=none
done
convert -f raw -O qed -o cluster_size=64M,table_size=16 large.raw ours.qed
"$QEDIMG" check -q ours.qed || fail "64 MiB clusters"
convert ours.qed ours.raw
same_bytes ours.raw large.raw
# In the file a cluster takes up only what was written.
[ "$(stat -c %b ours.qed)" -lt $((8 * 2048)) ] || fail "64 MiB clusters are full"

# ---- large and sparse ----

qemu-img create -q -f qed big.qed 64T
qemu_do big.qed qed 'write -P 3 40T 1M' 'write -P 4 70368744177152 512'
convert -O qed big.qed ours.qed
image_clean ours.qed
qemu-img compare -q -f qed -F qed big.qed ours.qed || fail "64T"
if truncate -s 15T big.raw; then
	qemu_do big.raw raw 'write -P 3 14T 1M'
	convert -f raw -O qed big.raw ours.qed
	image_clean ours.qed
	convert ours.qed ours.raw
	[ "$(stat -c %s ours.raw)" -eq $((15 << 40)) ] || fail "size of 15T"
	qemu_do ours.raw raw 'read -P 3 14T 1M' 'read -P 0 13T 1M'
	rm ours.raw big.raw
fi

# ---- several sources ----

convert -f raw odd-513.raw odd-65537.raw zeroes.raw odd-1.raw ours.raw
qemu-img convert -f raw -O raw odd-513.raw odd-65537.raw zeroes.raw odd-1.raw \
	theirs.raw
same_bytes ours.raw theirs.raw
convert -O qed over.qed long.qed ours.qed
qemu-img convert -f qed -O raw over.qed long.qed theirs.raw
same_disk ours.qed theirs.raw
image_clean ours.qed

# ---- -S, -m, -W, -C, -t ----

for size in 0 512 1k 64k 16M; do
	to_raw raw random.raw -S $size
	to_raw qed over.qed -S $size
	to_qed raw random.raw -S $size
	to_qed qed long.qed -S $size
done
to_qed raw hole.raw -S 0
[ "$(data_clusters ours.qed)" -eq 128 ] || fail "-S 0 does not allocate all"
to_raw raw hole.raw -S 0
[ "$(stat -c %b ours.raw)" -ge 16384 ] || fail "-S 0 leaves holes"
# A short run between data is kept, and left out.
{
	head -c 64k random.raw
	head -c 64k /dev/zero
	head -c 64k random.raw
} >run.raw
to_raw raw run.raw -S 128k
whole=$(stat -c %b ours.raw)
to_raw raw run.raw -S 64k
[ "$(stat -c %b ours.raw)" -lt "$whole" ] || fail "-S 64k leaves nothing out"
to_qed raw run.raw -S 128k
[ "$(data_clusters ours.qed)" -eq 3 ] || fail "-S 128k leaves a cluster out"
for threads in 1 2 16; do
	to_raw qed long.qed -m $threads -W
	to_qed qed long.qed -m $threads -W
	# A new image's clusters are in the disk's order.
	to_qed qed long.qed -m $threads
	[ "$("$QEDIMG" check --output=json ours.qed |
		jq '."fragmented-clusters" // 0')" -eq 0 ] ||
		fail "-m $threads: the clusters are not in order"
done
to_raw qed long.qed -C
to_qed raw random.raw -C
to_qed qed over.qed -C -t unsafe
# It is the host that copies, unless it clones.  LeakSanitizer does not work under strace.
for format in raw qed; do
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 strace -f -qq \
		-o ../trace -e trace=copy_file_range,ioctl "$QEDIMG" convert -C \
		-f raw -O $format random.raw ours.$format || fail "-C under strace"
	grep -Eq '(copy_file_range|FICLONE).* = [0-9]' ../trace ||
		fail "-C to $format: nothing is copied by the host: $(cat ../trace)"
done
to_raw qed over.qed -t writeback
# Of the calls that wait for stable storage those by io_uring are not seen, but not
# all are made by it.  LeakSanitizer does not work under strace.
synced() {
	mode=$1
	shift
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -o ../trace \
		-e trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync \
		"$QEDIMG" convert -t "$mode" "$@" over.qed synced ||
		fail "convert -t $mode $*"
	grep -c 'sync' ../trace || :
}
for how in '-O raw' '-n -O raw' '-O qed'; do
	# shellcheck disable=SC2086 # words
	[ "$(synced writeback $how)" -gt 0 ] || [ "$how" = '-n -O raw' ] ||
		fail "-t writeback $how: no sync"
	# shellcheck disable=SC2086
	[ "$(synced unsafe $how)" -eq 0 ] ||
		fail "-t unsafe $how: $(cat ../trace)"
done
rm synced

# ---- damage ----

# It is met when what comes next is asked for, and once more when it is its turn, but
# told once.
qemu-img create -q -f qed bad.qed 32M
qemu_do bad.qed qed 'write -P 5 0 24M'
rm -f ours.raw
l1=$(get_le 64 bad.qed 40)
put_le 64 bad.qed $(($(get_le 64 bad.qed "$l1") + 8 * 100)) $((1 << 50))
status=0
"$QEDIMG" convert -O raw bad.qed ours.raw 2>../err || status=$?
[ "$status" -eq 1 ] || fail "of a damaged image: status $status"
[ "$(grep -c 'damaged: bad L2 entry .*(disk offset 6553600)' ../err)" -eq 1 ] ||
	fail "of a damaged image: $(cat ../err)"
[ "$(grep -c '^qedimg: bad.qed: cannot map at disk offset 6553600: .*; nothing was made: mend it first' ../err)" -eq 1 ] ||
	fail "of a damaged image: $(cat ../err)"
[ "$(wc -l <../err)" -eq 2 ] || fail "of a damaged image: $(cat ../err)"
[ ! -e ours.raw ] || fail "of a damaged image: there is a copy"
rm bad.qed

# ---- -B ----

# over_base FORMAT SOURCE BASEFORMAT BASE CLUSTERS [OPTION…]: into ours.qed over
# the base, with so many clusters of its own (- for any number)
over_base() {
	format=$1
	source=$2
	base=$4
	base_format=$3
	clusters=$5
	shift 5
	convert -f "$format" -O qed -B "$base" -F "$base_format" "$@" \
		"$source" ours.qed
	image_clean ours.qed
	qemu-img convert -f "$format" -O raw "$source" theirs.raw
	same_disk ours.qed theirs.raw
	[ "$clusters" = - ] || [ "$(data_clusters ours.qed)" = "$clusters" ] ||
		fail "$source over $base: $(data_clusters ours.qed) clusters"
	[ "$(qemu-img info --output=json ours.qed |
		jq -r '."backing-filename"')" = "$base" ] || fail "backing name"
}
over_base qed over.qed raw random.raw -
over_base qed over.qed raw random.raw - -o cluster_size=4k
over_base qed over.qed raw random.raw - -o cluster_size=2M
over_base qed long.qed raw random.raw -
over_base qed long.qed qed over.qed -
over_base qed short.qed qed over.qed 0
over_base raw random.raw raw random.raw 0
cp random.raw copy.raw
over_base raw copy.raw raw random.raw 0
over_base raw copy.raw raw random.raw 0 -o cluster_size=2M
over_base qed empty.qed raw random.raw 0
over_base qed empty.qed raw random.raw 0 -o cluster_size=2M
qemu-img map --output=json -f qed ours.qed |
	jq -e 'all(.[]; .depth == 0 and .zero or .depth == 1 and .zero)' \
	>../out || fail "no zero clusters: $(cat ../out)"
qemu_do copy.raw raw 'write -P 9 5M 1' 'write -P 0 7M 64k'
over_base raw copy.raw raw random.raw 1
over_base raw copy.raw raw odd-3000001.raw -
over_base qed empty.qed raw zeroes.raw 0
over_base raw zeroes.raw raw hole.raw 0
# The same by -o, as qemu-img has it; -B and -F count before it.
convert -f raw -O qed -B copy.raw -F raw random.raw named.qed
convert -f raw -O qed -o backing_fmt=raw,backing_file=copy.raw random.raw ours.qed
cmp named.qed ours.qed || fail "-o backing_file"
convert -f raw -O qed -B copy.raw -F raw \
	-o backing_fmt=qed,backing_file=missing.raw random.raw ours.qed
cmp named.qed ours.qed || fail "-o backing_file with -B"
mkdir sub
cp random.raw sub/base.raw
convert -f raw -O qed -B base.raw -F raw copy.raw sub/ours.qed
[ "$(data_clusters sub/ours.qed)" -eq 1 ] || fail "a relative backing name"

# ---- -n ----

# sound IMAGE: but for clusters that were given back, which take up no space
sound() {
	"$QEDIMG" check -q "$1" || fail "check of $1"
	! need_check_set "$1" || fail "NEED_CHECK is still set in $1"
}

# onto STALE SIZE SOURCE-FORMAT SOURCE [OPTION…]: both tools write the source into
# a QED and a raw target of that size which is full of something else
onto() {
	pattern=$1
	size=$2
	format=$3
	source=$4
	shift 4
	for tool in "$QEDIMG" qemu-img; do
		rm -f t.qed t.raw
		truncate -s "$size" t.raw
		qemu_do t.raw raw "write -P $pattern 0 $size"
		qemu-img convert -f raw -O qed t.raw t.qed
		"$tool" convert -n -f "$format" -O raw "$@" "$source" t.raw
		"$tool" convert -n -f "$format" -O qed "$@" "$source" t.qed
		[ "$tool" = qemu-img ] || sound t.qed
		[ "$(stat -c %s t.raw)" -eq "$((size))" ] || fail "-n cuts"
		mv t.raw "${tool##*/}.raw"
		qemu-img convert -f qed -O raw t.qed "${tool##*/}.qed.raw"
	done
	same_bytes qedimg.raw qemu-img.raw
	same_bytes qedimg.qed.raw qemu-img.qed.raw
}
for image in over long empty; do
	onto 0x77 $((30 << 20)) qed $image.qed
	onto 0x77 $((31 << 20)) qed $image.qed -S 0
done
onto 0x77 $((20 << 20)) raw random.raw
onto 0x77 $((21 << 20)) raw odd-65537.raw
onto 0 $((21 << 20)) qed over.qed --target-is-zero
# If that is not true, what is there stays: the zeroes are not written.
onto 0x77 $((21 << 20)) raw hole.raw --target-is-zero
qemu_do qedimg.raw raw 'read -P 0x77 0 64k'
qemu_do qedimg.qed.raw raw 'read -P 0x77 0 64k'
# A small overlay, over what reads as something else.
qemu-img create -q -f qed -b random.raw -F raw t.qed 30M
convert -n -O qed long.qed t.qed
sound t.qed
qemu-img convert -f qed -O raw long.qed theirs.raw
same_disk t.qed theirs.raw
refused 'too small' -n -O qed long.qed empty.qed
# Before anything is repaired, as the end of a target that was not closed would be.
cp empty.qed unclean.qed
put_le 64 unclean.qed 16 2
cp unclean.qed before.qed
refused 'too small' -n -O qed long.qed unclean.qed
cmp -s before.qed unclean.qed || fail "a target that was refused has been changed"
refused 'too small' -n long.qed odd-512.raw
refused 'No such file' -n long.qed missing.raw
refused 'No such file' -n -O qed long.qed missing.qed
refused 'odd-512.raw' -n -O qed long.qed odd-512.raw

# ---- what must not be written, and other refusals ----

cp random.raw keep.raw
ln keep.raw hard.raw
ln -s keep.raw soft.raw
qemu-img create -q -f qed -b keep.raw -F raw kept.qed
sum=$(cksum <keep.raw)
for target in keep.raw hard.raw soft.raw ./keep.raw kept.qed; do
	for mode in '' -n; do
		# shellcheck disable=SC2086 # a word or none
		refused "$target" $mode kept.qed "$target"
		# shellcheck disable=SC2086
		refused "$target" $mode -U kept.qed "$target"
	done
done
refused keep.raw -f raw -O qed -B kept.qed -F qed random.raw keep.raw
refused kept.qed -f raw -O qed -B kept.qed -F qed random.raw kept.qed
[ "$sum" = "$(cksum <keep.raw)" ] || fail "a source has changed"
image_clean kept.qed

mkfifo in from
qemu-io -f qed full.qed <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *20*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'full.qed' full.qed x.raw
refused 'full.qed' over.qed full.qed
refused 'full.qed' -n -O qed over.qed full.qed
for force in -U --force-share; do
	convert $force full.qed ours.raw
	same_bytes ours.raw random.raw
done
exec 3>&- 4<&-
wait $!

convert --max-size 20M -f raw random.raw ours.raw
refused 20972032 --max-size=20M -f raw odd-1.raw random.raw x.raw
refused '20971520' --max-size=20971519 over.qed x.raw
refused 'zork' --zork over.qed x.raw
for option in Z c r l; do
	refused "'$option'" -$option over.qed x.raw
done
refused "format 'qcow2'" -f qcow2 over.qed x.raw
refused "output format 'qcow2'" -O qcow2 over.qed x.raw
refused 'name of the target' over.qed
refused 'No such file' missing.qed x.raw
refused 'No such file' over.qed nowhere/x.raw
refused 'random.raw' random.raw x.raw
refused "add '-F raw'" -O qed -B random.raw over.qed x.qed
refused "add '-B" -O qed -F raw over.qed x.qed
refused "'-O qed'" -B random.raw -F raw over.qed x.raw
refused "add '-F raw'" -O qed -o backing_file=random.raw over.qed x.qed
refused "add '-B" -O qed -o backing_fmt=raw over.qed x.qed
refused 'size or preallocation' -O qed -o size=1M over.qed x.qed
refused 'size or preallocation' -O qed -o preallocation=full over.qed x.qed
refused 'one source' -O qed -B random.raw -F raw over.qed over.qed x.qed
refused 'new image' -n -O qed -B random.raw -F raw over.qed empty.qed
refused 'new QED' -o cluster_size=4k over.qed x.raw
refused 'new QED' -n -O qed -o cluster_size=4k over.qed empty.qed
refused 'add -n' --target-is-zero over.qed x.raw
refused 'exclude' -C -S 4k over.qed x.raw
for size in 3 513 17M x -1; do
	refused "'$size'" -S "$size" over.qed x.raw
done
for threads in 0 17 x; do
	refused "'$threads'" -m $threads over.qed x.raw
done
refused "'none'" -t none over.qed x.raw
refused 'max-size' --max-size=x over.qed x.raw
refused '4096' -O qed -o cluster_size=1k over.qed x.qed
refused 'virtual size' -O qed -o cluster_size=4k,table_size=1 big.qed x.qed
refused 'directory' over.qed sub

# What is replaced leaves its mode and owner, or others may do less with it.
# access FILE MODE:UID:GID
access() {
	[ "$(stat -c %a:%u:%g "$1")" = "$2" ] ||
		fail "$1: $(stat -c %a:%u:%g "$1"), not $2"
}
for to in raw qed; do
	touch kept
	chown 1234:2345 kept
	chmod 640 kept
	convert -O $to over.qed kept
	access kept 640:1234:2345
	rm kept
done
chmod a+x "$TMP"
mkdir theirs
chown 1234 theirs
"$QEDIMG" create -q from.qed 1M
for modes in 664:644 646:644 606:600 604:600 444:644; do
	rm -f theirs/kept
	touch theirs/kept
	chmod "${modes%:*}" theirs/kept
	# Who may look at all files, as what was built need not be for others.
	setpriv --reuid 1234 --regid 2345 --clear-groups \
		--inh-caps +dac_read_search --ambient-caps +dac_read_search \
		"$QEDIMG" convert from.qed theirs/kept ||
		fail "as another user"
	access theirs/kept "${modes#*:}:1234:2345"
done
