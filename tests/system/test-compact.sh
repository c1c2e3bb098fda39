#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qedimg compact: of images that writes and discards have left in disorder nothing
# is free afterwards, the disk is the same, and QEMU agrees; whatever stops it, it
# goes on when it is run again; what it cannot do it leaves alone.

in_memory=yes
many_starts=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
: "${MEASURE:=$(built tests/system/measure)}"
need_loop
requires qemu-img qemu-io jq fallocate strace "$QEDFS" "$QEDIMG" "$FILEOP" "$LEAKS" \
	"$MEASURE" "$MKIMAGE" "$WAITFOR"

cd "$TMP"
mkdir mnt
mkfifo in out.fifo

# compact STATUS ARG…: ends so; what it prints is in the files out, err
compact() {
	want=$1
	shift
	status=0
	"$QEDIMG" compact "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq "$want" ] ||
		fail "$label: compact $*: status $status, not $want: $(cat out err)"
}

# The same, where the image must not be touched.
untouched() {
	image=$1
	shift
	sum=$(cksum <"$image")
	compact "$@" "$image"
	[ "$(cksum <"$image")" = "$sum" ] || fail "$label: $image has changed"
}

# fragments IMAGE: which may have leaks, no faults
fragments() {
	"$QEDIMG" check --output=json "$1" >checked.json || [ $? -eq 3 ] ||
		fail "$label: $1: $(cat checked.json)"
	jq '."fragmented-clusters" // 0' checked.json
}

# QEMU 7.2 does not open images whose tables have a single cluster, nor those
# whose greatest size overflows its 64 bits.
qemu_opens() {
	qemu-img info -f qed "$1" >/dev/null 2>&1
}

# right IMAGE RAW: nothing leaked, nothing wrong, these bytes
right() {
	not_leaky "$1"
	! need_check_set "$1" || fail "$label: NEED_CHECK is set"
	[ "$(($(stat -c %s "$1") % cluster))" -eq 0 ] ||
		fail "$label: the file ends within a cluster"
	"$QEDIMG" compare -q -F raw "$1" "$2" || fail "$label: another disk"
	qemu_opens "$1" || return 0
	image_clean "$1"
	same_disk "$1" "$2"
}

# ---- all geometries, with and without backing ----

# Writes and discards of the disk and its twin.
make_disorder() {
	mount_qed disk.qed mnt
	for round in 1 2 3; do
		for file in mnt/disk.raw twin.raw; do
			"$FILEOP" scatter "$file" "$((cluster + round))" 25 \
				$((round * 777))
			fallocate -p -o "$((round * size / 5))" \
				-l "$((size / 7))" "$file"
		done
		sync mnt/disk.raw
	done
	umount_qed mnt
}

# geometry CLUSTER TABLE
geometry() {
	cluster=$1
	table=$2
	span=$((cluster * cluster * table / 8))
	size=$((4 * span < 1 << 32 ? 4 * span : 1 << 32))
	size=$((size - 1536))
	label="clusters of $cluster, tables of $table, $backing"
	rm -f disk.qed twin.raw base.raw
	if [ "$backing" = backing ]; then
		truncate -s "$((size * 2 / 3))" base.raw
		"$FILEOP" scatter base.raw 65536 40 4242
		cp --sparse=always base.raw twin.raw
		set -- -b base.raw -F raw
	else
		set --
	fi
	truncate -s "$size" twin.raw
	"$QEDIMG" create -q "$@" -o "cluster_size=$cluster,table_size=$table" \
		disk.qed "$size"
	make_disorder
}

packed=0
for backing in alone backing; do
	for geometry in '4096 1' '4096 4' '8192 16' '65536 4' '65536 1' \
			'1048576 2' '16777216 1'; do
		# shellcheck disable=SC2086 # two words
		geometry $geometry
		[ "$("$LEAKS" disk.qed)" -eq 0 ] || packed=$((packed + 1))
		cp --sparse=always disk.qed other.qed
		blocks=$(stat -c %b disk.qed)
		compact 0 --dry-run disk.qed
		planned=$(sed -n 's/^File size.*would be //p' out)
		compact 0 disk.qed
		right disk.qed twin.raw
		[ "$(stat -c %s disk.qed)" -eq "$planned" ] ||
			fail "$label: not the $planned bytes of --dry-run"
		[ "$(stat -c %b disk.qed)" -le "$((blocks + 8))" ] ||
			fail "$label: it takes up more space"
		untouched disk.qed 0

		compact 0 --defrag other.qed
		right other.qed twin.raw
		[ "$(stat -c %s other.qed)" -eq "$planned" ] ||
			fail "$label: --defrag ends with another size"
		[ "$(fragments other.qed)" -eq 0 ] ||
			fail "$label: $(fragments other.qed) fragments"
		[ "$(stat -c %b other.qed)" -le "$((blocks + 8))" ] ||
			fail "$label: it takes up more space"
		untouched other.qed 0 --defrag
	done
