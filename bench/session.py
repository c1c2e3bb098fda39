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


BUILT = {"floor": "bench/floor", "qedfs": "fuse/qedfs",
         "qedimg": "src/qedimg/qedimg", "measure": "tests/system/measure"}


def _program(path):
    """What libtool's script of that name would run in the end: to start that
    takes longer than much of what is measured."""
    real = os.path.join(os.path.dirname(path), ".libs", os.path.basename(path))
    if not os.access(real, os.X_OK):
        return path
    libraries = os.path.abspath(os.path.join(
        os.environ.get("TOP_BUILDDIR", "."), ".libs"))
    if libraries not in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        os.environ["LD_LIBRARY_PATH"] = libraries
    return real


def find_built(*names):
    """Programs that were built, by name."""
    top = os.environ.get("TOP_BUILDDIR", ".")
    paths = {name: os.path.join(top, BUILT[name]) for name in names}
    for name, path in paths.items():
        if not os.access(path, os.X_OK):
            sys.exit(f"bench: {path} is not there: run it by make, or from "
                     f"the top of the build tree, which has built {name}")
    return {name: os.path.abspath(_program(path))
            for name, path in paths.items()}


def find_tools():
    """What the servers need, by name."""
    tools = find_built("floor", "qedfs")
    for name in missing(("fio", "qemu-img")):
        sys.exit(f"bench: {name} is not installed")
    if os.geteuid() != 0:
        sys.exit("bench: only root can mount and make loop devices")
    return tools


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


class Directory:
    """One of its own, for as long as it lasts."""

    def __init__(self, parent):
        self.parent = parent
        self.directory = None

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(1))
        self.directory = os.path.realpath(
            tempfile.mkdtemp(prefix="qed-bench.", dir=self.parent))
        return self.directory

    def __exit__(self, *_):
        left = _mounts_below(self.directory)
        if left:
            # Removing files would remove them in there.
            sys.exit(f"bench: still mounted, not removed: {' '.join(left)}")
        shutil.rmtree(self.directory)


class Session(Directory):
    """With what servers need."""

    def __enter__(self):
        tools = find_tools()
        return super().__enter__(), tools
