# SPDX-License-Identifier: LGPL-2.1-or-later
"""The install workload: a file system on the disk, and a tree of files in it.

The tree comes from this machine's own files, so its figures can be compared
within a run alone.
"""

import os
import stat
import time

from command import FAILURES, run, say, unmount
from datasets import MIB

NEEDS = ("losetup", "mkfs.ext4", "mount", "tar")
ROOTS = ("usr/include", "usr/share", "usr/lib")
LARGEST = 4 * MIB               # bigger files would be most of the bytes
PATIENCE = 300                  # seconds that one step may take


def list_tree(limit):
    """Regular files below the roots, in a fixed order, of so many bytes."""
    total = 0
    for root in ROOTS:
        for directory, subdirectories, names in os.walk(f"/{root}"):
            subdirectories.sort()
            for name in sorted(names):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST:
                    total += status.st_size
                    if total > limit:
                        return
                    yield path


class Tree:
    """A tar archive in a directory, made when it is first asked for."""

    def __init__(self, directory, limit):
        self.path = os.path.join(directory, "tree.tar")
        self.limit = limit
        self.nfiles = 0

    def make(self):
        """The archive's path."""
        if not self.nfiles:
            names = [os.fsencode(path).lstrip(b"/")
                     for path in list_tree(self.limit)]
            with open(self.path + ".list", "wb") as file:
                file.write(b"".join(name + b"\0" for name in names))
            run("tar", "--create", f"--file={self.path}", "--directory=/",
                "--null", "--no-recursion", f"--files-from={self.path}.list")
            self.nfiles = len(names)
        return self.path


class Install:
    """The steps, each a program as a user would run it."""

    def __init__(self, disk, place, stuck):
        self.disk = disk
        self.place = place          # where the file system is mounted
        self.stuck = stuck          # frees a step that hangs
        self.device = None
        self.mounted = False

    def _step(self, *command):
        return run(*command, patience=PATIENCE, stuck=self.stuck)

    def _attach(self):
        if stat.S_ISBLK(os.stat(self.disk).st_mode):
            return self.disk
        self.device = self._step("losetup", "--find", "--show",
                                 self.disk).strip()
        return self.device

    def _detach(self):
        if self.device:
            self._step("losetup", "--detach", self.device)
            self.device = None

    def _unmount(self):
        if self.mounted:
            unmount(self.place, PATIENCE, self.stuck)
            self.mounted = False

    def _all(self, archive):
        device = self._attach()
        self._step("mkfs.ext4", "-q", "-F", device)
        self._step("mount", device, self.place)
        self.mounted = True
        self._step("tar", "--extract", f"--file={archive}",
                   f"--directory={self.place}")
        # Of this file system alone: others have their own dirty pages.
        self._step("sync", "--file-system", self.place)
        self._unmount()
        self._detach()

    def _clean_up(self):
        """After a failure; after success nothing is left to do."""
        for step in (self._unmount, self._detach):
            try:
                step()
            except FAILURES as error:
                say(f"install: {error}")

    def run(self, archive):
        """Seconds for all of it."""
        os.makedirs(self.place, exist_ok=True)
        begin = time.monotonic()
        try:
            self._all(archive)
            return time.monotonic() - begin
        finally:
            self._clean_up()
