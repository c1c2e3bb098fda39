#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The virtual disk as a file: attributes, its fixed size, what is refused, holes.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires qemu-img qemu-io "$QEDFS" "$QEDIMG" "$FILEOP"

cd "$TMP"
mkdir mnt
size=$((4 * 1048576 + 512))
disk=mnt/disk.raw

new_image() {
	"$QEDIMG" create -q -o "${1:-cluster_size=64K}" disk.qed $size
	rm -f twin.raw
	truncate -s $size twin.raw
}

# is WANTED CMD…: what the command prints
is() {
	wanted=$1
	shift
	got=$("$@") || got="$got, status $?"
	[ "$got" = "$wanted" ] || fail "$*: '$got', not '$wanted'"
}

# Whether FUSE, this kernel and the daemon agree on the disk's size.
same_size() {
	is $size stat -c %s $disk
}

done_with() {
	same_size
	umount_qed mnt
	image_clean disk.qed
	same_disk disk.qed twin.raw
}

attributes() {
	say "attributes"
	new_image cluster_size=128K
	qemu_do disk.qed qed "write 0 128k" "write 1M 1k" "write -z 2M 128k"
	touch -d '2019-03-04 05:06:07.123456789 UTC' disk.qed
	chown 12:34 disk.qed
	chmod 640 disk.qed
	mount_qed disk.qed mnt
	is 'regular file 640 12:34 131072 1' stat -c '%F %a %u:%g %o %h' $disk
	is "$(stat -c %y disk.qed)" stat -c %y $disk
	is 512 stat -c '%b' $disk	# two clusters, in sectors
	same_size
	is 'directory' stat -c %F mnt
	is $size echo $(($(stat -f -c '%b * %S' mnt)))
	is $((size - 262144)) echo $(($(stat -f -c '%f * %S' mnt)))
	qemu_do twin.raw raw "write 0 128k" "write 1M 1k"
	dd if=twin.raw of=$disk bs=64K count=1 seek=40 conv=notrunc,fsync \
		status=none
	is 768 stat -c '%b' $disk
	umount_qed mnt

	mount_qed disk.qed mnt -o ro
	is 440 stat -c %a $disk
	umount_qed mnt
	mount_qed disk.qed mnt -o uid=77,gid=88,umask=027
	is 77:88 stat -c %u:%g $disk
	is 0 echo $(($(stat -c 0%a $disk) & 027))
	umount_qed mnt
	chmod 644 disk.qed
}

# exact_at_end [MODE]: with results that come from the daemon at once.  The kernel
# makes EIO of a short write by O_DIRECT: for that one, all or nothing.
exact_at_end() {
	is 'EFBIG 0 0' "$FILEOP" write $disk $size 512 "$@"
	is 'EFBIG 0 0' "$FILEOP" write $disk $((size + 8192)) 4096 "$@"
	same_size
	short=512
	[ "${1:-}" != direct ] || short=EFBIG
	is "$short 0 0" "$FILEOP" write $disk $((size - 512)) 1024 "$@"
	same_size
	is '4096 0 0' "$FILEOP" write $disk $((size - 4096)) 4096 "$@"
	same_size
	is '4096 0 0' "$FILEOP" write twin.raw $((size - 4096)) 4096
}

fixed_size() {
	say "writes at the end"
	new_image
	mount_qed disk.qed mnt
	exact_at_end direct
	done_with
	new_image
	mount_qed disk.qed mnt -o nowriteback
	exact_at_end
	exact_at_end direct
	exact_at_end sync
	done_with

	# The kernel takes these into its cache first: an error comes later.
	new_image
	mount_qed disk.qed mnt
	for at in $size $((size + 100000)); do
		case $("$FILEOP" write $disk "$at" 512) in
		*E*) ;;
		*) fail "a write past the end had no error" ;;
		esac
		same_size
	done
	"$FILEOP" write $disk $((size - 512)) 1024 >/dev/null
	"$FILEOP" write twin.raw $((size - 512)) 512 >/dev/null
	expect_log mnt 'past the end'
	done_with

	# dd meets the end as it meets that of a block device.
	mount_qed disk.qed mnt -o nowriteback
	! dd if=/dev/zero of=$disk bs=1M conv=notrunc status=none 2>err ||
		fail "dd wrote more than there is room for"
	grep -qi 'large\|space' err || fail "dd: $(cat err)"
	truncate -s 0 twin.raw
	truncate -s $size twin.raw
	done_with
}

