#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A file system in a loop device on the mount, all of it, the daemon too, in
# 128 MiB of memory: the kernel has to write pages back through the daemon while
# the daemon itself finds no memory.  It must end, and nothing may be lost.
#
# With cgroups of version 1 whoever needs memory may have to wait until pages of
# the same group are written back, unless PR_SET_IO_FLUSHER says otherwise.  Where
# that is not permitted, no FUSE daemon in the group can work, and it stays outside.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires mkfs.ext4 e2fsck tar fstrim qemu-img "$QEDFS" "$QEDIMG"

limit=$((128 << 20))
patience=240			# seconds for all of the work
daemon_outside=
cd "$TMP"
mkdir mnt fs

# ---- the group: whichever memory controller the kernel offers ----

# hierarchy TYPE WORD: where such a cgroup hierarchy is mounted
hierarchy() {
	awk -v "type=$1" -v "word=$2" '
		{ for (i = 7; $i != "-"; i++); }
		$(i + 1) == type && (!word || ","$(i + 3)"," ~ ","word",") {
			print $5; exit }' /proc/self/mountinfo
}

has_memory() {
	[ -n "$1" ] && grep -qw memory "$1/cgroup.controllers"
}

# CAP_SYS_RESOURCE
may_be_flusher() {
	caps=$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)
	[ $((0x$caps >> 24 & 1)) -eq 1 ]
}

make_v1() {
	group=$1/qed-test.$$
	mkdir "$group" || skip "cannot make a memory cgroup in $1"
	cleanup rmdir "$group"
	echo $limit >"$group/memory.limit_in_bytes"
	may_be_flusher || daemon_outside=yes
	pressure() { cat "$group/memory.failcnt"; }
}

make_v2() {
	group=$1/qed-test.$$
	grep -qw memory "$1/cgroup.subtree_control" ||
		echo +memory >"$1/cgroup.subtree_control"
	mkdir "$group" || skip "cannot make a memory cgroup in $1"
	cleanup rmdir "$group"
	echo $limit >"$group/memory.max"
	[ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
	pressure() { sed -n 's/^max //p' "$group/memory.events"; }
}

make_group() {
	v1=$(hierarchy cgroup memory)
	v2=$(hierarchy cgroup2 '')
	if [ -z "$v1$v2" ]; then
		v2=$TMP/cgroup
		mkdir "$v2"
		mount_on "$v2" -t cgroup2 none
	fi
	if has_memory "$v2"; then
		make_v2 "$v2"
	elif [ -n "$v1" ]; then
		make_v1 "$v1"
	else
		skip "the kernel has no memory cgroups"
	fi
}

# A command that runs in the group, for mount_qed and for the rest.
make_confined() {
	cat >"$1" <<-END
		#!/bin/sh
		echo \$\$ >'$group/cgroup.procs'
		exec $2 "\$@"
	END
	chmod +x "$1"
}

# ---- the work ----

# Half as much again as the group may have.
make_tree() {
	find /usr/share /usr/lib /usr/bin -xdev -type f -size -8192k \
		-printf '%b %p\n' 2>/dev/null |
		awk '{ sum += $1; if (sum > 192 * 2048) exit
			sub(/^[0-9]+ /, ""); print }' >files.list
	tar -cf tree.tar -C / -T files.list 2>/dev/null || :
	[ "$(stat -c %s tree.tar)" -gt $((160 << 20)) ] ||
		fail "too few files in /usr"
}

cat >work.sh <<'END'
set -eux
device=$1
mkfs.ext4 -q "$device"
mount "$device" fs
tar -xf tree.tar -C fs
sync
tar -df tree.tar -C fs
"$WAITFOR" success 300 umount fs
e2fsck -fn "$device"
END

cat >trim.sh <<'END'
set -eux
device=$1
mount "$device" fs
rm -r fs/usr
sync
fstrim -v fs
"$WAITFOR" success 300 umount fs
e2fsck -fn "$device"
END

# What every thread in the group waits for.
show_group() {
	while read -r pid; do
		for task in "/proc/$pid/task"/*; do
			echo "$(cat "$task/comm") ${task##*/}:"
			head -n 20 "$task/stack" 2>/dev/null
		done
	done <"$group/cgroup.procs"
}

# The connection's end lets go of who waits for it; then those can be killed.
break_deadlock() {
	show_group >&2
	abort_fuse "$(mount_state mnt)"
	while read -r pid; do
		[ "$pid" = "$(mount_pid mnt)" ] || kill -KILL "$pid"
		"$WAITFOR" exit "$pid" 300 || :
	done <"$group/cgroup.procs"
}

# confined SCRIPT: nobody waits for ever; a deadlock is broken and reported
confined() {
	status=0
	begin=$(date +%s)
	limited $patience ./in-group "$1" "$loop" >"$1.out" 2>&1 || status=$?
	[ "$status" -eq 0 ] || {
		tail -n 20 "$1.out" >&2
		tail -n 20 "$(mount_log mnt)" >&2
	}
	[ "$status" -ne 124 ] || break_deadlock
	[ "$status" -eq 0 ] || fail "$1 ended with $status"
	say "$1: $(($(date +%s) - begin)) s"
}

blocks_of() {
	du -k "$1" | cut -f 1
}

# round [LOSETUP-OPTION]
round() {
	say "losetup $*"
	rm -f disk.qed
	"$QEDIMG" create -q disk.qed 1G
	mount_qed disk.qed mnt
	loop=$(attach_loop mnt/disk.raw "$@")
	cleanup umount_from "$TMP/fs"
	confined work.sh
	sync
	full=$(blocks_of disk.qed)
	confined trim.sh
	detach_loop "$loop"
	umount_qed mnt
	# What fstrim gave back is no longer referred to, and punched.
	image_clean disk.qed "$("$LEAKS" disk.qed)"
	say "ran into the limit $(pressure) times, image $full KiB," \
		"$(blocks_of disk.qed) KiB after fstrim"
	[ "$(blocks_of disk.qed)" -lt $((full / 4)) ] ||
		fail "fstrim gave nothing back"
}

make_tree
make_group
make_confined in-group sh
if [ -n "$daemon_outside" ]; then
	say "no CAP_SYS_RESOURCE, and cgroups of version 1: the daemon is outside"
else
	make_confined confined-qedfs "$QEDFS"
	QEDFS=$TMP/confined-qedfs
fi
round
round --direct-io=on
[ "$(pressure)" -gt 0 ] || fail "there was no memory pressure at all"
