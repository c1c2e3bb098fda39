#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Lines of an fstab: one mounts the image, another what the disk holds.
#
# mount(8) takes PATH away from its helpers, whose shell then looks for qedfs in
# the system's directories.  In a mount namespace of its own the test puts the
# built one there.

[ "$(id -u)" -ne 0 ] || [ -n "${QED_UNSHARED:-}" ] ||
	QED_UNSHARED=1 exec unshare --mount /bin/sh "$0" "$@"

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires qemu-img mkfs.ext4 mount.fuse3 "$QEDFS" "$QEDIMG" "$WAITFOR"

cd "$TMP"
mkdir disk files lower
"$QEDIMG" create -q vm.qed 64M
cat >fstab <<END
$TMP/vm.qed $TMP/disk fuse.qedfs rw,nofail 0 0
$TMP/disk/vm.raw $TMP/files ext4 loop,rw,nofail 0 0
$TMP/vm.qed $TMP/lower fuse.qedfs ro,noauto,_netdev,x-systemd.automount,user,noexec 0 0
END

mkdir bin
printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$LD_LIBRARY_PATH" "$QEDFS" \
	>bin/qedfs
chmod +x bin/qedfs
mount_on /usr/local/sbin --bind "$TMP/bin"

# The daemon of a mount is found by its command line.
daemon_of() {
	for proc in /proc/[0-9]*; do
		tr '\0' '\n' <"$proc/cmdline" 2>/dev/null |
			grep -qx -e "$1" || continue
		case $(readlink "$proc/exe") in
		*qedfs) basename "$proc" ;;
		esac
	done
}

ended() {
	"$WAITFOR" exit "$1" 300 || fail "the daemon did not end"
}

cleanup umount_from "$TMP/disk"
mount -T fstab "$TMP/disk"
is_mounted disk || fail "mount -T returned before the mount was up"
pid=$(daemon_of "$TMP/disk")
[ "$(echo "$pid" | wc -w)" -eq 1 ] || fail "daemons of $TMP/disk: '$pid'"
grep " $TMP/disk " /proc/self/mountinfo | grep -q " - fuse.qedfs " ||
	fail "the mount is not of type fuse.qedfs"

mkfs.ext4 -q disk/vm.raw
cleanup umount_from "$TMP/files"
mount -T fstab "$TMP/files"
cp -r "$TOP_SRCDIR/tests/system" files/
unmount files
mount -T fstab "$TMP/files"
diff -r "$TOP_SRCDIR/tests/system" files/system
unmount files
unmount disk
ended "$pid"
image_clean vm.qed

# Options that are for mount(8) and systemd do no harm.
cleanup umount_from "$TMP/lower"
mount -T fstab "$TMP/lower"
pid=$(daemon_of "$TMP/lower")
grep " $TMP/lower " /proc/self/mountinfo | grep -q " ro,[^ ]*noexec" ||
	fail "ro and noexec were lost"
unmount lower
ended "$pid"
