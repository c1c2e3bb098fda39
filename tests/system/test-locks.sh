#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images in use: qedfs and QEMU keep off each other's images, in both
# directions, exactly as two QEMUs do.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io qemu-storage-daemon mkfifo \
	"$QEDFS" "$QEDIMG" "$WAITFOR"

# ---- what QEMU may do ----

# try_qemu FORMAT IMAGE [-r]
try_qemu() (
	format=$1
	image=$2
	shift 2
	qemu-io -f "$format" "$@" -c 'read 0 512' "$image" >qemu.out 2>&1
)

qemu_may_read() {
	try_qemu "$1" "$2" -r || fail "QEMU cannot read $2: $(cat qemu.out)"
}

qemu_may_write() {
	try_qemu "$1" "$2" || fail "QEMU cannot write $2: $(cat qemu.out)"
}

# The failure has to be the lock's, not just any.
failed_to_lock() {
	grep -q 'Failed to get .*lock' qemu.out ||
		fail "QEMU failed otherwise on $1: $(cat qemu.out)"
}

qemu_may_not_read() {
	! try_qemu "$1" "$2" -r || fail "QEMU could open $2 for reading"
	failed_to_lock "$2"
}

qemu_may_not_write() {
	! try_qemu "$1" "$2" || fail "QEMU could open $2 for writing"
	failed_to_lock "$2"
}

# ---- QEMU as the holder ----

# hold_by_io IMAGE [-r]: an interactive qemu-io that has answered has the image
# open.  Sets $holder, as does the next.
hold_by_io() {
	image=$1
	shift
	rm -f to from
	mkfifo to from
	qemu-io -f qed "$@" "$image" <to >from 2>&1 &
	holder=$!
	echo "$holder" >holder
	exec 3>to 4<from
	echo 'read 0 512' >&3
	read -r answer <&4
	case $answer in
	*'read 512/512'*) ;;
	*) fail "qemu-io could not open $image: $answer" ;;
	esac
}

release_io() {
	echo quit >&3
	exec 3>&- 4<&-
	wait "$holder" || fail "qemu-io ended with status $?"
	rm holder
}

# hold_by_daemon IMAGE on|off: the storage daemon's parent process returns when
# its block devices are there.  The argument is read-only=.
hold_by_daemon() {
	qemu-storage-daemon --daemonize --pidfile "$TMP/holder" \
		--blockdev "file,node-name=f,filename=$1,read-only=$2" \
		--blockdev "qed,node-name=q,file=f,read-only=$2" \
		>daemon.out 2>&1 || fail "$(cat daemon.out)"
	holder=$(cat holder)
}

release_daemon() {
	kill -TERM "$holder"
	"$WAITFOR" exit "$holder" 300 || fail "qemu-storage-daemon goes on"
	rm -f holder
}

end_holder() {
	[ -e "$TMP/holder" ] || return 0
	! kill -TERM "$(cat "$TMP/holder")" 2>/dev/null ||
		"$WAITFOR" exit "$(cat "$TMP/holder")" 300
}
cleanup end_holder

# ---- the two meet ----

# top.qed -> middle.qed -> base.raw
cd "$TMP"
mkdir mnt mnt2
truncate -s 1M base.raw
"$QEDIMG" create -b base.raw -F raw middle.qed
"$QEDIMG" create -b middle.qed -F qed top.qed

all_is_free() {
	qemu_may_write qed top.qed
	qemu_may_write qed middle.qed
	qemu_may_write raw base.raw
}

# Below the top everybody reads, and nobody may write under a reader's feet.
chain_is_shared() {
	qemu_may_read qed middle.qed
	qemu_may_not_write qed middle.qed
	qemu_may_read raw base.raw
	qemu_may_not_write raw base.raw
}

all_is_free

say "qedfs writes"
mount_qed top.qed mnt
qemu_may_not_read qed top.qed
qemu_may_not_write qed top.qed
! qemu-img info top.qed >qemu.out 2>&1 || fail "qemu-img info takes no lock"
failed_to_lock top.qed
qemu-img info -U top.qed >qemu.out 2>&1 || fail "info -U: $(cat qemu.out)"
chain_is_shared
pid=$(mount_pid mnt)
qedfs_refuses "top.qed: in use for writing by .*(pid $pid)" top.qed mnt2
qedfs_refuses "top.qed: in use for writing by .*(pid $pid)" -o ro top.qed mnt2
qedfs_refuses "middle.qed: in use by .*(pid $pid)" middle.qed mnt2
mount_qed middle.qed mnt2 -o ro
umount_qed mnt2
chain_is_shared
umount_qed mnt
all_is_free

say "qedfs reads"
mount_qed top.qed mnt -o ro
qemu_may_read qed top.qed
qemu_may_not_write qed top.qed
qemu-img info top.qed >qemu.out 2>&1 || fail "info: $(cat qemu.out)"
chain_is_shared
pid=$(mount_pid mnt)
qedfs_refuses "top.qed: in use by .*(pid $pid).*read-only" top.qed mnt2
mount_qed top.qed mnt2 -o ro
umount_qed mnt
qemu_may_not_write qed top.qed
umount_qed mnt2
all_is_free

say "qedfs is killed"
mount_qed top.qed mnt
qemu_may_not_read qed top.qed
kill_qed mnt
all_is_free

# held_for_writing NAME: whichever QEMU has top.qed open for writing
held_for_writing() {
	by="top.qed: in use for writing by $1 (pid $holder); close it first"
	qedfs_refuses "$by" top.qed mnt
	qedfs_refuses "$by" -o ro top.qed mnt
	! is_mounted mnt || fail "a refused image is mounted"
	qedfs_refuses "middle.qed: in use by $1 (pid $holder)" middle.qed mnt
	mount_qed middle.qed mnt -o ro
	umount_qed mnt
}

held_for_reading() {
	qedfs_refuses "top.qed: in use by $1 (pid $holder).*read-only" \
		top.qed mnt
	mount_qed top.qed mnt -o ro
	umount_qed mnt
}

say "QEMU writes"
hold_by_io top.qed
held_for_writing qemu-io
"$QEDIMG" create top.qed 1M 2>err && fail "an image in use was replaced"
grep -q "top.qed: in use for writing by qemu-io" err || fail "$(cat err)"
release_io
hold_by_daemon "$TMP/top.qed" off
held_for_writing qemu-storage-da
release_daemon
all_is_free

say "QEMU reads"
hold_by_io top.qed -r
held_for_reading qemu-io
release_io
hold_by_daemon "$TMP/top.qed" on
held_for_reading qemu-storage-da
release_daemon
all_is_free

say "QEMU writes a backing file"
hold_by_io middle.qed
by="middle.qed: in use for writing by qemu-io (pid $holder)"
qedfs_refuses "$by" top.qed mnt
qedfs_refuses "$by" -o ro top.qed mnt
mount_qed top.qed mnt -o nobacking
umount_qed mnt
release_io

mount_qed top.qed mnt
umount_qed mnt
image_clean top.qed
