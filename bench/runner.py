# SPDX-License-Identifier: LGPL-2.1-or-later
"""One measurement: an image made ready, a server started, a workload run."""

import contextlib
import mmap
import os

import replay
from command import run
from datasets import CLUSTER, GIB, MIB
from fio import Job
from install import Install, Tree


MAP_LOCKED = 0x2000             # x86's and arm64's; Python has no name for it


def warm(path):
    """The file into the page cache; what is not there yet in single pages, as
    by rewrite_by_pages()."""
    piece = bytearray(MIB)
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        while file.readinto(piece):
            pass


def rewrite(path):
    """Every page, with what it holds: the first write to a page that was read
    costs the host more than the next ones, and how many of an image's have been
    written is chance, as long as another server may have done it."""
    run("dd", "bs=4k", "conv=notrunc", "status=none", f"if={path}", f"of={path}")


def _map(path, flags):
    warm(path)
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ,
                         flags=mmap.MAP_SHARED | mmap.MAP_POPULATE | flags)


def pin(path):
    """The same, and there it stays as long as what is returned: a system that
    has been up for long gives some of it back while others are measured, and
    which server then reads the disk is chance."""
    try:
        return _map(path, MAP_LOCKED)
    except OSError:             # more than this user may lock
        return _map(path, 0)


def cool(path):
    """The file, which has no dirty pages, out of the page cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch_memory(size):
    """In a virtual machine memory that was not used for a while may have to
    come from the host first, at a tenth of the speed; whoever is measured next
    would pay for it."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    with mmap.mmap(-1, min(size, free // 2), mmap.MAP_PRIVATE |
                   mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        pass


class Runner:
    """Runs workloads for `seconds` each, with scratch files in a directory."""

    # More than the fastest server writes in a second.
    SCATTERED_PER_SECOND = 150000
    # Bytes per second: more than any server writes.
    FASTEST = 4 * GIB
    # A workload of so many bytes is cut off after so many times `seconds`.
    LONGEST = 2

    def __init__(self, directory, datasets, seconds, tree_size):
        self.directory = directory
        self.datasets = datasets
        self.seconds = seconds
        self.tree = Tree(directory, tree_size)
        self.trace = os.path.join(directory, "trace")
        self.trace_of = None        # the workload and seed it is for

    def _sync(self):
        """Nothing is written back while something is measured."""
        run("sync", "--file-system", self.directory)

    def _prepare(self, workload, files, seed, pins):
        """Closing `pins` lets go of what is to stay in the page cache."""
        if workload.scattered:
            self._trace(workload, seed)
        if workload.in_place:
            warm(files[0])      # or dd would read ahead, into large folios
            rewrite(files[0])
        self._sync()
        for path in files:
            if workload.cold:
                cool(path)
            elif not self.datasets.once(workload.dataset) or path != files[0]:
                pins.enter_context(pin(path))
        if workload.install:
            pins.enter_context(pin(self.tree.make()))
        if workload.memory:
            touch_memory(min(workload.memory,
                             int(self.FASTEST * self.seconds)))

    def _trace(self, workload, seed):
        """The same for all servers of a round."""
        if self.trace_of != (workload.name, seed):
            size = self.datasets.disk_size(workload.dataset)
            count = int(self.SCATTERED_PER_SECOND * self.seconds)
            replay.scattered_writes(self.trace, seed, size, CLUSTER, count,
                                    workload.fsync_every)
            self.trace_of = (workload.name, seed)

    def _job(self, workload, server, disk):
        size = self.datasets.disk_size(workload.dataset)
        direct = workload.direct and server.direct
        engine = "libaio" if workload.direct else "psync"
        job = Job(workload.name, disk, workload.options |
                  {"direct": int(direct), "ioengine": engine})
        if workload.scattered:
            return job.replay(self.seconds, self.trace)
        if workload.once:
            return job.once(self.LONGEST * self.seconds, size, workload.once)
        return job.until(self.seconds, size)

    def _perform(self, workload, server, disk):
        """The value, and the number of requests (files, of an install)."""
        if workload.install:
            place = os.path.join(self.directory, "installed")
            seconds = Install(disk, place, server.abort).run(self.tree.path)
            return round(seconds, 3), self.tree.nfiles
        job = self._job(workload, server, disk)
        outcome = job.run(self.directory, server.abort)
        return outcome.value(workload.unit), outcome.requests

    def _finish(self, workload, server, files):
        """What was not written back of an image of no further use need not
        be: its file goes before that."""
        if self.datasets.once(workload.dataset):
            server.kill()
            os.unlink(files[0])
        else:
            server.stop()

    def measure(self, workload, server, seed):
        """One measurement as a dict, or None where there is no such image."""
        if workload.servers and server.name not in workload.servers:
            return None
        files = self.datasets.get(workload.dataset, server.format)
        if not files:
            return None
        with contextlib.ExitStack() as pins:
            self._prepare(workload, files, seed, pins)
            disk = server.start(files[0])
            before, _ = server.usage()
            value, requests = self._perform(workload, server, disk)
            after, memory = server.usage()
            self._finish(workload, server, files)
        return {"round": seed, "value": value, "ops": requests,
                "cpu_seconds": round(after - before, 3),
                "cpu_us_per_op": round((after - before) * 1e6 / requests, 3),
                "peak_rss_kib": memory}
