#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# qedimg check --undo: takes a repair back, to the byte, if nothing but repairs has
# changed a table since, however they were interrupted; else does nothing.

in_memory=yes
many_starts=yes
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io fallocate strace "$QEDIMG" "$QEDFS" "$MKIMAGE" "$WAITFOR"

cd "$TMP"
mkdir mnt

# check STATUS ARG…: qedimg check ends so; what it prints is in the files out, err
check() {
	want=$1
	shift
	status=0
	"$QEDIMG" check "$@" >out 2>err </dev/null || status=$?
	[ "$status" -eq "$want" ] ||
		fail "$label: check $*: status $status, not $want: $(cat out err)"
}

# A shared cluster; a table named twice; entries for where their copies go.
cs=4096
cat >bad.img.txt <<-END
	cluster_size $cs
	table_size 2
	l1_table_offset $cs
	image_size 16777216
	file_size $((12 * cs))
	l1[0] = $((3 * cs))
	l1[1] = $((5 * cs))
	l1[2] = $((5 * cs))
	l2@$((3 * cs))[0] = $((7 * cs))
	l2@$((3 * cs))[1] = $((8 * cs))
	l2@$((3 * cs))[2] = $((12 * cs))
	l2@$((3 * cs))[3] = $((13 * cs))
	l2@$((3 * cs))[4] = $((5 * cs))
	l2@$((5 * cs))[0] = $((8 * cs))
	l2@$((5 * cs))[1] = $((9 * cs))
	l2@$((5 * cs))[2] = $((10 * cs))
	l2@$((5 * cs))[3] = $((11 * cs))
	l2@$((5 * cs))[4] = $((14 * cs))
	fill $((7 * cs)) $((5 * cs)) 0xa7
END
"$MKIMAGE" bad.img.txt bad.qed

# repaired: x.qed is mended, and has an undo file
repaired() {
	rm -f x.qed x.qed.check-undo
	cp bad.qed x.qed
	check 0 -r all x.qed
	[ -s x.qed.check-undo ] || fail "$label: no undo file"
}

# refused: undo finds that x.qed has been changed, and changes nothing
refused() {
	cp x.qed kept.qed
	check 1 --undo x.qed
	grep -q 'x.qed: has been changed since .*x.qed.check-undo' err ||
		fail "$label: undo: $(cat err)"
	same_bytes x.qed kept.qed
}

# undone: undo makes x.qed what it was
undone() {
	check 0 --undo x.qed
	same_bytes x.qed bad.qed
	[ ! -e x.qed.check-undo ] || fail "$label: the undo file is still there"
}

label=undo
repaired
undone
repaired
check 0 -r all x.qed
undone

label='written in place'
repaired
qemu_do x.qed qed 'write -P 1 0 4k'
mount_qed x.qed mnt
printf 'in place' | dd of=mnt/x.raw bs=4096 seek=1 conv=notrunc status=none
umount_qed mnt
check 0 --undo x.qed
cmp -n "$((7 * cs))" x.qed bad.qed || fail "$label: the tables differ"

label='new clusters'
repaired
mount_qed x.qed mnt
dd if=/dev/urandom of=mnt/x.raw bs=4096 seek=100 count=1 conv=notrunc status=none
umount_qed mnt
refused
label='new clusters in a table that the repair made'
repaired
qemu_do x.qed qed 'write -P 1 8404992 4k'
refused
label='discarded'
repaired
mount_qed x.qed mnt
fallocate -p -o 4096 -l 4096 mnt/x.raw
umount_qed mnt
refused
label='resized'
repaired
"$QEDIMG" resize -q --shrink x.qed 6M
refused
repaired
"$QEDIMG" resize -q x.qed 20M
refused
label='committed'
truncate -s 16M base.raw
rm -f x.qed x.qed.check-undo
cp bad.qed x.qed
"$QEDIMG" rebase -q -u -b base.raw -F raw x.qed
check 0 -r all x.qed
"$QEDIMG" commit -q x.qed
refused

label='a repair after that'
repaired
qemu_do x.qed qed 'write -P 1 400k 4k'
put_le 64 x.qed "$((3 * cs + 8))" 7
cp x.qed again.qed
check 0 -r all x.qed
grep -q 'warning: x.qed.check-undo: made anew' err || fail "$label: $(cat err)"
check 0 --undo x.qed
cmp -n "$((7 * cs))" x.qed again.qed || fail "$label: the tables differ"

label='not ours'
for content in mine 'something that is longer than a header is, by and large'; do
	cp bad.qed x.qed
	echo "$content" >x.qed.check-undo
	cp x.qed.check-undo kept
	for how in '-r all' --undo; do
		# shellcheck disable=SC2086 # words
		check 1 $how x.qed
		grep -q 'x.qed.check-undo: .*move it away' err ||
			fail "$label: $how: $(cat err)"
		same_bytes x.qed bad.qed
		same_bytes x.qed.check-undo kept
	done
