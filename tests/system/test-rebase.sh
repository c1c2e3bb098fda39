#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg rebase against qemu-img rebase: the disk stays, the header says the same.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq "$WAITFOR"

mkdir "$TMP/work"
cd "$TMP/work"

# ---- helpers ----

# info PROGRAM IMAGE: what a program says of it, but for what must differ
info() {
	"$1" info --output=json -f qed "$2" |
		jq -S 'del(.children, .filename, ."actual-size",
			."format-specific")'
}

# clusters KIND IMAGE
clusters() {
	"$QEDIMG" info --output=json "$2" |
		jq ".\"format-specific\".data.\"$1\""
}

# rebased IMAGE ARG…: ours and QEMU's, the latter with a copy; the disk stays
rebased() {
	image=$1
	shift
	qemu-img convert -f qed -O raw "$image" want.raw
	cp "$image" theirs.qed
	qemu-img rebase -f qed "$@" theirs.qed || fail "qemu-img rebase $*"
	"$QEDIMG" rebase "$@" "$image" >out 2>err ||
		fail "rebase $* $image: $(cat err)"
	[ ! -s err ] || fail "rebase $* $image: $(cat err)"
	[ ! -s out ] || fail "rebase $* $image: prints $(cat out)"
	image_clean "$image"
	same_disk "$image" want.raw
	qemu-img compare -q -f qed -F qed "$image" theirs.qed ||
		fail "rebase $* $image: not what qemu-img makes"
	info qemu-img "$image" >ours.json
	info qemu-img theirs.qed >theirs.json
	diff theirs.json ours.json || fail "rebase $* $image: info"
	info "$QEDIMG" "$image" >ours.json
	diff theirs.json ours.json || fail "rebase $* $image: our info"
}

# refused TEXT ARG…: status 1, the text on stderr, and IMAGE (last) as it was
refused() {
	text=$1
	shift
	for image; do :; done
	[ ! -f "$image" ] || cp "$image" before.img
	status=0
	"$QEDIMG" rebase "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq 1 ] || fail "rebase $*: status $status, not 1"
	[ ! -s out ] || fail "rebase $*: prints $(cat out)"
	grep -qF -e "$text" err || fail "rebase $*: no '$text': $(cat err)"
	[ ! -f "$image" ] || same_bytes "$image" before.img
}

# ---- backing files that differ here and there ----

# Random, but for a zero part; and one that is like it, but for a few places.
make_bases() {
	head -c "$1" /dev/urandom >base.raw
	dd if=/dev/zero of=base.raw bs=64k seek=20 count=9 conv=notrunc \
		status=none
	cp base.raw other.raw
	for at in 3 17 22 60; do
		dd if=/dev/urandom of=other.raw bs=512 seek=$((at * 128 + 5)) \
			count=1 conv=notrunc status=none
	done
	dd if=/dev/urandom of=other.raw bs=64k seek=40 count=4 conv=notrunc \
		status=none
	dd if=/dev/zero of=other.raw bs=64k seek=50 count=4 conv=notrunc \
		status=none
	truncate -s "$2" other.raw
}

# overlay IMAGE SIZE [OPTION…]: over base.raw, with data and zeroes of its own
overlay() {
	image=$1
	size=$2
	shift 2
	qemu-img create -q -f qed -b base.raw -F raw "$@" "$image" "$size"
	qemu_do "$image" qed 'write -P 3 1000k 100k' 'write -z 3M 192k' \
		'write -P 5 2621440 1'
}

# The sizes of base.raw, of other.raw and of the image.
small=cluster_size=4k,table_size=2
large=cluster_size=1M,table_size=16
for case in '5M 5M 5M cluster_size=64k' "5M 5M 6001k $small" \
		"5M 4M 5M $large" '5M 7M 6M cluster_size=2M' \
		'6001k 4M 5M cluster_size=64k' "4M 5M 4600320 $small" \
		"4M 6M 9M $large" '4097k 4097k 8M cluster_size=2M'; do
	# shellcheck disable=SC2086 # four words
	set -- $case
	make_bases "$1" "$2"
	overlay top.qed "$3" -o "$4"
	rebased top.qed -b other.raw -F raw
	rebased top.qed -b base.raw -F raw
	rebased top.qed -b ''
	rebased top.qed -b other.raw -F raw
done

# What is equal is not copied, what is zero gets no data.
make_bases 5M 5M
overlay top.qed 5M
own=$(clusters allocated-clusters top.qed)
rebased top.qed -b other.raw -F raw
# 3, 17, 60: data; 22 zeroes, 40-43, 50-53: data
[ "$(clusters allocated-clusters top.qed)" -le $((own + 11)) ] ||
	fail "equal clusters were copied"