done
[ "$packed" -ge 10 ] || fail "only $packed images had anything free"

# ---- what QEMU writes at random ----

label=QEMU
cluster=65536
"$QEDIMG" create -q qemu.qed 5G
rm -f twin.raw
truncate -s 5G twin.raw
awk 'BEGIN {
	srand(5)
	for (i = 0; i < 400; i++)
		printf "write -P %d %.0f 64k\n", i % 250 + 1,
			int(rand() * 81920) * 65536
}' >commands
qemu-io -f qed qemu.qed <commands >/dev/null
qemu-io -f raw twin.raw <commands >/dev/null
before=$(fragments qemu.qed)
[ "$before" -gt 300 ] || fail "only $before fragments"
untouched qemu.qed 0				# nothing is free
compact 0 --defrag qemu.qed
right qemu.qed twin.raw
grep -q "^Fragmented clusters: $before, now 0 of" out || fail "$(cat out)"

# ---- zeroes, and tables that map nothing ----

label=zeroes
rm -f base.raw twin.raw
truncate -s 64M base.raw
"$FILEOP" scatter base.raw 65536 40 99
for image in alone.qed backed.qed; do
	case $image in
	alone.qed)
		"$QEDIMG" create -q alone.qed 64M
		truncate -s 64M twin.raw
		left=0 ;;
	*)
		"$QEDIMG" create -q -b base.raw -F raw backed.qed
		cp base.raw twin.raw
		left=4 ;;
	esac
	qemu_do "$image" qed 'write -P 0 1M 1M' 'write -P 7 3M 128k' \
		'write -P 0 5M 64k'
	qemu_do twin.raw raw 'write -P 0 1M 1M' 'write -P 7 3M 128k' \
		'write -P 0 5M 64k'
	size=$(stat -c %s "$image")
	compact 0 "$image"
	[ "$(stat -c %s "$image")" -eq "$size" ] || fail "zeroes are dropped"
	compact 0 --zeroes "$image"
	[ "$(stat -c %s "$image")" -eq "$((size - 17 * cluster))" ] ||
		fail "$image: $(cat out)"
	grep -q 'dropped: 17 clusters of zeroes, 0 empty' out || fail "$(cat out)"
	right "$image" twin.raw
	# What nothing is left of.
	qemu_do "$image" qed 'write -P 0 3M 128k'
	qemu_do twin.raw raw 'write -P 0 3M 128k'
	compact 0 --zeroes "$image"
	right "$image" twin.raw
	[ "$(stat -c %s "$image")" -eq "$(((5 + left) * cluster))" ] ||
		fail "$image: $(cat out)"
done

label=empty
"$QEDIMG" create -q empty.qed 1T
untouched empty.qed 0
untouched empty.qed 0 --defrag
untouched empty.qed 0 --zeroes
# The tail of a file that another program has made longer.
cp empty.qed tail.qed
truncate -s +100000 tail.qed
put_le 64 tail.qed 16 2
put_le 64 tail.qed 32 5
untouched tail.qed 0 --dry-run
compact 0 tail.qed
same_bytes tail.qed empty.qed

# ---- sparse and huge ----

label=huge
"$QEDIMG" create -q huge.qed 64T
qemu_do huge.qed qed "write -P 1 65535G 64k" "write -P 2 0 64k" \
	"write -P 3 40T 64k" "write -P 4 30T 64k"
# The last cluster of a file of 4 TiB.
end=$(stat -c %s huge.qed)
table=$(get_le 64 huge.qed 65536)
entry=$(get_le 64 huge.qed "$table")
truncate -s 4T huge.qed
dd if=huge.qed of=huge.qed bs=64k count=1 conv=notrunc iflag=skip_bytes \
	oflag=seek_bytes skip="$entry" seek=$(((4 << 40) - 65536)) status=none
