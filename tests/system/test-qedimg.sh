#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg create and info against qemu-img: what one makes the other reads, both
# say the same of the same image, and both read sizes the same way.

in_memory=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" qemu-img qemu-io jq

page=$TOP_SRCDIR/man/qedimg.1
mkdir "$TMP/work"
cd "$TMP/work"

# ---- helpers ----

# refused TEXT FILE ARG…: qedimg ARG… ends with status 1, prints nothing, and
# what it says on stderr contains TEXT and names FILE (each may be empty)
refused() {
	text=$1
	file=$2
	shift 2
	status=0
	"$QEDIMG" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null ||
		status=$?
	[ "$status" -eq 1 ] || fail "qedimg $*: status $status, not 1"
	[ ! -s "$TMP/out" ] || fail "qedimg $*: prints $(cat "$TMP/out")"
	grep -qF -e "$text" "$TMP/err" ||
		fail "qedimg $*: no '$text' in: $(cat "$TMP/err")"
	grep -qF -e "$file" "$TMP/err" ||
		fail "qedimg $*: no '$file' in: $(cat "$TMP/err")"
}

# no_leftovers FILE…: neither these nor half-made images are there
no_leftovers() {
	for file; do
		[ ! -e "$file" ] || fail "$file was made"
	done
	[ -z "$(find . -name '.qed-*')" ] || fail "a temporary file is left"
}

# value FILTER IMAGE: something of our JSON
value() {
	"$QEDIMG" info --output=json "$2" | jq -r "$1"
}

# virtual_size PROGRAM IMAGE: by that program's JSON
virtual_size() {
	"$1" info --output=json "$2" >"$TMP/info"
	json_number virtual-size "$TMP/info"
}

# backing_names IMAGE STORED FULL: what our JSON says of the backing file
backing_names() {
	stored=$(value '."backing-filename"' "$1")
	[ "$stored" = "$2" ] || fail "backing-filename $stored, not $2"
	full=$(value '."full-backing-filename"' "$1")
	[ "$full" = "$3" ] || fail "full-backing-filename $full, not $3"
}

# same_info IMAGE: both tools say the same in both forms, but for what only one
# of them knows ("children" came with later versions of qemu-img)
same_info() {
	sync "$1"
	qemu-img info --output=json "$1" >"$TMP/theirs"
	"$QEDIMG" info --output=json "$1" >"$TMP/ours"
	jq -es '(.[0] | del(.children)) == (.[1] | del(."format-specific"))' \
		"$TMP/theirs" "$TMP/ours" >"$TMP/same" || {
		diff "$TMP/theirs" "$TMP/ours" || :
		fail "info as JSON of $1 differs"
	}

	qemu-img info "$1" | sed '/^Child node/,$d' >"$TMP/theirs"
	"$QEDIMG" info "$1" | sed '/^Format specific/,$d' >"$TMP/ours"
	diff "$TMP/theirs" "$TMP/ours" || fail "info of $1 differs"
}

# same_creation ARG… : both make the same image x.qed and say so alike, if the
# arguments give the table size (which QEMU does not print otherwise)
same_creation() {
	rm -f x.qed
	qemu-img create -f qed "$@" >"$TMP/said"
	qemu-img info --output=json x.qed >"$TMP/theirs"
	rm x.qed

	"$QEDIMG" create -f qed "$@" >"$TMP/out" || fail "qedimg create $*"
	diff "$TMP/said" "$TMP/out" || fail "create $*: the lines differ"
	qemu-img info --output=json x.qed >"$TMP/ours"
	jq -es 'map(del(.children, ."actual-size")) | .[0] == .[1]' \
		"$TMP/theirs" "$TMP/ours" >"$TMP/same" || {
		diff "$TMP/theirs" "$TMP/ours" || :
		fail "create $*: the images differ"
	}
	image_clean x.qed
	same_info x.qed
}

