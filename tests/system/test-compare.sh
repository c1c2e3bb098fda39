#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg compare against qemu-img compare: messages and exit status.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq strace

mkdir "$TMP/work"
cd "$TMP/work"

# same STATUS ARG…: both tools say the same and end with this status, as they do
# with the images the other way round and, but for the messages, with -q
same() {
	expected=$1
	shift
	theirs=0
	qemu-img compare "$@" >theirs.txt 2>theirs.err || theirs=$?
	ours=0
	"$QEDIMG" compare "$@" >ours.txt 2>ours.err || ours=$?
	[ "$ours" -eq "$expected" ] || {
		cat ours.txt ours.err >&2
		fail "compare $*: status $ours, not $expected"
	}
	[ "$theirs" -eq "$ours" ] || fail "qemu-img compare $*: $theirs"
	# In strict mode QEMU also takes it for a difference that one of two
	# extents which are alike goes on to the end of the disk.
	[ "$1" != -s ] || sed -i 's/Offset [0-9]*/Offset/' theirs.txt ours.txt
	diff theirs.txt ours.txt || fail "compare $*"
	[ "$expected" -gt 1 ] || [ ! -s ours.err ] ||
		fail "compare $*: $(cat ours.err)"
	ours=0
	"$QEDIMG" compare -q "$@" >ours.txt 2>/dev/null || ours=$?
	[ "$ours" -eq "$expected" ] || fail "compare -q $*: status $ours"
	[ ! -s ours.txt ] || fail "compare -q $*: $(cat ours.txt)"
}

# qed STATUS IMAGE IMAGE [OPTION]
qed() {
	same "$1" ${4:+"$4"} -f qed -F qed "$2" "$3"
	same "$1" ${4:+"$4"} -f qed -F qed "$3" "$2"
}

# raw STATUS IMAGE RAW
raw() {
	same "$1" -f qed -F raw "$2" "$3"
	same "$1" -f raw -F qed "$3" "$2"
}

# refused STATUS TEXT ARG…
refused() {
	expected=$1
	text=$2
	shift 2
	status=0
	"$QEDIMG" compare "$@" >out 2>err || status=$?
	[ "$status" -eq "$expected" ] ||
		fail "compare $*: status $status, not $expected"
	[ ! -s out ] || fail "compare $*: prints $(cat out)"
	grep -qF -e "$text" err || fail "compare $*: no '$text': $(cat err)"
}

# ---- data in every place, geometries, chains ----

# Never 0x5a, which is written below so that it differs.
head -c 9000000 /dev/urandom | tr "\132" "\133" >random.raw
truncate -s 20M random.raw
qemu-img convert -f raw -O qed random.raw a.qed
qemu-img convert -f raw -O qed -o cluster_size=4k,table_size=2 random.raw b.qed
qemu-img convert -f raw -O qed -S 0 -o cluster_size=1M random.raw c.qed
qemu-img create -q -f qed -b random.raw -F raw d.qed
qemu-img create -q -f qed -b d.qed -F qed e.qed
for other in a b c d e; do
	qed 0 a.qed $other.qed
	raw 0 $other.qed random.raw
done
same 0 -f raw -F raw random.raw random.raw
for offset in $(few 8999999 0 511 512 1048575 1048576 9000000 20971519 12345678); do
	for target in b c e; do
		cp $target.qed x.qed
		[ $target != e ] || qemu-img create -q -f qed -b d.qed -F qed \
			x.qed
		qemu_do x.qed qed "write -P 0x5a $offset 1"
		qed 1 a.qed x.qed
		raw 1 x.qed random.raw
	done
done
# Two differences: the first counts, however far apart.
cp b.qed x.qed
qemu_do x.qed qed 'write -P 1 15M 4k' 'write -P 2 3M 1'
qed 1 a.qed x.qed
# Zero clusters, and zeroes that are written out, over data.
qemu-img create -q -f qed -b random.raw -F raw z.qed
qemu_do z.qed qed 'write -z 0 20M'
qemu-img create -q -f qed empty.qed 20M
qed 0 z.qed empty.qed
qed 1 z.qed a.qed
qemu_do z.qed qed 'write -P 0 1M 3M'
qed 0 z.qed empty.qed
truncate -s 20M zero.raw
raw 0 z.qed zero.raw
raw 1 z.qed random.raw

# ---- sizes ----

for size in 512 1000k 8M 30M; do
	qemu-img create -q -f qed s.qed $size
	qed 0 s.qed empty.qed
	qed 1 s.qed a.qed
done
qemu_do s.qed qed 'write -P 1 25M 4k'
qed 1 s.qed empty.qed
qed 1 s.qed empty.qed -s
qemu-img create -q -f qed -b random.raw -F raw short.qed 8999936
qed 1 short.qed a.qed
for odd in 1 511 513 1000; do
	head -c $odd random.raw >odd.raw
	qemu-img create -q -f qed odd.qed $odd
	qemu-img convert -n -f raw -O qed odd.raw odd.qed
	raw 0 odd.qed odd.raw
	raw 1 odd.qed random.raw
done

# ---- strict: like images, and differences of what is allocated ----

