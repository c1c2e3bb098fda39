#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# usage: ./runtests.sh
#
# Installs what is missing (Debian 12) and runs every check there is, from any
# state of the tree.  Everything is built and logged in build/.  The last line
# is "N passed, N failed, N skipped"; see scripts/check-all.
set -eu
cd "$(dirname "$0")"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	as_root=(sudo -n)
	if [ -t 0 ]; then
		as_root=(sudo)
	fi
fi

if ! "${as_root[@]}" scripts/install-deps test </dev/null; then
	echo "the packages that the tests need could not be installed"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi
exec "${as_root[@]}" scripts/check-all </dev/null
