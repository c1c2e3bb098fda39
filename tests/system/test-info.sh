#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What qedimg info counts, and what it says of a backing chain, against qemu-img
# and against what was written; hostile images cost neither time nor memory.

in_memory=yes
. "$(dirname "$0")/functions.sh"

need_loop
requires "$QEDIMG" "$LEAKS" qemu-img qemu-io jq script

mkdir "$TMP/work"
cd "$TMP/work"

# counts IMAGE DATA ZERO TABLES LEAKED DAMAGED
counts() {
	image=$1
	shift
	"$QEDIMG" info --output=json "$image" | jq -r '."format-specific".data |
		"\(."allocated-clusters") \(."zero-clusters") " +
		"\(."l2-tables") \(."leaked-clusters") \(."damaged-entries")"' \
		>ours
	echo "$*" >expected
	diff expected ours || fail "the counts of $image"
	"$QEDIMG" info "$image" >human
	grep -qx "    allocated clusters: $1" human || fail "$image for people"
	grep -qx "    zero clusters: $2" human || fail "$image for people"
	grep -qx "    L2 tables: $3" human || fail "$image for people"
	grep -qx "    leaked clusters: $4" human || fail "$image for people"
	if [ "$5" -eq 0 ]; then
		! grep -q 'damaged' human || fail "$image for people"
	else
		grep -q "^    damaged entries: $5 " human ||
			fail "$image for people"
	fi
}

# same_counts IMAGE: an image that is in order, as the other counters see it
same_counts() {
	"$QEDIMG" info --output=json "$1" | jq '."format-specific".data' >ours
	[ "$(jq '."leaked-clusters"' ours)" -eq "$("$LEAKS" "$1")" ] ||
		fail "leaks of $1: $(cat ours)"
	theirs=$(qemu-img check -f qed --output=json "$1" |
		jq '."allocated-clusters" // 0')
	[ "$(jq '."allocated-clusters"' ours)" -eq "$theirs" ] ||
		fail "clusters of $1: $theirs, $(cat ours)"
	[ "$(jq '."damaged-entries"' ours)" -eq 0 ] || fail "damage in $1"
}

# same_chain IMAGE: both tools say the same of the whole chain, in both forms
same_chain() {
	for file in *.raw *.qed; do
		sync "$file"
	done
	qemu-img info --backing-chain --output=json "$1" |
		jq -S 'map(del(.children))' >theirs
	"$QEDIMG" info --backing-chain --output=json "$1" |
		jq -S 'map(del(."format-specific"))' >ours
	diff theirs ours || fail "info --backing-chain of $1 as JSON"
	qemu-img info --backing-chain "$1" | grep -v '^Child node\|^    /' \
		>theirs
	"$QEDIMG" info --backing-chain "$1" |
		grep -v '^Format specific\|^    ' >ours
	diff theirs ours || fail "info --backing-chain of $1"
}

refused() {
	text=$1
	shift
	status=0
	"$QEDIMG" "$@" >"$TMP/out" 2>"$TMP/err" || status=$?
	[ "$status" -eq 1 ] || fail "qedimg $*: status $status, not 1"
	[ ! -s "$TMP/out" ] || fail "qedimg $*: prints $(cat "$TMP/out")"
	grep -qF -e "$text" "$TMP/err" ||
		fail "qedimg $*: no '$text' in: $(cat "$TMP/err")"
}

# ---- counts ----

qemu-img create -q -f qed a.qed 8G
counts a.qed 0 0 0 0 0
qemu_do a.qed qed 'write 0 64k' 'write 1M 300k' 'write 5G 1'
counts a.qed 7 0 2 0 0
same_counts a.qed
for geometry in 4096,2 4096,16 65536,4 1M,16; do
	qemu-img create -q -f qed -o \
		"cluster_size=${geometry%,*},table_size=${geometry#*,}" \
		g.qed 8M
	qemu_do g.qed qed 'write 3M 2M' 'write 0 1'
	[ "$geometry" = 4096,2 ] || same_counts g.qed
	size=$(numfmt --from=iec "${geometry%,*}")
	first=$((3145728 / size))
	last=$((5242879 / size))
	counts g.qed $((last - first + 2)) 0 \
		"$([ "$geometry" = 4096,2 ] && echo 2 || echo 1)" 0 0