# ---- the tool itself ----

"$QEDIMG" --version | grep -q '^qedimg [0-9][0-9.]*$' || fail "--version"
[ "$("$QEDIMG" -V)" = "$("$QEDIMG" --version)" ] || fail "-V"
[ "$("$QEDIMG" -h)" = "$("$QEDIMG" --help)" ] || fail "-h"
[ "$("$QEDIMG" help)" = "$("$QEDIMG" --help)" ] || fail "help"

# Every command and option that the help has is on the page, and the other way
# round.  A command's part of the page is its .Ss up to the next .Ss or .Sh.
commands=$("$QEDIMG" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "--help lists no commands"
for command in $commands; do
	"$QEDIMG" help "$command" >help.txt
	[ "$("$QEDIMG" "$command" --help)" = "$(cat help.txt)" ] ||
		fail "$command --help"
	[ "$("$QEDIMG" "$command" -h)" = "$(cat help.txt)" ] ||
		fail "$command -h"
	grep -o -e '^  -.*  ' help.txt | grep -oE -e '-(-[a-z-]+|[a-zA-Z])' |
		sort -u >in-help
	awk -v "command=$command" '
		/^\.S[sh]/ { here = $2 == command }
		here && /^\.It Fl/ {
			gsub(/Fl Fl /, "--"); gsub(/Fl /, "-"); print
		}' "$page" |
		grep -oE -e '-(-[a-z-]+|[a-zA-Z])\>' | sort -u >on-page
	[ -s in-help ] || fail "help $command has no options"
	diff in-help on-page || fail "$command: help and manual page differ"
done
"$QEDIMG" create -o help | sed -n 's/^  \([a-z_]*\) .*/\1/p' >in-help
sed -n 's/^\.It Cm \([a-z]*_[a-z]*\|preallocation\|size\)$/\1/p' "$page" >on-page
diff in-help on-page || fail "-o help and the manual page differ"
grep -vx 'size\|preallocation' in-help >of-convert
grep -v backing of-convert >of-measure
for command in convert measure; do
	for help in help '?'; do
		"$QEDIMG" $command -o "$help" >list || fail "$command -o $help"
		sed -n 's/^  \([a-z_]*\) .*/\1/p' list >in-help
		diff in-help of-$command || fail "$command -o $help: other options"
	done
done

refused "unknown command 'zork'" '' zork
refused "unknown command 'zork'" '' help zork
refused "unexpected argument 'info'" '' help create info
refused "unknown option '--zork'" '' --zork
refused "Usage: qedimg" ''
for command in $commands; do
	# Its status 1 says that images differ: test-compare.sh looks at errors.
	[ "$command" != compare ] || continue
	refused zork '' "$command" --zork
	refused "'Z'" '' "$command" -Z
	[ "$command" != list ] || continue	# it takes no image
	refused 'name of the image is missing' '' "$command"
	# One takes operands, one any number of names: they have tests of theirs.
	case $command in dd | convert) continue ;; esac
	refused "unexpected argument '" x.qed \
		"$command" x.qed 1M surplus
	[ "$command" != check ] || continue	# then it ends with 63
	refused "format 'qcow2'" x.qed "$command" -f qcow2 x.qed
done
# What the manual page says of qemu-img's options that are not there.
while read -r command options; do
	case $options in
	--*) unknown='unrecognized option' ;;
	*) unknown='invalid option' ;;
	esac
	# shellcheck disable=SC2086 # options and their values
	refused "$unknown" '' "$command" $options x.qed y.qed
done <<'END'
info --image-opts
create --object secret,id=x
check -T none
commit -t none
commit -r 1M
convert -T none
convert -r 1M
convert -c
convert -l x
convert --salvage
convert --bitmaps
convert --target-image-opts
measure -l x
rebase -t none
rebase -T none
rebase -U
END
refused "'none'" y.qed convert -t none x.qed y.qed
for command in amend bench bitmap; do
	refused "unknown command '$command'" '' $command x.qed
