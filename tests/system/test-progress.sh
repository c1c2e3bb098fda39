#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What the commands of qedimg that may take long have in common: a bar, progress as
# JSON, a line for SIGUSR1, an end in order for SIGINT and SIGTERM, at once for a second
# one; and the same command given again completes.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq script strace

mkdir "$TMP/work"
cd "$TMP/work"

# ---- the files ----

qemu-img create -q -f raw ../low.raw 4M
qemu_do ../low.raw raw 'write -P 1 0 3M'
qemu-img create -q -f raw ../other.raw 4M
qemu_do ../other.raw raw 'write -P 2 1M 2M'
qemu-img create -q -f qed -b low.raw -F raw ../mid.qed 4M
qemu_do ../mid.qed qed 'write -P 3 1M 512k' 'write -P 3 2M 512k' \
	'write -z 1M 512k'
qemu-img create -q -f qed -b mid.qed -F qed ../top.qed 4M
# Not in the order of the disk, and with zeroes to be found.
qemu_do ../top.qed qed 'write -P 4 3M 256k' 'write -P 5 512k 256k' \
	'write -P 0 1M 256k'
# Two entries name one cluster.
qemu-img create -q -f qed ../bad.qed 4M
qemu_do ../bad.qed qed 'write -P 6 0 256k'
table=$(get_le 64 ../bad.qed "$(get_le 64 ../bad.qed 40)")
put_le 64 ../bad.qed $((table + 8)) "$(get_le 64 ../bad.qed "$table")"
files='low.raw other.raw mid.qed top.qed bad.qed'
(cd .. && qemu-img convert -f qed -O raw top.qed flat.raw)

