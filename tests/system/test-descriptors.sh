#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Standard descriptors that are closed do not become an image's, where messages would
# be written into it; and a limit of the size of files is an error like others.

in_memory=yes
# That turns off LeakSanitizer, which does not work under strace.
many_starts=yes
. "$(dirname "$0")/functions.sh"

need_root
requires "$QEDIMG" "$QEDFS" qemu-img qemu-io strace

cd "$TMP"
"$QEDIMG" create -q one.qed 16M
# What compact has something to do with, and a damage that is talked about.
qemu_do one.qed qed 'write -P 2 4M 1M' 'write -P 1 0 1M' 'discard 4M 512k'
qemu-img convert -f qed -O raw one.qed one.raw

# ---- qedimg ----

# Without io_uring its descriptors are not in the way.
closed() {
	which=$1
	shift
	(
		case $which in *0*) exec 0<&- ;; esac
		case $which in *1*) exec 1>&- ;; esac
		case $which in *2*) exec 2>&- ;; esac
		exec strace -f -qq -o trace -e trace=io_uring_setup \
			-e inject=io_uring_setup:error=EPERM "$QEDIMG" "$@"
	) </dev/null >out 2>err
}

for which in 0 1 2 01 02 12 012; do
	for job in 'compact --defrag' 'check -r all' 'resize --preallocation=full'; do
		cp one.qed image.qed
		set -- image.qed
		[ "${job%% *}" != resize ] || set -- image.qed +1M
		# shellcheck disable=SC2086 # words
		closed $which $job -q --progress=json "$@" ||
			fail "$job without $which: $(cat out err)"
		[ "$(od -An -c -N 4 image.qed | tr -d ' ')" = 'QED\0' ] ||
			fail "$job without $which: the header"
		[ "$job" = 'check -r all' ] || image_clean image.qed
		qemu-img compare -q -f qed -F raw image.qed one.raw ||
			fail "$job without $which: other bytes"
	done
done
status=0
closed 0 convert -f raw - new.raw || status=$?
[ "$status" -eq 1 ] || fail "convert of a closed stdin: status $status"
grep -q 'standard input: cannot read.*: Bad file descriptor' err || fail "$(cat err)"
[ ! -e new.raw ] || fail "convert of a closed stdin made a file"
status=0
closed 1 convert one.qed - || status=$?
[ "$status" -eq 1 ] || fail "convert to a closed stdout: status $status"
grep -q 'standard output: cannot write.*: Bad file descriptor' err || fail "$(cat err)"
status=0
closed 1 info one.qed || status=$?
[ "$status" -eq 1 ] || fail "info to a closed stdout: status $status"
grep -q 'cannot write the output' err || fail "$(cat err)"

# ---- qedfs ----

# Into the background it gives its standard descriptors to /dev/null.
head -c 2M /dev/urandom >new.data
mkdir mnt
for which in 0 012; do
	cp one.qed image.qed
	cp one.raw want.raw
	cleanup umount_from "$TMP/mnt"
	(
		exec 0<&-
		[ $which = 0 ] || exec 1>&- 2>&-
		exec "$QEDFS" -o io=threads image.qed mnt
	) || fail "qedfs without $which"
	for file in mnt/image.raw want.raw; do
		dd if=new.data of=$file bs=1M seek=9 conv=notrunc,fsync status=none
	done
	same_bytes mnt/image.raw want.raw
	unmount mnt
	released image.qed
	image_clean image.qed
	same_disk image.qed want.raw
done

# ---- the limit of the size of files ----

# limited_to TEXT ARG…: with files of 8 MiB at most it fails, and says so
limited_to() {
	text=$1
	shift
	status=0
	(ulimit -f 16384; exec "$QEDIMG" "$@") >out 2>err </dev/null || status=$?
	[ "$status" -eq 1 ] || fail "$*: status $status, not 1: $(cat err)"
	grep -q "^qedimg: $text.*: File too large; .*: raise the limit (ulimit -f)" err ||
		fail "$*: $(cat err)"
}

"$QEDIMG" create -q big.qed 64M
qemu_do big.qed qed 'write -P 3 0 12M'
limited_to "new.qed: cannot preallocate 67108864 bytes" create -o preallocation=full new.qed 64M
limited_to "new.qed: cannot write at disk offset [0-9]*" convert -O qed big.qed new.qed
limited_to "new.raw: cannot extend to 67108864 bytes" convert -S 0 big.qed new.raw
for target in new.qed new.raw; do
	[ ! -e $target ] || fail "$target is left"
done
limited_to "one.qed: cannot preallocate at disk offset [0-9]*" resize --preallocation=full one.qed +64M
image_clean one.qed
same_disk one.qed one.raw