done
# Long options may be shortened, if only one begins so.
"$QEDIMG" create -q short.qed 1M
"$QEDIMG" info --outp=json short.qed | jq -e . >"$TMP/out" || fail "--outp"
refused ambiguous '' map --s 0 short.qed
rm short.qed
no_leftovers x.qed

# ---- create: the same as qemu-img ----

truncate -s 10M base.raw
mkdir sub
for size in 512 1M 1.5G 64T; do
	same_creation -o table_size=4 x.qed "$size"
done
for cluster in 4096 8K 64k 1M; do
	for table in 2 4 16; do
		same_creation -o "cluster_size=$cluster,table_size=$table" \
			x.qed 1G
	done
done
same_creation -o table_size=2 -o size=3M,table_size=4 x.qed
same_creation -o size=1M,size=2M,table_size=4 x.qed
same_creation -o table_size=4 -b base.raw -F raw x.qed
same_creation -o table_size=4 -b base.raw -F raw x.qed 20M
same_creation -o table_size=4 -b "$PWD/base.raw" -F raw x.qed 5M
same_creation -o table_size=4,backing_file=base.raw,backing_fmt=raw x.qed
cp base.raw with,comma
"$QEDIMG" create -q -o backing_file=with,,comma,backing_fmt=raw x.qed
[ "$(qemu-img info --output=json x.qed | jq -r '."backing-filename"')" = \
	with,comma ] || fail "a comma in a backing name"
same_info x.qed
"$QEDIMG" create -q below.qed 7M >out.txt
[ ! -s out.txt ] || fail "create -q prints something"
same_creation -o table_size=4 -b below.qed -F qed x.qed
# -b and -F beat -o, as with qemu-img
same_creation -b base.raw -F raw \
	-o table_size=4,backing_file=below.qed,backing_fmt=qed x.qed

# a relative backing name counts from the image's directory
"$QEDIMG" create -q -b ../below.qed -F qed sub/up.qed
[ "$(value '."virtual-size"' sub/up.qed)" -eq $((7 << 20)) ] ||
	fail "the size of ../below.qed was not taken"
same_info sub/up.qed
same_info "$PWD/sub/up.qed"

# what is there is replaced, with a name that begins with a dash too
echo old >./-x.qed
"$QEDIMG" create -q -- -x.qed 1M
image_clean ./-x.qed

# an empty image reads as zeroes, or as its backing file, and takes writes
qemu-io -f raw -c 'write -P 7 1M 64k' base.raw >out.txt
"$QEDIMG" create -q -b base.raw -F raw x.qed
same_disk x.qed base.raw
qemu-io -f qed -c 'write -P 9 3M 1k' x.qed >out.txt
qemu-io -f raw -c 'write -P 9 3M 1k' base.raw >out.txt
same_disk x.qed base.raw
image_clean x.qed

# A geometry whose limit QEMU miscalculates, and a size near that of an off_t
# (which jq would round).
"$QEDIMG" create -q -o cluster_size=64M,table_size=16 x.qed 7E
"$QEDIMG" info --output=json x.qed | tr -d ' ,' |
	grep -qx "\"virtual-size\":$((7 << 60))" || fail "7E"
rm x.qed

# ---- create: sizes in qemu-img's notation ----

for size in 0 0k 0.0 1 511 513 010 1b 1B 1k 1K 3m 3M 2g 2G 1t 1T 0x200 0XABCDE \
		1. 1.0 1.000B 1.5k 1.5K 2.25M 1.1G 1.1T 0.1k 0.9999k 1.9995k \
		1.123456789123456789G 000001k 70368744177664; do
	rm -f q.qed
	qemu-img create -q -f qed q.qed "$size"
	"$QEDIMG" create -q x.qed "$size" || fail "size $size is refused"
	theirs=$(virtual_size qemu-img q.qed)
	ours=$(virtual_size "$QEDIMG" x.qed)
	[ "$theirs" = "$ours" ] || fail "size $size: $ours, not $theirs"
	"$QEDIMG" create -q -o "size=$size" x.qed
	ours=$(virtual_size "$QEDIMG" x.qed)
	[ "$theirs" = "$ours" ] || fail "-o size=$size: $ours, not $theirs"
