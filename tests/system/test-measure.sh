#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg measure: for raw copies the same as qemu-img measure; for QED copies,
# which qemu-img cannot measure, what the copies that QEMU makes come to.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq

mkdir "$TMP/work"
cd "$TMP/work"

# Whole clusters are written: a copy leaves zeroes out that fill one up.

same_raw() {
	for form in human json; do
		qemu-img measure --output=$form -O raw "$@" >theirs
		"$QEDIMG" measure --output=$form -O raw "$@" >ours ||
			fail "measure $*"
		diff theirs ours || fail "measure --output=$form $*"
		"$QEDIMG" measure --output=$form "$@" | diff theirs - ||
			fail "raw is not the default: $*"
	done
}

# measured KEY ARG…
measured() (
	key=$1
	shift
	"$QEDIMG" measure -O qed --output=json "$@" | jq ".\"$key\""
)

# same_qed IMAGE OPTIONS [FORMAT]: a QED copy gets just as long, before and after all of
# it has been written
same_qed() {
	qemu-img convert -f "${3-qed}" -O qed -o "$2" "$1" copy.qed
	qemu-img create -q -f qed -o "$2" full.qed \
		"$(qemu-img info -f "${3-qed}" --output=json "$1" |
			jq '."virtual-size"')"
	full=$(measured fully-allocated -f "${3-qed}" -o "$2" "$1")
	if [ "$full" -lt 50000000 ]; then
		qemu_do full.qed qed \
			"write 0 $(qemu-img info --output=json full.qed |
				jq '."virtual-size"')"
		[ "$(stat -c %s full.qed)" -eq "$full" ] ||
			fail "fully allocated, $1, $2: $full"
	fi
	required=$(measured required -f "${3-qed}" -o "$2" "$1")
	[ "$(stat -c %s copy.qed)" -eq "$required" ] ||
		fail "required, $1, $2: $required not $(stat -c %s copy.qed)"
	"$QEDIMG" measure -f "${3-qed}" -O qed -o "$2" "$1" >human
	printf 'required size: %s\nfully allocated size: %s\n' "$required" \
		"$full" | diff - human || fail "for people, $1, $2"
}

refused() {
	text=$1
	shift
	status=0
	"$QEDIMG" measure "$@" >"$TMP/out" 2>"$TMP/err" || status=$?
	[ "$status" -eq 1 ] || fail "measure $*: status $status, not 1"
	[ ! -s "$TMP/out" ] || fail "measure $*: prints $(cat "$TMP/out")"
	grep -qF -e "$text" "$TMP/err" ||
		fail "measure $*: no '$text' in: $(cat "$TMP/err")"
}

for size in $(few 511 0 1 512 1000 1M 1.5G 64T 1P); do
	same_raw --size "$size"
done

head -c 3000000 /dev/urandom >random.raw
truncate -s 8M random.raw
qemu-img create -q -f qed -b random.raw -F raw mid.qed 12M
qemu-io -f qed -c 'write -P 7 9M 320k' -c 'write -z 64k 128k' \
	-c 'write -P 9 4M 64k' mid.qed >/dev/null
qemu-img create -q -f qed -b mid.qed -F qed top.qed 10000k
qemu-io -f qed -c 'write -P 5 9856k 144k' top.qed >/dev/null
qemu-img create -q -f qed empty.qed 20M
qemu-img create -q -f qed big.qed 8T
qemu-io -f qed -c 'write -P 1 3T 64k' -c 'write -P 1 5T 1M' big.qed >/dev/null
for image in mid.qed top.qed empty.qed big.qed; do
	same_raw $image
done
for options in cluster_size=4k,table_size=2 cluster_size=64k \
		cluster_size=1M,table_size=16; do
	for image in mid.qed top.qed empty.qed; do
		same_qed $image $options
	done
done
same_qed big.qed cluster_size=64k
same_qed big.qed cluster_size=1M

# Raw files: full, with a hole at the end or first, of odd length, empty.
head -c 1000001 random.raw >odd.raw
truncate -s 8M hole.raw
dd if=random.raw of=hole.raw bs=1M seek=5 count=2 conv=notrunc status=none
: >none.raw
cp top.qed looks.raw				# -f counts, not what is in it
for file in $(few odd random hole none looks); do
	same_raw -f raw "$file.raw"
	for options in cluster_size=4k,table_size=2 cluster_size=64k \
			cluster_size=1M,table_size=16; do
		same_qed "$file.raw" $options raw
	done
done

for size in 1 1M 1G 64T; do
	"$QEDIMG" create -q x.qed $size
	[ "$(measured required --size=$size)" -eq "$(stat -c %s x.qed)" ] ||
		fail "an empty image of $size"
done

# ---- progress ----

for image in top.qed empty.qed big.qed; do
	"$QEDIMG" measure -O qed --progress=json $image >ours 2>err ||
		fail "measure --progress=json $image: $(cat err)"
	"$QEDIMG" measure -O qed -p $image 2>bar | diff ours - ||
		fail "measure -p $image"
	[ ! -s bar ] || fail "-p draws where there is no terminal"
	jq -es 'all(.done <= .total) and (last | .percent == 100)' err \
		>/dev/null || fail "progress, $image: $(cat err)"
	[ "$(jq -s 'last.done' err)" -eq "$(qemu-img info --output=json \
		$image | jq '."virtual-size"')" ] || fail "$image: $(cat err)"
done
: >none.raw
"$QEDIMG" measure -f raw -O qed --progress=json none.raw >ours 2>err
jq -es 'last | .total == 0 and .percent == 100' err >/dev/null ||
	fail "progress of nothing: $(cat err)"
refused "progress 'bar'" --progress=bar top.qed

refused '71468255805440' -O qed --size=65T
refused 'not a power of two' -O qed -o cluster_size=5000 --size=1M
refused "'1Q' is not a size" --size=1Q
refused "'-1' is not a size" --size=-1
refused 'too large' --size=9E
refused "-o is for '-O qed'" -o cluster_size=4k --size=1M
refused 'cannot hold' -O qed -o size=1M --size=1M
refused 'cannot hold' -O qed -o backing_file=x --size=1M
refused 'cannot hold' -O qed -o backing_fmt=raw --size=1M
refused "option 'zork'" -O qed -o zork=1 --size=1M
refused "'qcow2' is not supported" -O qcow2 --size=1M
refused "format 'qcow2' is not supported" -f qcow2 top.qed
refused 'not a QED image' random.raw
refused 'exclude each other' --size=1M top.qed
refused 'No such file' missing.qed
refused "output 'xml'" --output=xml top.qed

mkfifo in out
qemu-io -f qed top.qed <in >out 2>&1 &
exec 3>in 4<out
echo length >&3
read -r line <&4
case $line in *9.766*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'top.qed' top.qed
same_raw -U top.qed
exec 3>&- 4<&-
wait $!
