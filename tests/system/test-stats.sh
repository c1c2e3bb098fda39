#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What can be observed: extended attributes, counters by SIGUSR1, static probes.
# Names and meanings are those of qedfs(1).

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires getfattr setfattr fallocate setpriv unshare readelf qemu-img "$QEDFS" \
	"$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt
disk=mnt/disk.raw
page=$TOP_SRCDIR/man/qedfs.1

# is WANTED CMD…: what the command prints
is() {
	wanted=$1
	shift
	got=$("$@") || got="$got, status $?"
	[ "$got" = "$wanted" ] || fail "$*: '$got', not '$wanted'"
}

# value NAME [FILE]
value() {
	getfattr --absolute-names --only-values -n "user.qedfs.$1" "${2:-$disk}"
}

# documented SECTION: the names that a section of the page lists
documented() {
	sed -n "/^\\.Ss $1\$/,/^\\.S[sh] /s/^\\.It Cm //p" "$page" |
		sed 's/ A[rg] .*//; s/ , Cm / /g' | tr ' ' '\n' | sort
}

# counted CHANGES CMD…: what the command adds to the counters, names sorted
counted() {
	wanted=$1
	shift
	getfattr -d $disk | grep -v '^#' >before
	"$@" || fail "$*"
	getfattr -d $disk | grep -v '^#' >after
	changes=$(sed 's/^user\.qedfs\.//; s/"//g' before after |
		awk -F = '
			!($1 in was) { was[$1] = $2; next }
			$2 != was[$1] { print $1 "+" $2 - was[$1] }' |
		tr '\n' ' ')
	[ "${changes% }" = "$wanted" ] || fail "$*: $changes, not $wanted"
}

# direct_read COUNT SKIP: pages, each a request
direct_read() {
	dd if=$disk of=/dev/null bs=4k count="$1" skip="$2" iflag=direct \
		status=none
}

direct_write() {
	dd if=/dev/zero of=$disk bs=4k count="$1" seek="$2" \
		oflag="direct${3:+,$3}" conv=notrunc status=none
}

names() {
	say "names"
	"$QEDIMG" create -q disk.qed 64M
	mount_qed disk.qed mnt
	getfattr -d $disk | sed -n 's/^user\.qedfs\.\([a-z0-9_]*\)=.*/\1/p' |
		sort >there
	documented 'Extended attributes' >listed
	[ -s listed ] || fail "found no names in $page"
	diff listed there || fail "the page (<) and the mount (>) differ"
	umount_qed mnt
}

# The sizes that getxattr(2) and listxattr(2) are asked with, and what is refused.
protocol() {
	say "protocol"
	mount_qed disk.qed mnt
	is 3 "$FILEOP" xattr $disk user.qedfs.format 0
	is 3 "$FILEOP" xattr $disk user.qedfs.format 3
	is 3 "$FILEOP" xattr $disk user.qedfs.format 65536
	is ERANGE "$FILEOP" xattr $disk user.qedfs.format 2
	length=$("$FILEOP" xattr $disk '' 0)
	[ "$length" -gt 300 ] || fail "listxattr: $length"
	is "$length" "$FILEOP" xattr $disk '' "$length"
	is ERANGE "$FILEOP" xattr $disk '' $((length - 1))
	for name in user.qedfs.nothing user.qedfs. user.qedfs.formats \
			user.qed user.format security.capability; do
		is ENODATA "$FILEOP" xattr $disk $name 0
	done
	is 0 "$FILEOP" xattr mnt '' 0
	is 0 "$FILEOP" xattr mnt '' 1000
	is ENODATA "$FILEOP" xattr mnt user.qedfs.format 1000
	is EOPNOTSUPP "$FILEOP" try setxattr $disk value
	is EOPNOTSUPP "$FILEOP" try removexattr $disk user.qedfs.format
	is qed value format
	umount_qed mnt
}

facts() {
	say "facts"
	odd=$(printf 'a b\\c\nd')
	truncate -s 1M "$odd"
	"$QEDIMG" create -q -b "$odd" -F raw mid.qed 1M
	"$QEDIMG" create -q -o cluster_size=128K,table_size=2 -b mid.qed \
		-F qed top.qed 3M
	mount_qed top.qed mnt -o io=threads,l2_cache=2M
	disk=mnt/top.raw
	is qed value format
	is 3145728 value virtual_size
	is 131072 value cluster_size
	is 2 value table_size
	is "$(printf '%s\n' "$TMP/top.qed" "$TMP/mid.qed" \
		"$TMP/a b\\134c\\012d")" value chain
	is 3 value chain_depth
	is threads value io
	is 2097152 value l2_cache
	umount_qed mnt
	disk=mnt/disk.raw

	# On the image itself, by its own path.
	mount_qed disk.qed disk.qed -o ro
	is 67108864 value virtual_size disk.qed
	is "$TMP/disk.qed" value chain disk.qed
	is 33554432 value l2_cache disk.qed
	umount_qed disk.qed
}

