#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qedimg resize against qemu-img on the same inputs: of raw twins, and of qcow2 twins
# where a backing file shows; interrupted, refused, and preallocated.

in_memory=yes
many_starts=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_loop
requires qemu-img qemu-io jq script mkfs.ext4 filefrag "$QEDIMG" "$MKIMAGE" "$WAITFOR"

cd "$TMP"

# resize ARG…: qedimg resize succeeds
resize() {
	"$QEDIMG" resize "$@" >out 2>err </dev/null ||
		fail "$label: resize $*: $(cat err)"
}

# refused TEXT ARG…: it does not, says so once, and leaves the file as it was
refused() {
	text=$1
	shift
	status=0
	"$QEDIMG" resize "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq 1 ] || fail "$label: resize $*: status $status, not 1"
	[ ! -s out ] || fail "$label: resize $*: prints $(cat out)"
	grep -qF -e "$text" err || fail "$label: no '$text' in: $(cat err)"
	[ "$(grep -c '^qedimg:' err)" -eq 1 ] ||
		fail "$label: not one message: $(cat err)"
}

# QEMU opens no image whose tables have one cluster, and none of the largest.
geometry='65536 4'
qemu_opens() {
	[ "${geometry#* }" -ne 1 ] && [ "${geometry% *}" -lt 67108864 ]
}

# sound IMAGE: nothing is wrong, nothing takes up space that is not needed
sound() {
	"$QEDIMG" check --output=json "$1" >report ||
		fail "$label: check of $1: $(cat report)"
	grep -q '"need-check": false' report || fail "$label: NEED_CHECK"
	qemu_opens || return 0
	status=0
	qemu-img check -q -f qed "$1" || status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
		fail "$label: qemu-img check of $1: status $status"
}

# same: x.qed and x.raw
same() {
	"$QEDIMG" compare -q -f qed -F raw x.qed x.raw ||
		fail "$label: x.qed and x.raw differ"
	! qemu_opens || same_disk x.qed x.raw
}

# write PATTERN OFFSET LENGTH: to x.qed and x.raw
write() {
	qemu_do x.raw raw "write -P $1 $2 $3"
	if qemu_opens; then
		qemu_do x.qed qed "write -P $1 $2 $3"
		return
	fi
	mount_qed x.qed mnt
	qemu_do mnt/x.raw raw "write -P $1 $2 $3"
	umount_qed mnt
}

virtual_size() {
	qemu-img info --output=json "$1" >facts
	json_number virtual-size facts
}

# twins ARG…: x.qed and x.raw are resized alike by qedimg and qemu-img
twins() {
	resize "$@"
	"$QEDIMG" info --output=json x.qed >facts
	json_number virtual-size facts >size
	case $* in
	--shrink*)
		shift
		qemu-img resize -q -f raw --shrink x.raw "$2"
		;;
	*)
		qemu-img resize -q -f raw x.raw "$2"
		;;
	esac
	[ "$(stat -c %s x.raw)" -eq "$(cat size)" ] ||
		fail "$label: resize $*: $(cat size) bytes"
	same
	sound x.qed
}

# ---- all geometries, full and empty, sizes that end in a cluster ----

# full CLUSTER TABLE SIZE: x.qed and x.raw with the same bytes everywhere
full() {
	rm -f x.qed x.raw
	"$QEDIMG" create -q -o "cluster_size=$1,table_size=$2" x.qed "$3"
	truncate -s "$3" x.raw
	write 17 0 "$3"
	write 18 $((256 << 10)) 777k
	write 19 $(($3 - 1024)) 512
}

mkdir mnt
for geometry in '4096 1' '4096 2' '4096 16' '65536 4' '1048576 16'; do
	# shellcheck disable=SC2086 # two words
	set -- $geometry
	cluster=$1
	label="cluster $1, table $2"
	full "$1" "$2" $((3 * (1 << 20) + 512 * 5))
	twins x.qed +5120
	twins --shrink x.qed 2M
	twins --shrink x.qed $((cluster + 512))
	twins x.qed +10M
	twins --shrink x.qed 512
	twins x.qed 64M
	write 7 0 1M
	write 8 63M 1M
	twins --shrink x.qed -1M
	twins x.qed 64M
	# Nothing is kept for what is gone.
	twins --shrink x.qed 512
	twins --shrink x.qed 512
	tables=$((cluster * $2))
	[ "$(du -k x.qed | cut -f1)" -le $(((2 * cluster + 2 * tables) / 1024 + 8)) ] ||
		fail "$label: the file takes up $(du -k x.qed)"

	"$QEDIMG" create -q -o "cluster_size=$1,table_size=$2" x.qed 1M
	rm -f x.raw
	truncate -s 1M x.raw
	twins x.qed 512M
	twins --shrink x.qed 512
