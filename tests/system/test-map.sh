#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg map against qemu-img map, byte for byte, on every shape of chain; then
# what only qedimg draws.

in_memory=yes
many_starts=yes
. "$(dirname "$0")/functions.sh"

requires "$QEDIMG" python3 qemu-img qemu-io jq script strace

mkdir "$TMP/work"
cd "$TMP/work"

# same_map ARG…: both tools print the same, in both forms
same_map() {
	for form in human json; do
		qemu-img map --output=$form "$@" >theirs ||
			fail "qemu-img map $*"
		"$QEDIMG" map --output=$form "$@" >ours ||
			fail "qedimg map $*"
		diff theirs ours || fail "map --output=$form $* differs"
	done
}

# parts IMAGE: parts of the disk too, and ranges that touch its end or pass it
parts() {
	for start in $(few 65535 0 1048577 9G); do
		for length in 0 1 100000 7E; do
			same_map "--start-offset=$start" --max-length=$length "$1"
		done
		same_map --start-offset="$start" "$1"
	done
}

refused() {
	text=$1
	shift
	status=0
	"$QEDIMG" "$@" >"$TMP/out" 2>"$TMP/err" || status=$?
	[ "$status" -eq 1 ] || fail "qedimg $*: status $status, not 1"
	grep -qF -e "$text" "$TMP/err" ||
		fail "qedimg $*: no '$text' in: $(cat "$TMP/err")"
}

# ---- one image, all geometries: empty, scattered, zeroed, full ----

for cluster in $(few 64k 4k 1M); do
	for table in 2 4 16; do
		qemu-img create -q -f qed -o \
			"cluster_size=$cluster,table_size=$table" f.qed 5000k
		same_map f.qed
		qemu_do f.qed qed 'write 0 1' 'write 3M 70k' 'write 1M 4k' \
			'write 4999k 1k' 'write -z 2M 1M' 'write 1100k 600k'
		same_map f.qed
	done
done
parts f.qed
for cluster in 4k 64k; do
	# With the smallest tables: more than one L2 table.
	qemu-img create -q -f qed -o cluster_size=$cluster,table_size=2 \
		full.qed 20000k
	qemu_do full.qed qed 'write 0 20000k'
	same_map full.qed
done
for size in $(few 1536 512 65k 1000k); do
	qemu-img create -q -f qed f.qed "$size"
	same_map f.qed
	qemu_do f.qed qed 'write 0 512'
	same_map f.qed
done

# ---- backing files: longer, shorter, equal, odd; raw and QED ----

for raw in $(few 1000000 1000 3M 5M 8M); do
	rm -f base.raw
	truncate -s "$raw" base.raw
	qemu_do base.raw raw 'write 0 100'
	[ "$raw" = 1000 ] || qemu_do base.raw raw 'write 256k 4k' 'write 900k 12k'
	qemu-img create -q -f qed -b base.raw -F raw mid.qed 3M
	same_map mid.qed
	qemu_do mid.qed qed 'write 128k 64k' 'write -z 192k 64k' 'write 2M 300k'
	same_map mid.qed
	for top in 1000k 3M 5000k 8M; do
		qemu-img create -q -f qed -b mid.qed -F qed top.qed $top
		same_map top.qed
		qemu_do top.qed qed 'write 0k 64k' 'write -z 512k 64k' \
			'write 700k 150k'
		[ $top = 1000k ] ||
			qemu_do top.qed qed 'write 2100k 64k' 'write 2900k 100k'
		same_map top.qed
	done
	[ "$raw" != 1000000 ] || parts top.qed
done
# Data up to the last byte of a raw file that is no whole sector.
head -c 70001 /dev/urandom >odd.raw
qemu-img create -q -f qed -b odd.raw -F raw odd.qed 1M
same_map odd.qed
same_map --start-offset=70000 odd.qed
same_map --start-offset=70100 --max-length=10 odd.qed
same_map -s 70100 -l 10 odd.qed
# In another directory, by a relative and by an absolute name.
mkdir sub
for name in ../mid.qed "$PWD/mid.qed"; do
	qemu-img create -q -f qed -b "$name" -F qed sub/top.qed
	same_map sub/top.qed
