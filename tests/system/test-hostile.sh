#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qedimg info and check of a file from somebody else: they read that file and no
# other, whatever it names, and cost little memory and time, whatever it claims.

in_memory=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
: "${MEASURE:=$(built tests/system/measure)}"
: "${GARBAGE:=$(built tests/system/garbage)}"
requires qemu-img jq strace "$QEDIMG" "$MKIMAGE" "$MEASURE" "$GARBAGE"

KIB=1024
TIB=$((1 << 40))

# ---- what is opened ----

mkdir "$TMP/names"
cd "$TMP/names"
mkfifo fifo
echo data >base.raw
"$QEDIMG" create -q base.qed 1M

# opens STATUS IMAGE COMMAND…: the command ends so, having opened no file of
# this directory, nor asked for one, but the image and what a repair of it has saved.
opens() {
	want=$1
	image=$2
	shift 2
	status=0
	# LeakSanitizer does not work under strace.
	ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 \
		strace -f -qq -e trace=%file -o "$TMP/trace" timeout 60 \
		"$QEDIMG" "$@" "$image" >"$TMP/out" 2>"$TMP/err" \
		</dev/null || status=$?
	[ "$status" -eq "$want" ] ||
		fail "$* $image: status $status, not $want: $(cat "$TMP/err")"
	grep -q "openat(.*\"$image\"" "$TMP/trace" ||
		fail "$* $image: the trace does not show it"
	sed -n 's/^[^"]*"\([^"]*\)".*/\1/p' "$TMP/trace" |
		grep -E "^[^/]|^$TMP/names|/etc/shadow|/dev/zero" |
		grep -vxF -e "$image" -e "$image.check-undo" \
			>"$TMP/others" || return 0
	fail "$* $image: asks for $(sort -u "$TMP/others")"
}

# A backing file, of all kinds that would do harm if opened.
for name in base.raw base.qed fifo /dev/zero /etc/shadow file:base.raw \
	"$TMP/names/base.qed" 'json:{"driver":"raw","file.filename":"base.raw"}' \
	nbd://127.0.0.1/base ./../names/base.raw; do
	printf 'backing %s\n' "$name" >image.img.txt
	"$MKIMAGE" image.img.txt image.qed
	opens 0 image.qed info
	opens 0 image.qed info --output=json
	opens 0 image.qed check
	opens 0 image.qed check -r all --dry-run
	opens 0 image.qed check -r all
done
# The control: with the chain they are opened.
printf 'backing base.qed\n' >image.img.txt
"$MKIMAGE" image.img.txt image.qed
(opens 0 image.qed info --backing-chain) 2>"$TMP/control" &&
	fail "the chain is not opened"
grep -q 'asks for .*base.qed' "$TMP/control" || fail "$(cat "$TMP/control")"

# ---- what it costs ----

# Files of any size are possible in memory.
large=$TMP
if [ -d /dev/shm ] && [ -w /dev/shm ]; then
	large=$(mktemp -d /dev/shm/qed-test.XXXXXX)
	cleanup rm -rf "$large"
fi
cd "$large"

# costs MIB SECONDS STATUSES ARGUMENT…: so much at most.  What ends with status 1
# says why.
costs() {
	mib=$1
	seconds=$2
	statuses=$3
	shift 3
	status=0
	"$MEASURE" "$TMP/report" timeout 120 "$QEDIMG" "$@" >"$TMP/out" \
		2>"$TMP/err" </dev/null || status=$?
	case " $statuses " in
	*" $status "*) ;;
	*) fail "$*: status $status: $(head -c 500 "$TMP/err")" ;;
	esac
	[ "$status" -ne 1 ] || [ -s "$TMP/err" ] || fail "$*: says nothing"
	[ "$(wc -l <"$TMP/err")" -le 200 ] || fail "$*: says too much"
	read -r kib ms <"$TMP/report"
	say "$*: status $status, $kib KiB, $ms ms"
	[ "${QED_SANITIZER:-no}" = no ] || return 0
	[ "$kib" -le $((mib * KIB)) ] || fail "$*: $kib KiB"
	[ "$ms" -le $((seconds * 1000)) ] || fail "$*: $ms ms"
}

# image NAME CLUSTER TABLE DISK FILE NTABLES STORED ALIGN LIMIT: an image whose L1
# table names NTABLES tables, one behind the other, of which the first STORED hold
# random entries, 16384 each at most, and the others are holes.
image() {
	name=$1 cluster=$2 table=$3 ntables=$6 stored=$7
	bytes=$((cluster * table))
	n=$((bytes / 8))
	[ "$n" -le 16384 ] || n=16384
	cat >"$name.img.txt" <<-END
		cluster_size $cluster
		table_size $table
		l1_table_offset $cluster
		image_size $4
		file_size $5
	END
	"$MKIMAGE" "$name.img.txt" "$name"
	"$GARBAGE" "$name" "$cluster" "$ntables" row "$bytes" \
		$((cluster + bytes))
	i=0
	while [ "$i" -lt "$stored" ]; do
		"$GARBAGE" "$name" $((cluster + bytes * (i + 1))) "$n" random \
			"$8" "$9"
		i=$((i + 1))
	done
}

# cheap NAME MIB: both commands, and what a repair would do
cheap() {
	costs "$2" 5 0 info "$1"
	costs "$2" 20 '1 2 3' check -q "$1"
	costs "$2" 20 '1 2 3' check --output=json "$1"
	jq -e .faults "$TMP/out" >/dev/null || fail "$1: not JSON"
	costs "$2" 20 '1 2 3' check -q -r all --dry-run "$1"
	rm "$1"
}

# A file system may end at less than what is claimed here.
size=$((60 * TIB))
if ! truncate -s "$size" probe 2>/dev/null; then
	size=$((15 * TIB))
fi
rm -f probe
# 64 TiB of disk; tables of anything, tables of what could be.
image anything.qed 65536 4 $((64 * TIB)) "$size" 32768 40 1 0
cheap anything.qed 32
image scattered.qed 65536 4 $((64 * TIB)) "$size" 32768 40 65536 "$size"
cp --sparse=always scattered.qed info.qed
costs 192 5 0 info info.qed
rm info.qed
costs 192 20 2 check -q scattered.qed
costs 192 20 2 check --output=json scattered.qed
rm scattered.qed
# The smallest clusters in a file of that size: more than its disk can have.
image small.qed 4096 16 $((1 << 38)) "$size" 8192 20 4096 "$size"
cheap small.qed 128
# The largest geometry: tables of 1 GiB, an L1 table that is mostly a hole.
size=$((1 << 58))
truncate -s "$size" probe 2>/dev/null || size=$((15 * TIB))
rm -f probe
ntables=131072
[ "$size" -gt $((ntables << 30)) ] || ntables=15000
image largest.qed $((1 << 26)) 16 9223372036854775296 "$size" "$ntables" 4 \
	$((1 << 26)) "$size"
cheap largest.qed 320

# ---- what it takes to mend one ----

# Entries that all name one cluster, tables that all are one: as much as there is
# to copy, and then no more.
image shared.qed 4096 2 $((512 << 20)) $((64 << 20)) 8 8 4096 $((1 << 20))
costs 64 60 0 check -q -r all shared.qed
costs 64 20 0 check -q shared.qed