done
rm x.qed q.qed

for size in '' k . .5G 1.5 1.5b 1..5k 1.5.5k 1,5k 1e3 1.5e1k 1kb 1KiB 1x \
		0x 0x1.8k 0b1 inf nan ' ' '1 ' '1 k' -1 -1k -0 8E 16E \
		9223372036854775808 18446744073709551615 \
		18446744073709551616 99999999999999999999E; do
	! qemu-img create -q -f qed q.qed -- "$size" 2>/dev/null ||
		fail "qemu-img takes the size '$size'"
	refused "size '$size' is" x.qed create -q x.qed -- "$size"
done
# What qemu-img takes though it reads like a mistake.
for size in ' 5' +5 0x10k; do
	refused 'is not a size' x.qed create x.qed "$size"
done
rm -f q.qed
no_leftovers x.qed
# None at all is one, whatever the backing file has.
"$QEDIMG" create -q -b base.raw -F raw x.qed 0
[ "$(virtual_size "$QEDIMG" x.qed)" = 0 ] || fail "size 0 over a backing file"
"$QEDIMG" create -q -u -b missing -F raw x.qed 0
[ "$(virtual_size "$QEDIMG" x.qed)" = 0 ] || fail "size 0 with -u"
"$QEDIMG" create -q -o preallocation=full x.qed 0
qemu-img check -q -f qed x.qed || fail "size 0, preallocated"
rm x.qed

# ---- create: errors ----

refused 'size is missing' x.qed create x.qed
refused 'given twice' x.qed create -o size=1M x.qed 1M
refused "add '-F raw' or '-F qed'" x.qed create -b base.raw x.qed
refused "add '-F raw' or '-F qed'" x.qed create -o backing_file=base.raw x.qed
refused "add '-b " x.qed create -F raw x.qed 1M
refused qcow2 x.qed create -b base.raw -F qcow2 x.qed
refused 'No such file' missing create -b missing -F raw x.qed
refused 'No such file' missing create -b missing -F qed x.qed 1M
refused '' base.raw create -b base.raw -F qed x.qed
refused 'empty' x.qed create -b '' -F raw x.qed 1M
refused 'nbd://localhost/disk' x.qed \
	create -b nbd://localhost/disk -F raw x.qed 1M
refused "option 'lazy_refcounts' of -o" x.qed \
	create -o lazy_refcounts=on x.qed 1M
refused "option 'zork' of -o" x.qed create -o zork x.qed 1M
refused "option '' of -o" x.qed create -o '' x.qed 1M
refused "option '' of -o" x.qed create -o table_size=2, x.qed 1M
for option in backing_file backing_fmt cluster_size size table_size; do
	refused "option '$option' of -o needs" x.qed create -o $option x.qed 1M
	refused "option '$option' of -o needs" x.qed create -o $option= x.qed 1M
done
for cluster in 0 1 2K 5000 96K 128M 4G 5G 8E -64K 64KiB; do
	refused '' x.qed create -o "cluster_size=$cluster" x.qed 1M
done
for table in 0 3 32 4G 4294967300 8E -4 x; do
	refused '' x.qed create -o "table_size=$table" x.qed 1M
done
refused '' x.qed create x.qed 65T
refused '' x.qed create -o cluster_size=4K,table_size=2 x.qed 4097M
refused 'size is missing' x.qed create -u -b missing -F raw x.qed
refused 'size is missing' x.qed create -u x.qed
refused 'requires an argument' '' create x.qed -o
refused "directory" nowhere/x.qed create nowhere/x.qed 1M
refused "directory" sub create sub 1M
no_leftovers x.qed