done

# The largest: a table is a gigabyte of reserved space, which takes its time.
geometry='67108864 16'
label="cluster 67108864, table 16"
full 67108864 16 $((3 * (1 << 20) + 512 * 5))
twins --shrink x.qed $((700 * 512))
twins x.qed +100M
write 8 99M 1M
twins --shrink x.qed 512
twins x.qed 200M

# A file whose clusters are in another order: inner ones are punched.
label=punched
geometry='65536 4'
"$QEDIMG" create -q x.qed 8M
rm -f x.raw
truncate -s 8M x.raw
for i in 7 0 6 1 5 2 4 3; do
	write $((i + 1)) ${i}M 1M
done
twins --shrink x.qed 2M
[ "$(du -k x.qed | cut -f1)" -lt 3000 ] || fail "space was not given back"
twins x.qed 8M

# ---- backing files: what is added is zero, as in qcow2 ----

# over FORMAT SIZE OVERLAY: o.qed and o.qcow2, overlays of OVERLAY bytes with the same
# data over a backing file of SIZE bytes full of data
over() (
	rm -f base.* o.*
	truncate -s "$2" base.raw
	qemu_do base.raw raw "write -P 1 0 $2"
	[ "$1" = raw ] ||
		qemu-img convert -f raw -O qed base.raw base.qed
	for format in qed qcow2; do
		qemu-img create -q -f $format -b "base.$1" -F "$1" o.$format "$3"
		qemu_do o.$format $format 'write -P 2 64k 64k' \
			'write -P 3 1000000 5000' "write -P 4 $(($3 - 512)) 512"
	done
)

both() {
	resize ${3:+"$3"} "$1" "$2"
	# shellcheck disable=SC2086 # perhaps none
	qemu-img resize -q -f qcow2 $3 o.qcow2 "$2"
	qemu-img compare -q -f qed -F qcow2 o.qed o.qcow2 ||
		fail "$label: resize $*: not as in qcow2"
	[ "$(virtual_size o.qed)" -eq "$(virtual_size o.qcow2)" ] ||
		fail "$label: resize $*: size"
	sound o.qed
}

M=1048576
for format in raw qed; do
	for base in $(few $((2 * M + 5120)) $((M + 4096)) $((6 * M + 512))); do
		label="$format backing of $base"
		over $format "$base" $((2 * M + 5120))
		both o.qed $((2 * M + 5120 + 512)) ''
		both o.qed $((M + 512)) --shrink
		both o.qed 5M ''
		both o.qed +7M ''
		qemu_do o.qed qed 'write -P 9 4M 1M'
		qemu_do o.qcow2 qcow2 'write -P 9 4M 1M'
		both o.qed -3584k --shrink
		both o.qed 16M ''
	done
done

# Zeroes cost tables, but only where the backing file has something to hide.
label='sparse backing'
rm -f base.*
"$QEDIMG" create -q base.qed 64T
qemu_do base.qed qed 'write -P 5 20T 64k'
"$QEDIMG" create -q -b base.qed -F qed o.qed 1M
resize o.qed 64T
[ "$(du -k o.qed | cut -f1)" -lt 1000 ] || fail "$label: $(du -k o.qed)"
[ "$("$QEDIMG" map --output=json o.qed | jq -c '[.[] | select(.data)]')" = '[]' ] ||
	fail "$label: there is data"
sound o.qed

# An image is made smaller without what backs it, but not larger.
label='missing backing'
rm base.qed
resize --shrink o.qed 1M
refused base.qed o.qed +1M
label=raw

# ---- 64 TiB ----

label='64 TiB'
"$QEDIMG" create -q x.qed 1M
resize x.qed 64T
qemu_do x.qed qed 'write -P 1 0 64k' 'write -P 2 40T 64k' 'write -P 3 70368744177152 512'
refused 'exceeds 70368744177664' x.qed +512
resize --shrink x.qed 40T
sound x.qed
resize --shrink x.qed 64k
sound x.qed
resize x.qed 64T
qemu_do x.qed qed 'read -P 1 0 64k' 'read -P 0 64k 64k' 'read -P 0 40T 64k' \
	'read -P 0 70368744177152 512'
resize --shrink x.qed 512

# ---- what an image may hold from before ----

# Entries behind the end, a tail of the last cluster: a larger disk shows neither.
label=stale
cat >x.img.txt <<-'END'
	cluster_size 65536
	table_size 4
	header_size 1
	l1_table_offset 65536
	image_size 66048
	file_size 1114112
	l1[0] = 327680
	l1[1] = 589824
	l2@327680[0] = 851968
	l2@327680[1] = 917504
	l2@327680[2] = 983040
	l2@589824[0] = 1048576
	fill 851968 262144 0x77
