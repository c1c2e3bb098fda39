#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Starting the daemon: names, mountpoints, options, and errors before it
# detaches.  How it ends is in test-unmount.sh, what it shows in test-file.sh.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img "$QEDFS" "$QEDIMG" "$RANDOMIO" "$FILEOP"

cd "$TMP"
mkdir mnt
"$RANDOMIO" init data.raw 2097152 1
qemu-img convert -f raw -O qed data.raw disk.qed

not_mounted() {
	! is_mounted "$1" || fail "$1 is still a mountpoint"
	[ -z "$(ls "$1")" ] || fail "$1 is not empty"
}

# shows NAME IMAGE…: mounted, the directory holds just NAME, with the data
shows() {
	name=$1
	shift
	mount_qed "$1" mnt
	[ "$(ls -A mnt)" = "$name" ] || fail "$1: $(ls -A mnt), not $name"
	same_bytes "mnt/$name" data.raw
	umount_qed mnt
	not_mounted mnt
}

names() {
	say "names"
	shows disk.raw disk.qed
	for name in disk.img .qed qed 'a disk.QED' a.qed.qed 'x,ro\y=".qed'; do
		cp disk.qed "$name"
	done
	shows disk.img.raw disk.img
	shows .qed.raw .qed
	shows qed.raw qed
	shows 'a disk.QED.raw' 'a disk.QED'
	shows a.qed.raw a.qed.qed
	shows 'x,ro\y=".raw' 'x,ro\y=".qed'
	ln -s disk.qed link.qed
	shows link.raw link.qed
}

over_files() {
	say "mounting over files"
	touch plain
	mount_qed disk.qed plain
	same_bytes plain data.raw
	[ "$("$FILEOP" write plain 4096 512)" = '512 0 0' ]
	cp plain want.raw
	umount_qed plain
	[ ! -s plain ] || fail "the file below the mount has changed"
	same_disk disk.qed want.raw

	# The image's own path, from a directory above, and by a link.
	mount_qed disk.qed disk.qed
	same_bytes disk.qed want.raw
	[ "$("$FILEOP" write disk.qed 8192 512)" = '512 0 0' ]
	cp disk.qed want.raw
	umount_qed disk.qed
	image_clean disk.qed
	same_disk disk.qed want.raw
	cp want.raw data.raw
}

# What mount(8) and findmnt show.
in_mountinfo() {
	say "mountinfo"
	mount_qed disk.qed mnt
	grep " $TMP/mnt " /proc/self/mountinfo >line
	grep -q -- ' - fuse\.qedfs ' line || fail "type: $(cat line)"
	for flag in nosuid nodev default_permissions; do
		tr ', ' '\n' <line | grep -qx "$flag" ||
			fail "no $flag: $(cat line)"
	done
	grep -q "fuse\\.qedfs $TMP/disk\\.qed " line ||
		fail "the image is not named: $(cat line)"
	umount_qed mnt
}

readonly_mounts() {
	say "read-only"
	mount_qed disk.qed mnt -o ro
	cannot_write
	umount_qed mnt
	grep -q . "$(mount_log mnt)" && fail "-o ro said something"

	# A file system that is mounted read-only; root may write all others.
	mkdir -p rofs
	mount_on rofs -t tmpfs -o size=8m tmpfs
	cp disk.qed rofs/
	mount -o remount,ro rofs
	mount_qed rofs/disk.qed mnt
	expect_log mnt 'rofs/disk\.qed.*read-only'
	[ "$(wc -l <"$(mount_log mnt)")" -eq 1 ] || fail "more than a line"
	cannot_write
	same_bytes mnt/disk.raw data.raw
	umount_qed mnt
	umount_from rofs

	# A file that may not be written, even by root.
	if chattr +i disk.qed 2>/dev/null; then
		cleanup chattr -i "$TMP/disk.qed"
		mount_qed disk.qed mnt
		expect_log mnt 'disk\.qed.*read-only'
		cannot_write
		umount_qed mnt
		chattr -i disk.qed
	fi
}