# an image that is refused as its own backing file is still there
"$QEDIMG" create -q x.qed 1M
cp x.qed kept.qed
refused 'its own backing' x.qed create -b x.qed -F qed x.qed
refused 'is not a size' x.qed create x.qed 1Q
same_bytes x.qed kept.qed
no_leftovers

# ---- info: the same as qemu-img ----

qemu-img create -q -f qed q.qed 1G
same_info q.qed
same_info ./q.qed
qemu-io -f qed -c 'write 100M 300k' -c 'write -z 512M 1M' q.qed >out.txt
same_info q.qed
qemu-img create -q -f qed -o cluster_size=4096,table_size=2 q.qed 1234567
same_info q.qed
for backing in base.raw ./base.raw "$PWD/base.raw" sub/../base.raw; do
	qemu-img create -q -f qed -b "$backing" -F raw q.qed
	same_info q.qed
done
qemu-img create -q -f qed -b below.qed -F qed q.qed
same_info q.qed
qemu-img create -q -f qed -b ../below.qed -F qed sub/q.qed
same_info sub/q.qed
qemu-img create -q -f qed -b "$PWD/below.qed" -F qed sub/q.qed
same_info sub/q.qed

# "file:" is no part of the path to the file, which QEMU leaves there; and what
# is no file has no path
qemu-img create -q -f qed -b "file:$PWD/base.raw" -F raw q.qed
backing_names q.qed "file:$PWD/base.raw" "$PWD/base.raw"
for backing in nbd://localhost/disk 'json:{"driver":"null-co"}'; do
	qemu-img create -q -u -f qed -b "$backing" -F raw q.qed 1M
	backing_names q.qed "$backing" null
done

# what only we tell
qemu-img create -q -f qed -b base.raw -F raw \
	-o cluster_size=8K,table_size=16 q.qed
value '."format-specific".type' q.qed | grep -qx qed || fail "type"
data='."format-specific".data'
[ "$(value "$data.\"table-size\"" q.qed)" = "$(get_le 32 q.qed 8)" ] ||
	fail "table-size"
[ "$(value "$data.\"header-size\"" q.qed)" = "$(get_le 32 q.qed 12)" ] ||
	fail "header-size"
[ "$(value "$data.\"l1-table-offset\"" q.qed)" = "$(get_le 64 q.qed 40)" ] ||
	fail "l1-table-offset"
value "$data.features | tostring" q.qed |
	grep -qxF '["backing-file","backing-format-no-probe"]' ||
	fail "features of an image over raw"
put_le 64 q.qed 24 5
put_le 64 q.qed 32 6
[ "$(value "$data.\"compat-features\"" q.qed)" = 5 ] || fail "compat"
[ "$(value "$data.\"autoclear-features\"" q.qed)" = 6 ] || fail "autoclear"
value "$data.features | tostring" below.qed | grep -qxF '[]' ||
	fail "features of a plain image"

# NEED_CHECK (which qemu-img 7.2 does not tell), and nothing is written
cp below.qed dirty.qed
put_le 64 dirty.qed 16 2
cp dirty.qed dirty.copy
[ "$(value '."dirty-flag"' dirty.qed)" = true ] || fail "dirty-flag"
value "$data.features | tostring" dirty.qed | grep -qxF '["need-check"]' ||
	fail "features of a dirty image"
"$QEDIMG" info dirty.qed 2>/dev/null | grep -qx 'cleanly shut down: no' ||
	fail "info of a dirty image"
same_bytes dirty.qed dirty.copy

