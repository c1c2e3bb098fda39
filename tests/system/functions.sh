# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Shared by the system tests, which source it before anything else:
#
#	. "$(dirname "$0")/functions.sh"
#
# It sets `-eu`, finds the programs under test, makes the private directory
# $TMP and sees that nothing outlives the test: no mount, loop device, process
# or file, however the test ends.  tests/README.system lists what it offers.
#
# Functions with a body in ( ) keep their variables to themselves; what they
# register for cleanup is kept in a file, so $(attach_loop X) works too.

set -eu

here=$(cd "$(dirname "$0")" && pwd)
TOP_SRCDIR=$(cd "${TOP_SRCDIR:-$here/../..}" && pwd)
if [ -z "${TOP_BUILDDIR:-}" ]; then
	TOP_BUILDDIR=$TOP_SRCDIR
	[ ! -e config.status ] || TOP_BUILDDIR=.
fi
TOP_BUILDDIR=$(cd "$TOP_BUILDDIR" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
LC_ALL=C
export TOP_SRCDIR TOP_BUILDDIR PATH LC_ALL

# built PATH…: the first that the build tree has, else the first.  Libtool makes a
# script of that name, which takes ten times as long to start as the program itself.
built() (
	for path; do
		for file in "${path%/*}/.libs/${path##*/}" "$path"; do
			if [ -x "$TOP_BUILDDIR/$file" ]; then
				echo "$TOP_BUILDDIR/$file"
				exit
			fi
		done
	done
	echo "$TOP_BUILDDIR/$1"
)

# Those have to be told where the library is.
case :${LD_LIBRARY_PATH-}: in
*:"$TOP_BUILDDIR/.libs":*) ;;
*) LD_LIBRARY_PATH=$TOP_BUILDDIR/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} ;;
esac
export LD_LIBRARY_PATH

: "${QEDFS:=$(built qedfs fuse/qedfs)}"
: "${QEDIMG:=$(built qedimg src/qedimg/qedimg)}"
: "${MKIMAGE:=$(built tests/images/mkimage)}"
: "${RANDOMIO:=$(built tests/system/randomio)}"
: "${FILEOP:=$(built tests/system/fileop)}"
: "${LEAKS:=$(built tests/system/leaks)}"
: "${WAITFOR:=$(built tests/system/waitfor)}"
export QEDFS QEDIMG MKIMAGE RANDOMIO FILEOP LEAKS WAITFOR

# Where in_memory=yes was said before this file was read, the test's files lie in
# memory if there is room: it would wait for the disk for nothing.
parent=${QED_TEST_DIR:-${TMPDIR:-/tmp}}
if [ "${in_memory-}" = yes ] && [ -z "${QED_TEST_DIR-}" ] &&
   [ -w /dev/shm ] &&
   [ "$(df --output=avail -k /dev/shm | tail -n 1)" -ge 2097152 ]; then
	parent=/dev/shm
fi
TMP=$(mktemp -d "$parent/qed-test.XXXXXX")
TMP=$(cd "$TMP" && pwd -P)
export TMP
cleanups=$TMP/.cleanups
: >"$cleanups"

# Reports of sanitizers go to files, so that those of a daemon whose stderr
# nobody reads fail the test as well.
san=log_path=$TMP/.san
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}$san
LSAN_OPTIONS=${LSAN_OPTIONS:+$LSAN_OPTIONS:}$san
TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}$san
UBSAN_OPTIONS=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}$san:print_stacktrace=1
# To look for leaks takes longer than most commands do.  Where many_starts=yes was said
# before this file was read, one is like hundreds of others, and the jobs' own tests
# look for leaks.
[ "${many_starts-}" != yes ] || ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
export ASAN_OPTIONS LSAN_OPTIONS TSAN_OPTIONS UBSAN_OPTIONS

say() {
	printf '%s: %s\n' "$(basename "$0")" "$*"
}

fail() {
	say "FAILED: $*" >&2
	exit 1
}

skip() {
	say "skipped: $*" >&2
	exit 77
}

# quoted WORD…: one line that eval reads as the same words (without newlines)
quoted() (
	for word; do
		case $word in
		*\'*) printf '%s' "$word" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/' /" ;;
		*) printf "'%s' " "$word" ;;
		esac
	done
	echo
)

# cleanup CMD [ARG…]: run on every exit, last registered first
cleanup() {
	quoted "$@" >>"$cleanups"
}

run_cleanups() (
	status=0
	tac "$cleanups" >"$TMP/.tac"
	while read -r line; do
		(eval "$line") </dev/null || {
			say "cleanup failed: $line" >&2
			status=1
		}
	done <"$TMP/.tac"
	exit "$status"
)

