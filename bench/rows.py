# SPDX-License-Identifier: LGPL-2.1-or-later
"""What qedimg and qemu-img are both made to do: a row of the table each.  To add
one, write a class like those here and put it into ALL."""

import os
import shutil

import sparse
from datasets import GIB

TIB = 1 << 40


class Row:
    """Something to measure, in a directory of its own."""

    name = None                 # for --only
    title = None
    tools = ("qedimg", "qemu-img")
    # With the inputs in the page cache, and after they were dropped from it.
    states = ("warm", "cold")
    goal = None                 # how many times as fast qedimg is to be
    space = 256                 # MiB of the directory, at most
    statuses = (0,)             # that a tool may end with

    def __init__(self, directory, quick):
        self.directory = directory
        self.quick = quick      # only to see that it works

    def path(self, name):
        """Of a file in the directory."""
        return os.path.join(self.directory, name)

    def make(self):
        """The inputs, once."""

    def inputs(self):
        """Files that are read."""
        return []

    def before(self, tool):
        """What has to be anew for each measurement, untimed."""

    def command(self, tool):
        """Arguments of the tool."""
        raise NotImplementedError

    def verify(self, tool):
        """Raises RuntimeError if the result is not what it should be."""


class CheckFull(Row):
    """All tables of a full disk are real, its data is a hole."""

    name = "check"
    title = "check, a full disk of 1 TiB"
    goal = 2
    # qemu-img 7.2 sees leaks in large images that are not there.
    statuses = (0, 3)

    def make(self):
        sparse.write_full(self.path("full.qed"), GIB if self.quick else TIB)

    def inputs(self):
        return [self.path("full.qed")]

    def command(self, tool):
        return ["check", "-q", "-f", "qed", self.path("full.qed")]


class Compact(Row):
    """Half of the file is free.  qemu-img has to copy the image, durably."""

    name = "compact"
    title = "compact 1 GiB, half of it free (copy it)"
    space = 3 << 10

    def make(self):
        self.size = 16 if self.quick else 1024
        sparse.write_gaps(self.path("gaps.qed"), self.size)

    def before(self, tool):
        shutil.copyfile(self.path("gaps.qed"), self.path("work.qed"))
        with open(self.path("work.qed"), "rb") as file:
            os.fsync(file.fileno())
        if os.path.exists(self.path("copy.qed")):
            os.remove(self.path("copy.qed"))

    def inputs(self):
        return [self.path("work.qed")]

    def command(self, tool):
        if tool == "qedimg":
            return ["compact", "-q", self.path("work.qed")]
        return ["convert", "-t", "writeback", "-f", "qed", "-O", "qed",
                self.path("work.qed"), self.path("copy.qed")]

    def verify(self, tool):
        name = "work.qed" if tool == "qedimg" else "copy.qed"
        clusters = 1 + 2 * 4 + self.size // 2 * 16
        if os.path.getsize(self.path(name)) != clusters * sparse.CLUSTER:
            raise RuntimeError(f"{name} is not as short as it could be")


ALL = (CheckFull, Compact)