zeroes=$(clusters zero-clusters top.qed)
[ "$zeroes" -ge 4 ] || fail "zeroes were copied as data: $zeroes"
cp top.qed again.qed
rebased top.qed -b base.raw -F raw
[ "$(clusters allocated-clusters top.qed)" -eq \
	"$(clusters allocated-clusters again.qed)" ] ||
	fail "what the image has was copied"

# ---- chains: from QED to QED, up and down, with files in common ----

make_bases 5M 5M
qemu-img create -q -f qed -b base.raw -F raw mid.qed 4M
qemu_do mid.qed qed 'write -P 9 100k 500k' 'write -z 2M 64k'
qemu-img create -q -f qed -o cluster_size=4k,table_size=4 -b mid.qed -F qed \
	mid2.qed 6M
qemu_do mid2.qed qed 'write -P 8 200k 10k' 'write -P 7 5M 100k'
qemu-img create -q -f qed -b mid2.qed -F qed top.qed 7M
qemu_do top.qed qed 'write -P 1 220k 1' 'write -z 1M 64k'
cp top.qed first.qed
for target in 'base.raw raw' 'mid.qed qed' 'mid2.qed qed' 'other.raw raw' \
		'mid2.qed qed'; do
	# shellcheck disable=SC2086 # two words
	set -- $target
	rebased top.qed -b "$1" -F "$2"
done
rebased top.qed -b '' -F raw
# Only what is above the common base is copied.
cp first.qed top.qed
rebased top.qed -b base.raw -F raw
[ "$(clusters allocated-clusters top.qed)" -le 15 ] ||
	fail "what both chains have from one place was copied"
# From no backing file to one.
qemu-img create -q -f qed top.qed 6M
qemu_do top.qed qed 'write -P 1 220k 100k'
rebased top.qed -b mid2.qed -F qed
rebased top.qed -b other.raw -F raw