# The list of a chain whose names do not fit.
long_chain() {
	say "a long chain"
	dir=$TMP/deep
	component=$(printf '%0200d' 0)
	while [ ${#dir} -lt 3700 ]; do
		dir=$dir/$component
	done
	mkdir -p "$dir"
	truncate -s 1M "$dir/base"
	previous=base
	format=raw
	for i in $(seq 20); do
		"$QEDIMG" create -q -b "$previous" -F $format "$dir/$i.qed" 1M
		previous=$i.qed
		format=qed
	done
	mount_qed "$dir/20.qed" mnt
	disk=mnt/20.raw
	is 21 value chain_depth
	value chain >paths
	[ "$(stat -c %s paths)" -le 65536 ] || fail "longer than can be"
	is ... tail -n 1 paths
	n=$(($(wc -l <paths)))	# the last one has no newline
	[ $n -ge 15 ] || fail "only $n paths"
	i=20
	head -n $n paths | while read -r path; do
		[ "$path" = "$dir/$i.qed" ] || fail "path $((21 - i)): $path"
		i=$((i - 1))
	done
	getfattr -d $disk >/dev/null || fail "getfattr -d"
	umount_qed mnt
	disk=mnt/disk.raw
	rm -r "$TMP/deep"
}

# Whoever may read the file, and nobody else.
permissions() {
	say "permissions"
	chmod 755 .
	chmod 644 disk.qed
	mount_qed disk.qed mnt -o allow_other
	is qed setpriv --reuid 65534 --regid 65534 --clear-groups \
		getfattr --only-values -n user.qedfs.format $disk
	umount_qed mnt
	chmod 600 disk.qed
	mount_qed disk.qed mnt -o allow_other
	is EACCES setpriv --reuid 65534 --regid 65534 --clear-groups \
		"$FILEOP" xattr $disk user.qedfs.format 100
	umount_qed mnt

	# Bits that would make the kernel ask before each write never show.
	chmod 7777 disk.qed
	mount_qed disk.qed mnt
	is 666 stat -c %a $disk
	umount_qed mnt
	chmod 644 disk.qed
}

counters() {
	say "counters"
	rm disk.qed
	"$QEDIMG" create -q disk.qed 64M
	mount_qed disk.qed mnt -o nowriteback,commit=0
	counted '' getfattr -d $disk >/dev/null
	counted 'bytes_read+40960 l2_hits+10 reads+10 requests+10' \
		direct_read 10 0
	# two clusters, and the table that maps them
	counted 'allocations+2 bytes_written+131072 l2_hits+32 l2_loads+1 l2_misses+1 requests+32 writes+32' \
		direct_write 32 0
	counted 'commits+1 flushes+1 requests+1 syncs+2' sync $disk
	counted 'flushes+1 requests+1' sync $disk
	counted 'bytes_written+4096 l2_hits+1 requests+1 writes+1' \
		direct_write 1 0
	counted 'flushes+1 requests+1 syncs+1' sync $disk
	# Durable before it is answered; that the kernel asks for it again costs nothing.
	counted 'bytes_written+4096 flushes+2 l2_hits+1 requests+3 syncs+1 writes+1' \
		direct_write 1 0 dsync
	# fallocate(1) flushes; what is freed may be used again after that
	counted 'allocations+3 commits+1 flushes+1 l2_hits+1 preallocations+1 requests+2 syncs+1' \
		fallocate -o 131072 -l 196608 $disk
	counted 'commits+1 flushes+1 l2_hits+1 requests+2 syncs+1 zeroes+1' \
		fallocate -p -o 65536 -l 65536 $disk
	counted 'l2_hits+2 requests+1 seeks+1' \
		"$FILEOP" seek $disk hole 0 >/dev/null
	umount_qed mnt

	# From the start, and from disk: one part of a table for all.
	mount_qed disk.qed mnt -o ro
	is 0 value requests
	counted 'bytes_read+40960 l2_hits+9 l2_loads+1 l2_misses+1 reads+10 requests+10' \
		direct_read 10 0
	umount_qed mnt
}

# few_questions OPTIONS DD-ARG…: 1000 small writes, as a program makes them, must
# not bring a question each about the file's capabilities.  The kernel asks anew
# when it has been given attributes.
few_questions() {
	options=$1
	shift
	mount_qed disk.qed mnt -o "$options" -d
	dd if=/dev/zero of=$disk bs=4k count=1000 conv=notrunc status=none "$@"
	log=$(mount_log mnt)
	grep -q 'extended attributes: on' "$log" || fail "there are none"
	asked=$(grep -c 'opcode: GETXATTR' "$log" || :)
	refreshed=$(grep -c 'opcode: \(GETATTR\|SETATTR\|LOOKUP\)' "$log" || :)
	most=$((refreshed < 99 ? refreshed + 1 : 100))
	[ "$asked" -le $most ] ||
		fail "$options $*: $asked questions in 1000 writes"
	# else the log would not show a thing
	value format >/dev/null
	[ "$(grep -c 'opcode: GETXATTR' "$log")" -gt "$asked" ] ||
		fail "the log does not show questions"
	expect_log mnt .
	umount_qed mnt
}

questions() {
	say "requests that writes cause"
	few_questions rw
	few_questions nowriteback
	few_questions rw oflag=direct
}

# await_lines N: until the daemon of mnt has written that many lines
await_lines() {
	log=$(mount_log mnt)
	# shellcheck disable=SC2016 # for the inner shell
	"$WAITFOR" until "$log" "$(mount_pid mnt)" 300 \
		sh -c '[ "$(wc -l <"$1")" -ge "$2" ]' sh "$log" "$1" ||
		fail "SIGUSR1: not $1 lines in the log: $(cat "$log")"
}

# The line must hold the same numbers as the attributes do.
same_as_attributes() {
	tail -n 1 "$(mount_log mnt)" >line
	grep -q "^qedfs: $TMP/mnt: requests=[0-9]" line ||
		fail "the log: $(cat line)"
	sed "s,^qedfs: $TMP/mnt: ,," line | tr ' ' '\n' >logged
	while IFS='=' read -r name number; do
		is "$number" value "$name"
	done <logged
	is "$(documented 'Extended attributes' | grep -vx -e format \
		-e virtual_size -e cluster_size -e table_size -e chain \
		-e chain_depth -e io -e l2_cache)" \
		sh -c 'sed "s/=.*//" logged | sort'
}

signal() {
	say "SIGUSR1"
	rm disk.qed
	"$QEDIMG" create -q disk.qed 64G
	mount_qed disk.qed mnt -o commit=0
	direct_write 10 0
	direct_read 20 0
	kill -USR1 "$(mount_pid mnt)"
	await_lines 1
	same_as_attributes
	grep -q '^reads=20$' logged || fail "not 20 reads: $(cat line)"

	# Busy: one request after the other, for much longer than this takes.
	dd if=$disk of=/dev/null bs=4k iflag=direct status=none &
	busy=$!
	cleanup sh -c "kill $busy 2>/dev/null || :"
	for i in $(seq 2 21); do
		kill -USR1 "$(mount_pid mnt)"
		await_lines "$i"
	done
	kill $busy || fail "it was not busy until the end"
	wait $busy 2>/dev/null || :
	first=$(sed -n 's/.* reads=\([0-9]*\) .*/\1/p' "$log" | sed -n 2p)
	last=$(sed -n 's/.* reads=\([0-9]*\) .*/\1/p' "$log" | tail -n 1)
	[ "$last" -gt "$first" ] || fail "it was not busy: $first, then $last"
	expect_log mnt ": requests="
	umount_qed mnt
	image_clean disk.qed
}

# Detached, with a /dev in which it can be seen what goes to syslog.
to_syslog() {
	say "SIGUSR1 to syslog"
	mkdir dev
	: >syslog
	for node in fuse null urandom; do
		touch dev/$node
	done
	cat >detached.sh <<-'END'
		set -eu
		for node in fuse null urandom; do
			mount --bind /dev/$node dev/$node
		done
		"$1" dev/log >>syslog &
		sink=$!
		trap 'kill $sink; ! mountpoint -q mnt || umount -l mnt' EXIT
		"$WAITFOR" until syslog $sink 300 grep -q ready syslog
		mount --rbind dev /dev
		"$QEDFS" -o "pidfile=$TMP/pid" disk.qed mnt 2>stderr
		pid=$(cat pid)
		kill -USR1 "$pid"
		"$WAITFOR" until syslog $sink 300 grep -q requests= syslog
		"$WAITFOR" success 300 umount mnt
		"$WAITFOR" exit "$pid" 300
	END
	unshare --mount --propagation private \
		sh detached.sh "$(built tests/system/logsink)" ||
		fail "nothing in syslog: $(cat syslog stderr)"
	# facility daemon, informational
	grep -q "^<30>.* qedfs\\[[0-9]*\\]: $TMP/mnt: requests=0 reads=0 " \
		syslog || fail "syslog: $(cat syslog)"
	[ ! -s stderr ] || fail "stderr: $(cat stderr)"
}

# Each with its name and the number of its arguments.
probes() {
	say "probes"
	library=$TOP_BUILDDIR/.libs/libqed.so
	readelf -n "$library" >notes
	awk '$1 == "Provider:" { provider = $2 }
		$1 == "Name:" { name = $2 }
		$1 == "Arguments:" && provider == "libqed" {
			print name, gsub("@", "")
		}' notes | sort -u >there
	sed -n '/^\.Ss Probes$/,/^\.S[sh] /p' "$page" |
		awk '$1 == ".It" && $2 == "Cm" && $4 == "Ar" {
			print $3, NF - 4
		}' | sort >listed
	[ -s listed ] || fail "found no names in $page"
	grep -q '^#define HAVE_SYS_SDT_H 1' "$TOP_BUILDDIR/config.h" ||
		: >listed	# built without: there must not be any
	diff listed there || fail "the page (<) and the library (>) differ"
}

names
protocol
facts
long_chain
permissions
counters
questions
signal
to_syslog
probes
say "passed"
