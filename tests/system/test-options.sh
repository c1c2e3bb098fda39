#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Options of the mount: which of mount(8)'s do what they say and which are ignored, how
# commas are written, how far the kernel reads ahead.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires setpriv unshare qemu-img qemu-io "$QEDFS" "$QEDIMG"

cd "$TMP"
mkdir mnt
"$QEDIMG" create -q a.qed 8M
qemu_do a.qed qed 'write -P 1 0 1M'

# is_full_of OCTAL FILE: is its first MiB?
is_full_of() {
	[ "$(head -c 1M "$2" | tr -d "\\$1" | wc -c)" -eq 0 ] ||
		fail "$2 does not begin with \\$1"
}

# flags: what the kernel knows of the mount, and of the file system
flags() {
	awk -v dir="$PWD/mnt" '$5 == dir { print $6 "," $NF }' /proc/self/mountinfo
}

# has OPTIONS FLAG…: those, and without the ones after a !
has() {
	say "$1"
	mount_qed a.qed mnt -o "$1"
	shift
	for flag; do
		found=no
		case ,$(flags), in *,"${flag#!}",*) found=yes ;; esac
		case $flag,$found in
		!*,yes) fail "$flag: $(flags)" ;;
		!*,no | *,yes) ;;
		*) fail "no $flag: $(flags)" ;;
		esac
	done
	is_full_of 001 mnt/a.raw
	umount_qed mnt
}

has noexec noexec nosuid nodev
has noexec,exec !noexec nosuid nodev
has sync sync
has sync,async !sync
has dirsync dirsync
has noatime noatime
has ro ro
has ro,rw rw !ro
# Of these it takes no notice.
has defaults,nodiratime,nofail,noauto,user,_netdev,x-systemd.automount,x-what=ever \
	rw !noexec
has suid,dev nosuid nodev
has allow_other allow_other default_permissions

say "any other option"
for option in zork nosuchoption=1 noatimes; do
	qedfs_refuses "$option" -o $option a.qed mnt
done

say "allow_root: whoever has mounted it and root, nobody else"
mount_qed a.qed mnt -o allow_root
is_full_of 001 mnt/a.raw
# as_other CMD…: as another user, who may look at everything but what is not for all
as_other() {
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		--inh-caps +dac_read_search --ambient-caps +dac_read_search "$@"
}
as_other ls a.qed >list || fail "another user cannot look at anything"
! as_other ls mnt >list 2>err || fail "somebody else may look: $(cat list)"
grep -q 'Permission denied' err || fail "somebody else: $(cat err)"
umount_qed mnt
mount_qed a.qed mnt -o allow_other
as_other ls mnt >list || fail "allow_other: another user may not look"
umount_qed mnt

say "a comma in a value"
qemu-img create -q -f raw 'of, all.raw' 8M
qemu_do 'of, all.raw' raw 'write -P 2 0 1M'
"$QEDIMG" create -q -u -b gone.raw -F raw over.qed 8M
mount_qed over.qed mnt -o 'ro,backing=of\, all.raw,noexec'
is_full_of 002 mnt/over.raw
case $(flags) in *noexec*) ;; *) fail "what follows the comma: $(flags)" ;; esac
umount_qed mnt
qedfs_refuses 'all.raw' -o 'ro,backing=of, all.raw' over.qed mnt

say "readahead"
mount_qed a.qed mnt -o readahead=2M
kib=$(cat "/sys/class/bdi/0:$(cat "$(mount_state mnt)/connection")/read_ahead_kb")
[ "$kib" -eq 2048 ] || fail "readahead=2M: the kernel reads $kib KiB ahead"
umount_qed mnt
# Others than root may not: what they mount is there all the same.  The device is for
# root alone where nothing manages devices.
mknod fuse c 10 229
chmod 666 fuse
# shellcheck disable=SC2016 # for the inner shell
unshare -m sh -ec '
	mount --bind fuse /dev/fuse
	setpriv --reuid 65534 --regid 65534 --clear-groups \
		--inh-caps +sys_admin,+dac_read_search \
		--ambient-caps +sys_admin,+dac_read_search \
		"$QEDFS" -o ro,readahead=2M a.qed mnt
	grep -q " $PWD/mnt " /proc/self/mountinfo
	umount mnt' 2>err || fail "readahead= by a user: $(cat err)"
grep -q 'mnt: readahead cannot be set: Permission denied' err ||
	fail "readahead= by a user: $(cat err)"
released a.qed
for value in 100 2G much ''; do
	qedfs_refuses "readahead" -o "readahead=$value" a.qed mnt
done