fresh() {
	rm -rf ./* ./.qed-*
	for file in $files; do
		cp "../$file" .
	done
}

# ---- each command ----

# same_files WHEN: what the command may not change, or only in form, is as it was
same_files() {
	case $words in
	commit*delete*) [ -e top.qed ] || return 0 ;;
	check\ -r* | resize*) return 0 ;;
	esac
	"$QEDIMG" compare -q -F raw top.qed ../flat.raw ||
		fail "$words, $1: another disk"
}

# no_target WHEN
no_target() {
	for name in new.raw new.qed new.svg; do
		[ ! -e $name ] || fail "$words, $1: $name was made"
	done
	[ -z "$(find . -name '.qed-*')" ] || fail "$words, $1: a file is left"
}

# clean WHEN
clean() {
	for name in top.qed mid.qed; do
		! need_check_set $name || fail "$words, $1: NEED_CHECK in $name"
		"$QEDIMG" check -q $name || [ $? -eq 3 ] ||
			fail "$words, $1: check of $name"
	done
}

# is_flat FORMAT FILE: holds what the disk of top.qed is
is_flat() {
	"$QEDIMG" compare -q -f "$1" -F raw "$2" ../flat.raw ||
		fail "$words: $2 has another disk"
}

# has_size IMAGE BYTES
has_size() {
	"$QEDIMG" info --output=json "$1" >../info
	[ "$(json_number virtual-size ../info)" -eq "$2" ] || fail "$words: the size"
}

# completed: what the command is for has been done
completed() {
	case $words in
	check\ -r*)
		"$QEDIMG" check -q bad.qed || [ "${words#*all}" = "$words" ] ||
			fail "$words: it is not mended"
		! need_check_set bad.qed || fail "$words: NEED_CHECK is set"
		;;
	commit*low.raw*) is_flat raw low.raw ;;
	commit*) is_flat qed mid.qed ;;
	*new.raw) is_flat raw new.raw ;;
	convert*new.qed) is_flat qed new.qed ;;
	create*) has_size new.qed 4194304 ;;
	resize*shrink*) has_size top.qed 1048576 ;;
	resize*) has_size top.qed 8388608 ;;
	esac
}

# run STATUS WHEN ARG…: ends so; what it prints is in ../out and ../err
run() {
	want=$1
	when=$2
	shift 2
	status=0
	"$@" >../out 2>../err </dev/null || status=$?
	[ "$status" -eq "$want" ] ||
		fail "$words, $when: status $status, not $want: $(cat ../err)"
}

amount='[0-9][0-9.]* *[KMG]*[iB]*'
facts="[0-9][0-9.]*%  $amount of $amount"

# shows ARG…: how far it is, in each form
shows() {
	fresh
	run 0 JSON "$QEDIMG" "$@" --progress=json
	jq -es 'length > 0 and all(.done <= .total and .seconds >= 0) and
		(last | .percent == 100)' ../err >../seen ||
		fail "$words: JSON: $(cat ../err)"
	fresh
	run 0 'no terminal' "$QEDIMG" "$@" -p
	[ ! -s ../err ] || fail "$words: a bar without a terminal: $(cat ../err)"
	fresh
	# A list on a terminal shows by itself how far it is.
	[ "$1,$2" != map,--output=json ] || return 0
	run 0 bar script -qec "'$QEDIMG' $words -p" /dev/null
	grep -q "\[[#.]*\]  *$facts" ../out ||
		fail "$words: no bar: $(cat -v ../out)"
	grep -q "$(printf '\r\033\[K')[^[]*\$" ../out ||
		fail "$words: the bar stays: $(cat -v ../out)"
	case $1 in
	info | map | measure) return 0 ;;	# they have no -q
	esac
	fresh
	run 0 '-q' script -qec "'$QEDIMG' $words -p -q" /dev/null
	[ ! -s ../out ] || fail "$words: -q: $(cat -v ../out)"
}

# signalled STATUS WHEN SIGNAL NTH ARG…: it comes with the NTH signal handler, or with
# each from the first to the last of "FIRST..LAST".  LeakSanitizer does not work under
# strace.
signalled() {
	want=$1
	when=$2
	inject=signal=$3:when=$4
	shift 4
	fresh
	run "$want" "$when" env "ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -qq -o ../trace -e trace=rt_sigaction \
		-e "inject=rt_sigaction:$inject" "$QEDIMG" "$@"
}

# Sets $last, the number of the call that installs the handler of SIGUSR1, after the
# others.
find_handlers() {
	signalled 0 'no signal' USR1 10000 "$@"
	last=$(grep '^rt_sigaction' ../trace | grep -n '^[^,]*SIGUSR1, {sa_handler=0x' |
		head -n 1 | cut -d: -f1)
	[ -n "$last" ] || fail "$words: nobody listens to SIGUSR1"
}

# stops ARG…: in order, with nothing half-done; and the second run completes
stops() {
	stopped=1
	[ "$1" != compare ] || stopped=2
	for signal in $(few INT TERM HUP); do
		signalled $stopped "SIG$signal" "$signal" "$last" "$@"
		grep -qiE 'stopped|canceled' ../err ||
			fail "$words: SIG$signal: $(cat ../err)"
		case $1 in
		compare | info | measure)
			[ ! -s ../out ] ||
				fail "$words: SIG$signal: prints $(cat ../out)"
			;;
		esac
		no_target "SIG$signal"
		same_files "SIG$signal"
		clean "SIG$signal"
		run 0 "again after SIG$signal" "$QEDIMG" "$@"
		same_files "again after SIG$signal"
		completed
	done
	# It would stop at its next look, but for the second one.
	signalled 130 'two signals' INT "$((last - 1))..$last" "$@"
	no_target 'two signals'
	same_files 'two signals'
	run 0 'again after two' "$QEDIMG" "$@"
	completed
}

# ---- how fast, and how long it will take ----

# Twelve pieces of a MiB, one after the other, and each read takes a tenth of a second.
words='convert of a slow disk'
fresh
head -c 12M /dev/urandom >../slow.raw
slowly() {
	strace -f -qq -o ../trace -e trace=preadv2,preadv,pread64 \
		-e inject=preadv2,preadv,pread64:delay_enter=100000 \
		"$QEDIMG" convert -m 1 -f raw ../slow.raw new.raw "$@"
}
ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0
run 0 JSON slowly --progress=json
jq -es 'def about(x): . > x * 0.98 - 0.1 and . < x * 1.02 + 0.1;
	map(select(.done > 0)) | length > 0 and all(. as $o |
		$o.seconds > 0 and
		($o.seconds | about($o.done / $o."bytes-per-second")) and
		($o."seconds-left" |
			about(($o.total - $o.done) / $o."bytes-per-second"))) and
	(map(."seconds-left") | .[-1] == 0) and
	any(.done < .total and ."seconds-left" > 0)' ../err >../seen ||
	fail "$words: $(cat ../err)"
run 0 'JSON, -p' slowly --progress=json -p
jq -es 'length > 1' ../err >../seen || fail "$words: -p after JSON: $(cat ../err)"
# The bar fits what there is; 30 columns have no room for all of the words.
for columns in 30 60 80 200; do
	run 0 "bar of $columns columns" script -qec "stty cols $columns
		strace -f -qq -o ../trace -e trace=preadv2,preadv,pread64 \
		-e inject=preadv2,preadv,pread64:delay_enter=100000 \
		'$QEDIMG' convert -m 1 -p -f raw ../slow.raw new.raw" /dev/null
	tr '\r' '\n' <../out | sed "s/$(printf '\033')\[K//g" >../bars
	longest=$(awk '{ if (length() > n) n = length() } END { print n }' ../bars)
	[ "$longest" -lt $columns ] ||
		fail "$words: a bar of $longest in $columns columns"
	[ $columns -lt 60 ] ||
		grep -qE "^\[#+\.*\]  *$facts  $amount/s  [0-9]+ s left\$" ../bars ||
		fail "$words: bar in $columns columns: $(cat ../bars)"
done

while read -r words; do
	case $words in
	'#'* | '') continue ;;
	esac
	eval "set -- $words"
	shows "$@"
	find_handlers "$@"
	signalled 0 SIGUSR1 USR1 "$last" "$@"
	grep -q "^ *$facts" ../err || fail "$words: SIGUSR1: $(cat ../err)"
	[ "$(wc -l <../err)" -eq 1 ] || fail "$words: SIGUSR1: $(cat ../err)"
	signalled 0 'SIGUSR1 and JSON' USR1 "$last" "$@" --progress=json
	jq -es 'length > 1' ../err >../seen ||
		fail "$words: SIGUSR1 and JSON: $(cat ../err)"
	stops "$@"
done <<'END'
check top.qed
check -r leaks top.qed
check -r all bad.qed
commit top.qed
commit -d delete top.qed
commit -b low.raw top.qed
compact mid.qed
compact --defrag top.qed
compact --zeroes top.qed
compare -F raw top.qed ../flat.raw
convert top.qed new.raw
convert -O qed top.qed new.qed
create -o preallocation=full new.qed 4M
dd if=top.qed of=new.raw
info top.qed
map --output=json top.qed
map --svg=new.svg top.qed
measure -O qed top.qed
rebase -b "" top.qed
rebase -b other.raw -F raw top.qed
resize --preallocation=full top.qed +4M
resize --shrink top.qed 1M
END

# ---- several files, one after the other ----

words='check --backing-chain over.qed'
qemu-img create -q -f qed -b top.qed -F qed ../over.qed 4M
files="$files over.qed"
# shellcheck disable=SC2086 # words
set -- $words
find_handlers "$@"
second=$(grep '^rt_sigaction' ../trace | grep -n '^[^,]*SIGUSR1, {sa_handler=0x' |
	sed -n '2s/:.*//p')
for form in human json; do
	signalled 1 "SIGINT, $form" INT "$second" "$@" --output=$form
	grep -q 'top.qed: .*anceled' ../err || fail "$words: $(cat ../err)"
	grep -q top.qed ../out || fail "$words: $(cat ../out)"
	! grep -q mid.qed ../out || fail "$words goes on: $(cat ../out)"
	[ $form = human ] || jq -e 'length == 2' ../out >../seen ||
		fail "$words: $(cat ../out)"
done

# ---- those that do not take long ----

# during SYSCALLS SIGNAL ARG…: it comes with the first of these, and is too late
during() {
	inject=$1
	signal=$2
	shift 2
	words=$*
	run 0 "SIG$signal in $inject" \
		env "ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -qq -f -o ../trace -e "trace=$inject" \
		-e "inject=$inject:signal=$signal:when=1" "$QEDIMG" "$@"
	grep -q "SIG$signal" ../trace || fail "$words: no SIG$signal was sent"
	[ -z "$(find . -name '.qed-*')" ] || fail "$words: a file is left"
}

for signal in INT TERM HUP USR1; do
	for option in --absolute --force; do
		fresh
		echo old >new.qed
		calls='?renameat,?renameat2'
		if [ $option != --force ]; then
			rm new.qed
			# Only one of them is called, and which the host decides.
			calls="$calls,?linkat"
		fi
		during "$calls" "$signal" snapshot -q $option top.qed new.qed
		is_flat qed new.qed
	done
done
fresh
run 0 'to be undone' "$QEDIMG" check -q -r all bad.qed
during "ftruncate,?unlink,?unlinkat" USR1 check --undo bad.qed
[ ! -e bad.qed.check-undo ] || fail "$words: the undo file is left"
run 2 'undone' "$QEDIMG" check -q bad.qed
