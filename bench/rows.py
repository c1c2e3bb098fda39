# SPDX-License-Identifier: LGPL-2.1-or-later
"""What qedimg and qemu-img are both made to do: a row of the table each.  To add
one, write a class like those here and put it into ALL."""

import os
import shutil

import sparse
from command import run
from datasets import GIB, MIB, copy_pieces, random_file

TIB = 1 << 40


class Row:
    """Something to measure, in a directory of its own."""

    name = None                 # for --only
    title = None
    tools = ("qedimg", "qemu-img")
    peer = "qemu-img"           # the program that is called so here
    # With the inputs in the page cache, and after they were dropped from it.
    states = ("warm", "cold")
    goal = None                 # how many times as fast qedimg is to be
    space = 256                 # MiB of the directory, at most
    statuses = (0,)             # that a tool may end with
    needs = ()                  # programs, apart from the two
    mounts = False              # so it needs root

    def __init__(self, directory, quick):
        self.directory = directory
        self.quick = quick      # only to see that it works

    def path(self, name):
        """Of a file in the directory."""
        return os.path.join(self.directory, name)

    def make(self):
        """The inputs, once."""

    def unmake(self):
        """Whatever else than files make() has made, even if it failed."""

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


class Overlay(Row):
    """An overlay with every second MiB of a disk, over a raw file with all; several
    rows have them in common."""

    goal = 1.5
    space = 3 << 10
    prefix = "overlay-"

    def path(self, name):
        return super().path(self.prefix + name)

    def make(self):
        if os.path.exists(self.path("top.qed")):
            return
        size = 16 if self.quick else 1024
        mine = range(0, size, 2)
        random_file(self.path("base.raw"), size * MIB)
        random_file(self.path("all.raw"), size * MIB)
        copy_pieces(self.path("all.raw"), self.path("mine.raw"), size * MIB,
                    mine)
        os.remove(self.path("all.raw"))
        run("qemu-img", "convert", "-f", "raw", "-O", "qed",
            self.path("mine.raw"), self.path("top.qed"))
        os.remove(self.path("mine.raw"))
        run("qemu-img", "rebase", "-u", "-f", "qed", "-F", "raw", "-b",
            self.path("base.raw"), self.path("top.qed"))

    def before(self, tool):
        """A copy, of which nothing is left to be written back."""
        shutil.copyfile(self.path("top.qed"), self.path("work.qed"))
        with open(self.path("work.qed"), "rb") as file:
            os.fsync(file.fileno())

    def inputs(self):
        return [self.path("base.raw"), self.path("work.qed")]

    def same(self, one, other):
        """Raises RuntimeError unless two QED images have the same disk."""
        run("qemu-img", "compare", "-q", "-f", "qed", "-F", "qed",
            self.path(one), self.path(other))


class Commit(Overlay):
    """Both keep the overlay: qemu-img 7.2 cannot empty it."""

    name = "commit"
    title = "commit 512 MiB to a raw file"
    prefix = "commit-"          # it changes the raw file

    def command(self, tool):
        return ["commit", "-q", "-d", "-f", "qed", self.path("work.qed")]