done

# ---- scattered over many tables; 64 TiB ----

qemu-img create -q -f qed -o cluster_size=4k,table_size=2 -b mid.qed -F qed \
	q.qed 64M
# Every third cluster, from the end: nothing is contiguous.
i=16383
while [ "$i" -gt 15000 ]; do
	echo "write $((i * 4096)) 4096"
	i=$((i - 3))
done | qemu-io -f qed q.qed >/dev/null
same_map q.qed

qemu-img create -q -f qed big.qed 64T
same_map big.qed
qemu_do big.qed qed 'write 1G 64k' 'write 40T 1M' 'write 70368744177152 512'
same_map big.qed
qemu-img create -q -f qed -b big.qed -F qed over.qed 64T
qemu_do over.qed qed 'write -z 41T 64k' 'write 40T 64k'
same_map over.qed

# ---- the pictures ----

qemu-img create -q -f qed base.qed 4M
qemu_do base.qed qed 'write 0 192k'
qemu-img create -q -f qed -b base.qed -F qed pic.qed 4160k
qemu_do pic.qed qed 'write 64k 64k' 'write -z 1M 64k' 'write 4096k 64k'
"$QEDIMG" map --blocks pic.qed >blocks
dots() { printf "%${1}s" '' | tr ' ' .; }
cat >expected <<EOF
Each character: 64 KiB of the disk
# data in the image   + in part   = data in backing files   - in part
0 zeroes              . nothing
0               =#=$(dots 13)0$(dots 47)
0x400000        #
EOF
diff expected blocks || fail "the blocks"
# Many times the disk, no more lines.
for image in big.qed over.qed q.qed; do
	lines=$("$QEDIMG" map --blocks $image | wc -l)
	[ "$lines" -le 19 ] || fail "$lines lines of blocks for $image"
done
"$QEDIMG" map --blocks big.qed | grep -q '^0x280000000000  *+' ||
	fail "what lies at 40 TiB"
# On a terminal that is what one sees, unless one asks for a list.
script -qec "'$QEDIMG' map pic.qed" /dev/null | tr -d '\r' >seen
diff expected seen || fail "map on a terminal"
script -qec "'$QEDIMG' map --output=human pic.qed" /dev/null |
	grep -q '^Offset' || fail "map --output=human on a terminal"
"$QEDIMG" map pic.qed | grep -q '^Offset' || fail "map into a pipe"

"$QEDIMG" map --svg=pic.svg pic.qed || fail "--svg"
[ "$(grep -c '<path ' pic.svg)" -eq 2 ] ||
	fail "the picture does not show two layers"
grep -qF '>pic.qed</text>' pic.svg || fail "the legend"
grep -qF '>base.qed</text>' pic.svg || fail "the legend"
# Each file has the colour of its line in the legend, and no other one has that.
for name in pic.qed base.qed; do
	colour=$(grep -B 1 -F ">$name</text>" pic.svg |
		sed -n 's/^<rect .* fill="\([^"]*\)".*/\1/p')
	[ "$(grep -c "<path fill=\"$colour\"" pic.svg)" -eq 1 ] ||
		fail "the colour of $name, '$colour'"
done
# It begins at the left edge.
grep -q 'M0 ' pic.svg || fail "the backing file's first cluster"
[ "$(head -c 4 pic.svg)" = '<svg' ] || fail "no SVG"
[ "$(tail -n 1 pic.svg)" = '</svg>' ] || fail "half an SVG"
# well_formed SVG: for a parser, with the root that a viewer looks for
well_formed() {
	python3 -c 'import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
sys.exit(root.tag != "{http://www.w3.org/2000/svg}svg")' "$1" || fail "$1 is no SVG"
}
well_formed pic.svg
for image in q.qed full.qed over.qed; do
	"$QEDIMG" map --svg=x.svg $image || fail "--svg of $image"
	well_formed x.svg
	size=$(wc -c <x.svg)
	[ "$size" -lt 4000000 ] || fail "a picture of $size bytes"