put_le 64 huge.qed "$table" $(((4 << 40) - 65536))
cp --sparse=always huge.qed huge2.qed
for image in huge.qed huge2.qed; do
	option=
	[ $image = huge.qed ] || option=--defrag
	# shellcheck disable=SC2086 # no word
	"$MEASURE" report "$QEDIMG" compact -q $option "$image"
	read -r kib ms <report
	[ "${QED_SANITIZER:-no}" != no ] || [ "$kib" -lt 65536 ] ||
		fail "$kib KiB for a sparse image"
	[ "${QED_SANITIZER:-no}" != no ] || [ "$ms" -lt 10000 ] || fail "$ms ms"
	[ "$(stat -c %s "$image")" -eq "$end" ] || fail "$image: not cut"
	image_clean "$image"
	qemu_do "$image" qed "read -P 1 65535G 64k" "read -P 2 0 64k" \
		"read -P 3 40T 64k" "read -P 4 30T 64k"
	[ -z "$option" ] || [ "$(fragments $image)" -eq 0 ] || fail "fragments"
done

# ---- stopped, and run again ----

label=stopped
cluster=65536
# Back to front: each cluster has to move, all in the way of others.
"$QEDIMG" create -q long.qed 256M
awk 'BEGIN { for (i = 511; i >= 0; i--)
	printf "write -P %d %dk 512k\n", i % 250 + 1, i * 512 }' >commands
qemu-io -f qed long.qed <commands >/dev/null
qemu-img convert -f qed -O raw long.qed long.raw
cp long.qed again.qed
# Without --defrag, the second half of the disk has left the first half of the file.
cp again.qed gap.qed
mount_qed gap.qed mnt
fallocate -p -o 128M -l 128M mnt/gap.raw
umount_qed mnt
qemu-img convert -f qed -O raw gap.qed gap.raw
cp gap.qed short.qed
compact 0 -q short.qed
short=$(stat -c %s short.qed)
rm short.qed

# unfinished IMAGE: is there anything left to do?
unfinished() {
	case $option in
	--defrag) [ "$(fragments "$1")" -gt 0 ] ;;
	*) [ "$(stat -c %s "$1")" -gt "$short" ] ;;
	esac
}

# Its looks for data in the file are traced, which it makes between copies with either
# engine.  LeakSanitizer does not work under strace.
traced_compact() {
	# shellcheck disable=SC2086 # no word
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -o trace -e trace=lseek ${1:+-e "$1"} \
		"$QEDIMG" compact $option long.qed >out 2>err
}

# cut_compact SIGNAL N: with its Nth look for data in the file
cut_compact() {
	status=0
	traced_compact "inject=lseek:signal=$1:when=$2" || status=$?
	case $1 in
	INT | TERM)
		[ "$status" -eq 1 ] || fail "stopped: status $status"
		grep -q 'long.qed: stopped.*run again' err || fail "$(cat err)"
		! need_check_set long.qed || fail "stopped: NEED_CHECK is set"
		;;
	KILL)
		[ "$status" -eq 137 ] || fail "killed: status $status"
		released long.qed
		;;
	esac
	unfinished long.qed || fail "it was over too soon"
}

for option in --defrag ''; do
	image=again.qed
	raw=long.raw
	if [ -z "$option" ]; then
		image=gap.qed
		raw=gap.raw
	fi
	cp $image long.qed
	traced_compact '' || fail "traced: $(cat err)"
	ncalls=$(wc -l <trace)
	n=$((ncalls / 8))
	for signal in INT TERM KILL; do
		cp $image long.qed
		cut_compact $signal $n
		n=$((n + ncalls / 8))
		same_disk long.qed $raw
		# shellcheck disable=SC2086
		compact 0 $option --progress=json long.qed
		jq -es 'length > 0 and all(.done <= .total) and
			(last | .percent == 100)' err >/dev/null ||
			fail "progress: $(cat err)"
		right long.qed $raw
		! unfinished long.qed || fail "not finished"
	done
done
rm gap.qed gap.raw

# ---- a host that is full ----

label=full
mkdir full
mount_on full -t tmpfs -o size=275m none
cp again.qed full/disk.qed
put_le 64 full/disk.qed 32 5
compact 1 --defrag full/disk.qed
grep -q 'full/disk.qed: .*No space left' err || fail "$(cat err)"
! need_check_set full/disk.qed || fail "NEED_CHECK is set"
[ "$(fragments full/disk.qed)" -gt 0 ] || fail "there was room"
same_disk full/disk.qed long.raw
mount -o remount,size=500m full
compact 0 --defrag full/disk.qed
right full/disk.qed long.raw
umount_from full

# ---- a block device ----

label=device
cp again.qed loop.img
truncate -s 400M loop.img
device=$(attach_loop loop.img)
qemu_do "$device" qed 'write -P 9 10M 1M'
qemu-img convert -f qed -O raw "$device" loop.raw
# QEMU drops nothing: clusters have to be free by hand.
table=$(get_le 64 "$device" 65536)
for i in 1600 1601 1603 1700 1800; do
	put_le 64 "$device" "$((table + i * 8))" 0