# Nothing that the image names is opened: a missing file does no harm, and a
# FIFO, which would keep an open waiting, is not waited for.
mkfifo fifo
for backing in missing fifo; do
	qemu-img create -q -u -f qed -b "$backing" -F raw q.qed 1M
	timeout 300 "$QEDIMG" info q.qed >out.txt || fail "info over $backing"
	grep -qx "backing file: $backing" out.txt || fail "info over $backing"
	same_info q.qed
done

# A name cannot drive the terminal, and JSON stays JSON.
name=$(printf 'a\nb\033[31m\177\377\303\251z')
qemu-img create -q -u -f qed -b "$name" -F raw q.qed 1M
"$QEDIMG" info q.qed >out.txt
grep -qxF 'backing file: a\x0ab\x1b[31m\x7f\xff\xc3\xa9z' out.txt ||
	fail "unprintable characters: $(cat -v out.txt)"
LC_ALL=C.UTF-8 "$QEDIMG" info q.qed >out.txt
grep -qxF "$(printf 'backing file: a\\x0ab\\x1b[31m\\x7f\\xff\303\251z')" \
	out.txt || fail "characters in UTF-8: $(cat -v out.txt)"
value '."backing-filename"' q.qed >ours
printf 'a\nb\033[31m\177\357\277\275\303\251z\n' | cmp - ours ||
	fail "the name in JSON"
# Nor can it look like another one: it is turned round, or has parts that do not show.
name=$(printf 'a\342\200\256gnp.exe\342\200\213\357\273\277\363\240\201\201z')
qemu-img create -q -u -f qed -b "$name" -F raw q.qed 1M
LC_ALL=C.UTF-8 "$QEDIMG" info q.qed >out.txt
grep -qxF 'backing file: a\xe2\x80\xaegnp.exe\xe2\x80\x8b\xef\xbb\xbf\xf3\xa0\x81\x81z' \
	out.txt || fail "a name that is turned round: $(cat -v out.txt)"
name=$(printf 'x\033[31m\ny')
refused 'x\x1b[31m\x0ay: size' '' create "$name" 1Q
refused 'No such file' '' info "$name"
[ "$(tr -cd '\033\n' <"$TMP/err" | wc -c)" -eq 1 ] ||
	fail "an error message: $(cat -v "$TMP/err")"

# ---- names that are not those of images ----

for command in info check map compact commit measure; do
	refused 'the name of the image is empty' '' $command ''
done
refused 'the name of the image is empty' '' resize '' 1M
refused 'the name of the image is empty' '' rebase -b '' ''
refused 'the name of the image is empty' '' snapshot '' new.qed
# Who forgets that a file is raw is reminded, if it may be.
head -c 4096 /dev/urandom | tr Q P >plain.raw
"$QEDIMG" create -q plain.qed 4096
for words in 'convert plain.raw x.raw' 'measure plain.raw' \
		'dd if=plain.raw of=x.raw' 'compare plain.raw plain.qed'; do
	# shellcheck disable=SC2086 # words
	! "$QEDIMG" $words >out.txt 2>err.txt || fail "$words"
	[ "$(tail -n 1 err.txt)" = "If that is a raw file, add '-f raw'." ] ||
		fail "$words: $(cat err.txt)"
done
! "$QEDIMG" compare plain.qed plain.raw >out.txt 2>err.txt || fail compare
[ "$(tail -n 1 err.txt)" = "If that is a raw file, add '-F raw'." ] ||
	fail "compare: $(cat err.txt)"
for words in 'info plain.raw' 'measure -f raw missing' 'measure top-of-raw.qed'; do
	"$QEDIMG" create -q -u -b plain.raw -F qed top-of-raw.qed 4096
	# shellcheck disable=SC2086 # words
	! "$QEDIMG" $words >out.txt 2>err.txt || fail "$words"
	! grep -q 'If that' err.txt || fail "$words: $(cat err.txt)"
done
rm plain.raw plain.qed top-of-raw.qed

# ---- info: errors ----