done
# Names do not break the XML.
cp base.qed 'a<b>&"c.qed'
"$QEDIMG" map --svg=x.svg 'a<b>&"c.qed'
well_formed x.svg
grep -qF '<title>a&#60;b&#62;&#38;&#34;c.qed</title>' x.svg || fail "escapes"
# No file of the chain is overwritten.
cp base.qed base.copy
for name in pic.qed base.qed; do
	refused "$name: it would overwrite" map --svg=$name pic.qed
done
same_bytes base.qed base.copy
image_clean pic.qed
refused 'no/such.svg: ' map --svg=no/such.svg pic.qed
status=0
"$QEDIMG" map --svg=/dev/full pic.qed 2>err || status=$?
[ "$status" -eq 1 ] || fail "a full device: status $status"
grep -q '/dev/full: .*No space' err || fail "a full device: $(cat err)"

# What is there stays until the picture is complete, with its mode, behind its link.
"$QEDIMG" map --svg=want.svg pic.qed
mkdir full
mount_on full -t tmpfs -o size=16k none
echo old >full/old.svg
# There is room for a page of it.
head -c 8k /dev/zero >full/fill
for target in old new; do
	refused "full/$target.svg: cannot write: No space" \
		map --svg=full/$target.svg q.qed
	[ "$(ls -A full)" = "$(printf 'fill\nold.svg')" ] ||
		fail "left on a full host: $(ls -A full)"
	[ "$(cat full/old.svg)" = old ] || fail "the older picture is gone"
done
umount_from full
echo old >old.svg
chmod 640 old.svg
ln old.svg kept.svg
ln -s old.svg link.svg
"$QEDIMG" map --svg=link.svg pic.qed || fail "--svg behind a link"
[ -h link.svg ] || fail "the link is replaced"
same_bytes old.svg want.svg
[ "$(cat kept.svg)" = old ] || fail "the old file is written to"
[ "$(stat -c %a old.svg)" = 640 ] || fail "the mode is $(stat -c %a old.svg)"
(umask 027 && "$QEDIMG" map --svg=new.svg pic.qed) || fail "--svg of a new file"
[ "$(stat -c %a new.svg)" = 640 ] || fail "the mode is $(stat -c %a new.svg)"
ln -s nowhere.svg dangling.svg
refused 'dangling.svg: ' map --svg=dangling.svg pic.qed
[ ! -e nowhere.svg ] || fail "behind a dangling link"
# What is no regular file is written to.
mkfifo pipe.svg
cat pipe.svg >piped.svg &
"$QEDIMG" map --svg=pipe.svg pic.qed || fail "--svg into a named pipe"
wait $!
[ -p pipe.svg ] || fail "the pipe is replaced"
same_bytes piped.svg want.svg
"$QEDIMG" map --svg=/dev/stdout pic.qed | cat >piped.svg
same_bytes piped.svg want.svg
# A file that is standard output stays that.
exec 3<>piped.svg
"$QEDIMG" map --svg=/dev/stdout pic.qed >&3
same_bytes /dev/fd/3 want.svg
exec 3>&-
same_bytes piped.svg want.svg
[ -z "$(find . -name '.qed-*')" ] || fail "a temporary file is left"

# ---- progress ----

# progress BYTES ARG…: it ends there, and what is printed is the same as without it
progress() {
	bytes=$1
	shift
	"$QEDIMG" map "$@" >quiet
	"$QEDIMG" map --progress=json "$@" 2>err | diff quiet - ||
		fail "map --progress=json $*"
	jq -es --argjson bytes "$bytes" 'all(.done <= .total and
		.total == $bytes) and (last | .done == $bytes and
		.percent == 100)' err >/dev/null ||
		fail "progress of $*: $(cat err)"
	"$QEDIMG" map -p "$@" 2>err | diff quiet - || fail "map -p $*"
	[ ! -s err ] || fail "-p draws where there is no terminal"
}
qemu-img create -q -f qed none.qed 5T
for form in human json; do
	progress 5497558138880 --output=$form none.qed
	progress 1000000 --output=$form --max-length=1000000 pic.qed
	progress 0 --output=$form --max-length=0 pic.qed
