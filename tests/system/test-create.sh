#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg create: names that count from the image, preallocation, what must not be
# replaced, and that nothing half-made is left.  test-qedimg.sh compares the rest with
# qemu-img.

. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq script strace

mkdir "$TMP/work" "$TMP/work/mnt"
cd "$TMP/work"

create() {
	"$QEDIMG" create "$@" >../out 2>../err || fail "create $*: $(cat ../err)"
}

# refused TEXT ARG…: with status 1; no file comes or goes
refused() {
	text=$1
	shift
	find . | sort >../before
	status=0
	"$QEDIMG" create "$@" >../out 2>../err || status=$?
	find . | sort >../after
	[ "$status" -eq 1 ] || fail "create $*: status $status"
	[ ! -s ../out ] || fail "create $*: prints $(cat ../out)"
	grep -qF -e "$text" ../err || fail "create $*: no '$text': $(cat ../err)"
	diff ../before ../after || fail "create $*: leaves files"
}

# json_of IMAGE KEY: what qemu-img's JSON has there
json_of() {
	qemu-img info -U --output=json "$1" | jq -r ".\"$2\""
}

# stored IMAGE: the backing name in it
stored() {
	json_of "$1" backing-filename
}

# ---- --relative ----

mkdir -p one/two three
ln -s one/two short
create -q one/base.qed 1M
qemu_do one/base.qed qed 'write -P 5 0 1M'
ln -s base.qed one/link.qed
cp one/base.qed 'one/a:b.qed'

# relative BACKING FILE NAME: NAME is what is stored
relative() {
	create -q --relative -b "$1" -F qed "$2"
	[ "$(stored "$2")" = "$3" ] ||
		fail "$1 in $2: '$(stored "$2")', not '$3'"
	qemu_do "$2" qed 'read -P 5 0 1M'
}
relative one/base.qed x.qed one/base.qed
relative one/base.qed one/x.qed base.qed
relative one/base.qed one/two/x.qed ../base.qed
relative one/base.qed three/x.qed ../one/base.qed
relative "$PWD/one/base.qed" three/x.qed ../one/base.qed
relative ./one/../one/base.qed ./three/x.qed ../one/base.qed
relative file:one/base.qed three/x.qed ../one/base.qed
# Links to directories are followed, one that is the file keeps its name.
relative one/base.qed short/y.qed ../base.qed
relative one/link.qed three/x.qed ../one/link.qed
relative short/../base.qed three/x.qed ../one/base.qed
relative ./one/a:b.qed one/x.qed ./a:b.qed
(cd one/two && "$QEDIMG" create -q --relative -b ../base.qed -F qed ../../z.qed)
[ "$(stored z.qed)" = one/base.qed ] || fail "from elsewhere: $(stored z.qed)"
# The image's own link is followed: it is there that it can be moved.
touch three/y.qed
ln -s three/y.qed linked.qed
create -q --relative -b one/base.qed -F qed linked.qed
[ "$(stored three/y.qed)" = ../one/base.qed ] ||
	fail "by a link: $(stored three/y.qed)"
qemu_do three/y.qed qed 'read -P 5 0 1M'
rm linked.qed
mkdir moved
mv one three moved
qemu_do moved/three/x.qed qed 'read -P 5 0 1M'
mv moved/one moved/three .
refused "'-b BACKING'" --relative x2.qed 1M
refused 'missing.qed' --relative -b missing.qed -F qed x2.qed
refused 'nowhere/base.qed' --relative -b nowhere/base.qed -F qed x2.qed

# ---- what must not be replaced ----

qemu-img create -q -f raw low.raw 1M
create -q -b low.raw -F raw mid.qed
create -q -b mid.qed -F qed top.qed
sum=$(cat low.raw mid.qed top.qed | cksum)
refused 'low.raw' -b top.qed -F qed low.raw 1M
refused 'mid.qed' -b top.qed -F qed mid.qed
refused 'its own backing file' -b top.qed -F qed top.qed
ln mid.qed hard.qed
refused 'hard.qed' -b top.qed -F qed hard.qed
[ "$sum" = "$(cat low.raw mid.qed top.qed | cksum)" ] || fail "files changed"
create -q -b mid.qed -F qed top.qed

# ---- -u: the backing file is not opened ----

create -q -u -b later.raw -F raw early.qed 1M
qemu-img create -q -f qed -u -b later.raw -F raw theirs.qed 1M
for key in backing-filename virtual-size backing-filename-format; do
	[ "$(json_of early.qed $key)" = "$(json_of theirs.qed $key)" ] ||
		fail "-u: $key is $(json_of early.qed $key)"
done
status=0
"$QEDIMG" map early.qed >../out 2>../err || status=$?
[ "$status" -ne 0 ] || fail "-u: the backing file is found"
grep -qF later.raw ../err || fail "-u: map says $(cat ../err)"
truncate -s 1M later.raw
qemu_do later.raw raw 'write -P 6 0 1M'
qemu_do early.qed qed 'read -P 6 0 1M'
# Nor is it looked at: it may be no image, or in use.
# LeakSanitizer does not work under strace.
ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
	strace -f -qq -e trace=open,openat -o ../trace \
	"$QEDIMG" create -q -u -b later.raw -F qed early.qed 1M