done
fallocate -p -o 104857600 -l 131072 loop.raw
for i in 1603 1700 1800; do
	fallocate -p -o "$((i * 65536))" -l 65536 loop.raw
done
# A device cannot be cut: what is behind the image's new end is given back.
sync "$device"
blocks=$(stat -c %b loop.img)
for option in -q --defrag; do
	compact 0 "$option" "$device"
	sync "$device"
	[ "$option" = --defrag ] ||
		[ "$(stat -c %b loop.img)" -le "$((blocks - 5 * 128))" ] ||
		fail "compact $option: $blocks blocks, now $(stat -c %b loop.img)"
	"$QEDIMG" check --output=json "$device" >checked.json ||
		fail "$device: $(cat checked.json)"
	[ "$(jq '.leaks // 0' checked.json)" -eq 0 ] || fail "leaks on $device"
	same_disk "$device" loop.raw
done
[ "$(jq '."fragmented-clusters" // 0' checked.json)" -eq 0 ] ||
	fail "$device: fragments"
[ "$(jq '."image-end-offset"' checked.json)" -eq \
	"$(((9 + 4096 - 5) * 65536))" ] || fail "$device: $(cat checked.json)"
# There is no room for anything to get out of the way: nothing is lost.
cp again.qed loop.img
detach_loop "$device"
device=$(attach_loop loop.img)
compact 1 --defrag "$device"
grep -q "$device: .*No space left" err || fail "full: $(cat err)"
same_disk "$device" long.raw
detach_loop "$device"

# ---- after a repair, which cannot be undone then ----

label='undo file'
cat >undo.img.txt <<-END
	cluster_size 4096
	table_size 2
	header_size 2
	l1_table_offset 8192
	image_size 8388608
	file_size 40960
	l1[0] = 16384
	l1[1] = 24576
	l2@16384[0] = 36864
	l2@16384[1] = 32768
	l2@24576[0] = 32768
	fill 32768 4096 0xa8
	fill 36864 4096 0xa9
END
"$MKIMAGE" undo.img.txt undo.qed
"$QEDIMG" check -q -r all undo.qed || fail "not mended"
qemu-img convert -f qed -O raw undo.qed undo.raw
compact 0 --dry-run undo.qed
[ -s undo.qed.check-undo ] || fail "--dry-run removes the undo file"
# What the repair has changed stays where it is, what it was about does not.
compact 0 --defrag undo.qed
grep -q '^qedimg: warning: undo.qed.check-undo: removed' err ||
	fail "the undo file: $(cat err)"
status=0
"$QEDIMG" check --undo undo.qed 2>err || status=$?
[ "$status" -eq 1 ] || fail "undo: status $status"
same_disk undo.qed undo.raw
image_clean undo.qed
# What only has that name is not touched.
echo mine >undo.qed.check-undo
compact 0 --defrag undo.qed
[ "$(cat undo.qed.check-undo)" = mine ] || fail "it removes any file"

# ---- what it refuses ----

label=refusals
damaged=qemu.qed
table=$(get_le 64 "$damaged" "$(get_le 64 "$damaged" 40)")
put_le 64 "$damaged" "$table" 12345
untouched "$damaged" 1
grep -q "qemu.qed: damaged: .*qedimg check -r all" err || fail "$(cat err)"
untouched "$damaged" 1 --defrag
untouched "$damaged" 1 --dry-run
"$QEDIMG" check -q -r all "$damaged" || fail "not mended"
compact 0 "$damaged"
echo text >text
untouched text 1
compact 1 missing.qed
grep -q missing.qed err || fail "does not name the file"
untouched alone.qed 1 --progress=bar
untouched alone.qed 1 -f raw
untouched alone.qed 1 --dry-run --zeroes
untouched alone.qed 1 --defrga
untouched alone.qed 1 --output=json
compact 1 alone.qed alone.qed
compact 0 -q alone.qed
cat err >>out
[ ! -s out ] || fail "-q prints $(cat out)"
label='in use'
qemu-io -r -f qed alone.qed <in >out.fifo 2>&1 &
qemu_io=$!
exec 3>in 4<out.fifo
echo 'read 0 512' >&3
read -r line <&4 || fail "qemu-io ends: $line"
untouched alone.qed 1
grep -q 'alone.qed: in use' err || fail "not refused: $(cat err)"
untouched alone.qed 0 --dry-run		# it only reads, too
exec 3>&- 4<&-
wait "$qemu_io"
mount_qed alone.qed mnt
untouched alone.qed 1
grep -q 'alone.qed: in use' err || fail "not refused: $(cat err)"
umount_qed mnt
