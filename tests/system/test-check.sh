#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qedimg check: finds and names every kind of damage at every place, mends it so
# that QEMU agrees, and touches nothing of the disk that it does not list.

in_memory=yes
many_starts=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
: "${MEASURE:=$(built tests/system/measure)}"
requires qemu-img qemu-io jq fallocate strace "$QEDIMG" "$MKIMAGE" "$MEASURE" \
	"$LEAKS" "$WAITFOR"

cd "$TMP"

# check STATUS ARG…: qedimg check ends so; what it prints is in the files out, err
check() {
	want=$1
	shift
	status=0
	"$QEDIMG" check "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq "$want" ] ||
		fail "$label: check $*: status $status, not $want: $(cat out err)"
}

# key FILTER: of the JSON printed last
key() {
	jq -r "$1" out
}

# theirs IMAGE: qemu-img's status and the keys that both have
theirs() {
	status=0
	qemu-img check -f qed --output=json "$1" >their.json 2>/dev/null ||
		status=$?
	echo "$status"
	jq -S . their.json
}

# Ours, without what only we tell, as that nothing is allocated.
ours() {
	status=0
	"$QEDIMG" check --output=json "$1" >our.json 2>/dev/null || status=$?
	echo "$status"
	jq -S 'del(.faults, ."leaks-empty", ."need-check", ."undo-saved",
		."image-end-offset") |
		if ."allocated-clusters" == 0 then del(."allocated-clusters")
		else . end' our.json
}

same_report() {
	theirs "$1" >their.out
	ours "$1" >our.out
	diff their.out our.out || fail "$label: the reports differ"
}

# agree IMAGE: nothing is wrong any more, both say so, and count the same leaks
agree() {
	check 0 --output=json "$1"
	[ "$(json_number corruptions out)" -eq 0 ] || fail "$label: still corrupt"
	our_leaks=$(json_number leaks out)
	qemu-img check -f qed --output=json "$1" >their.json 2>/dev/null || :
	grep -q '"check-errors": 0' their.json || fail "$label: QEMU: $(cat their.json)"
	[ "$(json_number corruptions their.json)" -eq 0 ] ||
		fail "$label: QEMU finds errors"
	[ "$(json_number leaks their.json)" -eq "$our_leaks" ] ||
		fail "$label: QEMU counts other leaks than $our_leaks"
	[ "$("$LEAKS" "$1")" -eq "$our_leaks" ] || fail "$label: leaks"
}

# ---- damage by recipe: kinds of it times places ----

# geometry CLUSTER_SIZE: header of 2 clusters, L1 table, two L2 tables, data
geometry() {
	cs=$1
	entries=$((2 * cs / 8))
	last=$((entries - 1))
	span=$((entries * cs))			# bytes of disk that a table maps
	t0=$((4 * cs))
	t1=$((6 * cs))
	cat >base.img.txt <<-END
		cluster_size $cs
		table_size 2
		header_size 2
		l1_table_offset $((2 * cs))
		image_size $((2 * span + 4608))
		file_size $((16 * cs))
		l1[0] = $t0
		l1[1] = $t1
		l2@${t0}[0] = $((8 * cs))
		l2@${t0}[1] = $((9 * cs))
		l2@${t0}[$last] = $((10 * cs))
		l2@${t0}[5] = $((14 * cs))
		l2@${t0}[6] = $((15 * cs))
		l2@${t1}[0] = $((11 * cs))
		l2@${t1}[7] = $((12 * cs))
		l2@${t1}[$last] = $((13 * cs))
	END
	for i in 8 9 10 11 12 13 14 15; do
		echo "fill $((i * cs)) $cs 0xa$((i % 10))" >>base.img.txt
	done
	"$MKIMAGE" base.img.txt good.qed
	label=base
	check 0 good.qed
	same_report good.qed
	qemu-img convert -f qed -O raw good.qed good.raw
}

# cleared RAW: a copy as $1.cleared without the ranges that the faults list
cleared() {
	cp --sparse=always "$1" "$1.cleared"
	while read -r start length; do
		fallocate -p -o "$start" -l "$length" "$1.cleared"
	done <ranges
}

