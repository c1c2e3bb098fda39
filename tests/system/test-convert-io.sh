#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg convert from and to what is no file, on hosts that are full, when it is
# stopped, and where the host can share space.

. "$(dirname "$0")/functions.sh"

need_loop
requires "$QEDIMG" qemu-img qemu-io jq script mkfs.ext4 mkfs.xfs mkfs.btrfs filefrag

mkdir "$TMP/work"
cd "$TMP/work"

convert() {
	"$QEDIMG" convert "$@" >../out 2>../err || fail "convert $*: $(cat ../err)"
}

nothing_left() {
	[ -z "$(find . -name '.qed-*')" ] || fail "a temporary file is left"
}

head -c 7000001 /dev/urandom >low.raw
truncate -s 12M low.raw
qemu-img create -q -f qed -b low.raw -F raw top.qed 13M
qemu_do top.qed qed 'write -P 3 1M 100k' 'write -z 2M 1M' 'write -P 4 12M 512'
qemu-img convert -f qed -O raw top.qed want.raw

# ---- pipes ----

"$QEDIMG" convert top.qed - | cat >piped.raw
same_bytes piped.raw want.raw
"$QEDIMG" convert -S 0 top.qed - | cat >piped.raw
same_bytes piped.raw want.raw
# By a name too, which stays a pipe's; a QED image is not written in one go.
mkfifo named
cat named >piped.raw &
convert top.qed named
wait $!
[ -p named ] || fail "a named pipe is replaced"
same_bytes piped.raw want.raw
for target in named -; do
	: >piped.raw
	cat named >piped.raw &
	reader=$!
	exec 3>named
	status=0
	"$QEDIMG" convert -O qed top.qed $target 2>../err >&3 || status=$?
	exec 3>&-
	wait $reader
	[ "$status" -eq 1 ] || fail "QED into a pipe: status $status"
	grep -q 'pipe or character device: its tables' ../err ||
		fail "QED into a pipe: $(cat ../err)"
	[ ! -s piped.raw ] || fail "QED into a pipe: something is written"
done
rm named
status=0
# shellcheck disable=SC2002
cat want.raw | "$QEDIMG" convert -f raw --max-size=1M - x.raw 2>../err || status=$?
[ "$status" -eq 1 ] || fail "--max-size from a pipe: status $status"
grep -q 1048576 ../err || fail "--max-size from a pipe: $(cat ../err)"
[ ! -e x.raw ] || fail "--max-size from a pipe leaves a file"
nothing_left
for geometry in 64k,4 4k,2 2M,2; do
	# shellcheck disable=SC2002 # a pipe is what is tested
	cat want.raw | "$QEDIMG" convert -f raw -O qed \
		-o "cluster_size=${geometry%,*}" -o "table_size=${geometry#*,}" \
		- piped.qed || fail "from a pipe, $geometry"
	image_clean piped.qed
	same_disk piped.qed want.raw
done
# shellcheck disable=SC2002
cat want.raw | "$QEDIMG" convert -f raw - piped.raw
same_bytes piped.raw want.raw
head -c 777 want.raw >odd.raw
# shellcheck disable=SC2002
cat odd.raw | "$QEDIMG" convert -f raw -O qed - piped.qed
truncate -s 1024 odd.raw
same_disk piped.qed odd.raw
"$QEDIMG" convert -f raw -O qed - piped.qed <want.raw
same_disk piped.qed want.raw
# By a name.
mkfifo named
cat want.raw >named &
"$QEDIMG" convert -f raw -O qed named piped.qed
wait $!
same_disk piped.qed want.raw
# shellcheck disable=SC2002
cat want.raw | "$QEDIMG" convert -f raw /dev/stdin piped.raw
same_bytes piped.raw want.raw
for words in 'convert named x.raw' 'convert -f raw named named x.raw' \
		'convert -f raw top.qed named x.raw' 'dd -f raw if=named of=x.raw'; do
	status=0
	# shellcheck disable=SC2086 # words
	limited 300 "$QEDIMG" $words 2>../err || status=$?
	[ "$status" -eq 1 ] || fail "$words: status $status"
	grep -q '^qedimg: named: .*pipe' ../err || fail "$words: $(cat ../err)"
	[ ! -e x.raw ] || fail "$words: a file was made"
