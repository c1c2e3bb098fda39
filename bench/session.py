# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a run of measurements needs before it begins, and takes away after."""

import os
import shutil
import signal
import sys
import tempfile

from command import say
from servers import missing


def choose(everything, lists):
    """Those that comma-separated lists name, or "all", whose programs must all
    be there; without a list, those that can be used."""
    names = [name for text in lists or () for name in text.split(",")]
    known = {item.name for item in everything}
    if names == ["all"]:
        names = known
    for name in names:
        if name not in known:
            sys.exit(f"bench: there is no {name}; --help lists what there is")
    usable = []
    for item in everything:
        absent = " and ".join(missing(item.needs))
        if names and item.name not in names:
            continue
        if absent and names:
            sys.exit(f"bench: {item.name} needs {absent}")
        if absent:
            say(f"without {item.name}: {absent} not found")
        else:
            usable.append(item)
    return usable


def find_tools():
    """What was built, by name."""
    top = os.environ.get("TOP_BUILDDIR", ".")
    tools = {"floor": os.path.join(top, "bench", "floor"),
             "qedfs": os.path.join(top, "fuse", "qedfs")}
    for name, path in tools.items():
        if not os.access(path, os.X_OK):
            sys.exit(f"bench: {path} is not there: run it by make, or from "
                     f"the top of the build tree, which has built {name}")
    for name in missing(("fio", "qemu-img")):
        sys.exit(f"bench: {name} is not installed")
    if os.geteuid() != 0:
        sys.exit("bench: only root can mount and make loop devices")
    return {name: os.path.abspath(path) for name, path in tools.items()}


def check_space(directory, mib):
    """Better said now than after minutes."""
    free = shutil.disk_usage(directory).free >> 20
    if free < mib:
        sys.exit(f"bench: {directory} has {free} MiB free and {mib} are "
                 "needed; see --dir and --size")


def _mounts_below(directory):
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        places = [line.split()[4] for line in table]
    return [place for place in places if place.startswith(directory + "/")]


class Session:
    """A directory of its own, for as long as it lasts."""

    def __init__(self, parent):
        self.parent = parent
        self.directory = None

    def __enter__(self):
        tools = find_tools()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        self.directory = os.path.realpath(
            tempfile.mkdtemp(prefix="qed-bench.", dir=self.parent))
        return self.directory, tools

    def __exit__(self, *_):
        left = _mounts_below(self.directory)
        if left:
            # Removing files would remove them in there.
            sys.exit(f"bench: still mounted, not removed: {' '.join(left)}")
        shutil.rmtree(self.directory)