END
"$MKIMAGE" x.img.txt x.qed
cp x.qed y.qed
resize x.qed 4G
qemu_do x.qed qed 'read -P 0x77 0 66048' 'read -P 0 66048 10M' 'read -P 0 2G 1M'
sound x.qed
cp y.qed x.qed
resize --shrink x.qed 66048
sound x.qed
[ "$(json_number leaks report)" -eq "$(json_number leaks-empty report)" ] ||
	fail "$label: leaks that take up space"
qemu-img resize -q -f qed x.qed 4G
qemu_do x.qed qed 'read -P 0x77 0 66048' 'read -P 0 66048 10M' 'read -P 0 2G 1M'

label=NEED_CHECK
for arguments in 'x.qed 1M' '--shrink x.qed 64k'; do
	"$MKIMAGE" x.img.txt x.qed
	put_le 64 x.qed 16 2
	put_le 64 x.qed 32 4096		# an unknown autoclear bit
	# shellcheck disable=SC2086 # words
	resize $arguments
	sound x.qed
	[ "$(get_le 64 x.qed 32)" -eq 0 ] || fail "an autoclear bit is left"
done

label=compat
"$MKIMAGE" x.img.txt x.qed
put_le 64 x.qed 24 8
refused 'compat_features bits 0x8 are unknown' --shrink x.qed 512
resize x.qed 1M
[ "$(get_le 64 x.qed 24)" -eq 8 ] || fail "the compat bit is gone"

label=damaged
"$MKIMAGE" x.img.txt x.qed
put_le 64 x.qed 327688 851968
cp x.qed y.qed
refused 'mend it first' --shrink x.qed 512
cmp x.qed y.qed || fail "it was changed"
put_le 64 x.qed 327688 851969
refused damaged x.qed 1M

label=magic
printf 'no image' >y.qed
refused 'not a QED image' y.qed 1M
truncate -s 1M y.qed
refused 'not a QED image' --shrink y.qed 1k

# ---- refused ----

label=refused
"$QEDIMG" create -q x.qed 10M
cp x.qed y.qed
refused 'then use --shrink' x.qed 5M
refused 'then use --shrink' x.qed -1k
refused 'greater than zero' --shrink x.qed 0
refused 'greater than zero' --shrink x.qed -10M
refused 'greater than zero' --shrink x.qed -11M
refused 'too large' x.qed 8E
refused 'exceeds' x.qed +7.9999E
refused 'exceeds' x.qed 65T
refused 'is not a size' x.qed 1x
refused 'is not a size' x.qed +
refused 'new size is missing' x.qed
refused "preallocation 'some'" --preallocation=some x.qed 20M
refused 'only what is added can be' --shrink --preallocation=full x.qed 5M
refused "unexpected argument '1M'" x.qed 1M 1M
refused 'No such file' none.qed 1M
cmp x.qed y.qed || fail "it was changed"
resize x.qed +0
resize --shrink x.qed 10M
[ "$("$QEDIMG" resize x.qed 1G)" = 'Image resized.' ] || fail "it says other"
[ -z "$("$QEDIMG" resize -q -f qed x.qed -p 2G 2>&1)" ] || fail "-q says more"
"$QEDIMG" resize -q --progress=json x.qed 3G 2>err
jq -es 'all(.done <= .total) and .[-1].percent == 100' err >/dev/null ||
	fail "progress: $(cat err)"
for option in -p '-q -p'; do
	script -qec "'$QEDIMG' resize $option --preallocation=full x.qed +1M" \
		/dev/null </dev/null >seen
	case $option,$(cat -v seen) in
	-p,*%* | '-q -p,') ;;
	*) fail "$option on a terminal: $(cat -v seen)" ;;
	esac
done

# ---- an image in use ----

label=locked
qemu-img create -q -f qed x.qed 10M
mkfifo fifo ready
qemu-io -f qed x.qed <fifo >ready &
peer=$!
cleanup "$WAITFOR" exit "$peer" 300
exec 3>fifo 4<ready
echo 'read 0 512' >&3
read -r line <&4
[ "$line" ] || fail "qemu-io does not answer"
refused "by qemu-io (pid $peer)" x.qed 20M
refused "by qemu-io (pid $peer)" --shrink x.qed 5M
exec 3>&-
wait "$peer"
exec 4<&-
resize x.qed 20M

mount_qed x.qed mnt
refused "by qedfs (pid $(mount_pid mnt))" x.qed 40M
umount_qed mnt

# ---- preallocation ----