done
cat want.raw >named &
status=0
"$QEDIMG" convert -f raw --max-size=1M named x.raw 2>../err || status=$?
[ "$status" -eq 1 ] || fail "a long pipe: status $status"
wait $! || :
# Room would not help a disk that is too small.
qemu-img create -q -f qed small.qed 1M
status=0
"$QEDIMG" convert -n -f raw -O qed - small.qed <want.raw 2>../small || status=$?
[ "$status" -eq 1 ] || fail "into a small image: status $status"
grep -q '^qedimg: small.qed: cannot write.*; small.qed is incomplete: it has to be larger$' \
	../small || fail "into a small image: $(cat ../small)"
rm small.qed
grep -q '^qedimg: named: cannot go on.*too large; nothing was made: raise that limit$' ../err || fail "$(cat ../err)"
: | "$QEDIMG" convert -f raw -O qed - piped.qed
[ "$(qemu-img info piped.qed | grep -c '^virtual size: 0')" -eq 1 ] ||
	fail "of nothing comes something"
status=0
"$QEDIMG" convert - piped.raw </dev/null 2>../err || status=$?
[ "$status" -eq 1 ] || fail "a QED image from a pipe: $status"
grep -q 'can only be raw' ../err || fail "from a pipe: $(cat ../err)"
status=0
"$QEDIMG" convert -S 0 top.qed - 2>../err | head -c 100 >/dev/null || status=$?
nothing_left

# ---- devices ----

head -c 14M /dev/urandom >device.img
device=$(attach_loop device.img)
head -c 14M /dev/zero | tr '\0' x >stale.img
for options in '' '-S 64k' '-S 0' '-m 1'; do
	cp stale.img "$device"
	# shellcheck disable=SC2086 # words
	convert $options top.qed "$device"
	cmp -n $((13 << 20)) "$device" want.raw || fail "onto a device: $options"
	cmp -i $((13 << 20)) "$device" stale.img || fail "what is behind changed"
done
cp stale.img "$device"
convert -n top.qed "$device"
cmp -n $((13 << 20)) "$device" want.raw || fail "-n onto a device"
cmp -i $((13 << 20)) "$device" stale.img || fail "-n: what is behind changed"
cp stale.img "$device"
status=0
"$QEDIMG" convert -O qed top.qed "$device" 2>../err || status=$?
[ "$status" -eq 1 ] || fail "a new QED image on a device: status $status"
grep -q "$device: .*block device" ../err || fail "QED on it: $(cat ../err)"
cmp "$device" stale.img || fail "a device that was refused has changed"
head -c 14M /dev/zero >"$device"
convert -n --target-is-zero top.qed "$device"
cmp -n $((13 << 20)) "$device" want.raw || fail "--target-is-zero"
convert -f raw -O qed "$device" from.qed
image_clean from.qed
same_disk from.qed device.img
# Another node of the device that is read from, by whatever name.
number=$(stat -c '0x%t 0x%T' "$device")
# shellcheck disable=SC2086 # two numbers
mknod node b $number
cp stale.img "$device"
for options in '' -n -U '-n -U' '-n -O qed -U'; do
	for target in node "$device"; do
		[ "$target" = node ] && source=$device || source=node
		status=0
		# shellcheck disable=SC2086
		"$QEDIMG" convert -f raw $options "$source" "$target" \
			2>../err || status=$?
		[ "$status" -eq 1 ] || fail "onto itself, $options: $status"
		grep -q "^qedimg: $target: cannot be written: it is $source," \
			../err || fail "onto itself: $(cat ../err)"
	done