done

# Zero clusters, over a backing file; leaks, at the end and inside; damage.
truncate -s 8M base.raw
qemu_do base.raw raw 'write 0 8M'
qemu-img create -q -f qed -b base.raw -F raw z.qed
qemu_do z.qed qed 'write 0 192k' 'write -z 1M 320k'
counts z.qed 3 5 1 0 0
table=$(get_le 64 z.qed 65536)
cp z.qed leak.qed
truncate -s +256k leak.qed
counts leak.qed 3 5 1 4 0
put_le 64 leak.qed "$table" 0
counts leak.qed 2 5 1 5 0
[ "$("$LEAKS" leak.qed)" -eq 5 ] || fail "the leaks, counted otherwise"
# Past the end, unaligned, into a table, twice.
cp z.qed bad.qed
put_le 64 bad.qed "$table" $((1 << 40))
put_le 64 bad.qed $((table + 8)) 65537
put_le 64 bad.qed $((table + 800)) "$table"
put_le 64 bad.qed $((table + 808)) "$(get_le 64 bad.qed $((table + 16)))"
counts bad.qed 1 5 1 2 4
# A second entry for a table does not have it read twice.
cp z.qed bad.qed
put_le 64 bad.qed 65544 "$table"
counts bad.qed 3 5 1 0 1
# What is cut off is no cluster.
cp z.qed cut.qed
truncate -s +1000 cut.qed
counts cut.qed 3 5 1 0 0

# Of a device, what is behind the last cluster in use is not leaked: as check says.
cp leak.qed loop.img
truncate -s 40M loop.img
device=$(attach_loop loop.img)
counts "$device" 2 5 1 1 0
status=0
"$QEDIMG" check --output=json "$device" >ours || status=$?
[ "$status" -eq 3 ] || fail "check of a device: $status, $(cat ours)"
[ "$(json_number leaks ours)" -eq 1 ] || fail "check of a device: $(cat ours)"
detach_loop "$device"
rm loop.img

# ---- the chain ----

qemu-img create -q -f qed -b z.qed -F qed mid.qed 20M
qemu-img create -q -f qed -b "$PWD/mid.qed" -F qed top.qed 3M
for image in a.qed z.qed mid.qed top.qed; do
	same_chain $image
done
[ "$("$QEDIMG" info --backing-chain --output=json top.qed |
	jq -c 'map(."format-specific".data."zero-clusters")')" = \
	'[0,0,5,null]' ] || fail "counts along the chain"
head -c 1000 base.raw >odd.raw
qemu-img create -q -f qed -b odd.raw -F raw odd.qed 1M
same_chain odd.qed
# Only with the option is anything else looked at.
mv base.raw away.raw
"$QEDIMG" info top.qed >/dev/null || fail "info without the backing file"
refused 'base.raw: ' info --backing-chain top.qed
refused 'base.raw: ' info --backing-chain --output=json top.qed
ln -s top.qed base.raw
qemu-img rebase -u -f qed -b top.qed -F qed z.qed
refused 'contains itself' info --backing-chain top.qed
"$QEDIMG" info top.qed >/dev/null || fail "info of a loop"
rm base.raw
mv away.raw base.raw
qemu-img rebase -u -f qed -b base.raw -F raw z.qed

# An image in use by QEMU: only with -U.
mkfifo in out
qemu-io -f qed z.qed <in >out 2>&1 &
exec 3>in 4<out
echo length >&3
read -r line <&4
case $line in *8?MiB*) ;; *) fail "qemu-io says $line" ;; esac
refused 'z.qed: ' info --backing-chain top.qed
"$QEDIMG" info -U --backing-chain top.qed >/dev/null || fail "info -U"
exec 3>&- 4<&-
wait $!