# damaged KIND TABLE_OFFSET LINE…: the base with LINEs more is found to have a
# fault of this KIND in the entry at TABLE_OFFSET, or if that is "any" in one that
# clashes with it: then the range in $own, which the line has changed, may differ
damaged() {
	kind=$1
	place=$2
	shift 2
	label="$kind: $*"
	cp base.img.txt bad.img.txt
	printf '%s\n' "$@" >>bad.img.txt
	"$MKIMAGE" bad.img.txt bad.qed
	rm -f bad.qed.check-undo
	cp --sparse=always bad.qed before.qed

	check 2 --output=json bad.qed
	mv out found
	check 2 --output=json -r all --dry-run bad.qed
	mv out planned
	same_bytes bad.qed before.qed
	check 0 --output=json -r all bad.qed

	filter="select(.kind == \"$kind\""
	[ "$place" = any ] || filter="$filter and .\"table-offset\" <= $place
		and .\"table-offset\" + 8 * .count > $place"
	# All with one jq, whose start is what this takes longest for.
	jq -rs "([.[0].faults[] | $filter)] | length),
		([.[1].faults[] | $filter and .action == \"none\")] | length),
		(.[2].faults[] | select(.start != null and .length > 0) |
		\"\\(.start) \\(.length)\")" found planned out >answers
	{
		read -r named && read -r idle && cat >ranges
	} <answers
	[ "$named" -gt 0 ] || fail "$label: not named: $(cat found)"
	[ "$idle" -eq 0 ] || fail "$label: no action: $(cat planned)"
	[ "$place" != any ] || echo "$own" >>ranges
	agree bad.qed
	qemu-img convert -f qed -O raw bad.qed after.raw
	cp good.raw want.raw
	cleared want.raw
	cleared after.raw
	same_bytes want.raw.cleared after.raw.cleared
	count=$((count + 1))
}

# Everything that an entry of an L2 table can be but should not.
l2_faults() {
	for index in $(few 3 0 "$last"); do
		own="$((index * cs)) $cs"
		l2_faults_at "l2@${t0}[$index]" "$((t0 + 8 * index))"
	done
	own="$((span + 7 * cs)) $cs"
	l2_faults_at "l2@${t1}[7]" "$((t1 + 56))"
}

l2_faults_at() {
	damaged reserved-bits "$2" "$1 = 2"
	damaged reserved-bits "$2" "$1 = $((8 * cs + 1))"
	damaged reserved-bits "$2" "$1 = $((9 * cs + 2048))"
	damaged reserved-bits "$2" "$1 = 0xffffffffffffffff"
	[ "$cs" -eq 4096 ] ||
		damaged unaligned "$2" "$1 = $((9 * cs + 4096))"
	damaged in-header "$2" "$1 = $cs"
	damaged in-l1-table "$2" "$1 = $((2 * cs))"
	damaged in-l1-table "$2" "$1 = $((3 * cs))"
	damaged in-l2-table "$2" "$1 = $((4 * cs))"
	damaged in-l2-table "$2" "$1 = $((7 * cs))"
	damaged past-end "$2" "$1 = $((16 * cs))"
	damaged past-end "$2" "$1 = $((1 << 40))"
	damaged past-end "$2" "$1 = 0x8000000000008000"
	damaged past-end "$2" "$1 = 0xffffffffffffe000"
	damaged shared any "$1 = $((14 * cs))"
	damaged shared any "$1 = $((11 * cs))"
}

# Of the L1 table.
l1_faults() {
	for index in $(few 0 1 2 "$last"); do
		own="$((index * span)) $span"
		l1_faults_at "l1[$index]" "$((2 * cs + 8 * index))"
	done
}

l1_faults_at() {
	damaged reserved-bits "$2" "$1 = 1"
	damaged reserved-bits "$2" "$1 = $((4 * cs + 8))"
	damaged reserved-bits "$2" "$1 = 0xffffffffffffffff"
	[ "$cs" -eq 4096 ] ||
		damaged unaligned "$2" "$1 = $((4 * cs + 4096))"
	damaged in-header "$2" "$1 = $cs"
	damaged in-l1-table "$2" "$1 = $((2 * cs))"
	damaged in-l1-table "$2" "$1 = $((3 * cs))"
	damaged past-end "$2" "$1 = $((16 * cs))"
	damaged past-end "$2" "$1 = $((15 * cs))"
	damaged past-end "$2" "$1 = $((1 << 41))"
	damaged past-end "$2" "$1 = 0x8000000000004000"
	damaged reserved-bits any "$1 = $((8 * cs))"	# data is no table
	case $2 in
	$((2 * cs))) damaged shared any "$1 = $t1" ;;
	*) damaged shared "$2" "$1 = $t0" ;;
	esac
	damaged shared any "$1 = $((5 * cs))"
}

count=0
geometry 4096
l2_faults
l1_faults
geometry 8192
own="$((span + last * cs)) $cs"
l2_faults_at "l2@${t1}[$last]" "$((t1 + 8 * last))"
own="$span $span"
l1_faults_at "l1[1]" "$((2 * cs + 8))"
own="$((2 * cs)) $cs"
damaged past-end any "l2@${t0}[1] = $((16 * cs))" \
	"l1[1] = $((1 << 40))" "l2@${t0}[2] = $((14 * cs))"
say "$count damaged images"
[ "${QED_SANITIZER:-no}" != no ] || [ "$count" -ge 100 ] ||
	fail "only $count damaged images"

# ---- shared clusters read the same as before, in both places ----

label='shared data'
geometry 8192
cp base.img.txt bad.img.txt
echo "l1[2] = $t0" >>bad.img.txt
echo "l2@${t1}[3] = $((8 * cs))" >>bad.img.txt
"$MKIMAGE" bad.img.txt bad.qed
cp bad.qed before.qed
rm -f bad.qed.check-undo
# saved WANT: whether it says that tables were saved
saved() {
	[ "$(key '."undo-saved"')" = "$1" ] || fail "undo-saved is not $1: $(cat out)"
}
check 2 --output=json bad.qed
saved false
check 2 --output=json -r all --dry-run bad.qed
saved false
check 0 --output=json -r all bad.qed
saved true
# The next one goes on with that, unless it has been removed.
check 0 --output=json -r all bad.qed
saved true
mv bad.qed.check-undo kept
check 0 --output=json -r all bad.qed
saved false
mv kept bad.qed.check-undo
qemu-img compare -q -f qed -F qed bad.qed before.qed ||
	fail "copies differ from what was shared"
agree bad.qed

# ---- undo ----

label=undo
check 0 --undo bad.qed
cmp -n "$((16 * cs))" bad.qed before.qed || fail "undo puts other bytes back"
[ ! -e bad.qed.check-undo ] || fail "the undo file is still there"
check 1 --undo bad.qed
grep -q 'check-undo: No such file' err || fail "no undo file: $(cat err)"
# A repair, then a write to what it changed: too late.
check 0 -r all bad.qed
put_le 64 bad.qed "$((t1 + 24))" 1
cp bad.qed before.qed
check 1 --undo bad.qed
grep -q 'changed since' err || fail "undo of a changed image: $(cat err)"
same_bytes bad.qed before.qed
# It is not written through a link.
cp good.qed link.qed
put_le 64 link.qed "$t0" 7
echo precious >target
ln -s "$TMP/target" link.qed.check-undo
check 1 -r all link.qed
[ "$(cat target)" = precious ] || fail "the undo file followed a link"
[ "$(get_le 64 link.qed "$t0")" -eq 7 ] || fail "changed without an undo file"

# ---- leaks ----

label=leaks
geometry 4096
cp good.qed leaky.qed
truncate -s +12288 leaky.qed
same_report leaky.qed
check 3 leaky.qed
check 3 -r leaks --dry-run leaky.qed
check 0 -r leaks leaky.qed
same_bytes leaky.qed good.qed
same_report leaky.qed
# One inside: punched, then it takes up no space, but QEMU counts it.
put_le 64 leaky.qed "$t0" 0
fallocate -l "$((16 * cs))" leaky.qed
same_report leaky.qed
check 3 leaky.qed
blocks=$(stat -c %b leaky.qed)
check 0 -r leaks --output=json leaky.qed
[ "$(key '."leaks-fixed"')" -eq 1 ] || fail "not one leak given back"
[ "$(stat -c %b leaky.qed)" -lt "$blocks" ] || fail "no space given back"
agree leaky.qed
[ "$our_leaks" -eq 1 ] || fail "$our_leaks leaks, not one"
# With corruptions left nothing is given back.
truncate -s +8192 leaky.qed
put_le 64 leaky.qed "$t1" 7
cp leaky.qed before.qed
check 2 -r leaks leaky.qed
same_bytes leaky.qed before.qed
# A last cluster that is cut short is data that can be kept.
label='cut cluster'
cp good.qed cut.qed
truncate -s -100 cut.qed
check 2 --output=json cut.qed
check 0 -r all --output=json cut.qed
[ "$(key '.faults[0].action')" = extend ] || fail "not extended: $(cat out)"
agree cut.qed
qemu-img convert -f qed -O raw cut.qed cut.raw
cp good.raw want.raw
qemu_do want.raw raw "write -z $((7 * cs - 100)) 100"
same_bytes want.raw cut.raw

# ---- the same counts as QEMU's, of other images ----

label='other geometries'
head -c 9M /dev/urandom >content.raw
for geometry in 1M,2 64k,4; do
	for size in 9M 24M; do
		"$QEDIMG" create -q -o \
			"cluster_size=${geometry%,*},table_size=${geometry#*,}" \
			count.qed $size
		same_report count.qed
		qemu_do count.qed qed 'write -P 1 8M 1M' 'write -P 2 0 3M' \
			'write -z 1M 1M'
		same_report count.qed
		# All of the smaller one has its place then.
		qemu-img convert -n -f raw -O qed content.raw count.qed
		same_report count.qed
		truncate -s +4M count.qed
		same_report count.qed
	done
done
[ "$(json_number leaks our.json)" -eq 64 ] || fail "leaks: $(cat our.json)"
qemu-img create -q -f qed -b content.raw -F raw over.qed 24M
same_report over.qed
qemu_do over.qed qed 'write -P 3 20M 100k' 'write -P 4 1M 1' 'write -z 2M 1M'
same_report over.qed
"$QEDIMG" check -q over.qed || fail "an overlay"

# ---- what a person reads of it: a line for each ----

label='for people'
geometry 8192
cp base.img.txt bad.img.txt
cat >>bad.img.txt <<-END
	file_size $((18 * cs))
	fill $((16 * cs)) $((2 * cs)) 0xab
	l1[2] = 5
	l1[9] = 5
	l2@${t0}[5] = 3
	l2@${t0}[7] = $((8 * cs))
	l2@${t1}[2] = $((1 << 40))
	l2@${t1}[3] = $(((1 << 40) + cs))
END
"$MKIMAGE" bad.img.txt bad.qed
cat >faults <<-END
	reserved-bits: L1 entry 0x5 at file offset $((2 * cs + 16)), disk offset $((2 * span)), length 4608
	reserved-bits: L1 entry 0x5 at file offset $((2 * cs + 72)), past the end of the disk
	reserved-bits: L2 entry 0x3 at file offset $((t0 + 40)), disk offset $((5 * cs)), length $cs
	shared: L2 entry 0x10000 at file offset $((t0 + 56)), disk offset $((7 * cs)), length $cs
	past-end: L2 entry 0x10000000000 at file offset $((t1 + 16)) and 1 behind it, disk offset $((span + 2 * cs)), length $((2 * cs))
	leak: 1 clusters, file offset $((14 * cs)), length $cs
	leak: 2 clusters, file offset $((16 * cs)), length $((2 * cs))
END
check 2 bad.qed
sed '/^$/,$d' out | diff faults - || fail "other faults: $(cat out)"
grep -q '^6 errors were found' out || fail "no sum: $(cat out)"
grep -q '^3 leaked clusters were found' out || fail "no leaks: $(cat out)"
check 2 -r all --dry-run bad.qed
sed '/^leak/s/^/none /; /^shared/s/^/Would copy: /
	/^[rp]/s/^/Would drop: /; s/^none //' faults >planned
sed '/^$/,$d' out | diff planned - || fail "another plan: $(cat out)"
check 0 -r all bad.qed
# The copy is behind what has leaked, which so cannot be cut off.
sed 's/^Would/Repair,/; s/^leak/Repair, punch: &/' planned >repaired
sed '/^The following/,$d' out | diff repaired - || fail "another repair: $(cat out)"

# ---- NEED_CHECK and autoclear bits ----

label=NEED_CHECK
cp good.qed flag.qed
put_le 64 flag.qed 16 2
put_le 64 flag.qed 32 5
check 0 flag.qed
grep -q 'not closed properly' out || fail "says nothing of NEED_CHECK"
check 0 -r all --dry-run flag.qed
need_check_set flag.qed || fail "cleared without -r"
put_le 64 flag.qed "$t0" 7
check 2 -r leaks flag.qed
need_check_set flag.qed || fail "cleared in a corrupt image"
check 0 -r all flag.qed
! need_check_set flag.qed || fail "not cleared after a repair"
[ "$(get_le 64 flag.qed 32)" -eq 0 ] || fail "autoclear bits are kept"
check 0 --undo flag.qed
need_check_set flag.qed || fail "undo does not set NEED_CHECK again"

# ---- what it refuses, and exit status ----

label=refusals
cp good.qed used.qed
echo text >text
check 63 text
check 1 -f qed text
check 63 -f raw good.qed
# What it is not is not said of it.
status=0
"$QEDIMG" check --output=json text >report.json 2>err || status=$?
[ "$status" -eq 63 ] || fail "a text, JSON: status $status"
jq -e '."check-errors" == 1 and (has("format") | not)' report.json >/dev/null ||
	fail "a text, JSON: $(cat report.json)"

# Behind the end of the disk neighbours that are alike are one as well, without a
# place on it.
cat >far.txt <<-'END'
	cluster_size 65536
	table_size 16
	header_size 1
	l1_table_offset 65536
	image_size 1048576
	file_size 1114112
	l1[100] = 8
	l1[101] = 16
	l1[131071] = 24
END
"$MKIMAGE" far.txt far.qed
status=0
"$QEDIMG" check --output=json far.qed >report.json || status=$?
[ "$status" -eq 2 ] || fail "entries behind the disk: status $status"
jq -e '[.faults[].count] == [2, 1] and all(.faults[]; .length == 0 and
	(has("start") | not))' report.json >/dev/null ||
	fail "entries behind the disk: $(cat report.json)"
