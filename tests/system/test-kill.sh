#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon is killed in the middle of real work, QED_KILLS times (30; make soak:
# 1000).  After each kill the image is mounted again, and all that an fsync has
# promised must be there; qemu-img check must find no corruption.

# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
need_root
requires fio qemu-img "$QEDFS" "$QEDIMG"

ledger=$(built tests/system/ledger)
kills=30		# all kinds of ledger_kills(), and six of fio_kill()
[ "${QED_SANITIZER:-no}" = no ] || kills=15
[ -z "${QED_SOAK:-}" ] || kills=1000
kills=${QED_KILLS:-$kills}
seed=${QED_SEED:-$(date +%s)}
mib=1048576
disk=$((96 * mib))
base=$((64 * mib))
cd "$TMP"
mkdir mnt

# random N: 0 to N - 1
state=$seed
random() {
	state=$(((state * 1103515245 + 12345) & 0x7fffffff))
	echo $((state / 65536 % $1))
}

# Mounting repairs, unmounting leaves the image clean; leaks are no harm.
look_through_qed() {
	mount_qed disk.qed mnt -o "$1"
	shift
	"$@"
	umount_qed mnt
	status=0
	qemu-img check -f qed disk.qed >qemu.out 2>&1 || status=$?
	[ "$status" -eq 0 ] || [ "$status" -eq 3 ] ||
		fail "qemu-img check: $(cat qemu.out)"
	"$LEAKS" disk.qed >leaks.out || fail "the image is damaged"
	! need_check_set disk.qed || fail "NEED_CHECK is still set"
}

# ---- exact: every sector's versions against a ledger ----

check_ledger() {
	"$ledger" check mnt/disk.raw ledger ||
		fail "seed $seed, kill $nth: the disk is not as promised"
}

# start KIND OPTIONS: a new image and ledger
start() {
	below=0
	case $1 in
	flat) set -- ;;
	small) set -- -o cluster_size=4096,table_size=2 ;;
	chain) set -- -b base.raw -F raw
		below=$base ;;
	esac
	rm -f disk.qed
	"$QEDIMG" create -q "$@" disk.qed $disk
	"$ledger" new ledger $disk $below
}

# ledger_kill OPTIONS
ledger_kill() {
	mount_qed disk.qed mnt -o "$1"
	limited 300 "$ledger" run mnt/disk.raw ledger $((seed + nth)) \
		"$(mount_pid mnt)" $((1 + $(random 1200))) ||
		fail "seed $seed, kill $nth: the writers failed"
	bury_qed mnt
	look_through_qed "$1" check_ledger
}

# QEMU sees the same.
seen_by_qemu() {
	qemu-img convert -f qed -O raw disk.qed disk.flat
	"$ledger" check disk.flat ledger || fail "QEMU reads another disk"
	rm disk.flat
}

ledger_kills() {
	while [ "$nth" -lt "$1" ]; do
		case $((nth / 4 % 6)) in
		0) kind=flat opts=io=uring ;;
		1) kind=chain opts=io=uring ;;
		2) kind=small opts=io=threads,commit=1 ;;
		3) kind=chain opts=io=threads,l2_cache=64K ;;
		4) kind=small opts=io=uring,l2_cache=64K,nowriteback ;;
		5) kind=flat opts=io=threads,nowriteback ;;
		esac
		[ $((nth % 4)) -ne 0 ] || start "$kind"
		ledger_kill "$opts"
		nth=$((nth + 1))
		[ $((nth % 4)) -ne 0 ] || seen_by_qemu
	done
}

# ---- fio: each write is durable when it is answered, and fio knows which were ----

# fio_on_disk OPTION…
fio_on_disk() {
	limited 300 fio --name=kill --filename=mnt/disk.raw --rw=randwrite \
		--bsrange=4k-64k --bs_unaligned=0 --size=64m \
		--ioengine=psync --direct=1 --sync=1 --verify=crc32c \
		--verify_fatal=1 --randseed=$((seed + nth)) "$@" >fio.out 2>&1
}

verify_by_fio() {
	fio_on_disk --verify_only --verify_state_load=1 ||
		fail "seed $seed, kill $nth: fio --verify: $(cat fio.out)"
}

fio_kill() {
	rm -f disk.qed -- *-verify.state
	"$QEDIMG" create -q disk.qed $disk
	mount_qed disk.qed mnt
	"$ledger" slay "$(mount_pid mnt)" disk.qed $((20 + $(random 400))) &
	slayer=$!
	! fio_on_disk --do_verify=0 --verify_state_save=1 ||
		fail "fio did not notice that the daemon was killed"
	wait $slayer
	[ -e local-kill-0-verify.state ] ||
		fail "fio left no state: $(cat fio.out)"
	bury_qed mnt
	look_through_qed rw verify_by_fio
}

say "seed $seed, $kills kills"
"$ledger" init base.raw $base
nth=0
ledger_kills $((kills - kills / 5))
while [ "$nth" -lt "$kills" ]; do
	fio_kill
	nth=$((nth + 1))
done