# left_behind: what no cleanup took away goes as well, and fails the test
left_behind() (
	status=0
	awk -v "top=$TMP/" 'index($5, top) == 1 { print $5 }' \
		/proc/self/mountinfo | sort -r >"$TMP/.left"
	while read -r dir; do
		say "still mounted: $dir" >&2
		umount -l "$(printf %b "$dir")"
		status=1
	done <"$TMP/.left"
	for block in /sys/block/loop*/loop; do
		{ read -r file <"$block/backing_file"; } 2>/dev/null || continue
		case $file in
		"$TMP"/*)
			device=${block%/loop}
			say "still attached: ${device##*/}, $file" >&2
			losetup --detach "/dev/${device##*/}"
			status=1
			;;
		esac
	done
	exit "$status"
)

sanitizer_reports() (
	status=0
	for report in "$TMP"/.san.*; do
		[ -e "$report" ] || continue
		# Of a thread that has just ended LeakSanitizer says that it cannot
		# look at it; that is no leak.
		[ ! -s "$report" ] ||
			grep -qv 'Unable to get registers from thread' "$report" ||
			continue
		say "sanitizer report:" >&2
		cat "$report" >&2
		status=1
	done
	exit "$status"
)

on_exit() {
	status=$?
	trap '' HUP INT PIPE TERM
	set +e
	run_cleanups || [ "$status" -ne 0 ] || status=1
	left_behind || [ "$status" -ne 0 ] || status=1
	sanitizer_reports || status=1
	[ -z "$watchdog" ] || kill -TERM "$watchdog" 2>/dev/null
	if [ -n "${QED_TEST_KEEP:-}" ]; then
		say "kept $TMP" >&2
	else
		rm -rf --one-file-system "$TMP"
	fi
	trap - EXIT
	exit "$status"
}