done
progress 5497558138880 --blocks none.qed
# Two walks.
progress 10995116277760 --svg=x.svg none.qed
# A bar, and a picture: not one in the other.
script -qec "\"$QEDIMG\" map -p none.qed" /dev/null </dev/null >bar
grep -q '\[[#.]*\]  *[0-9.]*%' bar || fail "no bar: $(cat -v bar)"
"$QEDIMG" map --blocks none.qed >blocks
tr -d '\r' <bar | sed 's/.*\x1b\[K//' | diff blocks - ||
	fail "a bar in the picture: $(cat -v bar)"
# A list on a terminal has none.
script -qec "\"$QEDIMG\" map -p --output=human pic.qed" /dev/null </dev/null |
	tr -d '\r' >bar
"$QEDIMG" map --output=human pic.qed | diff - bar || fail "a bar in a list"
refused "progress 'bar'" map --progress=bar pic.qed

# ---- errors ----

refused "'1Q' is not a size" map --start-offset=1Q pic.qed
refused "'-1' is not a size" map --max-length=-1 pic.qed
refused "'8E' is too large" map --max-length=8E pic.qed
refused 'exclude each other' map --blocks --output=json pic.qed
refused 'exclude each other' map --svg=x.svg --blocks pic.qed
refused "output 'xml'" map --output=xml pic.qed
refused 'No such file' map missing.qed
refused 'base.raw: ' map base.raw
mv base.qed away.qed
refused 'base.qed: ' map pic.qed
mv away.qed base.qed
# What lies before the damage is listed; the message names the place.
cp full.qed bad.qed
entry=$(get_le 64 bad.qed "$(get_le 64 bad.qed 40)")
put_le 64 bad.qed $((entry + 80)) 77
qemu-img create -q -f qed -b bad.qed -F qed above.qed
for image in bad.qed above.qed; do
	for form in --output=human --output=json --blocks --svg=x.svg; do
		refused "qedimg: bad.qed: cannot map disk offset 655360: " \
			map $form $image
	done
	refused "qedimg: bad.qed: cannot map disk offset 655360: " \
		measure -O qed $image
	"$QEDIMG" map --output=human $image >printed 2>err || :
	grep -q '^0  *0xa0000  *0x[0-9a-f]*  *bad.qed$' printed ||
		fail "what lies before the damage: $(cat printed)"
done
# A table that cannot be read: strace fails the read of it, and all that follow.
# LeakSanitizer does not work under it.
qemu-img create -q -f qed -b base.raw -F raw broken.qed 8M
qemu_do broken.qed qed 'write 1M 64k'
qemu-img create -q -f qed -b broken.qed -F qed above.qed
table=$(get_le 64 broken.qed "$(get_le 64 broken.qed 40)")
# traced OPTION… ARG…
traced() {
	ASAN_OPTIONS=${ASAN_OPTIONS-}${ASAN_OPTIONS:+:}detect_leaks=0 \
		strace -f -qq -o trace -P "$PWD/broken.qed" \
		-e trace=preadv2,preadv,pread64 "$@" >printed 2>err
}
for image in broken.qed above.qed; do
	traced "$QEDIMG" map $image || fail "map $image: $(cat err)"
	nth=$(grep pread trace | grep -n ", ${table}[,)]" | head -n 1 | cut -d: -f1)
	[ -n "$nth" ] || fail "the table of $image is not read: $(cat trace)"
	for command in map 'map --blocks' 'measure -O qed'; do
		status=0
		# shellcheck disable=SC2086 # words
		traced -e "inject=preadv2,preadv,pread64:error=EIO:when=$nth+" \
			"$QEDIMG" $command $image || status=$?
		[ "$status" -eq 1 ] || fail "$command: status $status: $(cat err)"
		grep -q '^qedimg: broken.qed: cannot map disk offset 0: Input/out.*; run it again' \
			err || fail "$command $image: $(cat err)"
		[ "$(wc -l <err)" -eq 1 ] || fail "$command $image: $(cat err)"
	done
done

# An image that QEMU writes is mapped with -U alone.
mkfifo in out
qemu-io -f qed pic.qed <in >out 2>&1 &
exec 3>in 4<out
echo length >&3
read -r line <&4
case $line in *4.06*MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'pic.qed' map pic.qed
for force in -U --force-share; do
	same_map $force pic.qed
done
exec 3>&- 4<&-
wait $!