refused 'No such file' missing.qed info missing.qed
refused 'No such file' missing.qed info --output=json missing.qed
refused '' sub info sub
refused '' base.raw info base.raw
: >empty.qed
refused '' empty.qed info empty.qed
head -c 63 below.qed >short.qed
refused '' short.qed info short.qed
cp below.qed bad.qed
put_le 64 bad.qed 16 128
refused '' bad.qed info bad.qed
refused "output 'xml'" below.qed info --output=xml below.qed
status=0
"$QEDIMG" info below.qed >/dev/full 2>err.txt || status=$?
[ "$status" -eq 1 ] || fail "info to a full device: status $status"
grep -q 'No space left' err.txt || fail "info to a full device: $(cat err.txt)"

# An image that QEMU writes is refused, unless -U is given, and not replaced.
mkfifo in out
qemu-io -f qed below.qed <in >out 2>&1 &
exec 3>in 4<out
echo length >&3
read -r line <&4
case $line in *7?MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused '' below.qed info below.qed
refused '' below.qed create below.qed 1M
for force in -U --force-share; do
	"$QEDIMG" info $force --output=json below.qed >out.txt ||
		fail "info $force"
	qemu-img info -U --output=json below.qed |
		jq -S 'del(.children, ."dirty-flag")' >theirs
	jq -S 'del(."format-specific", ."dirty-flag")' out.txt >ours
	diff theirs ours || fail "info $force differs"
done
exec 3>&- 4<&-
wait $!
same_info below.qed

# ---- what is no image is not written by any command ----

mkdir "$TMP/foreign"
cd "$TMP/foreign"
head -c 1M /dev/urandom >base.raw
echo 'not an image' >text
head -c 1M /dev/zero >zero.raw
qemu-img create -q -f qcow2 other.qcow2 1M
"$QEDIMG" create -q near.qed 1M
put_le 64 near.qed 0 $((0x444552))		# one letter of the magic
for foreign in text zero.raw other.qcow2 near.qed; do
	cp "$foreign" before
	while read -r words; do
		case $words in
		*/) set -- "$foreign" ;;
		*) set -- "$foreign" "${words##*/ }" ;;
		esac
		status=0
		# shellcheck disable=SC2086 # words
		timeout 300 "$QEDIMG" ${words%%/*} "$@" >../out 2>../err \
			</dev/null || status=$?
		case $words,$status in
		check*,63 | *,1) ;;
		*) fail "$words of $foreign: status $status" ;;
		esac
		[ ! -s ../out ] || fail "$words of $foreign: $(cat ../out)"
		grep -q "^qedimg: $foreign: not a QED image" ../err ||
			fail "$words of $foreign: $(cat ../err)"
		same_bytes "$foreign" before
		[ -w "$foreign" ] || fail "$words of $foreign: not to be written"
		no_leftovers new.qed "$foreign.check-undo"
	done <<-END
		check -r leaks /
		check -r all /
		check -f qed -r all /
		check --undo /
		commit /
		commit -d delete /
		compact /
		compact --defrag /
		convert -n -f raw -O qed base.raw /
		rebase -F raw -b base.raw /
		rebase -u -F raw -b base.raw /
		rebase -u -F raw --allow-missing -b none /
		resize / 2M
		resize --shrink / 512k
		snapshot / new.qed
	END
done

# ---- every example of the manual page, in its order ----

mkdir "$TMP/examples"
cd "$TMP/examples"
sed -n 's/^\$ //p' "$page" >"$TMP/lines"
[ -s "$TMP/lines" ] || fail "the manual page has no examples"
while read -r line; do
	case $line in
	qedimg\ *) line="\"\$QEDIMG\" ${line#qedimg }" ;;
	esac
	(eval "$line") >out.txt 2>&1 </dev/null ||
		fail "the manual page's example: $line: $(cat out.txt)"
done <"$TMP/lines"
for image in *.qed clones/*.qed; do
	image_clean "$image"
	same_info "$image"
done