class Rebase(Overlay):
    """To a base that differs in a few places."""

    name = "rebase"
    title = "rebase an overlay of 1 GiB"

    def make(self):
        super().make()
        shutil.copyfile(self.path("base.raw"), self.path("other.raw"))
        with open(self.path("other.raw"), "r+b") as file:
            for at in range(MIB, os.path.getsize(file.name), 16 * MIB):
                file.seek(at)
                file.write(os.urandom(MIB // 4))

    def inputs(self):
        return super().inputs() + [self.path("other.raw")]

    def command(self, tool):
        return ["rebase", "-q", "-f", "qed", "-F", "raw", "-b",
                self.path("other.raw"), self.path("work.qed")]

    def verify(self, tool):
        self.same("work.qed", "top.qed")


class Flatten(Overlay):
    """Half of the disk is copied."""

    name = "flatten"
    title = "rebase to no backing file, 512 MiB"

    def command(self, tool):
        return ["rebase", "-q", "-f", "qed", "-b", "", self.path("work.qed")]

    def verify(self, tool):
        self.same("work.qed", "top.qed")


class Compare(Overlay):
    """The same disk in two images."""

    name = "compare"
    title = "compare 1 GiB with an overlay"

    def make(self):
        super().make()
        run("qemu-img", "convert", "-f", "qed", "-O", "qed",
            self.path("top.qed"), self.path("flat.qed"))

    def before(self, tool):
        pass

    def inputs(self):
        return [self.path(name) for name in ("base.raw", "top.qed", "flat.qed")]

    def command(self, tool):
        return ["compare", "-q", "-f", "qed", "-F", "qed",
                self.path("top.qed"), self.path("flat.qed")]


class Convert(Row):
    """A disk of random data, copied without a sync, as qemu-img does by default."""

    space = 3 << 10
    source, target = "raw", "qed"   # formats
    cache = "unsafe"

    def make(self):
        if not os.path.exists(self.path("disk.raw")):
            random_file(self.path("disk.raw"),
                        (16 if self.quick else 1024) * MIB)
        if self.source == "qed" and not os.path.exists(self.path("disk.qed")):
            run("qemu-img", "convert", "-f", "raw", "-O", "qed",
                self.path("disk.raw"), self.path("disk.qed"))

    def path(self, name):
        return super().path("convert-" + name)

    def inputs(self):
        return [self.path("disk." + self.source)]

    def before(self, tool):
        if os.path.exists(self.path("copy")):
            os.remove(self.path("copy"))

    def command(self, tool):
        return ["convert", "-t", self.cache, "-f", self.source, "-O",
                self.target, self.path("disk." + self.source), self.path("copy")]

    def verify(self, tool):
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", self.target,
            self.path("disk.raw"), self.path("copy"))


class ConvertToQed(Convert):
    """The image is laid out in the disk's order."""

    name = "to-qed"
    title = "convert 1 GiB, raw to QED"
    goal = 1


class ConvertToRaw(Convert):
    """Back again."""

    name = "to-raw"
    title = "convert 1 GiB, QED to raw"
    source, target = "qed", "raw"
    goal = 1


class ConvertToQedDurably(ConvertToQed):
    """Synced at the end, which is qedimg's default."""

    name = "to-qed-sync"
    title = "convert 1 GiB, raw to QED, durably"
    cache = "writeback"


class ConvertToRawDurably(ConvertToRaw):
    """Back again."""

    name = "to-raw-sync"
    title = "convert 1 GiB, QED to raw, durably"
    cache = "writeback"


class Sparse(ConvertToQed):
    """Most of the disk is holes, some of the rest zeroes that have been written."""

    name = "sparse"
    title = "convert 8 GiB, an eighth of it data, raw to QED"

    def path(self, name):
        return super().path("sparse-" + name)

    def make(self):
        size = (128 if self.quick else 8192) * MIB
        with open(self.path("disk.raw"), "wb") as file:
            file.truncate(size)
            for at in range(0, size, 16 * MIB):
                file.seek(at)
                file.write(os.urandom(MIB) + bytes(MIB) + os.urandom(MIB))


class Copy:
    """Against the least that copies a file and leaves out its zeroes."""

    goal = 0.91
    peer = "cp"

    def inputs(self):
        return sorted({*super().inputs(), self.path("disk.raw")})

    def command(self, tool):
        if tool == "qedimg":
            return super().command(tool)
        return ["--sparse=always", "--reflink=never", self.path("disk.raw"),
                self.path("copy")]


class ConvertToQedOrCopy(Copy, ConvertToQed):
    """What cp makes is no QED image."""

    name = "cp-to-qed"
    title = "raw to QED against cp --sparse=always of the raw file"

    def verify(self, tool):
        if tool == "qedimg":
            super().verify(tool)


class ConvertToRawOrCopy(Copy, ConvertToRaw):
    """Both make the same file."""

    name = "cp-to-raw"
    title = "QED to raw against cp --sparse=always of the raw file"


class Reflink:
    """On a file system of its own, in a file, whose files can share data.  What is
    read is in the page cache, or need not be read at all."""

    states = ("warm",)
    space = 4 << 10
    needs = ("mkfs.xfs", "mount", "umount")
    mounts = True

    def __init__(self, directory, quick):
        super().__init__(os.path.join(directory, "reflink"), quick)

    def make(self):
        if not os.path.ismount(self.directory):
            image = self.directory + ".xfs"
            with open(image, "wb") as file:
                file.truncate((512 if self.quick else 4096) * MIB)
            run("mkfs.xfs", "-q", "-m", "reflink=1", image)
            os.makedirs(self.directory, exist_ok=True)
            run("mount", "-o", "loop", image, self.directory)
        super().make()

    def unmake(self):
        if os.path.ismount(self.directory):
            run("umount", self.directory)

    def before(self, tool):
        """What is to be shared has to be on the disk first."""
        super().before(tool)
        run("sync", "--file-system", self.directory)

    def command(self, tool):
        """Each as it shares, or lets the host copy."""
        command = super().command(tool)
        if tool == "qemu-img" and self.peer == tool:
            command.insert(1, "-C")
        return command


class ReflinkToQed(Reflink, ConvertToQed):
    """qemu-img cannot have anything copied into a QED image."""

    name = "reflink-to-qed"
    title = "raw to QED by reflink, 1 GiB on XFS"


class ReflinkToRaw(Reflink, ConvertToRaw):
    """Back again."""

    name = "reflink-to-raw"
    title = "QED to raw by reflink, 1 GiB on XFS"


class Share(Copy):
    """Against a copy that shares all of its data."""

    goal = None

    def command(self, tool):
        if tool == "qedimg":
            return super().command(tool)
        return ["--reflink=always", self.path("disk.raw"), self.path("copy")]


class ReflinkToQedOrCopy(Reflink, Share, ConvertToQedOrCopy):
    """The image has tables, too."""

    name = "cp-reflink-to-qed"
    title = "raw to QED by reflink against cp --reflink=always"


class ReflinkToRawOrCopy(Reflink, Share, ConvertToRawOrCopy):
    """Both make the same file, but from another."""

    name = "cp-reflink-to-raw"
    title = "QED to raw by reflink against cp --reflink=always"


ALL = (CheckFull, Commit, Compact, Compare, Flatten, Rebase, ConvertToQed,
       ConvertToRaw, ConvertToQedDurably, ConvertToRawDurably, Sparse,
       ConvertToQedOrCopy, ConvertToRawOrCopy, ReflinkToQed, ReflinkToRaw,
       ReflinkToQedOrCopy, ReflinkToRawOrCopy)