cp a.qed same.qed
qed 0 a.qed same.qed -s
same 0 -s -f raw -F raw random.raw random.raw
qed 1 a.qed c.qed -s
qed 1 z.qed empty.qed -s
qemu_do same.qed qed 'write -P 0 19M 64k'
qed 1 a.qed same.qed -s
qed 0 a.qed same.qed

# ---- large and sparse ----

for image in big1 big2; do
	qemu-img create -q -f qed $image.qed 64T
	qemu_do $image.qed qed 'write -P 3 40T 1M'
done
qed 0 big1.qed big2.qed
qemu_do big2.qed qed 'write -P 4 70368744177152 512'
qed 1 big1.qed big2.qed

# ---- progress ----

"$QEDIMG" compare --progress=json a.qed a.qed >/dev/null 2>err ||
	fail "with progress: $(cat err)"
jq -es 'length > 0 and all(.done <= .total) and (last | .percent == 100)' \
	err >/dev/null || fail "progress: $(cat err)"
"$QEDIMG" compare -p a.qed a.qed >/dev/null 2>err
[ ! -s err ] || fail "-p draws where there is no terminal"
refused 2 "progress 'bar'" --progress=bar a.qed a.qed

# ---- errors ----

refused 2 'No such file' missing.qed a.qed
refused 2 'No such file' a.qed missing.qed
refused 2 'random.raw' a.qed random.raw
refused 2 'names of two images' a.qed
refused 2 'names of two images'
refused 2 "unexpected argument 'z'" a.qed b.qed z
refused 2 "format 'qcow2'" -f qcow2 a.qed b.qed
refused 2 "format 'qcow2'" -F qcow2 a.qed b.qed
refused 2 "zork" --zork a.qed b.qed
refused 2 "'Z'" -Z a.qed b.qed
# An entry that cannot be right, found by the map.
cp a.qed bad.qed
put_le 64 bad.qed $(($(get_le 64 bad.qed 65536) + 16)) 77
refused 3 'bad.qed: cannot map disk offset 131072' a.qed bad.qed
refused 3 'bad.qed: cannot map disk offset 131072' bad.qed a.qed
# A difference before it is found all the same.
status=0
"$QEDIMG" compare bad.qed empty.qed >out 2>err || status=$?
[ "$status" -eq 1 ] || fail "a difference before the damage: $status"
# So it is where the damage is below: the message names that file.
qemu-img create -q -f qed -b bad.qed -F qed above.qed
refused 3 'qedimg: bad.qed: cannot map disk offset 131072' a.qed above.qed
refused 3 'qedimg: bad.qed: cannot map disk offset 131072' above.qed a.qed
# Data that cannot be read: strace fails every read of that file.  LeakSanitizer does
# not work under it.
without_reads() {
	status=0
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -o trace -P "$PWD/broken.raw" \
		-e trace=preadv2,preadv,pread64 \
		-e inject=preadv2,preadv,pread64:error=EIO \
		"$QEDIMG" compare "$@" >out 2>err || status=$?
}

# What both have from one place of one file is not read.
shared() {
	expected=$1
	shift
	without_reads "$@"
	[ "$status" -eq "$expected" ] ||
		fail "compare $*: status $status, not $expected: $(cat out err)"
}

unreadable() {
	without_reads "$@"
	[ "$status" -eq 4 ] || fail "compare $*: status $status: $(cat out err)"
	[ ! -s out ] || fail "compare $*: prints $(cat out)"
	grep -q '^qedimg: broken.raw: cannot read disk offset [0-9]*: Input/out.*; run it again' \
		err || fail "compare $*: $(cat err)"
	[ "$(wc -l <err)" -eq 1 ] || fail "compare $*: $(cat err)"
}

cp random.raw broken.raw
unreadable -f qed -F raw a.qed broken.raw
unreadable -f raw -F qed broken.raw a.qed
unreadable -q -s -f raw -F raw random.raw broken.raw
# As a backing file, of the one or the other, and further down.
qemu-img create -q -f qed -b broken.raw -F raw over.qed
qemu-img create -q -f qed -b over.qed -F qed above.qed
for over in over.qed above.qed; do
	unreadable a.qed $over
	unreadable $over a.qed
done

qemu-img create -q -f qed -b broken.raw -F raw other.qed
for images in 'over.qed other.qed' 'above.qed other.qed' 'over.qed over.qed'; do
	# shellcheck disable=SC2086 # two names
	shared 0 $images
	# shellcheck disable=SC2086
	shared 0 -s $images
done
shared 0 -F raw over.qed broken.raw
qemu_do other.qed qed 'write -P 0x5a 6M 512'
# For the rest of the cluster QEMU has read what is below.
shared 4 over.qed other.qed
qemu_do over.qed qed 'write -P 0x5b 6M 64k'
shared 1 over.qed other.qed
grep -q 'Content mismatch at offset 6291456!' out || fail "shared: $(cat out)"
# One file, but not one place.
same 1 -f qed -F raw a.qed a.qed

mkfifo in from
qemu-io -f qed b.qed <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *20*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 2 'b.qed' a.qed b.qed
refused 2 'b.qed' b.qed a.qed
for force in -U --force-share; do
	"$QEDIMG" compare $force a.qed b.qed >/dev/null || fail "compare $force"
done
exec 3>&- 4<&-
wait $!
