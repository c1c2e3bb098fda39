#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Every recipe of tests/images: damaged and unsupported images are refused with
# one clear line of their own, quickly and without much memory; in images that
# open, damage is confined to the disk ranges that need it.

in_memory=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
: "${MEASURE:=$(built tests/system/measure)}"
: "${READAT:=$(built tests/system/readat)}"
requires "$QEDFS" "$MKIMAGE" "$MEASURE" "$READAT" "$WAITFOR"

# A sanitizer takes memory and time of its own.
max_kib=65536
max_ms=1000
if [ "${QED_SANITIZER:-no}" != no ]; then
	max_kib=2097152
	max_ms=20000
fi

images=$TOP_SRCDIR/tests/images
failed=0

complain() {
	say "$name: $*" >&2
	failed=1
}

# status_of RECIPE, text_of RECIPE: what its `expect` line says
status_of() {
	sed -n 's/^expect \([0-9]*\).*/\1/p' "$1"
}

text_of() {
	sed -n 's/^expect [0-9]* "\(.*\)"$/\1/p' "$1"
}

check_limits() {
	read -r kib ms <report
	[ "$kib" -le "$max_kib" ] || complain "took $kib KiB of memory"
	[ "$ms" -le "$max_ms" ] || complain "took $ms ms"
}

# check_message TEXT: one line, which holds the text and names an image or
# another file of the recipe (all are named relative to the test's directory)
check_message() {
	[ "$(wc -l <err)" -eq 1 ] || complain "not one line: $(cat err)"
	grep -qF -e "$1" err || complain "no '$1' in: $(cat err)"
	grep -q "\($name/\|/dev/\)[^ :]*: " err ||
		complain "names no file: $(cat err)"
}

# check_refused TEXT [OPTION…]
check_refused() {
	text=$1
	shift
	status=0
	"$MEASURE" report timeout 60 "$QEDFS" "$@" "$name/$name.qed" mnt \
		>out 2>err </dev/null || status=$?
	[ "$status" -eq 1 ] || complain "exit status $status: $(cat err)"
	[ ! -s out ] || complain "wrote to stdout: $(cat out)"
	check_message "$text"
	check_limits
	if is_mounted mnt; then
		complain "is mounted nevertheless"
		unmount mnt
	fi
}

check_reads() {
	sed -n 's/^expect-read //p' "$recipe" >reads
	while read -r offset expected; do
		got=$("$READAT" "mnt/$name.raw" "$offset") || :
		[ "$got" = "$expected" ] ||
			complain "at $offset: '$got', not '$expected'"
	done <reads
	# What is damaged, and where, is said where the daemon's messages go.
	! grep -q ' euclean$' reads ||
		expect_log mnt "$name/.*\.qed: damaged: .*offset [0-9]"
}

check_opens() {
	mount_qed "$name/$name.qed" mnt -o ro
	check_reads
	kib=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB$/\1/p' \
		"/proc/$(mount_pid mnt)/status")
	[ "$kib" -le "$max_kib" ] || complain "took $kib KiB of memory"
	umount_qed mnt
}

sums() {
	find "$name" -type f -exec cksum {} +
}

check_recipe() {
	name=$(basename "$recipe" .img.txt)
	mkdir "$name"
	"$MKIMAGE" "$recipe" "$name/$name.qed" || {
		complain "mkimage failed"
		return 0
	}
	before=$(sums)
	case $name:$(status_of "$recipe") in
	good-*:0 | bad-*:0)
		check_opens
		;;
	bad-*:1 | unsupported-*:1)
		check_refused "$(text_of "$recipe")"
		check_refused "$(text_of "$recipe")" -o ro
		;;
	*)
		complain "says nothing of what to expect"
		;;
	esac
	[ "$(sums)" = "$before" ] || complain "has been changed"
	rm -r "$name"
}

cd "$TMP"
mkdir mnt

name=recipes
cat "$images"/*.img.txt | sed -n 's/^expect 1 //p' | sort | uniq -d >twice
[ ! -s twice ] || complain "the same message twice: $(cat twice)"
bad=$(find "$images" -name 'bad-*.img.txt' -o -name 'unsupported-*.img.txt' |
	wc -l)
[ "$bad" -ge 60 ] || complain "only $bad malformed images"

for recipe in "$images"/*.img.txt; do
	check_recipe
done
say "$bad malformed images"
exit "$failed"