cannot_write() {
	case $("$FILEOP" try open mnt/disk.raw rw) in
	EROFS | EACCES) ;;
	*) fail "a read-only disk was opened for writing" ;;
	esac
	[ "$(($(stat -c 0%a mnt/disk.raw) & 0222))" -eq 0 ] ||
		fail "a read-only disk has write bits"
}

# Every error is one line with what it is about, and nothing stays behind.
errors() {
	say "errors"
	for option in nonsense commitx=1 l2cache=1M ro=1 =; do
		qedfs_refuses "${option%%=*}" -o "$option" disk.qed mnt
	done
	qedfs_refuses bogus -o ro,bogus,rw disk.qed mnt
	for option in io=fast l2_cache=much l2_cache= commit=-1 \
		backing_format=vmdk backing=; do
		qedfs_refuses "${option%%=*}" -o "$option" disk.qed mnt
	done
	qedfs_refuses nowhere.qed nowhere.qed mnt
	qedfs_refuses nowhere disk.qed nowhere
	qedfs_refuses data.raw data.raw mnt
	qedfs_refuses "$TMP\\|mnt" mnt mnt
	qedfs_refuses usage disk.qed
	qedfs_refuses usage
	qedfs_refuses 'usage\|extra' disk.qed mnt extra
	qedfs_refuses usage --no-such-option disk.qed mnt
	touch short.qed
	qedfs_refuses short.qed short.qed mnt
	mkfifo fifo.qed
	qedfs_refuses fifo.qed fifo.qed mnt
	[ "$(wc -l <err)" -eq 1 ] || fail "not one line: $(cat err)"
	not_mounted mnt
}

help_and_version() {
	say "-h and -V"
	for option in -h --help; do
		"$QEDFS" "$option" >out 2>err
		[ ! -s err ] || fail "$option writes to stderr"
		grep -q 'l2_cache' out || fail "$option is not helpful"
	done
	for option in -V --version; do
		"$QEDFS" "$option" >out 2>err
		grep -q '[0-9]\.[0-9]' out || fail "$option: $(cat out)"
	done
}

# Without -f: the parent returns when the mount is up, and holds nothing of its
# caller, else $( ) would wait for the daemon.
detached() {
	say "detaching"
	cleanup umount_from "$TMP/mnt"
	said=$("$QEDFS" -o "pidfile=$TMP/pid" disk.qed mnt 2>&1)
	is_mounted mnt || fail "the parent returned before the mount was up"
	[ -z "$said" ] || fail "the parent said: $said"
	same_bytes mnt/disk.raw data.raw
	pid=$(cat pid)
	[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "the daemon's directory"
	[ "$(ps -o sid= -p "$pid" | tr -d ' ')" != "$(ps -o sid= -p $$ |
		tr -d ' ')" ] || fail "the daemon is in our session"
	unmount mnt
	"$WAITFOR" exit "$pid" 300 || fail "the daemon did not end"
	[ ! -e pid ] || fail "the pidfile is still there"
	image_clean disk.qed

	# Relative paths, from another directory; debug output.
	mkdir -p a/b
	cd a/b
	"$QEDFS" -o "ro,pidfile=$TMP/pid" ../../disk.qed ../../mnt
	cd "$TMP"
	same_bytes mnt/disk.raw data.raw
	pid=$(cat pid)
	fusermount3 -u mnt
	"$WAITFOR" exit "$pid" 300 || fail "the daemon did not end"
}

# Two mounts of one image: readers may share it, a writer may not.
twice() {
	say "two mounts"
	mkdir -p second
	mount_qed disk.qed mnt -o ro
	mount_qed disk.qed second -o ro
	qedfs_refuses 'disk\.qed' disk.qed rofs
	same_bytes mnt/disk.raw second/disk.raw
	umount_qed second
	umount_qed mnt
	mount_qed disk.qed mnt
	qedfs_refuses 'disk\.qed' disk.qed second
	qedfs_refuses 'disk\.qed' -o ro disk.qed second
	umount_qed mnt
}

names
over_files
in_mountinfo
readonly_mounts
errors
help_and_version
detached
twice