# NO_PROBE is set for a raw file alone.
overlay top.qed 5M
for step in 'mid.qed qed 1' 'base.raw raw 5' ' - 0'; do
	name=${step%% *} bits=${step##* } format=${step#* }
	format=${format% *}
	if [ "$format" = - ]; then
		"$QEDIMG" rebase -b '' top.qed
	else
		"$QEDIMG" rebase -b "$name" -F "$format" top.qed
	fi
	[ "$(get_le 64 top.qed 16)" -eq "$bits" ] ||
		fail "features $(get_le 64 top.qed 16), not $bits"
done

# ---- geometries that QEMU cannot open, or where it is slow ----

for geometry in $(few 4k,1 64M,16 64k,16); do
	"$QEDIMG" create -q -b base.raw -F raw \
		-o "cluster_size=${geometry%,*},table_size=${geometry#*,}" \
		odd.qed 6M
	"$QEDIMG" rebase -b other.raw -F raw odd.qed
	not_leaky odd.qed
	truncate -s 6M base6.raw
	cp base.raw base6.raw
	truncate -s 6M base6.raw
	"$QEDIMG" compare -q -F raw odd.qed base6.raw ||
		fail "$geometry: the disk is another one"
	"$QEDIMG" rebase -b '' odd.qed
	"$QEDIMG" compare -q -F raw odd.qed base6.raw ||
		fail "$geometry: the flat disk is another one"
	not_leaky odd.qed
done
# A large cluster whose old content is zero: no data.
"$QEDIMG" create -q -o cluster_size=64M,table_size=16 zero.qed 200M
truncate -s 200M sparse.raw
printf x | dd of=sparse.raw bs=1 seek=150M conv=notrunc status=none
"$QEDIMG" rebase -b sparse.raw -F raw zero.qed
[ "$(clusters allocated-clusters zero.qed)" -eq 0 ] ||
	fail "a large zero cluster got data"
[ "$(clusters zero-clusters zero.qed)" -eq 1 ] || fail "a zero cluster is missing"
qemu-img create -q -f qed want.qed 200M
"$QEDIMG" compare -q zero.qed want.qed || fail "not zero"

# ---- large and sparse ----

for image in low1 low2 big empty; do
	qemu-img create -q -f qed $image.qed 64T
done
qemu_do low1.qed qed 'write -P 3 40T 1M' 'write -P 6 1T 64k'
qemu_do low2.qed qed 'write -P 4 70368744177152 512' 'write -P 6 1T 64k'
for backing in low1 low2; do
	limited 300 "$QEDIMG" rebase -b $backing.qed -F qed big.qed ||
		fail "rebase of a sparse image of 64 TiB"
	"$QEDIMG" compare -q big.qed empty.qed || fail "64 TiB are not zero"
done
limited 300 "$QEDIMG" rebase -b '' big.qed || fail "flattening 64 TiB"
image_clean big.qed
"$QEDIMG" compare -q big.qed empty.qed || fail "64 TiB are not zero, flat"
# What is below is far away as well.
qemu_do low2.qed qed 'read -q -P 4 70368744177152 512'
qemu-img create -q -f qed -b low2.qed -F qed big.qed
limited 300 "$QEDIMG" rebase -b '' big.qed || fail "flattening 64 TiB"
"$QEDIMG" compare -q big.qed low2.qed || fail "64 TiB are not the same"

# ---- names ----

make_bases 5M 5M
overlay top.qed 5M -o cluster_size=4k,table_size=2
mkdir sub
cp base.raw sub/
long=sub//$(printf './%.0s' $(seq 505))base.raw
[ ${#long} -eq 1023 ] || fail "the name has ${#long} bytes"
rebased top.qed -b "$long" -F raw
rebased top.qed -b "./${long#???}" -F raw
rebased top.qed -b base.raw -F raw
rebased top.qed -b "$long" -F raw
refused 'has 1024 bytes, the most is 1023' -b "/$long" -F raw top.qed
refused 'has 1024 bytes, the most is 1023' -u --allow-missing -b "/$long" \
	-F raw top.qed
# A name at the end of the header area; the new one goes elsewhere.
overlay edge.qed 5M -o cluster_size=4k,table_size=2
printf base.raw | dd of=edge.qed bs=1 seek=4088 conv=notrunc status=none
put_le 32 edge.qed 56 4088
rebased edge.qed -b "$long" -F raw
rebased edge.qed -b base.raw -F raw
# Relative to the image, not to the working directory.
qemu-img create -q -f qed -b base.raw -F raw sub/inner.qed 5M
"$QEDIMG" rebase -b ../other.raw -F raw sub/inner.qed
same_disk sub/inner.qed base.raw
qemu-img create -q -f qed -b file:base.raw -F raw file.qed 5M
"$QEDIMG" rebase -b file:other.raw -F raw file.qed
same_disk file.qed base.raw

# ---- -u ----

overlay top.qed 5M
cp base.raw moved.raw
mv base.raw gone.raw
refused 'base.raw' -b moved.raw -F raw top.qed
"$QEDIMG" rebase -u -b moved.raw -F raw top.qed >out
grep -q 'nothing has been compared' out || fail "-u does not say what it did"
cp top.qed theirs.qed
"$QEDIMG" rebase -u -q -b gone.raw -F raw top.qed >out
[ ! -s out ] || fail "-u -q prints $(cat out)"
qemu-img rebase -u -f qed -b gone.raw -F raw theirs.qed
info qemu-img top.qed >ours.json
info qemu-img theirs.qed >theirs.json
diff theirs.json ours.json
mv gone.raw base.raw
refused 'say --allow-missing' -u -b gone.raw -F raw top.qed
"$QEDIMG" rebase -u -q --allow-missing -b gone.raw -F raw top.qed
[ "$(info "$QEDIMG" top.qed | jq -r '."backing-filename"')" = gone.raw ] ||
	fail "--allow-missing did not change the name"
qemu-img create -q -f qed -b base.raw -F raw lost.qed 5M
qemu-img rebase -f qed -u -b nowhere.raw -F raw lost.qed
refused 'nowhere.raw' -u -b lost.qed -F qed top.qed
"$QEDIMG" rebase -u -q --allow-missing -b lost.qed -F qed top.qed
refused 'base.raw' -u --allow-missing -b base.raw -F qed top.qed
"$QEDIMG" rebase -u -q -b '' top.qed
[ "$(get_le 64 top.qed 16)" -eq 0 ] || fail "-u -b '' leaves feature bits"
image_clean top.qed
# The flag that says how the image was closed is none of its business.
put_le 64 top.qed 16 2
"$QEDIMG" rebase -u -q -b base.raw -F raw top.qed
[ "$(get_le 64 top.qed 16)" -eq 7 ] || fail "-u changed NEED_CHECK"
"$QEDIMG" rebase -b base.raw -F raw top.qed
[ "$(get_le 64 top.qed 16)" -eq 5 ] || fail "the image was not checked"

# ---- loops ----

overlay a.qed 5M
qemu-img create -q -f qed -b a.qed -F qed b.qed 5M
qemu-img create -q -f qed -b b.qed -F qed c.qed 5M
ln -s c.qed link.qed
ln c.qed hard.qed
for mode in '' -u; do
	for loop in a.qed b.qed c.qed link.qed hard.qed "$PWD/c.qed"; do
		refused 'cannot be its own backing file' ${mode:+$mode} \
			-b "$loop" -F qed a.qed
	done
	refused 'cannot be its own backing file' ${mode:+$mode} -b a.qed \
		-F raw a.qed
done
refused 'cannot be its own backing file' -u --allow-missing -b c.qed -F qed a.qed
cp a.qed x.qed
qemu-img create -q -f qed -b x.qed -F qed y.qed 5M
qemu-img rebase -f qed -u -b y.qed -F qed x.qed
refused 'contains itself' -u -b x.qed -F qed a.qed

# ---- what the header forbids ----

"$MKIMAGE" "$TOP_SRCDIR/tests/images/good-compat.img.txt" compat.qed
refused 'compatible features that are unknown' -b base.raw -F raw compat.qed
refused 'compatible features that are unknown' -u -b base.raw -F raw compat.qed
"$MKIMAGE" "$TOP_SRCDIR/tests/images/good-autoclear.img.txt" auto.qed
[ "$(get_le 64 auto.qed 32)" != 0 ] || fail "no autoclear bits to clear"
"$QEDIMG" rebase -u -q -b base.raw -F raw auto.qed
[ "$(get_le 64 auto.qed 32)" -eq 0 ] || fail "autoclear bits are still there"

# ---- usage ----

refused 'the name of the image is missing' -b base.raw -F raw
refused '-b NAME' a.qed
refused '-F raw or -F qed' -b base.raw a.qed
refused 'must be raw or qed' -b base.raw -F qcow2 a.qed
refused 'needs -u' --allow-missing -b base.raw -F raw a.qed
refused "format 'raw' is not supported" -f raw -b base.raw -F raw a.qed
refused "unexpected argument 'a.qed'" -b base.raw -F raw b.qed a.qed
refused 'only files can back' -u --allow-missing -b nbd://x/y -F raw a.qed
refused 'invalid option' -U -b base.raw -F raw a.qed
refused "progress 'x'" --progress=x -b base.raw -F raw a.qed
refused 'missing.qed' -b base.raw -F raw missing.qed
refused 'missing.raw' -b missing.raw -F raw a.qed
"$QEDIMG" rebase -h | grep -q allow-missing || fail "no help"

# ---- who else uses the files ----

make_bases 5M 5M
overlay top.qed 5M
mkfifo in from
qemu-io -f raw other.raw <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *5*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'other.raw' -b other.raw -F raw top.qed
"$QEDIMG" rebase -u -q -b other.raw -F raw top.qed ||
	fail "-u opens more than it needs"
exec 3>&- 4<&-
wait $!
"$QEDIMG" rebase -u -q -b base.raw -F raw top.qed
qemu-io -f qed top.qed <in >from 2>&1 &
exec 3>in 4<from
echo length >&3
read -r line <&4
case $line in *5*MiB*) ;; *) fail "qemu-io says $line" ;; esac
for mode in '' -u; do
	cp top.qed before.img
	! "$QEDIMG" rebase ${mode:+$mode} -b other.raw -F raw top.qed 2>err ||
		fail "an image in use was changed"
	grep -q 'top.qed.*qemu-io' err || fail "no holder in: $(cat err)"
done
exec 3>&- 4<&-
wait $!

# ---- progress, and interruptions at any moment ----

"$QEDIMG" rebase -p --progress=json -b other.raw -F raw top.qed 2>err
tail -n 1 err | jq -e '.done == .total and .total == 5242880' >/dev/null ||
	fail "progress: $(cat err)"

head -c 80M /dev/urandom >base.raw
truncate -s 80M other.raw
qemu-img create -q -f qed -b base.raw -F raw big.qed 80M
qemu-img create -q -f qed -b base.raw -F raw -o cluster_size=4k big4k.qed 80M
# To none, and to another one: all of it is copied.
cut_short=0
for how in big.qed: big4k.qed: big4k.qed:other.raw; do
	image=${how%:*}
	base=${how#*:}
	set -- -b "$base" ${base:+-F raw}
	for signal in INT KILL; do
		cp "$image" top.qed
		for n in 5 10 20 40 60; do
			status=0
			timeout --foreground -s $signal 0.0$n "$QEDIMG" rebase \
				"$@" top.qed 2>err || status=$?
			[ "$status" -ne 0 ] || break
			cut_short=$((cut_short + 1))
			released top.qed base.raw
			[ $signal = KILL ] || image_clean top.qed
			same_disk top.qed base.raw
		done
		"$QEDIMG" rebase "$@" top.qed || fail "the second run"
		# Killed, it leaks what no table names yet.
		[ $signal = KILL ] || image_clean top.qed
		"$QEDIMG" check -q -r leaks top.qed || fail "check: $?"
		same_disk top.qed base.raw
		[ "$(qemu-img info -f qed --output=json top.qed |
			jq -r '."backing-filename" // ""')" = "$base" ] ||
			fail "its base is not '$base'"
	done
done
[ "$cut_short" -gt 0 ] || fail "no run was interrupted"