done
cmp "$device" stale.img || fail "a device that is read from has changed"
cp want.raw read.raw
status=0
"$QEDIMG" convert -U -f raw -S 0 read.raw - 1<>read.raw 2>../err || status=$?
[ "$status" -eq 1 ] || fail "onto itself by standard output: $status"
grep -q 'standard output: cannot be written: it is read.raw' ../err ||
	fail "onto itself by standard output: $(cat ../err)"
same_bytes read.raw want.raw
head -c 4M /dev/urandom >small.img
small=$(attach_loop small.img)
status=0
"$QEDIMG" convert top.qed "$small" 2>../err || status=$?
[ "$status" -eq 1 ] || fail "a small device: status $status"
grep -q "$small.*small\|small.*$small" ../err || fail "small: $(cat ../err)"

# ---- QED images on devices ----

head -c 14M /dev/zero | tr '\0' y >behind.img

# on_device IMAGE: the device holds it
on_device() {
	cp behind.img "$device"
	dd if="$1" of="$device" conv=notrunc status=none
}

# What has a place in an image on a device is written there, as by QEMU.
head -c 9M /dev/urandom >nine.raw
truncate -s 12M nine.raw
qemu-img convert -f raw -O qed -S 0 nine.raw nine.qed
for tool in "$QEDIMG" qemu-img; do
	for options in '' '-S 0'; do
		on_device nine.qed
		# shellcheck disable=SC2086
		"$tool" convert -n -f raw -O qed $options low.raw "$device" ||
			fail "$tool: onto an image on a device: $options"
		"$QEDIMG" check -q "$device" || fail "check of $device"
		! need_check_set "$device" || fail "NEED_CHECK on $device"
		same_disk "$device" low.raw
	done
	cmp -i "$(stat -c %s nine.qed)" "$device" behind.img ||
		fail "$tool: what is behind the image changed"
done
# There is no place for more, as the file does not grow.
qemu-img create -q -f qed empty.qed 12M
for tool in "$QEDIMG" qemu-img; do
	on_device empty.qed
	status=0
	"$tool" convert -n -f raw -O qed low.raw "$device" 2>../err || status=$?
	[ "$status" -eq 1 ] || fail "$tool: no room on a device: $status"
	grep -q 'No space left' ../err || fail "no room: $(cat ../err)"
	"$QEDIMG" check -q "$device" || fail "check of $device, no room"
done
# What is no image is not touched.
cp stale.img "$device"
for tool in "$QEDIMG" qemu-img; do
	status=0
	"$tool" convert -n -f raw -O qed low.raw "$device" 2>../err || status=$?
	[ "$status" -eq 1 ] || fail "$tool: onto no image: status $status"
	cmp "$device" stale.img || fail "$tool: it has changed"
	[ "$tool" = qemu-img ] ||
		grep -q "^qedimg: $device: .*not a QED image" ../err ||
		fail "onto no image: $(cat ../err)"
done

# ---- a host that is full ----

truncate -s 20M host.img
mkfs.ext4 -q -F host.img
mkdir host
mount -o loop host.img host
cleanup umount_from host
echo old >host/raw
echo old >host/qed
head -c 30M /dev/urandom >big.raw
qemu-img convert -f raw -O qed big.raw big.qed
for format in raw qed; do
	for target in new $format; do
		status=0
		"$QEDIMG" convert -O $format big.qed "host/$target" 2>../err ||
			status=$?
		[ "$status" -eq 1 ] || fail "a full host: status $status"
		[ "$(grep -c "^qedimg: host/$target: .*No space left" ../err)" \
			-eq 1 ] || fail "a full host: $(cat ../err)"
	done
	[ "$(cat host/$format)" = old ] || fail "the old $format has changed"
done
[ "$(find host -type f | sort | tr '\n' ' ')" = 'host/qed host/raw ' ] ||
	fail "left: $(ls -A host)"

# ---- stopped ----

