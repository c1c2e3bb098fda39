# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# Mounts of qedfs for the system tests, a part of functions.sh, which reads it: each
# has its daemon in the foreground, and a directory below $TMP/.mounts with what is
# known of it.

# full_path PATH: as realpath -ms says, which is not started for a plain one
full_path() {
	case $1/ in
	*//* | ./* | */./* | ../* | */../*) realpath -ms "$1" ;;
	/*) echo "$1" ;;
	*) echo "$PWD/$1" ;;
	esac
}

# mount_state DIR: where what is known of the mount on DIR is kept
mount_state() (
	dir=$(full_path "$1")
	set -f
	IFS=/
	# shellcheck disable=SC2086 # the parts between slashes
	set -- $dir
	IFS=%
	echo "$TMP/.mounts/$*"
)

# mount_log DIR: the file with what the daemon of DIR wrote to stderr
mount_log() {
	echo "$(mount_state "$1")/log"
}

# said_in FILE: its first line, without a program started for it
said_in() {
	IFS= read -r said <"$1" || :
	echo "$said"
}

mount_pid() {
	said_in "$(mount_state "$1")/pid"
}

# abort_fuse STATE: fails every request of a mount, the last resort.  Only while
# it is mounted: later the number may be that of another connection.
abort_fuse() (
	number=$(cat "$1/connection")
	awk -v "dir=$(cat "$1/dir")" -v "device=0:$number" '
		$5 == dir && $3 == device { found = 1 }
		END { exit !found }' /proc/self/mountinfo || exit 0
	is_mounted /sys/fs/fuse/connections ||
		mount -t fusectl none /sys/fs/fuse/connections
	echo 1 >"/sys/fs/fuse/connections/$number/abort"
)

# Runs the daemon in the foreground, so that its stderr and exit status are
# seen.  Background jobs of a script ignore SIGINT: undo that.
run_daemon() (
	state=$1
	shift
	set +e
	env --default-signal=INT,QUIT "$QEDFS" -f "$@" </dev/null >"$state/log" 2>&1 &
	daemon=$!
	echo "$daemon" >"$state/pid"
	wait "$daemon"
	echo $? >"$state/status"
)

# mount_qed IMAGE DIR [OPTION…]: returns when the mount is up, and fails if it
# does not come up; undone on exit.  $QED_MOUNT_OPTIONS go before the others.
mount_qed() (
	image=$1
	dir=$(full_path "$2")
	shift 2
	state=$(mount_state "$dir")
	rm -rf "$state"
	mkdir -p "$state"
	run_daemon "$state" ${QED_MOUNT_OPTIONS:+-o "$QED_MOUNT_OPTIONS"} \
		"$@" -o "pidfile=$state/pidfile" "$image" "$dir" \
		</dev/null >/dev/null 2>&1 &
	runner=$!
	echo "$runner" >"$state/runner"
	echo "$dir" >"$state/dir"
	realpath -m "$image" >"$state/image"
	cleanup drop_qed "$dir"
	# The connection first: it is what a daemon that hangs is ended by.
	if ! "$WAITFOR" mount "$dir" "$runner" 300 >"$state/connection"; then
		rm -f "$state/connection"
		cat "$state/log" >&2
		fail "qedfs did not mount $image on $dir"
	fi
	for file in pidfile pid; do
		[ -s "$state/$file" ] ||
			"$WAITFOR" file "$state/$file" "$runner" 300 || {
			cat "$state/log" >&2
			fail "qedfs did not get ready for $image on $dir"
		}
	done
)

# limited SECONDS CMD…: the command's status, or 124 when it takes too long
limited() (
	seconds=$1
	shift
	"$@" &
	child=$!
	"$WAITFOR" exit "$child" "$seconds" || exit 124
	wait "$child"
)

# await_qed DIR: the daemon of an unmounted DIR ends by itself, and well
await_qed() (
	dir=$1
	state=$(mount_state "$dir")
	if ! "$WAITFOR" exit "$(said_in "$state/runner")" 300; then
		kill -KILL "$(cat "$state/pid")" 2>/dev/null || :
		touch "$state/ended"
		fail "the daemon of $dir did not end"
	fi
	touch "$state/ended"
	status=$(said_in "$state/status")
	# libfuse says so by itself where the kernel ends a connection at the moment at which
	# a worker takes a request from it; what was written is compared after this.
	echo '^fuse: reading device: Software caused connection abort$' \
		>>"$state/expected"
	if [ "$status" -ne 0 ] || { [ -s "$state/log" ] &&
			grep -v -f "$state/expected" "$state/log" >&2; }; then
		fail "the daemon of $dir said this, and ended with $status"
	fi
)

# expect_log DIR PATTERN: the daemon's stderr has such a line; without this, any
# line there is a failure
expect_log() (
	state=$(mount_state "$1")
	grep -q -e "$2" "$state/log" || {
		cat "$state/log" >&2
		fail "the daemon of $1 did not say '$2'"
	}
	printf '%s\n' "$2" >>"$state/expected"
)

# umount_qed DIR: unmounts and waits for the daemon's end, which must be clean
umount_qed() (
	dir=$1
	limited 300 unmount "$dir" || {
		abort_fuse "$(mount_state "$dir")"
		fail "umount $dir failed"
	}
	await_qed "$dir"
)

# bury_qed DIR: after its daemon was ended by SIGKILL: nothing is left of the mount, and
# nobody has the image
bury_qed() (
	dir=$1
	state=$(mount_state "$dir")
	"$WAITFOR" exit "$(said_in "$state/runner")" 300 ||
		fail "the daemon of $dir survived SIGKILL"
	unmount "$dir"
	touch "$state/ended"
	released "$(said_in "$state/image")"
)

# kill_qed DIR: ends the daemon by SIGKILL, as a crash would
kill_qed() {
	kill -KILL "$(mount_pid "$1")"
	bury_qed "$1"
}

# released IMAGE…: nobody has QEMU's locks on them.  What was killed keeps its
# locks until the kernel has ended its io_uring, which may be later.
released() (
	for image; do
		"$WAITFOR" unlocked "$image" 300 || fail "$image is still locked"
	done
)

# drop_qed DIR: whatever is left of a mount goes away (for cleanup)
drop_qed() (
	dir=$1
	state=$(mount_state "$dir")
	[ ! -e "$state/ended" ] || exit 0
	if [ -e "$state/connection" ]; then
		limited 15 umount "$dir" 2>/dev/null || {
			abort_fuse "$state"
			umount -l "$dir" 2>/dev/null || :
		}
	fi
	if ! "$WAITFOR" exit "$(cat "$state/runner")" 15; then
		kill -KILL "$(cat "$state/pid")" 2>/dev/null || :
		fail "the daemon of $dir had to be killed"
	fi
	[ ! -s "$state/log" ] || sed 's/^/daemon: /' "$state/log" >&2
)

# qedfs_refuses PATTERN ARG…: qedfs ends by itself with status 1, its stderr
# (left in $TMP/err) matching the basic regular expression
qedfs_refuses() {
	pattern=$1
	shift
	status=0
	timeout 300 "$QEDFS" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null ||
		status=$?
	[ "$status" -eq 1 ] || {
		cat "$TMP/err" >&2
		fail "qedfs $*: status $status where 1 was expected"
	}
	grep -q -e "$pattern" "$TMP/err" || {
		cat "$TMP/err" >&2
		fail "qedfs $*: no '$pattern' on stderr"
	}
}
