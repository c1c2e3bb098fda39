# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: fio on the disk that a server shows."""

import json
import mmap
import os
import random
import subprocess
from dataclasses import dataclass, field

from datasets import CLUSTER, GIB, MIB

PAGE = 4096


@dataclass
class Workload:
    """`once`: bytes after which it ends; else it runs for a time.
    `scattered`: its writes are one page in each of as many clusters, no cluster
    twice, in random order; `fsync_every`: with an fsync after so many."""
    name: str
    title: str
    dataset: str
    unit: str                   # "IOPS" or "MiB/s"
    options: dict = field(default_factory=dict)
    direct: bool = True
    once: int = 0
    scattered: bool = False
    fsync_every: int = 0
    only: tuple = ()            # servers; all that have the dataset if empty

    @property
    def writes(self):
        return self.scattered or "write" in self.options["rw"]


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
    Workload("read-16-layers", "read 4 KiB random, depth 32, 16 layers",
             "deep", "IOPS", _random("randread", 32)),
    Workload("write-d1", "write 4 KiB in place, random, depth 1", "full",
             "IOPS", _random("randwrite", 1)),
    Workload("write-d16", "write 4 KiB in place, random, depth 16", "full",
             "IOPS", _random("randwrite", 16)),
    Workload("buffered-read", "buffered read, sequential", "full", "MiB/s",
             {"rw": "read", "bs": "128k"}, direct=False, once=GIB),
    Workload("buffered-write", "buffered write 4 KiB in place, sequential",
             "full", "MiB/s", {"rw": "write", "bs": "4k"}, direct=False,
             once=512 * MIB),
    Workload("first-seq", "first write 1 MiB sequential", "fresh", "MiB/s",
             {"rw": "write", "bs": "1m", "iodepth": 4}, once=2 * GIB),
    Workload("first-64k", "first write 64 KiB random, depth 16", "fresh",
             "MiB/s", {"rw": "randwrite", "bs": "64k", "iodepth": 16},
             once=GIB),
    Workload("first-4k", "first write 4 KiB random, depth 16", "fresh",
             "IOPS", {"iodepth": 16}, scattered=True),
    Workload("first-4k-sync", "first write 4 KiB random, fsync every 32",
             "fresh", "IOPS", {"iodepth": 1}, scattered=True, fsync_every=32),
    Workload("cow-4k", "copy-on-write 4 KiB random, two layers below, depth 16",
             "chain", "IOPS", {"iodepth": 16}, scattered=True),
)


def _trace(path, disk, count, nclusters, fsync_every, seed):
    """A list of writes for fio; it has no rule of its own that gives them."""
    rng = random.Random(seed)
    clusters = rng.sample(range(nclusters), count)
    with open(path, "w", encoding="ascii") as file:
        file.write(f"fio version 2 iolog\n{disk} add\n{disk} open\n")
        for number, cluster in enumerate(clusters, 1):
            page = rng.randrange(CLUSTER // PAGE)
            file.write(f"{disk} write {cluster * CLUSTER + page * PAGE} "
                       f"{PAGE}\n")
            if fsync_every and number % fsync_every == 0:
                file.write(f"{disk} sync 0 0\n")
        file.write(f"{disk} close\n")


def _warm(path):
    """The image into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _touch_memory(size):
    """In a virtual machine memory that was not used for a while may have to
    come from the host first, at a tenth of the speed; whoever is measured next
    would pay for it."""
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS |
                   mmap.MAP_POPULATE):
        pass


class Runner:
    """Runs workloads for `seconds` each, with scratch files in a directory."""

    # More than the fastest server writes in a second.
    SCATTERED_PER_SECOND = 150000

    def __init__(self, directory, datasets, seconds):
        self.directory = directory
        self.datasets = datasets
        self.seconds = seconds

    def _common(self, workload, direct):
        return ["fio", f"--name={workload.name}", "--output-format=json",
                f"--direct={int(direct)}", "--invalidate=0",
                "--ioengine=" + ("libaio" if workload.direct else "psync"),
                "--group_reporting", "--randrepeat=0"]

    def _runtime(self, factor):
        return f"--runtime={int(factor * self.seconds * 1000)}ms"

    def _job(self, workload, disk, direct, seed):
        size = self.datasets.disk_size(workload.dataset)
        command = self._common(workload, direct)
        command += [f"--{key}={value}"
                    for key, value in workload.options.items()]
        if workload.scattered:
            trace = os.path.join(self.directory, "trace")
            count = min(size // CLUSTER,
                        int(self.SCATTERED_PER_SECOND * self.seconds))
            _trace(trace, disk, count, size // CLUSTER, workload.fsync_every,
                   seed)
            return command + [f"--read_iolog={trace}", "--replay_no_stall=1",
                              self._runtime(1)]
        command += [f"--filename={disk}", f"--size={size}"]
        if workload.once:
            once = min(workload.once, size)
            return command + [f"--io_size={once}",
                              self._runtime(4)]
        return command + ["--time_based", self._runtime(1)]

    def _prepare(self, workload, image):
        """Nothing is written back meanwhile; what is read is in memory."""
        if workload.dataset != "fresh":
            _warm(self.datasets.get("full", "raw"))
            _warm(image)
        os.sync()
        if workload.writes:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGESIZE")
            _touch_memory(min(3 * GIB, free // 2))

    def _fio(self, command, server):
        """A request that a hung server keeps cannot be killed."""
        fio = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               cwd=self.directory)
        try:
            output, errors = fio.communicate(timeout=20 * self.seconds + 120)
        except BaseException:
            server.abort()
            fio.kill()
            fio.wait()
            raise
        if fio.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {errors.strip()}")
        return output

    def measure(self, workload, server, seed):
        """One measurement as a dict, or None where there is no such image."""
        image = self.datasets.get(workload.dataset, server.format)
        if image is None:
            return None
        self._prepare(workload, image)
        disk = server.start(image)
        command = self._job(workload, disk, workload.direct and server.direct,
                            seed)
        before, _ = server.usage()
        output = self._fio(command, server)
        after, memory = server.usage()
        server.stop()
        return _result(workload, output, after - before, memory)


def _result(workload, output, cpu, memory):
    job = json.loads(output[output.index("{"):])["jobs"][0]
    side = job["write" if workload.writes else "read"]
    value = side["iops"] if workload.unit == "IOPS" else \
        side["bw_bytes"] / MIB
    done = side["total_ios"]
    if done == 0:
        raise RuntimeError(f"fio did nothing: {output}")
    return {"value": value, "ops": done, "cpu_seconds": round(cpu, 3),
            "cpu_us_per_op": round(cpu * 1e6 / done, 3),
            "peak_rss_kib": memory}