early=0
for signal in INT TERM KILL; do
	for format in raw qed; do
		for moment in 0.005 0.01 0.02 0.04; do
			echo old >kept
			status=0
			timeout --foreground -s $signal $moment "$QEDIMG" \
				convert -S 0 -m 1 -O $format big.qed kept \
				2>../err || status=$?
			if [ "$(cat kept)" = old ]; then
				early=$((early + 1))
			else
				"$QEDIMG" compare -q -F $format big.qed kept ||
					fail "$signal: a part of it is there"
			fi 2>/dev/null
			nothing_left
		done
		convert -O $format big.qed kept
		"$QEDIMG" compare -q -F $format big.qed kept || fail "after $signal"
	done
done
[ "$early" -gt 0 ] || fail "nothing was stopped"

# The source has no end yet, so however fast the host is, the copy is under way: of
# 4 MiB a pipe holds 1 MiB, the rest has been read.
mkfifo feed
for signal in INT TERM; do
	for format in raw qed; do
		for target in kept none; do
			echo old >kept
			env --default-signal=INT "$QEDIMG" convert -f raw \
				-O $format - $target <feed 2>../err &
			pid=$!
			exec 3>feed
			head -c 4M big.raw >&3
			kill -s $signal $pid
			"$WAITFOR" exit $pid 300 || {
				exec 3>&-
				fail "$signal does not stop it"
			}
			status=0
			wait $pid || status=$?
			exec 3>&-
			[ "$status" -ne 0 ] || fail "$signal: success"
			[ "$(cat kept)" = old ] || fail "$signal: kept has changed"
			[ ! -e none ] || fail "$signal: a part of it is there"
			nothing_left
		done
	done
done

# In place: what was there is gone in part, what is there is in order, and the same
# once more completes it.
head -c 30M /dev/urandom >other.raw
head -c 1M other.raw >tail.raw
qemu-img convert -f raw -O qed other.raw other.qed
begun=0
for signal in INT TERM KILL; do
	for format in raw qed; do
		cp other.$format there
		[ $format = qed ] || cat tail.raw >>there
		env --default-signal=INT "$QEDIMG" convert -n -f raw \
			-O $format - there <feed 2>../err &
		pid=$!
		exec 3>feed
		head -c 8M big.raw >&3
		kill -s $signal $pid
		"$WAITFOR" exit $pid 300 || {
			exec 3>&-
			fail "-n: $signal does not stop it"
		}
		exec 3>&-
		status=0
		wait $pid 2>../killed || status=$?
		[ "$status" -ne 0 ] || fail "-n, $signal: success"
		released there
		[ $signal = KILL ] || [ $format = raw ] || image_clean there
		# Of each part there is one or the other.
		qemu-img convert -f $format -O raw there mixed.raw
		cmp -s -n 31457280 mixed.raw other.raw || begun=$((begun + 1))
		cmp -i 9M -n 22020096 mixed.raw other.raw ||
			fail "-n, $signal: more has changed than it was given"
		convert -n -f raw -O $format big.raw there
		if [ $format = raw ]; then
			cmp -n 31457280 there big.raw || fail "-n after $signal"
			cmp -i 31457280:0 there tail.raw ||
				fail "-n, $signal: what is behind changed"
		else
			image_clean there
			same_disk there big.raw
		fi
	done
done
[ "$begun" -gt 0 ] || fail "-n: all were stopped before they wrote"

# ---- asked how far it is, and told twice to stop ----

# feeding OPTION…: a copy runs as $pid, its standard error in ../err, and has
# something to do, but no end of it yet
feeding() {
	: >../err
	env --default-signal=INT "$QEDIMG" convert "$@" -f raw - fed <feed \
		2>../err &
	pid=$!
	exec 3>feed
	head -c 4M big.raw >&3
}

# said PATTERN FILE: this comes while the copy is under way
said() {
	"$WAITFOR" until "$2" $pid 300 grep -q "$1" "$2" ||
		fail "no '$1': $(cat -v "$2")"
}