! grep -F later.raw ../trace || fail "-u opens the backing file"
create -q -u --relative -b one/unborn.qed -F qed three/x.qed 1M
[ "$(stored three/x.qed)" = ../one/unborn.qed ] ||
	fail "-u --relative: $(stored three/x.qed)"
refused 'not opened' -u -b later.raw -F raw q.qed
refused "'-F raw'" -u -b later.raw q.qed 1M
refused 'its own backing file' -u -b early.qed -F qed early.qed 1M
for name in fresh.qed ./fresh.qed one/../fresh.qed "$PWD/fresh.qed" file:fresh.qed; do
	refused 'its own backing file' -u -b "$name" -F qed fresh.qed 1M
done
refused 'its own backing file' -u -b ./fr:esh.qed -F qed ./fr:esh.qed 1M
refused 'its own backing file' -u --relative -b one/x2.qed -F qed one/x2.qed 1M

# ---- preallocation ----

# mapped IMAGE: bytes of its disk that have a place in the file
mapped() {
	"$QEDIMG" map --output=json "$1" |
		jq '[.[] | select(.offset) | .length] | add'
}

# made HOW CLUSTER TABLE SIZE: p.qed, all mapped, all zero, right for QEMU
made() {
	create -q -o "preallocation=$1,cluster_size=$2,table_size=$3" p.qed "$4"
	"$QEDIMG" check -q p.qed || fail "$*: check"
	mapped=$(mapped p.qed)
	[ "$mapped" -eq "$(numfmt --from=iec "$4")" ] || fail "$*: $mapped bytes"
	stored=$(($(stat -c %b p.qed) * 512))
	case $1 in
	metadata)
		# Tables have space: two of 16 MiB at the most.
		[ "$2" = 1M ] || [ "$stored" -lt $((mapped / 2)) ] ||
			fail "$*: $stored bytes"
		;;
	*)
		[ "$stored" -ge "$mapped" ] || fail "$*: $stored bytes"
		;;
	esac
	[ "$3" -gt 1 ] || return 0
	image_clean p.qed
	qemu_do p.qed qed "read -P 0 0 $4"
}
for how in metadata falloc full; do
	made $how 64k 4 20M
	made $how 4k 2 9M
	made $how 4k 1 5M
	made $how 1M 16 7M
	label=$how
	create -q -o preallocation=$how p.qed 1M
	size=$(stat -c %s p.qed)
	mount_qed p.qed mnt
	qemu_do mnt/p.raw raw 'write -P 7 0 1M'
	umount_qed mnt
	[ "$(stat -c %s p.qed)" -eq "$size" ] || fail "$label: the file grows"
done
# Space that is reserved cannot run out.
create -q -o preallocation=off p.qed 20M
[ "$(stat -c %b p.qed)" -lt 1024 ] || fail "off: $(stat -c %b p.qed) blocks"
refused "preallocation 'some'" -o preallocation=some q.qed 1M
refused 'would hide' -o preallocation=metadata -b low.raw -F raw q.qed
truncate -s 40M host.img
mkfs.ext4 -q -F host.img
mkdir host
mount -o loop host.img host
cleanup umount_from host
cp p.qed host/old.qed
refused 'No space left' -o preallocation=falloc host/new.qed 1G
refused 'No space left' -o preallocation=falloc host/old.qed 1G
cmp p.qed host/old.qed || fail "the old image has changed"

# ---- how far it is ----

for how in off metadata falloc full; do
	create -q --progress=json -o preallocation=$how p.qed 20M
	[ ! -s ../out ] || fail "--progress prints $(cat ../out)"
	[ $how = off ] ||
		jq -es 'length > 1 and all(.done <= .total) and
			(first | .done < .total) and
			(last | .percent == 100 and .total == 20971520)' \
			../err >../out || fail "$how: progress: $(cat ../err)"
done
create -p -o preallocation=full p.qed 20M
[ ! -s ../err ] || fail "-p draws where there is no terminal"
grep -q '^Formatting' ../out || fail "-p: it prints $(cat ../out)"
script -qec "'$QEDIMG' create -q -p -o preallocation=full p.qed 20M" /dev/null \
	</dev/null >../seen
[ ! -s ../seen ] || fail "-q -p on a terminal: $(cat -v ../seen)"
script -qec "'$QEDIMG' create -p -o preallocation=full p.qed 20M" /dev/null \
	</dev/null >../seen
grep -q 'of 20 MiB' ../seen || fail "-p on a terminal: $(cat -v ../seen)"
refused "progress 'bar'" --progress=bar q.qed 1M

# ---- interrupted ----

early=0
for signal in INT TERM KILL; do
	for moment in 0.02 0.05 0.1; do
		status=0
		timeout --foreground -s $signal $moment "$QEDIMG" create -q \
			-o preallocation=metadata,cluster_size=4k i.qed 8G \
			>../out 2>../err || status=$?
		if [ "$status" -ne 0 ]; then
			early=$((early + 1))
			# Complete, if the signal came too late.
			[ ! -e i.qed ] ||
				[ "$(mapped i.qed)" -eq $((8 << 30)) ] ||
				fail "$signal: it is there in part"
		fi
		[ -z "$(find . -name '.qed-*')" ] || fail "$signal: a file is left"
		rm -f i.qed
	done
done
[ "$early" -gt 0 ] || fail "nothing was interrupted"
create -q i.qed 1M
