# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured against something that grows."""

import os
import time

import replay
import runner
from command import run
from datasets import GIB, MIB
from fio import Job
from sparse import SparseImage, spread

DEPTH = 32
# More than the fastest server answers in a second.
READS_PER_SECOND = 300000


def power(name):
    """A size as users write it, in bytes."""
    return int(name[:-1]) << {"K": 10, "M": 20, "G": 30, "T": 40}[name[-1]]


class Curve:
    """Something that is measured at each of some points, on some servers."""

    name = None
    needs = ()                  # programs besides the servers'
    title = None
    axis = None                 # what the points are
    points = ()
    servers = ()                # names
    quantities = ()             # (key in the sample, title, decimals)

    def __init__(self, directory, images, seconds):
        self.directory = directory
        self.images = images
        self.seconds = seconds

    def measure(self, server, point, seed):
        """A dict with all quantities."""
        raise NotImplementedError

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _random_reads(self, image, server, disk, seed):
        """IOPS of page reads at the image's clusters, and the peak memory."""
        path = self._path("trace")
        count = int(READS_PER_SECOND * self.seconds)
        replay.random_reads(path, seed, image.offsets, count)
        job = Job(self.name, disk, {"direct": 1, "ioengine": "libaio",
                                    "iodepth": DEPTH})
        outcome = job.replay(self.seconds, path).run(self.directory,
                                                     server.abort)
        _, memory = server.usage()
        return outcome.iops, memory


class SizeCurve(Curve):
    """The image has the same number of clusters at every size, in as many
    tables as there are, up to a limit."""

    name = "size"
    title = "Mount time and random lookups against the disk's size"
    axis = "size of the disk"
    points = ("1G", "16G", "256G", "4T", "64T")
    servers = ("qedfs", "qsd-qed")
    quantities = (("mount_ms", "mount, ms", 1), ("iops", "reads/s", 0),
                  ("rss_kib", "peak KiB", 0))

    TABLES = 2048
    CLUSTERS = 4096
    CHECKED = 64

    def __init__(self, *args):
        super().__init__(*args)
        self.made = {}

    def _image(self, point):
        if point not in self.made:
            size = power(point)
            offsets = spread(size, self.TABLES, self.CLUSTERS)
            self.made[point] = SparseImage(self._path(f"size-{point}.qed"),
                                           size, offsets)
        return self.made[point]

    def measure(self, server, point, seed):
        image = self._image(point)
        run("sync", "--file-system", self.directory)
        begin = time.monotonic()
        disk = server.start(image.path)
        mounted = time.monotonic() - begin
        image.verify(disk, self.CHECKED)
        iops, memory = self._random_reads(image, server, disk, seed)
        server.stop()
        return {"mount_ms": round(mounted * 1000, 1), "iops": round(iops),
                "rss_kib": memory}


class CacheCurve(Curve):
    """Random reads all over a disk whose tables do not fit the smaller
    budgets."""

    name = "l2-cache"
    title = "Random reads against the budget for L2 tables, of which 32 MiB " \
        "are in use"
    axis = "-o l2_cache="
    points = ("256K", "1M", "4M", "8M", "16M", "32M", "64M")
    servers = ("qedfs",)
    quantities = (("iops", "reads/s", 0), ("rss_kib", "peak KiB", 0))

    SIZE = 256 * GIB
    TABLES = 128
    CLUSTERS = 32768
    image = None

    def _made(self):
        if not self.image:
            offsets = spread(self.SIZE, self.TABLES, self.CLUSTERS)
            self.image = SparseImage(self._path("cache.qed"), self.SIZE,
                                     offsets)
            assert self.image.metadata == 32 * MIB
        return self.image

    def measure(self, server, point, seed):
        image = self._made()
        server.options = ("-o", f"l2_cache={point}")
        try:
            disk = server.start(image.path)
        finally:
            server.options = ()
        iops, memory = self._random_reads(image, server, disk, seed)
        server.stop()
        return {"iops": round(iops), "rss_kib": memory}


class ReadCurve(Curve):
    """4 KiB random reads of an image in the page cache."""

    quantities = (("iops", "reads/s", 0),)

    def _read(self, server, jobs, depth):
        path, = self.images.get("full", server.format)
        run("sync", "--file-system", self.directory)
        runner.warm(path)
        disk = server.start(path)
        job = Job(self.name, disk,
                  {"direct": 1, "ioengine": "libaio", "rw": "randread",
                   "bs": "4k", "iodepth": depth, "numjobs": jobs,
                   "norandommap": 1})
        job.until(self.seconds, self.images.size)
        outcome = job.run(self.directory, server.abort)
        server.stop()
        return {"iops": round(outcome.iops)}


class JobsCurve(ReadCurve):
    """How many processes ask at once."""

    name = "jobs"
    title = "4 KiB random reads against the number of jobs, each of depth 8"
    axis = "jobs"
    points = (1, 2, 4, 8)
    servers = ("floor", "qedfs", "qsd-qed", "qsd-qcow2")

    def measure(self, server, point, seed):
        return self._read(server, point, 8)


class WorkersCurve(ReadCurve):
    """How many threads answer."""

    name = "workers"
    title = "4 KiB random reads, depth 32, against the number of workers"
    axis = "-o max_threads="
    points = (1, 2, 4, 8, 12, 24)
    servers = ("qedfs",)

    def measure(self, server, point, seed):
        server.options = ("-o", f"max_threads={point}")
        try:
            return self._read(server, 1, 32)
        finally:
            server.options = ()


ALL = (SizeCurve, CacheCurve, JobsCurve, WorkersCurve)