for how in $(few metadata off falloc full); do
	label=$how
	full 65536 4 $((2 * M + 512))
	twins x.qed 3M
	resize --preallocation="$how" x.qed +20M
	truncate -s +20M x.raw
	same_disk x.qed x.raw
	image_clean x.qed
	mapped=$("$QEDIMG" map --output=json x.qed |
		jq '[.[] | select(.start >= 3145728 and .offset) | .length] | add')
	stored=$(($(du -k x.qed | cut -f1) - (2 * M + 65536) / 1024))
	case $how in
	off)
		[ "$mapped" = null ] || fail "$mapped bytes mapped"
		;;
	metadata)
		[ "$mapped" -eq $((20 * M)) ] || fail "$mapped bytes mapped"
		[ "$stored" -lt 5000 ] || fail "$stored KiB are stored"
		;;
	*)
		[ "$mapped" -eq $((20 * M)) ] || fail "$mapped bytes mapped"
		[ "$stored" -ge 20480 ] || fail "$stored KiB are stored"
		;;
	esac
done

# What is reserved is not the same as what is written: the host knows.
label='written'
truncate -s 100M host.img
mkfs.ext4 -q -F host.img
mkdir host
mount_on host -o loop host.img
for how in falloc full; do
	"$QEDIMG" create -q host/x.qed 3M
	resize --preallocation=$how host/x.qed +20M
	filefrag -b4096 -v host/x.qed >extents
	unwritten=$(awk -F: '/unwritten/ { n += $4 } END { print n * 4096 }' extents)
	case $how in
	falloc) [ "$unwritten" -ge $((20 * M)) ] || fail "$how: $(cat extents)" ;;
	full) [ "$unwritten" -lt $((2 * M)) ] || fail "$how: $(cat extents)" ;;
	esac
done
umount_from host

# Over a longer backing file too, what is added is zero.
label='preallocation over backing'
for how in metadata falloc full; do
	over qed $((6 * M)) $((M + 512))
	resize --preallocation=$how o.qed 5M
	qemu-img resize -q o.qcow2 5M
	qemu-img compare -q -f qed -F qcow2 o.qed o.qcow2 || fail "$how: differs"
	image_clean o.qed
done

# ---- interrupted at any moment, a second run completes ----

label=interrupted
"$QEDIMG" create -q -o cluster_size=4096,table_size=16 full.qed 1M
resize --preallocation=metadata full.qed 8G
qemu_do full.qed qed 'write -P 5 0 1M' 'write -P 6 4G 1M' 'write -P 7 8589930496 4k'
early=0
for signal in INT TERM KILL KILL; do
	for moment in 0.01 0.02 0.04 0.08 0.15; do
		cp --reflink=auto --sparse=always full.qed x.qed
		status=0
		timeout --foreground -s $signal "$moment" "$QEDIMG" resize --shrink -q x.qed 4G \
			2>err || status=$?
		[ "$status" -ne 0 ] && early=$((early + 1))
		released x.qed
		status=0
		qemu-img check -q -f qed x.qed || status=$?
		[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
			fail "$signal at $moment: qemu-img check: $status"
		resize --shrink x.qed 4G
		sound x.qed
		[ "$(json_number leaks report)" -eq "$(json_number leaks-empty report)" ] ||
			fail "$signal at $moment: leaks that take up space"
		[ "$(virtual_size x.qed)" -eq $((4 << 30)) ] || fail "size"
		qemu_do x.qed qed 'read -P 5 0 1M' 'read -P 0 1M 16M' \
			'read -P 0 4278190080 16M'
		resize x.qed 8G
		qemu_do x.qed qed 'read -P 0 4G 1M' 'read -P 0 8589930496 4k'
	done
done
[ "$early" -gt 0 ] || fail "no run was interrupted"

label='interrupted growth'
early=0
for signal in INT KILL; do
	for moment in 0.01 0.02 0.05 0.1; do
		rm -f x.qed
		"$QEDIMG" create -q -o cluster_size=4096 x.qed 1M
		qemu_do x.qed qed 'write -P 5 0 1M'
		timeout --foreground -s $signal "$moment" "$QEDIMG" resize -q \
			--preallocation=metadata x.qed 16G 2>err ||
			early=$((early + 1))
		released x.qed
		resize x.qed 16G
		# What a killed process had allocated nobody names.
		[ $signal = INT ] || "$QEDIMG" check -q -r leaks x.qed ||
			fail "$label: check: $?"
		sound x.qed
		qemu_do x.qed qed 'read -P 5 0 1M' 'read -P 0 1M 64M'
	done
done
[ "$early" -gt 0 ] || fail "no growth was interrupted"
