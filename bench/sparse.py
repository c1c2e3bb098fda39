# SPDX-License-Identifier: LGPL-2.1-or-later
"""Large QED images that are small files: tables and a little data, written
straight into the file (man/qed.5 describes it), with holes in between."""

import array
import os
import random
import struct
import sys

from datasets import CLUSTER

TABLE = 4 * CLUSTER             # bytes of a table
ENTRIES = TABLE // 8
TABLE_SPAN = ENTRIES * CLUSTER  # bytes of the disk that an L2 table maps
SLICE_SPAN = 4096 // 8 * CLUSTER    # and a page of one, as qedfs keeps it
PAGE = 4096


def _word(number):
    return struct.pack("<Q", number)


def page_at(offset):
    """What the page at an offset of the disk holds: its place."""
    return _word(offset) * (PAGE // 8)


def spread(disk_size, ntables, nclusters):
    """Offsets, ascending, of about so many clusters, evenly over as many L2
    tables, evenly over the disk; fewer tables if the disk has no more."""
    all_tables = -(-disk_size // TABLE_SPAN)
    ntables = min(ntables, all_tables)
    span = min(TABLE_SPAN, disk_size)
    step = span // CLUSTER * ntables // nclusters * CLUSTER
    starts = [number * all_tables // ntables * TABLE_SPAN
              for number in range(ntables)]
    return [start + inside for start in starts
            for inside in range(0, span, step)]


def _header(disk_size):
    return struct.pack("<4sIIIQQQQQII", b"QED\0", CLUSTER, TABLE // CLUSTER, 1,
                       0, 0, 0, CLUSTER, disk_size, 0, 0)


def _words(numbers):
    words = array.array("Q", numbers)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def write_full(path, disk_size):
    """An image whose clusters all are allocated, one behind the other, each
    table before its own.  The clusters are holes."""
    at = CLUSTER + TABLE
    tables = []
    with open(path, "wb") as file:
        fd = file.fileno()
        for start in range(0, disk_size, TABLE_SPAN):
            tables.append(at)
            first = at + TABLE
            at = first + min(TABLE_SPAN, disk_size - start)
            os.pwrite(fd, _words(range(first, at, CLUSTER)), first - TABLE)
        os.pwrite(fd, _words(tables), CLUSTER)
        os.pwrite(fd, _header(disk_size), 0)
        os.ftruncate(fd, at)
        os.fsync(fd)


def write_gaps(path, mebibytes):
    """An image whose file holds so many MiB of data, real and random, of which
    every other MiB belongs to nothing; the others are the disk's first ones."""
    count = (1 << 20) // CLUSTER
    start = CLUSTER + 2 * TABLE
    with open(path, "wb") as file:
        fd = file.fileno()
        os.pwrite(fd, _header(mebibytes << 20), 0)
        os.pwrite(fd, _word(CLUSTER + TABLE), CLUSTER)
        for number in range(mebibytes):
            at = start + (number << 20)
            os.pwrite(fd, os.urandom(1 << 20), at)
            if number % 2:
                os.pwrite(fd, _words(range(at, at + (1 << 20), CLUSTER)),
                          CLUSTER + TABLE + number // 2 * count * 8)
        os.fsync(fd)


class SparseImage:
    """An image with a cluster at each of the offsets, which ascend; the first
    page of each is page_at() of it, the rest a hole."""

    def __init__(self, path, disk_size, offsets):
        self.path = path
        self.disk_size = disk_size
        self.offsets = offsets
        tables = sorted({offset // TABLE_SPAN for offset in offsets})
        self.tables = {number: CLUSTER + TABLE * place
                       for place, number in enumerate(tables, 1)}
        self._write()

    @property
    def metadata(self):
        """Bytes of L2 tables that lead to the clusters, in whole pages."""
        return PAGE * len({offset // SLICE_SPAN for offset in self.offsets})

    def _write(self):
        data = CLUSTER + TABLE * (1 + len(self.tables))
        with open(self.path, "wb") as file:
            fd = file.fileno()
            os.ftruncate(fd, data + CLUSTER * len(self.offsets))
            os.pwrite(fd, _header(self.disk_size), 0)
            for number, table in self.tables.items():
                os.pwrite(fd, _word(table), CLUSTER + 8 * number)
            for offset in self.offsets:
                entry = offset % TABLE_SPAN // CLUSTER
                table = self.tables[offset // TABLE_SPAN]
                os.pwrite(fd, _word(data), table + 8 * entry)
                os.pwrite(fd, page_at(offset), data)
                data += CLUSTER
            os.fsync(fd)

    def verify(self, disk, count):
        """Some of the pages, as a server shows them."""
        with open(disk, "rb", buffering=0) as file:
            for offset in random.Random(0).sample(self.offsets, count):
                if os.pread(file.fileno(), PAGE, offset) != page_at(offset):
                    raise RuntimeError(f"{disk}: wrong data at {offset}")
