#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg commit against qemu-img commit: the receiving file gets the same bytes, the
# image shows the same disk, and is emptied, kept or deleted.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq "$WAITFOR"

mkdir "$TMP/work"
cd "$TMP/work"

# ---- helpers ----

# clusters KIND IMAGE
clusters() {
	"$QEDIMG" info --output=json "$2" |
		jq ".\"format-specific\".data.\"$1\""
}

# is_empty IMAGE: no table, no data, nothing behind the L1 table
is_empty() {
	[ "$(clusters l2-tables "$1")" -eq 0 ] || fail "$1: has tables"
	end=$(($(get_le 64 "$1" 40) + $(get_le 32 "$1" 4) * $(get_le 32 "$1" 8)))
	[ "$(stat -c %s "$1")" -eq "$end" ] ||
		fail "$1: has $(stat -c %s "$1") bytes, not $end"
	image_clean "$1"
}

# receiver_ok IMAGE: clusters that were zeroed may be leaked, but take up no space
receiver_ok() {
	"$QEDIMG" check -q "$1" || fail "check of $1: $?"
	! need_check_set "$1" || fail "NEED_CHECK is still set in $1"
}

# format NAME
format() {
	case $1 in
	*.raw) echo raw ;;
	*) echo qed ;;
	esac
}

# committed IMAGE BASE [ARG…]: ours here, QEMU's in a copy of the directory
committed() {
	image=$1
	base=$2
	shift 2
	qemu-img convert -f qed -O raw "$image" ../want.raw
	rm -rf ../theirs
	cp -a . ../theirs
	(cd ../theirs && qemu-img commit -q -f qed "$@" "$image") ||
		fail "qemu-img commit $* $image"
	"$QEDIMG" commit -q "$@" "$image" >../out 2>../err ||
		fail "commit $* $image: $(cat ../err)"
	[ ! -s ../out ] || fail "commit -q $* $image: prints $(cat ../out)"
	[ ! -s ../err ] || fail "commit $* $image: $(cat ../err)"
	same_disk "$image" ../want.raw
	qemu-img compare -q -f "$(format "$base")" -F "$(format "$base")" \
		"$base" "../theirs/$base" ||
		fail "commit $* $image: not what qemu-img makes of $base"
	if [ "$(format "$base")" = raw ]; then
		[ "$(stat -c %s "$base")" -eq "$(stat -c %s "../theirs/$base")" ] ||
			fail "$base has $(stat -c %s "$base") bytes"
	else
		receiver_ok "$base"
		[ "$(get_le 64 "$base" 48)" -eq \
			"$(get_le 64 "../theirs/$base" 48)" ] ||
			fail "the disk of $base: $(get_le 64 "$base" 48)"
	fi
}

# refused TEXT ARG…: status 1, the text on stderr, and no file has changed
refused() {
	text=$1
	shift
	rm -rf ../before
	cp -a . ../before
	status=0
	"$QEDIMG" commit "$@" >../out 2>../err </dev/null || status=$?
	[ "$status" -eq 1 ] || fail "commit $*: status $status, not 1"
	[ ! -s ../out ] || fail "commit $*: prints $(cat ../out)"
	grep -qF -e "$text" ../err || fail "commit $*: no '$text': $(cat ../err)"
	diff -r . ../before || fail "commit $*: has changed something"
}

# fill IMAGE: data and zeroes, at edges and inside of clusters
fill() {
	qemu_do "$1" qed 'write -P 3 1000k 100k' 'write -z 3M 192k' \
		'write -P 5 2621440 1' 'write -P 6 0 512' 'write -z 70000 3000'
}

# ---- sizes, geometries, both formats ----

