# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: a table."""

from dataclasses import dataclass, field

import install
from datasets import GIB, MIB


@dataclass
class Workload:
    """Something to do to a disk.  What is not said otherwise is done by fio,
    for a time, to an image that is in the page cache."""
    name: str
    title: str
    dataset: str
    unit: str                   # "IOPS", "MiB/s", or "s": less is better
    options: dict = field(default_factory=dict)     # fio's
    direct: bool = True
    once: int = 0               # it ends after so many bytes
    scattered: bool = False     # writes a page in each of many clusters
    fsync_every: int = 0        # writes
    cold: bool = False          # nothing of the image is in the page cache
    in_place: bool = False      # writes over what is there
    install: bool = False       # install.py instead of fio
    servers: tuple = ()         # all that have such an image if empty

    @property
    def memory(self):
        """Bytes that are touched before: more than it puts into the page
        cache."""
        return GIB if self.scattered or self.install else 2 * self.once

    @property
    def needs(self):
        """Programs besides the servers'."""
        return install.NEEDS if self.install else ()


def _random(rw, depth, jobs=1):
    return {"rw": rw, "bs": "4k", "iodepth": depth, "numjobs": jobs,
            "norandommap": 1}


ALL = (
    Workload("read-seq", "read 1 MiB sequential", "full", "MiB/s",
             {"rw": "read", "bs": "1m", "iodepth": 1}),
    Workload("read-d1", "read 4 KiB random, depth 1", "full", "IOPS",
             _random("randread", 1)),
    Workload("read-d32", "read 4 KiB random, depth 32", "full", "IOPS",
             _random("randread", 32)),
    Workload("read-4x8", "read 4 KiB random, 4 jobs x depth 8", "full",
             "IOPS", _random("randread", 8, 4)),
    Workload("read-1-layer", "read 4 KiB random, depth 32, 1 layer",
             "chain-1", "IOPS", _random("randread", 32)),
    Workload("read-3-layers", "read 4 KiB random, depth 32, 3 layers",
             "chain-3", "IOPS", _random("randread", 32)),
    Workload("read-16-layers", "read 4 KiB random, depth 32, 16 layers",
             "chain-16", "IOPS", _random("randread", 32)),
    Workload("read-cold", "cold read 4 KiB random, depth 32", "cold", "IOPS",
             _random("randread", 32), cold=True),
    Workload("write-d1", "write 4 KiB in place, random, depth 1", "full",
             "IOPS", _random("randwrite", 1), in_place=True),
    Workload("write-d16", "write 4 KiB in place, random, depth 16", "full",
             "IOPS", _random("randwrite", 16), in_place=True),
    Workload("buffered-read", "buffered read, sequential", "full", "MiB/s",
             {"rw": "read", "bs": "128k"}, direct=False, once=GIB),
    Workload("buffered-write", "buffered write 4 KiB in place, sequential",
             "full", "MiB/s", {"rw": "write", "bs": "4k"}, direct=False,
             once=512 * MIB, in_place=True),
    Workload("first-seq", "first write 1 MiB sequential", "fresh", "MiB/s",
             {"rw": "write", "bs": "1m", "iodepth": 4}, once=GIB),
    Workload("first-64k", "first write 64 KiB random, depth 16", "fresh",
             "MiB/s", {"rw": "randwrite", "bs": "64k", "iodepth": 16},
             once=GIB),
    Workload("first-4k", "first write 4 KiB random, depth 16", "fresh",
             "IOPS", {"iodepth": 16}, scattered=True),
    Workload("first-4k-sync", "first write 4 KiB random, fsync every 32",
             "fresh", "IOPS", {"iodepth": 1}, scattered=True, fsync_every=32),
    Workload("cow-4k", "copy-on-write 4 KiB random, two layers below, depth 16",
             "cow", "IOPS", {"iodepth": 16}, scattered=True),
    Workload("install", "install: losetup, mkfs.ext4, untar, sync, umount",
             "fresh", "s", install=True,
             servers=("floor", "loop", "qedfs", "qsd-qed", "qsd-qcow2",
                      "nbdfuse")),
)