done

# ---- interrupted ----

# killed N OPTION…: at the Nth write or change of length, if there are as many
killed() {
	when=$1
	shift
	label="killed at $when, $*"
	status=0
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -e trace=pwrite64,pwritev,ftruncate \
		-e "inject=pwrite64,pwritev,ftruncate:signal=KILL:when=$when" \
		-o trace "$QEDIMG" check -q "$@" x.qed >out 2>err || status=$?
	"$WAITFOR" unlocked x.qed 30 || fail "$label: still locked"
	[ "$status" -eq 0 ] || [ "$status" -eq 137 ] ||
		fail "$label: status $status: $(cat err)"
}

# dropped: what named nothing does not name a copy now
dropped() {
	for entry in 2 3; do
		[ "$(get_le 64 x.qed "$((3 * cs + 8 * entry))")" -eq 0 ] ||
			fail "$label: an entry past the end is kept"
	done
}

# barred: while a repair is not over nobody else writes to the image, and who
# only reads it is warned
barred() {
	cp x.qed kept.qed
	# compact may see the damage first.
	for how in "$QEDFS x.qed mnt" "$QEDIMG compact -q x.qed"; do
		status=0
		# shellcheck disable=SC2086 # words
		timeout 60 $how 2>err || status=$?
		[ "$status" -eq 1 ] || fail "$label: $how: status $status: $(cat err)"
		grep -q 'x.qed: .*qedimg check -r all' err || fail "$label: $how: $(cat err)"
	done
	"$QEDIMG" resize -q x.qed 20M 2>&1 | grep -q 'a repair was interrupted' ||
		fail "$label: resize says nothing of a repair"
	for how in check 'check --backing-chain' 'check -r all --dry-run' map; do
		# shellcheck disable=SC2086 # words
		timeout 60 "$QEDIMG" $how x.qed >out 2>err || :
		[ "$(grep -c 'warning: x.qed: a repair was interrupted' err)" -eq 1 ] ||
			fail "$label: $how: $(cat err)"
	done
	same_bytes x.qed kept.qed
	nbarred=$((nbarred + 1))
}

# over: whether the undo file says so
over() {
	[ "$(get_le 64 x.qed.check-undo 32)" -eq 1 ]
}

nbarred=0
for when in 1 2 3 4 5 6 8 10; do
	for next in '-r all' --undo; do
		rm -f x.qed x.qed.check-undo
		cp bad.qed x.qed
		killed "$when" -r all
		[ "$next" = '-r all' ] || [ -e x.qed.check-undo ] || continue
		[ ! -s x.qed.check-undo ] || over || barred
		# shellcheck disable=SC2086 # words
		check 0 $next x.qed
		if [ "$next" != --undo ]; then
			dropped
			over || fail "$label: then the repair is not over"
			check 0 x.qed
			[ ! -s err ] || fail "$label: $(cat err)"
			mount_qed x.qed mnt
			umount_qed mnt
		fi
		[ "$next" = '-r all' ] || same_bytes x.qed bad.qed
		[ ! -e x.qed.check-undo ] || undone
	done
	repaired
	killed "$when" --undo
	if [ -e x.qed.check-undo ]; then
		over || barred
		undone
	fi
	# Or the repair goes on from there, and can be taken back.
	repaired
	killed "$when" --undo
	check 0 -r all x.qed
	dropped
	undone
done
[ "$nbarred" -ge 8 ] || fail "only $nbarred times a repair was not over"

label='an interrupted repair of what has been replaced'
rm -f x.qed x.qed.check-undo
cp bad.qed x.qed
killed 5 -r all
barred
truncate -s 16M base.raw
"$QEDIMG" create -q -f qed -b x.qed -F qed top.qed
qemu_do top.qed qed 'write -P 1 8M 4k'
for how in 'commit -q top.qed' 'convert -q -n -f raw -O qed base.raw x.qed' \
	'rebase -q -b base.raw -F raw x.qed'; do
	status=0
	# shellcheck disable=SC2086 # words
	timeout 60 "$QEDIMG" $how 2>err || status=$?
	[ "$status" -eq 1 ] || fail "$label: $how: status $status: $(cat err)"
	grep -q 'x.qed: a repair was interrupted' err ||
		fail "$label: $how: $(cat err)"
	same_bytes x.qed kept.qed
done
"$QEDIMG" rebase -q -u -b base.raw -F raw x.qed
"$QEDIMG" rebase -q -u -b '' x.qed
"$QEDIMG" create -q -f qed y.qed 16M
mv y.qed x.qed
barred
check 0 -r all x.qed
over || fail "$label: the repair is not over"
mount_qed x.qed mnt
umount_qed mnt