# A request that a hung daemon never answers cannot be killed, only aborted.
watch_over() {
	sleep "$1" &
	sleeper=$!
	trap 'kill $sleeper; exit 0' TERM
	wait "$sleeper" || exit 0
	for state in "$TMP"/.mounts/*; do
		[ ! -e "$state/connection" ] || abort_fuse "$state" || :
	done
	echo "$(basename "$0"): took more than $1 s" >"$TMP/.timeout"
	kill -TERM $$
	# It obeys when the command has ended that it waits for.
	read -r self _ </proc/self/stat
	read -r children <"/proc/$$/task/$$/children" || :	# no newline
	for child in $children; do
		[ "$child" = "$self" ] || kill -TERM "$child"
	done
}

watchdog=
trap on_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap '[ ! -e "$TMP/.timeout" ] || cat "$TMP/.timeout" >&2; exit 143' TERM

# requires PROG…: the test needs these programs (paths or names)
requires() {
	for prog; do
		command -v "$prog" >/dev/null 2>&1 || skip "needs $prog"
	done
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "needs root"
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
}

need_loop() {
	need_root
	[ -c /dev/loop-control ] || skip "needs /dev/loop-control"
	requires losetup
}

# shellcheck source-path=SCRIPTDIR source=mounts.sh
. "$TOP_SRCDIR/tests/system/mounts.sh"

# ---- loop devices and ordinary mounts ----

# unmount DIR: umount(8), again while somebody has something open there: who looks at
# all mounts or devices does so for a moment
unmount() {
	! umount "$1" 2>"$TMP/.umount" || return 0
	# shellcheck disable=SC2016 # for the inner shell
	"$WAITFOR" success 300 sh -c 'umount "$1" 2>"$TMP/.umount"' sh "$1" ||
		fail "$(cat "$TMP/.umount")"
}

# is_mounted DIR: is anything mounted right there?
is_mounted() {
	awk -v "dir=$(realpath -ms "$1")" \
		'$5 == dir { found = 1 } END { exit !found }' \
		/proc/self/mountinfo
}

# attach_loop FILE [LOSETUP-OPTION…]: prints the device; detached on exit
attach_loop() (
	file=$1
	shift
	device=$(losetup --find --show "$@" "$file")
	cleanup detach_loop "$device"
	echo "$device"
)

# detach_loop DEVICE: and the device has let go of its file.  While somebody else has it
# open, losetup succeeds, and the kernel does it when that one has closed it.
detach_loop() (
	block=/sys/block/${1#/dev/}
	[ -e "$block/loop" ] || exit 0
	number=$(cat "$block/diskseq")
	losetup --detach "$1"
	# shellcheck disable=SC2016 # for the inner shell
	"$WAITFOR" success 300 sh -c '
		[ ! -e "$1/loop" ] || [ "$(cat "$1/diskseq")" != "$2" ]' \
		sh "$block" "$number" || fail "$1 is not detached"
)

# mount_on DIR MOUNT-ARG…: mount(8), undone on exit
mount_on() (
	dir=$1
	shift
	cleanup umount_from "$(realpath -ms "$dir")"
	mount "$@" "$dir"
)

# umount_from DIR: if anything is mounted there
umount_from() {
	! is_mounted "$1" || unmount "$1"
}

# few WORD…: prints all; with sanitizers, which look for other things than what
# differs between cases of a kind, the first alone
few() {
	if [ "${QED_SANITIZER:-no}" = no ]; then
		echo "$@"
	else
		echo "$1"
	fi
}

# ---- making images, comparing, looking ----

# qemu_copy RAW IMAGE OFFSET LEN: QEMU writes this range of the raw file into
# the QED image, at the same place
qemu_copy() (
	range=driver=raw,offset=$3,size=$4
	source=$range,file.driver=file,file.filename=$1
	target=$range,file.driver=qed,file.file.filename=$2
	qemu-img convert -m 1 -n --image-opts "$source" --target-image-opts "$target"
)

# qemu_do IMAGE FORMAT COMMAND…: commands of qemu-io, each has to succeed
qemu_do() (
	image=$1
	format=$2
	shift 2
	for command; do
		shift
		set -- "$@" -c "$command"
	done
	failed=
	qemu-io -f "$format" "$@" "$image" >"$TMP/.qemu-io" || failed=yes
	while IFS= read -r line; do
		case $line in
		*failed*) failed=yes ;;
		esac
	done <"$TMP/.qemu-io"
	[ -z "$failed" ] || fail "qemu-io $*: $(cat "$TMP/.qemu-io")"
)

same_bytes() {
	cmp "$1" "$2" || fail "$1 and $2 differ"
}

# image_clean IMAGE [NCLUSTERS]: qemu-img check finds nothing wrong, NEED_CHECK is
# not set, and just as many clusters are leaked (none)
image_clean() {
	status=0
	qemu-img check -f qed "$1" >"$TMP/.check" 2>&1 || status=$?
	# 3 is for leaks and nothing worse; QEMU's count is not to be relied on.
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
		fail "qemu-img check of $1: $(cat "$TMP/.check")"
	not_leaky "$@"
	! need_check_set "$1" || fail "NEED_CHECK is still set in $1"
}

not_leaky() {
	leaked=$("$LEAKS" "$1") || fail "$1 is damaged"
	[ "$leaked" -eq "${2:-0}" ] || fail "$1: $leaked leaked clusters"
}

# same_disk IMAGE RAW: QEMU reads the QED image as the raw file's bytes
same_disk() {
	qemu-img compare -q -f qed -F raw "$1" "$2" ||
		fail "qemu-img compare of $1 and $2"
}

# Little-endian integers in files: get_le BITS FILE OFFSET, put_le BITS FILE
# OFFSET VALUE
get_le() {
	# shellcheck disable=SC2046 # without its spaces
	printf %s $(od -An -v --endian=little -t "u$(($1 / 8))" -j "$3" \
		-N "$(($1 / 8))" "$2")
}

put_le() (
	n=$(($1 / 8))
	value=$4
	bytes=
	while [ "$n" -gt 0 ]; do
		bytes=$bytes\\$((value >> 6 & 3))$((value >> 3 & 7))$((value & 7))
		value=$((value >> 8))
		n=$((n - 1))
	done
	# shellcheck disable=SC2059 # the format is made of octal escapes
	printf "$bytes" | dd of="$2" bs=1 seek="$3" conv=notrunc status=none
)

# json_number KEY FILE: a number in JSON that the programs print a line a key, 0 if it
# is not there; of the outermost object.  For loops: jq takes some 20 ms to start.
json_number() (
	number=0
	while IFS= read -r line; do
		case $line in
		"  \"$1\": "[0-9]* | "    \"$1\": "[0-9]*)
			number=${line##*: }
			number=${number%,}
			;;
		esac
	done <"$2"
	echo "$number"
)

need_check_set() {
	[ "$(($(get_le 64 "$1" 16) & 2))" -ne 0 ]
}

# ---- the time limit: last, as the watchdog needs the functions above ----

limit=${TEST_TIMEOUT:-1800}	# what scripts/run-test allows; 0: no limit
limit=$((limit > 60 ? limit - 60 : limit > 0 ? limit : 86400))
(watch_over "$limit") </dev/null >/dev/null 2>&1 &
watchdog=$!
