#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# An entry that names what lies past the end of the file would name what a job writes
# there: jobs that make a file grow refuse a damaged one, and change nothing.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io

cd "$TMP"

# damage IMAGE DISK_OFFSET: that cluster, which has data, is past the end from now on
damage() {
	table=$(get_le 64 "$1" 65536)
	put_le 64 "$1" $((table + $2 / 8192)) "$(($(stat -c %s "$1") + 65536))"
}

# refused IMAGE ARG…: the job ends with status 1 and says so, once, of IMAGE; no
# image is another one afterwards
refused() {
	image=$1
	shift
	for file in *.qed; do
		cp "$file" "$file.before"
	done
	status=0
	"$QEDIMG" "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq 1 ] || fail "$*: status $status, not 1: $(cat out err)"
	grep -q "$image: damaged: 1 entries.*nothing was changed, mend it first with 'qedimg check -r all'" \
		err || fail "$*: $(cat err)"
	[ "$(grep -c damaged err)" -eq 1 ] || fail "$*: $(cat err)"
	for file in *.qed; do
		same_bytes "$file" "$file.before"
	done
}

head -c 4M /dev/urandom >base.raw
qemu-img convert -f raw -O qed base.raw base.qed
qemu-img create -q -f qed -b base.qed -F qed top.qed 32M
qemu_do top.qed qed 'write -P 9 20M 1M'
damage base.qed 3276800

# Its disk is too short as well, which is put right only when all else is.
refused base.qed commit top.qed
refused base.qed commit -d keep top.qed
for how in metadata falloc full; do
	refused base.qed resize --preallocation=$how base.qed +1M
done
refused base.qed resize --shrink base.qed 1M
refused base.qed compact base.qed
refused base.qed convert -n -O qed -f raw base.raw base.qed
# What has to be copied lies before the damage.
qemu-img create -q -f qed -b base.raw -F raw middle.qed
qemu_do middle.qed qed 'write -P 7 3276800 64k'
damage middle.qed 3276800
truncate -s 4M zero.raw
refused middle.qed rebase -b zero.raw -F raw middle.qed
refused middle.qed rebase -b '' middle.qed

# A last cluster that is cut short is one that check -r all keeps as far as it goes.
qemu-img create -q -f qed -b base.raw -F raw short.qed
qemu_do short.qed qed 'write -P 7 3276800 64k'
truncate -s -1000 short.qed
refused short.qed rebase -b zero.raw -F raw short.qed
cp short.qed above.qed
"$QEDIMG" rebase -q -u -b base.qed -F qed above.qed
refused base.qed commit above.qed

# Old data behind the end makes a larger disk need tables, or changes in them.
cat >old.txt <<-'END'
	cluster_size 65536
	table_size 4
	header_size 1
	l1_table_offset 65536
	image_size 66048
	file_size 851968
	l1[0] = 327680
	l2@327680[0] = 1048576
	l2@327680[1] = 655360
	l2@327680[2] = 720896
END
"$MKIMAGE" old.txt old.qed
refused old.qed resize old.qed 1M
# Without any nothing has to be written but the size.
put_le 64 old.qed 327688 0
put_le 64 old.qed 327696 0
"$QEDIMG" resize -q old.qed 1M || fail "resize of a damaged image without old data"

# Mended they are as others are.
"$QEDIMG" check -q -r all base.qed >out || fail "check -r all: $(cat out)"
"$QEDIMG" commit -q top.qed || fail "commit to what was mended"
image_clean base.qed 1		# the cluster that was damaged
qemu_do base.qed qed 'read -P 9 20M 1M' 'read -P 0 3276800 64k'
# NEED_CHECK makes that the job of whoever opens it.
damage middle.qed 3276800
put_le 64 middle.qed 16 "$(($(get_le 64 middle.qed 16) | 2))"
"$QEDIMG" rebase -b zero.raw -F raw middle.qed 2>err || fail "rebase: $(cat err)"
grep -q 'dropped a damaged mapping: disk offset 3276800' err || fail "$(cat err)"
image_clean middle.qed 1
