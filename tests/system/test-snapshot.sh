#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg snapshot: the overlay is what qemu-img create -b makes, the image is frozen.

. "$(dirname "$0")/functions.sh"

need_root
need_loop
requires "$QEDIMG" "$WAITFOR" qemu-img qemu-io jq strace

mkdir "$TMP/work" "$TMP/work/sub" "$TMP/work/mnt"
cd "$TMP/work"

snapshot() {
	"$QEDIMG" snapshot -q "$@" >../out 2>../err ||
		fail "snapshot $*: $(cat ../err)"
	cat ../out ../err >../said
	[ ! -s ../said ] || fail "snapshot $*: says $(cat ../said)"
}

# refused TEXT ARG…: with status 1; nothing changes
refused() {
	text=$1
	shift
	sum=$(find . -type f -exec cksum {} + | sort)
	modes=$(find . -printf '%p %m\n' | sort)
	status=0
	"$QEDIMG" snapshot "$@" >../out 2>../err || status=$?
	[ "$status" -eq 1 ] || fail "snapshot $*: status $status"
	grep -qF -e "$text" ../err || fail "snapshot $*: no '$text': $(cat ../err)"
	[ "$sum" = "$(find . -type f -exec cksum {} + | sort)" ] ||
		fail "snapshot $*: files have changed"
	[ "$modes" = "$(find . -printf '%p %m\n' | sort)" ] ||
		fail "snapshot $*: modes have changed"
}

# facts IMAGE: what qemu-img says of it, places and sizes in the host apart
facts() {
	qemu-img info -U --output=json "$1" |
		jq -S 'del(.filename, ."actual-size", .children, ."full-backing-filename")'
}