check 1 missing.qed
grep -q missing.qed err || fail "does not name the file"
check 1 -r everything good.qed
check 1 --dry-run good.qed
check 1 -U -r all good.qed
for clash in '-r leaks --backing-chain' '-r all --dry-run --backing-chain' \
		'--undo -r leaks' '--undo -r all' '--undo -U' \
		'--undo --backing-chain' '--undo --output=json' '--undo -p' \
		'--undo --progress=json' '--undo -q -p'; do
	# shellcheck disable=SC2086 # words
	check 1 $clash leaky.qed
	grep -q '^qedimg: leaky.qed: .*\(only reads\|other actions\|no report\)' err ||
		fail "$clash: $(cat err)"
	same_bytes leaky.qed before.qed
done
check 1 --output=xml good.qed
check 1 --progress=bar good.qed
check 1 good.qed good.qed
check 1
check 0 -q good.qed
[ ! -s out ] || fail "-q prints $(cat out)"
# As qemu-img does: not the object either, whatever is wrong.
for option in '' --backing-chain; do
	# shellcheck disable=SC2086 # words
	check 0 -q --output=json $option good.qed
	[ ! -s out ] || fail "-q --output=json $option prints $(cat out)"
	# shellcheck disable=SC2086 # words
	check 2 -q --output=json $option leaky.qed
	[ ! -s out ] || fail "-q --output=json $option prints $(cat out)"
