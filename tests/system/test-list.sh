#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# qedimg list: mounts of qedfs appear with image and place, and go.

. "$(dirname "$0")/functions.sh"

need_root
requires "$QEDFS" "$QEDIMG" jq

cd "$TMP"

# ours: the mounts of this test, whatever else is mounted on the host
ours() {
	"$QEDIMG" list --output=json >all.json || fail "list --output=json"
	jq -c --arg dir "$TMP/" '[.[] | select(.mountpoint |
		startswith($dir)) | [(.image | ltrimstr($dir)),
		(.mountpoint | ltrimstr($dir)), ."read-only"]] | sort' all.json
	"$QEDIMG" list >all.txt || fail "list"
}

refused() {
	status=0
	"$QEDIMG" list "$@" >out 2>err || status=$?
	[ "$status" -eq 1 ] || fail "list $*: status $status, not 1"
	[ ! -s out ] || fail "list $*: prints $(cat out)"
	[ -s err ] || fail "list $*: says nothing"
}

odd=$(printf 'a b#c\td')
mkdir one "$odd" plain
"$QEDIMG" create -q disk.qed 1M
"$QEDIMG" create -q "$odd.qed" 1M
: >file.raw
[ "$(ours)" = '[]' ] || fail "nothing is mounted: $(cat all.json)"

mount_qed disk.qed one
[ "$(ours)" = '[["disk.qed","one",false]]' ] ||
	fail "one mount: $(cat all.json)"
grep -qxF "$TMP/disk.qed on $TMP/one (rw)" all.txt ||
	fail "one mount: $(cat all.txt)"
mount_qed "$odd.qed" "$odd" -o ro
[ "$(ours)" = '[["a b#c\td.qed","a b#c\td",true],["disk.qed","one",false]]' ] ||
	fail "two mounts: $(cat all.json)"
grep -qxF "$TMP/a b#c\\x09d.qed on $TMP/a b#c\\x09d (ro)" all.txt ||
	fail "two mounts: $(cat all.txt)"
# What others mount is not ours.
mount_on plain -t tmpfs fuse.qedfs
[ "$(ours | jq length)" -eq 2 ] || fail "a tmpfs is listed: $(cat all.json)"
umount_qed "$odd"
umount_qed one
[ "$(ours)" = '[]' ] || fail "what is gone: $(cat all.json)"

refused --output=xml
refused --zork
refused surplus
status=0
"$QEDIMG" list --output=json >/dev/full 2>err || status=$?
[ "$status" -eq 1 ] || fail "a full device: status $status"