head -c 3M /dev/urandom >base.raw
for geometry in '64k 4 10M' '4k 2 7000064' '1M 16 64T' '2M 4 3M'; do
	# shellcheck disable=SC2086 # words
	set -- $geometry
	rm -f ./*.qed
	"$QEDIMG" create -q -o "cluster_size=$1,table_size=$2" \
		-b base.raw -F raw image.qed "$3"
	qemu_do image.qed qed 'write -P 3 1M 100k'
	cp image.qed was.qed
	snapshot image.qed new.qed
	cmp image.qed was.qed || fail "$geometry: the image has changed"
	[ "$(stat -c %A image.qed)" = "$(stat -c %A was.qed | tr w -)" ] ||
		fail "$geometry: $(stat -c %A image.qed)"
	qemu-img create -q -f qed -b image.qed -F qed \
		-o "cluster_size=$1,table_size=$2" theirs.qed
	facts new.qed >../ours
	facts theirs.qed >../theirs
	diff ../ours ../theirs || fail "$geometry: not as qemu-img makes it"
	image_clean new.qed
	# QEMU 7.2 gives up on an assertion of its own for the largest.
	"$QEDIMG" compare -q was.qed new.qed || fail "$geometry"
	[ "$3" = 64T ] || qemu-img compare -q -f qed -F qed was.qed new.qed ||
		fail "$geometry: for QEMU"
	# What is written goes to the overlay.
	mount_qed new.qed mnt
	qemu_do mnt/new.raw raw 'write -P 9 1M 64k' 'read -P 3 1114112 4k'
	umount_qed mnt
	cmp image.qed was.qed || fail "$geometry: the image has been written"
	qemu_do new.qed qed 'read -P 9 1M 64k' 'read -P 3 1114112 4k'
	# And back.
	chmod u+w image.qed
	"$QEDIMG" commit -q -d delete new.qed || fail "$geometry: commit"
	qemu_do image.qed qed 'read -P 9 1M 64k' 'read -P 3 1114112 4k'
done
for geometry in 4k,1 64M,16; do
	rm -f ./*.qed
	"$QEDIMG" create -q -o "cluster_size=${geometry%,*}" \
		-o "table_size=${geometry#*,}" image.qed 1M
	snapshot image.qed new.qed
	[ "$("$QEDIMG" info --output=json new.qed | jq -c \
		'[."cluster-size", ."format-specific".data."table-size"]')" = \
		"$("$QEDIMG" info --output=json image.qed | jq -c \
		'[."cluster-size", ."format-specific".data."table-size"]')" ] ||
		fail "$geometry: another geometry"
	"$QEDIMG" check -q new.qed || fail "check of $geometry"
done

# ---- names ----

# named IMAGE NEW STORED [OPTION]
named() {
	rm -f "$2"
	snapshot ${4+"$4"} "$1" "$2"
	[ "$(qemu-img info -U --output=json "$2" |
		jq -r '."backing-filename"')" = "$3" ] || fail "$2: not $3"
	qemu_do "$2" qed 'read -P 3 0 4k'
}
rm -f ./*.qed
"$QEDIMG" create -q image.qed 1M
qemu_do image.qed qed 'write -P 3 0 1M'
named image.qed new.qed image.qed
named image.qed sub/new.qed ../image.qed
named "$PWD/image.qed" sub/new.qed ../image.qed
named image.qed sub/new.qed "$PWD/image.qed" --absolute
mkdir pair moved
cp image.qed pair
chmod u+w pair/image.qed
snapshot pair/image.qed pair/new.qed
mv pair moved
qemu_do moved/pair/new.qed qed 'read -P 3 0 1M'

# What looks like a prefix is part of the name: not another image's.
"$QEDIMG" create -q ./file:image.qed 2M
named_size() {
	"$QEDIMG" info --output=json --backing-chain "$1" |
		jq -r '.[1].filename, .[1]."virtual-size"' | tr '\n' ' '
}
snapshot file:image.qed colon.qed
[ "$(named_size colon.qed)" = './file:image.qed 2097152 ' ] ||
	fail "file:image.qed: $(named_size colon.qed)"
[ "$(qemu-img info --output=json colon.qed | jq '."virtual-size"')" -eq 2097152 ] ||
	fail "file:image.qed: another size"
rm ./file:image.qed colon.qed

# Snapshots of snapshots; the permissions that are to stay.
chmod 640 image.qed
snapshot --keep-mode image.qed s1.qed
[ "$(stat -c %a image.qed)" = 640 ] || fail "--keep-mode: $(stat -c %a image.qed)"
snapshot s1.qed s2.qed
snapshot s2.qed s3.qed
[ "$("$QEDIMG" info --output=json --backing-chain s3.qed | jq length)" -eq 4 ] ||
	fail "the chain is not 4 long"
qemu_do s3.qed qed 'read -P 3 0 1M'
[ "$("$QEDIMG" snapshot --force s3.qed s4.qed | wc -l)" -eq 1 ] || fail "no line"

# ---- a device ----

"$QEDIMG" create -q plain.qed 4M
qemu_do plain.qed qed 'write -P 9 1M 100k'
cp plain.qed plain.dev
truncate -s 8M plain.dev
device=$(attach_loop plain.dev)
mode=$(stat -c %A "$device")
"$QEDIMG" snapshot -q "$device" device.qed 2>../err || fail "$(cat ../err)"
grep -q "$device: a device keeps its write permission" ../err ||
	fail "of a device: $(cat ../err)"
[ "$(stat -c %A "$device")" = "$mode" ] || fail "the device's mode changed"
"$QEDIMG" compare -q device.qed plain.qed || fail "over a device"
snapshot --keep-mode --force "$device" device.qed
detach_loop "$device"

# ---- interrupted: at every call that makes something of it ----

# What it has begun it ends, unless it is killed.

# stopped SIGNAL CALL: by the first such call, once it is made; false if it was not.
# LeakSanitizer does not work under strace.
stopped() {
	! ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -e "trace=$2" -e "inject=$2:signal=$1:when=1" -o trace \
		"$QEDIMG" snapshot -q cut.qed cut-top.qed >../out 2>../err
}

qemu-img create -q -f qed -b base.raw -F raw cut.qed 3M
qemu_do cut.qed qed 'write -P 4 1M 64k'
killed=0
for signal in INT TERM KILL; do
	for call in linkat fchmod fsync; do
		if stopped $signal $call; then
			[ $signal = KILL ] || fail "stopped by $signal at $call"
			killed=$((killed + 1))
		fi
		released cut.qed
		[ $signal = KILL ] || [ "$(stat -c %a cut.qed)" = 444 ] ||
			fail "$signal at $call: not frozen"
		if [ -e cut-top.qed ]; then
			image_clean cut-top.qed
			qemu-img compare -q -f qed -F qed cut.qed cut-top.qed ||
				fail "$signal at $call: another disk"
		elif [ ! -w cut.qed ] || [ "$(stat -c %a cut.qed)" = 444 ]; then
			fail "$signal at $call: frozen, without an overlay"
		fi
		[ -z "$(find . -name '.qed-*')" ] || fail "$signal at $call: a file is left"
		snapshot --force cut.qed cut-top.qed
		[ "$(stat -c %a cut.qed)" = 444 ] || fail "$signal at $call: not frozen"
		rm -f cut-top.qed
		chmod 644 cut.qed
	done
done
[ "$killed" -ge 2 ] || fail "only $killed were stopped"

# ---- refused ----

refused 'choose another name, or replace it with --force' image.qed s3.qed
refused 's1.qed: is the image itself or one behind' --force s3.qed s1.qed
refused 's3.qed: is the image itself or one behind' --force s3.qed s3.qed
cp s2.qed old.qed
chmod u+w old.qed
snapshot --force s3.qed old.qed
qemu_do old.qed qed 'read -P 3 0 1M'
# The name that is stored counts from where a link leads to.
mkdir elsewhere
: >elsewhere/new.qed
ln -s elsewhere/new.qed linked.qed
snapshot --force s3.qed linked.qed
[ -L linked.qed ] || fail "the link was replaced"
qemu_do elsewhere/new.qed qed 'read -P 3 0 1M'
rm -r elsewhere linked.qed
cp image.qed dirty.qed
put_le 64 dirty.qed 16 2
refused "qedimg check -r all" dirty.qed x.qed
refused 'not a QED image' base.raw x.qed
refused 'No such file' missing.qed x.qed
refused 'nowhere/x.qed' image.qed nowhere/x.qed
refused 'name of the new overlay' image.qed
refused "unexpected argument 'z'" image.qed x.qed z
chmod u+w image.qed
mkfifo in from
qemu-io -f qed image.qed <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *1*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'by qemu-io' image.qed x.qed
exec 3>&- 4<&-
wait $!
snapshot image.qed x.qed