done
label='in use'
mkfifo in out.fifo
qemu-io -f qed used.qed <in >out.fifo 2>&1 &
qemu_io=$!
exec 3>in 4<out.fifo
echo 'read 0 512' >&3
read -r line <&4 || fail "qemu-io ends: $line"
for option in '' '-r all'; do
	# shellcheck disable=SC2086 # words
	check 1 $option used.qed
	grep -q 'used.qed: in use' err || fail "not refused: $(cat err)"
done
cp used.qed before.qed
check 0 -U used.qed
check 0 -U -r all --dry-run used.qed
same_bytes used.qed before.qed
exec 3>&- 4<&-
wait "$qemu_io"

# ---- every recipe: no crash, nothing written; the opened ones can be mended ----

label=recipes
mended=0
for recipe in "$TOP_SRCDIR"/tests/images/*.img.txt; do
	label=$(basename "$recipe" .img.txt)
	mkdir recipe
	"$MKIMAGE" "$recipe" recipe/x.qed
	sum=$(cksum <recipe/x.qed)
	status=0
	"$MEASURE" report "$QEDIMG" check --output=json \
		recipe/x.qed >out 2>err </dev/null || status=$?
	jq -e .faults out >/dev/null || fail "$label: not JSON: $(cat out)"
	read -r kib ms <report
	[ "${QED_SANITIZER:-no}" != no ] || [ "$kib" -lt 65536 ] ||
		fail "$label: $kib KiB"
	[ "${QED_SANITIZER:-no}" != no ] || [ "$ms" -lt 5000 ] ||
		fail "$label: $ms ms"
	[ "$(cksum <recipe/x.qed)" = "$sum" ] || fail "$label: written to"
	case $status in
	0 | 2 | 3)
		check 0 -r all recipe/x.qed
		check 0 recipe/x.qed
		mended=$((mended + 1))
		;;
	1 | 63)
		[ -s err ] || fail "$label: no message"
		;;
	*)
		fail "$label: status $status: $(cat err)"
		;;
	esac
	rm -r recipe
done
[ "$mended" -ge 40 ] || fail "only $mended recipes could be checked"

# ---- sparse and huge ----

label=huge
"$QEDIMG" create -q huge.qed 64T
qemu_do huge.qed qed "write 0 64k" "write 65535G 64k"
truncate -s 4T huge.qed
check 3 --output=json huge.qed
[ "$(key .leaks)" -eq $(((4 << 40) / 65536 - 15)) ] ||
	fail "$(key .leaks) leaks in a file of 4 TiB"
"$MEASURE" report "$QEDIMG" check -q huge.qed || :
read -r kib ms <report
[ "${QED_SANITIZER:-no}" != no ] || [ "$kib" -lt 65536 ] ||
	fail "$kib KiB for a sparse image"
check 0 -r leaks huge.qed
agree huge.qed

# ---- chains, progress, signals ----

label=chain
qemu-img create -q -f raw base.raw 1M
"$QEDIMG" create -q -b base.raw -F raw lower.qed
"$QEDIMG" create -q -b lower.qed -F qed upper.qed
check 0 --output=json --backing-chain upper.qed
[ "$(key 'map(.filename) | join(" ")')" = 'upper.qed lower.qed' ] ||
	fail "chain: $(cat out)"
truncate -s +64K lower.qed
check 3 --backing-chain upper.qed
check 0 upper.qed
# What cannot be opened behind it: the image itself is checked all the same.
rm base.raw
check 1 --backing-chain upper.qed
grep -q 'base.raw: .*No such file' err || fail "not said: $(cat err)"
check 1 --output=json --backing-chain upper.qed
[ "$(key 'map([.filename, ."check-errors"]) | @text')" = '[["upper.qed",0]]' ] ||
	fail "a broken chain: $(cat out)"
check 0 upper.qed
# As without the option, in an array of one, and said once.
for file in text missing.qed; do
	status=1
	[ $file = missing.qed ] || status=63
	check "$status" --backing-chain $file
	check "$status" --output=json $file
	jq -S '[.]' out >single
	mv err single.err
	check "$status" --output=json --backing-chain $file
	jq -S . out | diff single - || fail "$file: $(cat out)"
	diff single.err err || fail "$file: $(cat err)"
done
check 1 -f qed --backing-chain text

label=progress
check 0 --progress=json good.qed
jq -es 'length > 0 and all(.done <= .total) and (last | .percent == 100)' \
	err >/dev/null || fail "progress: $(cat err)"
check 0 -p good.qed
[ ! -s err ] || fail "-p draws where there is no terminal"

# ---- stopped, and run again ----

# stopped SIGNAL CALL N OPTION…: by the Nth such call, if there are as many; what
# it says is in err.  LeakSanitizer does not work under strace.
stopped() {
	signal=$1 call=$2 when=$3
	shift 3
	label="$signal at $call $when, $*"
	status=0
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -e "trace=$call" \
		-e "inject=$call:signal=$signal:when=$when" -o trace \
		"$QEDIMG" check -q "$@" stop.qed >out 2>err || status=$?
	released stop.qed
	case $signal,$status in
	*,0) return ;;
	KILL,137 | TERM,143 | INT,130) ;;
	*,1)
		grep -q 'stop.qed: .*canceled' err || fail "$label: $(cat err)"
		;;
	*)
		fail "$label: status $status: $(cat err)"
		;;
	esac
	early=$((early + 1))
}

# corrupt: how many corruptions are found
corrupt() {
	"$QEDIMG" check --output=json stop.qed >out 2>err || [ $? -gt 1 ] ||
		fail "$label: $(cat err)"
	json_number corruptions out
}

head -c 5M /dev/urandom >stop.raw
qemu-img convert -f raw -O qed -o cluster_size=4k,table_size=2 stop.raw kept.qed
l1=$(get_le 64 kept.qed 40)
t0=$(get_le 64 kept.qed "$l1")
t1=$(get_le 64 kept.qed "$((l1 + 8))")
# A part of the disk is leaked, and the tail of the file.
cp kept.qed leaks.qed
put_le 64 leaks.qed "$((l1 + 8))" 0
truncate -s +1M leaks.qed
qemu-img convert -f qed -O raw leaks.qed leaks.raw
# The clusters of that part are those of another as well.
cp kept.qed all.qed
dd if=kept.qed of=all.qed bs=2048 count=1 skip="$((t0 / 2048))" \
	seek="$((t1 / 2048))" conv=notrunc status=none
qemu-img convert -f qed -O raw all.qed all.raw

early=0
for signal in INT TERM KILL; do
	for point in ftruncate,1 io_uring_enter,3; do
		rm -f stop.qed*
		cp leaks.qed stop.qed
		stopped "$signal" "${point%,*}" "${point#*,}" -r leaks
		same_disk stop.qed leaks.raw
		[ "$(corrupt)" -eq 0 ] || fail "$label: it is worse"
		check 0 -r leaks stop.qed
		agree stop.qed
		same_disk stop.qed leaks.raw
	done
	for point in ftruncate,1 ftruncate,150 io_uring_enter,3; do
		rm -f stop.qed*
		cp all.qed stop.qed
		stopped "$signal" "${point%,*}" "${point#*,}" -r all
		same_disk stop.qed all.raw
		[ "$(corrupt)" -le 256 ] || fail "$label: it is worse"
		check 0 -r all stop.qed
		agree stop.qed
		same_disk stop.qed all.raw
	done
	# What the last of these has saved is put back, and not only half of it.
	cp stop.qed mended.qed
	cp stop.qed.check-undo mended.undo
	for point in io_uring_enter,3 unlink,1; do
		cp mended.qed stop.qed
		cp mended.undo stop.qed.check-undo
		stopped "$signal" "${point%,*}" "${point#*,}" --undo
		same_disk stop.qed all.raw
		[ ! -e stop.qed.check-undo ] || check 0 --undo stop.qed
		same_disk stop.qed all.raw
		cmp -i "$t1" -n 8192 stop.qed all.qed ||
			fail "$label: not put back"
		[ ! -e stop.qed.check-undo ] || fail "$label: not removed"
	done
done
say "$early were stopped"
[ "$early" -ge 9 ] || fail "only $early were stopped"