# ---- hostile images ----

# All 2^20 L1 entries (16 clusters of 512 KiB) name the same table, with as many
# entries: reading it for each would take for ever.
big=$((512 * 1024))
qemu-img create -q -f qed -o cluster_size=$big,table_size=16 alias.qed 1T
table=$((17 * big))
truncate -s $((table + 16 * big + 100 * big)) alias.qed
: >part.8
put_le 64 part.8 0 $table
i=8
while [ $i -lt $((16 * big)) ]; do
	cat part.$i part.$i >part.$((i * 2))
	rm part.$i
	i=$((i * 2))
done
dd if=part.$i of=alias.qed bs=$big seek=1 conv=notrunc status=none
dd if=part.$i of=alias.qed bs=$big seek=17 conv=notrunc status=none
rm part.$i
timeout 300 "$QEDIMG" info --output=json alias.qed >ours ||
	fail "an L1 table with aliases"
# One L1 entry is right; no L2 entry is.
[ "$(jq '."format-specific".data."damaged-entries"' ours)" -eq \
	$((2 * 1048576 - 1)) ] || fail "aliases: $(cat ours)"
# Tables of holes only: nothing is read.
qemu-img create -q -f qed -o cluster_size=1M,table_size=16 holes.qed 1T
truncate -s 10T holes.qed
l1=$(get_le 64 holes.qed 40)
for i in 1 2 3 4 5 6 7 8; do
	put_le 64 holes.qed $((l1 + i * 8)) $((i << 40))
done
timeout 300 "$QEDIMG" info --output=json holes.qed >ours ||
	fail "tables of holes"
[ "$(jq '."format-specific".data."l2-tables"' ours)" -eq 8 ] ||
	fail "tables of holes: $(cat ours)"
# A file of more clusters than there could be bits for in memory.
qemu-img create -q -f qed -o cluster_size=4096,table_size=16 huge.qed 1G
truncate -s 15T huge.qed
timeout 300 "$QEDIMG" info --output=json huge.qed >ours ||
	fail "a file of many clusters"
[ "$(jq '."format-specific".data."leaked-clusters"' ours)" -eq \
	$(((15 << 40) / 4096 - 17)) ] || fail "leaks of a huge file: $(cat ours)"
[ "$(jq '."virtual-size"' ours)" -eq 1073741824 ] || fail "huge: $(cat ours)"

# ---- progress ----

# An image without L2 tables, one with some, and a chain: each image comes to its end.
qemu-img create -q -f qed none.qed 1G
"$QEDIMG" info none.qed >quiet
for image in none a; do
	"$QEDIMG" info --progress=json $image.qed >ours 2>err ||
		fail "info --progress=json $image.qed: $(cat err)"
	jq -es 'all(.total > 0 and .done <= .total) and
		(last | .done == .total and .percent == 100)' err >/dev/null ||
		fail "progress, $image.qed: $(cat err)"
done
"$QEDIMG" info --progress=json none.qed 2>err | diff quiet - ||
	fail "--progress=json changes what is printed"
layers=$("$QEDIMG" info --backing-chain --output=json --progress=json top.qed \
	2>err | jq '[.[] | select(.format == "qed")] | length')
[ "$(jq -s 'map(select(.percent == 100) | .total) | length' err)" -ge \
	"$layers" ] || fail "progress of a chain: $layers, $(cat err)"
"$QEDIMG" info -p none.qed 2>err | diff quiet - || fail "info -p"
[ ! -s err ] || fail "-p draws where there is no terminal"
script -qec "\"$QEDIMG\" info -p none.qed >list" /dev/null >bar
grep -q '\[#*\] 100.0%' bar || fail "no bar: $(cat bar)"
diff quiet list || fail "info -p on a terminal"

refused "progress 'bar'" info --progress=bar a.qed
refused "output 'xml'" info --backing-chain --output=xml a.qed
