# SPDX-License-Identifier: LGPL-2.1-or-later
"""fio, run once on a disk."""

import json

from command import run
from datasets import MIB

# Beyond the time that it was given, for whatever it finishes after that.
PATIENCE = 300


class Job:
    """What fio is to do; `options` as on its command line."""

    def __init__(self, name, disk, options):
        self.name = name
        self.disk = disk
        self.options = dict(options)

    def until(self, seconds, size):
        """Random or repeated requests to the whole disk, for a time."""
        self.options |= {"size": size, "time_based": 1}
        return self._limit(seconds)

    def once(self, seconds, size, amount):
        """So many bytes, but only for a time."""
        self.options |= {"size": size, "io_size": min(amount, size)}
        return self._limit(seconds)

    def replay(self, seconds, trace):
        """A list of requests, but only for a time."""
        self.options |= {"read_iolog": trace, "replay_redirect": self.disk,
                         "replay_no_stall": 1}
        return self._limit(seconds)

    def _limit(self, seconds):
        self.options["runtime"] = f"{int(seconds * 1000)}ms"
        self.seconds = seconds
        return self

    def _command(self):
        options = {"name": self.name, "output-format": "json", "eta": "never",
                   "disk_util": 0, "invalidate": 0, "group_reporting": 1,
                   "randrepeat": 0} | self.options
        if "read_iolog" not in options:
            options["filename"] = self.disk
        return ["fio"] + [f"--{key}={value}" for key, value in options.items()]

    def run(self, directory, stuck):
        """fio's account of the direction in which it moved bytes."""
        output = run(*self._command(), patience=self.seconds + PATIENCE,
                     stuck=stuck, cwd=directory)
        job = json.loads(output[output.index("{"):])["jobs"][0]
        if job["error"]:
            raise RuntimeError(f"fio met error {job['error']}")
        side = max(job["read"], job["write"], key=lambda s: s["total_ios"])
        if not side["total_ios"]:
            raise RuntimeError(f"fio did nothing: {output}")
        return Outcome(side)


class Outcome:
    """What fio measured."""

    def __init__(self, side):
        self.requests = side["total_ios"]
        self.iops = side["iops"]
        self.mib_per_second = side["bw_bytes"] / MIB

    def value(self, unit):
        """As IOPS or MiB/s."""
        return self.iops if unit == "IOPS" else self.mib_per_second