small=cluster_size=4k,table_size=2
large=cluster_size=1M,table_size=16
# The sizes of the backing file and of the image, the format, both geometries.
for case in '5M 5M raw' "5M 6001k raw $small" "5M 4M raw $large" \
		"4600320 5M raw" '5000000 5M raw' "5M 5M qed $small $small" \
		"5M 4500k qed $large $small" '9M 9M qed cluster_size=2M' \
		"5M 5M qed $small $large"; do
	# shellcheck disable=SC2086 # words
	set -- $case
	rm -f ./*
	head -c "$1" /dev/urandom >base.raw
	base=base.$3
	[ "$3" = raw ] || qemu-img convert -f raw -O qed \
		-o "${5:-cluster_size=64k}" base.raw base.qed
	qemu-img create -q -f qed -b "$base" -F "$3" \
		-o "${4:-cluster_size=64k}" top.qed "$2"
	fill top.qed
	committed top.qed "$base"
	is_empty top.qed
	# A second time there is nothing to do; then there is again.
	committed top.qed "$base"
	is_empty top.qed
	fill top.qed
	qemu_do top.qed qed 'write -P 9 3500k 100k'
	committed top.qed "$base" -d
	[ "$(clusters allocated-clusters top.qed)" -gt 0 ] ||
		fail "-d: the image was emptied"
done

# A QED image that is too small is made larger, and shows nothing of what is below it
# there.
for size in 4195328 6M 5000192; do
	rm -f ./*
	head -c 8M /dev/urandom >low.raw
	qemu-img create -q -f qed -b low.raw -F raw base.qed 4194816
	qemu-img create -q -f qed -b base.qed -F qed top.qed "$size"
	fill top.qed
	# QEMU cannot do it.
	qemu-img convert -f qed -O raw top.qed ../want.raw
	"$QEDIMG" commit -q top.qed 2>../err || fail "$size: $(cat ../err)"
	image_clean top.qed
	same_disk top.qed ../want.raw
	same_disk base.qed ../want.raw
	[ "$(qemu-img info --output=json base.qed | jq '."virtual-size"')" -eq \
		"$(numfmt --from=iec "$size")" ] || fail "$size: the base's size"
	is_empty top.qed
done
# Also below one that lies between, which is as long as the image.
rm -f ./*
head -c 8M /dev/urandom >low.raw
qemu-img create -q -f qed -o $small -b low.raw -F raw base.qed 4194816
qemu-img create -q -f qed -b base.qed -F qed mid.qed 6M
qemu_do mid.qed qed 'write -P 7 4194816 512' 'write -P 8 5M 70k'
qemu-img create -q -f qed -o $large -b mid.qed -F qed top.qed 6291968
fill top.qed
qemu-img convert -f qed -O raw top.qed ../want.raw
"$QEDIMG" commit -q -b base.qed top.qed
same_disk base.qed ../want.raw
same_disk top.qed ../want.raw
receiver_ok base.qed
[ "$(get_le 64 base.qed 48)" -eq 6291968 ] || fail "the size of base.qed"
# But not past what its tables can map; then nothing is changed.
rm -f ./*
"$QEDIMG" create -q -o cluster_size=4k,table_size=2 base.qed 1M
"$QEDIMG" create -q -b base.qed -F qed top.qed 5G
fill top.qed
refused 'base.qed: virtual size 5368709120 exceeds' top.qed

# ---- chains, -b ----

chain() {
	rm -f ./*
	head -c 5M /dev/urandom >base.raw
	qemu-img create -q -f qed -b base.raw -F raw one.qed 5M
	qemu_do one.qed qed 'write -P 1 100k 500k' 'write -z 2M 64k'
	qemu-img create -q -f qed -o $small -b one.qed -F qed two.qed 5M
	qemu_do two.qed qed 'write -P 2 200k 10k' 'write -P 2 4400k 100k'
	qemu-img create -q -f qed -b two.qed -F qed top.qed 5M
	fill top.qed
	qemu_do top.qed qed 'write -P 3 220k 1'
}

chain
committed top.qed two.qed
is_empty top.qed
chain
qemu-img create -q -f qed -b base.raw -F raw one.qed 4M
# Where one.qed has ended base.raw must not show through.
committed top.qed base.raw -b base.raw
[ "$(clusters allocated-clusters top.qed)" -gt 0 ] || fail "-b emptied the image"
chain
committed top.qed one.qed -b one.qed
chain
committed top.qed two.qed -b two.qed
[ "$(clusters allocated-clusters top.qed)" -gt 0 ] || fail "-b emptied the image"
chain
"$QEDIMG" commit -q -b "$PWD/../work/two.qed" -d top.qed
# By the name that it has in the image above, from another directory; what has this
# name there is what is meant, if there is such a file.
mkdir ../elsewhere
for name in base.raw one.qed two.qed; do
	chain
	qemu-img convert -f qed -O raw top.qed ../want.raw
	cp top.qed "../elsewhere/$name"
	sum=$(cat ./* "../elsewhere/$name" | cksum)
	! (cd ../elsewhere &&
		"$QEDIMG" commit -q -b "$name" ../work/top.qed 2>../err) ||
		fail "-b $name: another file is taken for it"
	grep -qF "$name is not one of the files behind it" ../err ||
		fail "-b $name: $(cat ../err)"
	[ "$(cat ./* "../elsewhere/$name" | cksum)" = "$sum" ] ||
		fail "-b $name: it writes"
	rm "../elsewhere/$name"
	(cd ../elsewhere && "$QEDIMG" commit -q -b "$name" ../work/top.qed) ||
		fail "-b $name from another directory"
	"$QEDIMG" compare -q -f "$(format "$name")" -F raw "$name" ../want.raw ||
		fail "-b $name from another directory: not committed"
done
chain
"$QEDIMG" commit -q -b two.qed -d empty top.qed
is_empty top.qed

# ---- what becomes of the image ----

# then WORD…: exit status 0, and what is printed into ../out
then_do() {
	chain
	qemu-img convert -f qed -O raw top.qed ../want.raw
	"$QEDIMG" commit "$@" >../out || fail "commit $*"
	grep -q '^Image committed.$' ../out || fail "commit $*: $(cat ../out)"
	grep -q 'no longer valid' ../out || fail "commit $*: no warning"
	[ "$("$QEDIMG" compare -F raw two.qed ../want.raw)" = \
		'Images are identical.' ] || fail "commit $*: not committed"
}

then_do top.qed
is_empty top.qed
grep -q 'empty now' ../out || fail "it does not say that it is empty"
for args in '-d empty top.qed' 'top.qed -d empty' '-dempty top.qed' \
		'-d -dempty top.qed'; do
	# shellcheck disable=SC2086 # words
	then_do $args
	is_empty top.qed
done
for args in '-d top.qed' 'top.qed -d' '-d keep top.qed' 'top.qed -dkeep' \
		'-d -f qed top.qed'; do
	# shellcheck disable=SC2086 # words
	then_do $args
	[ "$(clusters allocated-clusters top.qed)" -gt 0 ] ||
		fail "commit $args: emptied"
done
for args in '-d delete top.qed' "-ddelete $PWD/top.qed"; do
	# shellcheck disable=SC2086 # words
	then_do $args
	[ ! -e top.qed ] || fail "commit $args: still there"
	grep -q 'has been deleted' ../out || fail "commit $args: does not say so"
done
chain
qemu-img convert -f qed -O raw top.qed ../want.raw
"$QEDIMG" commit -b base.raw -d delete top.qed >../out
grep -q 'between the two' ../out || fail "no warning"
same_bytes base.raw ../want.raw
[ ! -e top.qed ] || fail "still there"
# A file of that name.
chain
mv top.qed keep
"$QEDIMG" commit -q -d keep
[ "$(clusters allocated-clusters keep)" -gt 0 ] || fail "-d keep: emptied"

chain
refused 'what lies between would show through' -b one.qed -d empty top.qed
refused 'committed to itself' -b top.qed top.qed
refused 'not one of the files behind it' -b ../want.raw top.qed
refused 'not one of the files behind it' -b nowhere.qed top.qed
ln -s top.qed link.qed
refused 'symbolic link' -d delete link.qed
qemu-img create -q -f qed alone.qed 1M
refused 'no backing file' alone.qed
refused 'missing.qed' missing.qed
qemu-img create -q -f qed -b base.raw -F raw orphan.qed
qemu-img rebase -f qed -u -b gone.raw -F raw orphan.qed
refused 'gone.raw' orphan.qed
refused 'the name of the image is missing' -b base.raw
refused 'only -d keep, empty and delete' -d all top.qed
refused "unexpected argument 'two.qed'" top.qed two.qed
refused "format 'raw' is not supported" -f raw base.raw
refused 'invalid option' -U top.qed
refused 'invalid option' -r 100 top.qed
refused 'not a QED image' base.raw
"$QEDIMG" commit -h | grep -q delete || fail "no help"
qemu-img convert -f qed -O raw top.qed ../want.raw
put_le 64 top.qed 24 1
refused 'compatible features that are unknown' top.qed
"$QEDIMG" commit -q -d top.qed
same_disk two.qed ../want.raw

# ---- geometries that QEMU cannot open; unknown bits; a table far from the header ----

for geometry in 4k,1 64M,16; do
	rm -f ./*
	head -c 5M /dev/urandom >base.raw
	cp base.raw ../want.raw
	for image in base.qed top.qed; do
		"$QEDIMG" create -q -b base.raw -F raw $image 5M \
			-o cluster_size=${geometry%,*},table_size=${geometry#*,}
	done
	"$QEDIMG" rebase -u -q -b base.qed -F qed top.qed
	# The only writer of such images is our own rebase.
	truncate -s 5M other.raw
	head -c 1M /dev/urandom | dd of=other.raw bs=1M conv=notrunc status=none
	"$QEDIMG" rebase -b other.raw -F raw top.qed
	"$QEDIMG" rebase -u -q -b base.qed -F qed top.qed
	"$QEDIMG" commit -q top.qed
	for image in base.qed top.qed; do
		"$QEDIMG" compare -q -F raw $image ../want.raw ||
			fail "$geometry: $image is another disk"
		not_leaky $image
	done
	[ "$(clusters l2-tables top.qed)" -eq 0 ] || fail "$geometry: not empty"
done
rm -f ./*
"$MKIMAGE" "$TOP_SRCDIR/tests/images/good-l1-moved.img.txt" moved.qed
truncate -s "$(get_le 64 moved.qed 48)" base.raw
"$QEDIMG" rebase -u -q -b base.raw -F raw moved.qed
qemu-img convert -f qed -O raw moved.qed ../want.raw
"$QEDIMG" commit -q moved.qed
same_disk moved.qed ../want.raw
same_bytes base.raw ../want.raw
[ "$(clusters l2-tables moved.qed)" -eq 0 ] || fail "the moved table is not empty"
"$MKIMAGE" "$TOP_SRCDIR/tests/images/good-autoclear.img.txt" auto.qed
truncate -s "$(get_le 64 auto.qed 48)" base.raw
"$QEDIMG" rebase -u -q -b base.raw -F raw auto.qed
put_le 64 auto.qed 32 5
"$QEDIMG" commit -q auto.qed
[ "$(get_le 64 auto.qed 32)" = 0 ] || fail "autoclear bits are still there"
is_empty auto.qed

# ---- large and sparse ----

rm -f ./*
qemu-img create -q -f qed base.qed 64T
qemu-img create -q -f qed -b base.qed -F qed top.qed 64T
qemu_do top.qed qed 'write -P 3 40T 1M' 'write -P 4 70368744177152 512' \
	'write -z 5T 1G'
qemu_do base.qed qed 'write -P 9 5T 64k'
cp top.qed ../before.qed
limited 300 "$QEDIMG" commit -q top.qed || fail "commit of 64 TiB"
is_empty top.qed
receiver_ok base.qed
"$QEDIMG" rebase -u -q -b '' top.qed
"$QEDIMG" rebase -u -q -b '' ../before.qed
qemu_do base.qed qed 'read -P 3 40T 1M' 'read -P 4 70368744177152 512' \
	'read -P 0 5T 1M'
truncate -s 4T base.raw
qemu-img create -q -f qed -b base.raw -F raw top.qed 7T
qemu_do top.qed qed 'write -P 3 6T 1M' 'write -z 1T 1G'
limited 300 "$QEDIMG" commit -q top.qed || fail "commit to a sparse file"
[ "$(stat -c %s base.raw)" -eq 7696581394432 ] || fail "base.raw did not grow"
[ "$(stat -c %b base.raw)" -le 2100 ] || fail "base.raw is not sparse"
qemu_do base.raw raw 'read -P 3 6T 1M'

# ---- who else uses the files ----

# in_use IMAGE FORMAT TEXT ARG…: qemu-io has IMAGE open for writing
in_use() {
	image=$1
	[ -p ../in ] || mkfifo ../in ../from
	qemu-io -f "$2" "$image" <../in >../from 2>&1 &
	exec 3>../in 4<../from
	echo length >&3
	read -r line <&4
	case $line in *5*MiB*) ;; *) fail "qemu-io says $line" ;; esac
	shift 2
	text=$1
	shift
	refused "$text" "$@"
	grep -q 'qemu-io' ../err || fail "no holder in: $(cat ../err)"
	exec 3>&- 4<&-
	wait $!
}

chain
in_use top.qed qed top.qed top.qed
in_use base.raw raw base.raw top.qed
in_use base.raw raw base.raw -b base.raw top.qed
# One that would be made larger.
rm -f ./*
"$QEDIMG" create -q base.qed 5M
"$QEDIMG" create -q -b base.qed -F qed top.qed 6M
in_use base.qed qed base.qed top.qed
# ---- devices ----

if [ "$(id -u)" -eq 0 ] && [ -c /dev/loop-control ]; then
	rm -f ./*
	head -c 5M /dev/urandom >../device.img
	device=$(attach_loop ../device.img)
	qemu-img create -q -f qed -b "$device" -F raw top.qed 5M
	fill top.qed
	qemu-img convert -f qed -O raw top.qed ../want.raw
	"$QEDIMG" commit -q top.qed
	is_empty top.qed
	cmp "$device" ../want.raw || fail "the device has other bytes"
	qemu-img create -q -f qed -b "$device" -F raw top.qed 6M
	fill top.qed
	refused 'the device is too small' top.qed
	refused 'the device is too small' -d top.qed
fi

# ---- progress, and interruptions at any moment ----

chain
"$QEDIMG" commit -q -p --progress=json top.qed 2>../err
tail -n 1 ../err | jq -e '.done == .total and .total == 5242880' >/dev/null ||
	fail "progress: $(cat ../err)"

# cut_commits IMAGE BASE ARG…: at moments that come later and later, then to the end
cut_commits() {
	image=$1
	base=$2
	shift 2
	for n in 5 10 20 40 60; do
		status=0
		timeout --foreground -s $signal 0.0$n \
			"$QEDIMG" commit -q "$@" 2>../err || status=$?
		# It can have been deleted just before the signal came.
		[ -e "$image" ] || status=0
		[ "$status" -ne 0 ] || break
		cut_short=$((cut_short + 1))
		released "$image" "$base"
		[ $signal = KILL ] || image_clean "$image"
		same_disk "$image" ../want.raw
	done
	[ "$status" -eq 0 ] || "$QEDIMG" commit -q "$@" ||
		fail "the second run of commit $*"
	[ ! -e "$image" ] || same_disk "$image" ../want.raw
	[ "$base" = base.raw ] || "$QEDIMG" check -q -r leaks "$base" ||
		fail "check: $?"
	"$QEDIMG" compare -q -f "$(format "$base")" -F raw "$base" ../want.raw ||
		fail "commit $*: $base has another disk"
}

# deep BASE: what lies between shows through the image
deep() {
	cp ../top.qed "../$1" .
	qemu-img create -q -f qed -b "$1" -F "$(format "$1")" mid.qed 40M
	qemu_do mid.qed qed 'write -P 7 31M 5M'
	"$QEDIMG" rebase -u -q -b mid.qed -F qed top.qed
	qemu-img convert -f qed -O raw top.qed ../want.raw
}

cut_short=0
for base in base.raw base.qed; do
	rm -f ./*
	"$QEDIMG" create -q base.qed 40M
	truncate -s 40M base.raw
	head -c 30M /dev/urandom >../want.raw
	truncate -s 40M ../want.raw
	head -c 40M /dev/urandom >>../want.raw
	qemu-img convert -f raw -O qed -o cluster_size=4k ../want.raw top.qed
	"$QEDIMG" rebase -u -q -b $base -F "$(format $base)" top.qed
	cp top.qed $base ..
	for signal in INT KILL; do
		cp ../top.qed "../$base" .
		cut_commits top.qed "$base" top.qed
		is_empty top.qed
	done
	for signal in INT KILL; do
		deep "$base"
		cut_commits top.qed "$base" -b "$base" -d keep top.qed
	done
	deep "$base"
	signal=TERM
	cut_commits top.qed "$base" -b "$base" -d delete top.qed
	[ ! -e top.qed ] || fail "-d delete: the image is there"
done
[ "$cut_short" -gt 0 ] || fail "no run was interrupted"