# Truncation at open is ignored, as by a block device.
truncation() {
	say "truncation"
	new_image
	"$FILEOP" scatter twin.raw 1 300 9000
	for options in rw nowriteback; do
		mount_qed disk.qed mnt -o $options
		dd if=twin.raw of=$disk bs=1M status=none
		same_bytes $disk twin.raw
		same_size
		"$FILEOP" scatter twin.raw 2 300 9000
		cp --sparse=never twin.raw $disk # newer ones punch holes
		same_bytes $disk twin.raw
		same_size
		echo words >$disk
		echo words | dd of=twin.raw conv=notrunc status=none
		same_size
		same_bytes $disk twin.raw
		is '512 0 0' "$FILEOP" write $disk 512 512 trunc
		is '512 0 0' "$FILEOP" write twin.raw 512 512
		same_bytes $disk twin.raw

		is EPERM "$FILEOP" try ftruncate $disk 0
		for other in 512 $((size - 512)) $((size + 512)) 99999999999; do
			is EPERM "$FILEOP" try ftruncate $disk "$other"
			is EPERM "$FILEOP" try truncate $disk "$other"
		done
		is 0 "$FILEOP" try ftruncate $disk $size
		is 0 "$FILEOP" try truncate $disk $size
		same_bytes $disk twin.raw
		grep -q . "$(mount_log mnt)" && expect_log mnt 'size\|grow'
		done_with
	done
}

# refused CALL ARG…: by one of the errors that tell the reason
refused() {
	case $("$FILEOP" try "$@") in
	EPERM | EROFS | EACCES | EOPNOTSUPP | ENOSYS) ;;
	*) fail "$*: $("$FILEOP" try "$@")" ;;
	esac
}

fixed_tree() {
	say "a fixed tree"
	new_image
	for options in rw ro; do
		mount_qed disk.qed mnt -o $options
		refused create mnt/new
		refused mkdir mnt/new
		refused mknod mnt/new
		refused symlink mnt/new target
		refused link $disk mnt/new
		refused unlink $disk
		refused rename $disk mnt/new
		refused chmod $disk 777
		refused chown $disk 1
		refused setxattr $disk value
		is ENOENT "$FILEOP" try open mnt/nothing r
		[ $options = ro ] || is ENOENT "$FILEOP" try unlink mnt/nothing
		is disk.raw ls -A mnt
		done_with
	done
}

# The map of the whole chain, and of what has been written just now.
holes() {
	say "holes"
	rm -f base.raw
	truncate -s 1M base.raw
	dd if=/dev/urandom of=base.raw bs=64K count=2 seek=4 conv=notrunc \
		status=none
	"$QEDIMG" create -q -b base.raw -F raw mid.qed 2M
	qemu_do mid.qed qed "write -P 5 1M 64k" "write -z 320k 64k"
	"$QEDIMG" create -q -b mid.qed -F qed disk.qed $size
	qemu_do disk.qed qed "write -P 6 3M 64k" "write -P 7 4M 512"
	cat >want <<-END
		hole 0 262144
		data 262144 65536
		hole 327680 720896
		data 1048576 65536
		hole 1114112 2031616
		data 3145728 65536
		hole 3211264 983040
		data 4194304 512
	END
	mount_qed disk.qed mnt
	"$FILEOP" map $disk >got
	diff want got || fail "SEEK_DATA and SEEK_HOLE"
	is 262200 "$FILEOP" seek $disk data 262200
	is 327680 "$FILEOP" seek $disk hole 262200
	is 100 "$FILEOP" seek $disk hole 100
	is $size "$FILEOP" seek $disk hole 4194400
	is ENXIO "$FILEOP" seek $disk data $size
	is ENXIO "$FILEOP" seek $disk hole $((size + 1))
	is 4194304 "$FILEOP" seek $disk data 3900000

	# What has not left the page cache yet is data as well.
	exec 3<>$disk
	printf 'fresh bytes' >&3
	is 0 "$FILEOP" seek $disk data 0
	cp --sparse=always $disk copy
	exec 3>&-
	is 'fresh bytes' head -c 11 copy
	qemu-img compare -q -f raw -F raw $disk copy || fail "cp lost data"
	umount_qed mnt
}

attributes
fixed_size
truncation
fixed_tree
holes