# fed STATUS: what is fed ends, or the copy has ended; so does it
fed() {
	exec 3>&-
	status=0
	wait $pid 2>../killed || status=$?
	[ "$status" -eq "$1" ] || fail "status $status, not $1: $(cat ../err)"
	nothing_left
}

amount='[0-9][0-9.]* [KMG]iB'
facts="[0-9][0-9.]*%  $amount of $amount  $amount/s  [0-9][0-9]* s left"

feeding
kill -s USR1 $pid
said "^ *$facts\$" ../err
[ ! -e fed ] || fail "SIGUSR1 ends the copy"
fed 0
[ "$(wc -l <../err)" -eq 1 ] || fail "SIGUSR1: $(cat ../err)"
cmp -n 4194304 big.raw fed || fail "SIGUSR1: another copy"
feeding -q
kill -s USR1 $pid
said "^ *$facts\$" ../err
fed 0

# As JSON it is one more object.
feeding --progress=json
kill -s USR1 $pid
said '"done": [1-9]' ../err
fed 0
jq -es 'length > 1 and all(.seconds >= 0 and ."bytes-per-second" >= 0) and
	(last | .done == 4194304 and .percent == 100 and .seconds > 0 and
	."bytes-per-second" > 0 and ."seconds-left" == 0)' ../err >../out ||
	fail "progress: $(cat ../err)"
feeding -q --progress=json
fed 0
jq -es 'length > 0 and (last | .percent == 100)' ../err >../out ||
	fail "-q --progress=json: $(cat ../err)"

# On a terminal it is a bar, which is gone at the end.
bar="'$QEDIMG' convert -p -f raw - fed <feed"
: >../seen
script -qec "$bar" /dev/null </dev/null >../seen &
pid=$!
exec 3>feed
head -c 4M big.raw >&3
said "\[##*\.*\]  *$facts" ../seen
fed 0
[ "$(tail -c 4 ../seen)" = "$(printf '\r\033[K')" ] ||
	fail "the bar stays: $(cat -v ../seen)"
feeding -p
fed 0
[ ! -s ../err ] || fail "-p draws where there is no terminal"
script -qec "'$QEDIMG' convert -q -p -f raw big.raw quiet.raw" /dev/null \
	</dev/null >../seen
[ ! -s ../seen ] || fail "-q -p on a terminal: $(cat -v ../seen)"
rm quiet.raw

# Both come before it can look whether it is to stop: the second ends it.
feeding
for signal in STOP INT TERM CONT; do
	kill -s $signal $pid
done
"$WAITFOR" exit $pid 300 || fail "two signals do not end it"
exec 3>&-
status=0
wait $pid 2>../killed || status=$?
[ "$status" -eq 130 ] || [ "$status" -eq 143 ] ||
	fail "two signals: status $status: $(cat ../err)"
nothing_left

# ---- space that is shared ----

# shares NAME: on that file system what is converted takes up no more space
shares() {
	mkdir "$1"
	mount -o loop "$1.img" "$1"
	cleanup umount_from "$1"
	# There is room for it once only.
	head -c 160M /dev/urandom >"$1/big.raw"
	convert -f raw -O qed "$1/big.raw" "$1/big.qed"
	convert "$1/big.qed" "$1/again.raw"
	cmp "$1/big.raw" "$1/again.raw" || fail "$1: what is shared differs"
	image_clean "$1/big.qed"
	filefrag -v "$1/again.raw" | grep -q shared || fail "$1: not shared"
}

has_fs() {
	grep -qw "$1" /proc/filesystems || modprobe "$1" 2>/dev/null
}

truncate -s 400M xfs.img btrfs.img
shared=0
if has_fs xfs; then
	mkfs.xfs -q -m reflink=1 xfs.img
	shares xfs
	shared=$((shared + 1))
fi
if has_fs btrfs; then
	mkfs.btrfs -q -m single btrfs.img >mkfs.out 2>&1
	shares btrfs
	shared=$((shared + 1))
fi
[ "$shared" -gt 0 ] || skip "needs xfs or btrfs in the kernel"
