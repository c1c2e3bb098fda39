#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: ./quickstart.sh [IMAGE [MOUNTPOINT]]
#
# Builds qedfs, in build/quickstart, and mounts the QED image IMAGE at
# MOUNTPOINT (default: a directory IMAGE.mnt here).  Without arguments it makes
# a sample image of 1 GiB and mounts that.
set -eu

case ${1-} in
-h | --help)
	sed -n '/^# usage/,/^[^#]/s/^# \{0,1\}//p' "$0"
	exit 0 ;;
-*)
	echo "usage: $0 [IMAGE [MOUNTPOINT]]" >&2
	exit 2 ;;
esac

top=$(cd "$(dirname "$0")" && pwd)
build=$top/build/quickstart
qedfs=$build/fuse/qedfs
qedimg=$build/src/qedimg/qedimg
sample=$top/build/quickstart-sample

# Nothing is configured or compiled again that is up to date.
compile()
{
	"$top/scripts/export-tree" "$build/source" &&
	cd "$build" &&
	{ [ -x source/configure ] || (cd source && autoreconf -fi); } &&
	{ [ -e Makefile ] || source/configure; } &&
	make -j "$(nproc)"
}

if [ $# -gt 0 ]; then
	if [ ! -f "$1" ]; then
		echo "$0: $1: no such file" >&2
		exit 1
	fi
	image=$(realpath "$1")
	mountpoint=$(realpath -m "${2-$(basename "$1").mnt}")
else
	image=$sample/sample.qed
	mountpoint=$sample/mnt
fi
disk=$(basename "$image" .qed).raw

"$top/scripts/install-deps" build
mkdir -p "$build"
echo "building in $build (log: $build/build.log)"
if ! (compile) >"$build/build.log" 2>&1 </dev/null; then
	tail -n 40 "$build/build.log" >&2
	echo "$0: the build failed: see $build/build.log" >&2
	exit 1
fi

if [ $# -eq 0 ] && [ ! -e "$image" ]; then
	mkdir -p "$sample"
	"$qedimg" create "$image" 1G
fi

# What is mounted exactly there: a FUSE file system names its image as source.
mounted=$(findmnt -n -o SOURCE --mountpoint "$mountpoint" || true)
if [ "$mounted" = "$image" ]; then
	echo "$image is mounted at $mountpoint already"
elif [ -n "$mounted" ]; then
	echo "$0: $mountpoint: $mounted is mounted there" >&2
	exit 1
else
	[ -e "$mountpoint" ] || mkdir -p "$mountpoint"
	"$qedfs" "$image" "$mountpoint"
	echo "$image is mounted at $mountpoint"
fi
if [ -d "$mountpoint" ]; then
	disk=$mountpoint/$disk
else
	disk=$mountpoint
fi

# As a shell reads them.
disk=$(printf %q "$disk")
mountpoint=$(printf %q "$mountpoint")
unmount="fusermount3 -u $mountpoint"
if [ "$(id -u)" -eq 0 ]; then
	unmount="umount $mountpoint"
fi
cat <<END

The disk, a raw file:       ls -l $disk
A file system in it:        mkfs.ext4 $disk
As a block device (root):   losetup --find --show --partscan --direct-io=on $disk
When you are done:          $unmount
END
