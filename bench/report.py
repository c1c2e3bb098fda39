# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results: kept by workload and server, shown as medians and ratios."""

import json
import os
import platform
import statistics

from ratio import ratio
from table import number, table

EXPORTS = ("qsd-qed", "qsd-qcow2")

# Title of a column, who is compared, and with whom: the best of these.
RATIOS = (("qedfs / floor", "qedfs", ("floor",)),
          ("qedfs / qsd-qed", "qedfs", ("qsd-qed",)),
          ("qedfs / best qsd", "qedfs", EXPORTS),
          ("floor / best qsd", "floor", EXPORTS))

NOTE = ("The last columns are ratios of speeds, of times as well: above 1 "
        "the first is faster.")


def is_time(workload):
    """Then less is better."""
    return workload.unit == "s"


def machine():
    """What figures depend on most."""
    return {"kernel": platform.release(), "cpus": os.cpu_count(),
            "memory_mib": os.sysconf("SC_PHYS_PAGES") *
            os.sysconf("SC_PAGESIZE") >> 20}


def write_json(path, data):
    """For programs."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=1) + "\n")


class Results:
    """Samples are dicts, as Runner.measure() returns them."""

    def __init__(self, workloads, servers, settings):
        self.workloads = workloads
        self.servers = servers
        self.settings = settings
        self.samples = {}           # (workload, server): list of dicts
        self.failures = {}          # (workload, server): what happened

    def add(self, workload, server, sample):
        """One measurement."""
        self.samples.setdefault((workload.name, server), []).append(sample)

    def fail(self, workload, server, reason):
        """Measures of this server count no longer."""
        self.failures[workload.name, server] = reason

    def failed(self, workload, server):
        """Whether it is of any use to try again."""
        return (workload.name, server) in self.failures

    def median(self, workload, server, key="value"):
        """None if there are no samples."""
        samples = self.samples.get((workload.name, server))
        if not samples:
            return None
        return statistics.median(sample[key] for sample in samples)

    def _ratio_cell(self, workload, server, against):
        value = ratio(self.samples.get((workload.name, server), []),
                      [self.samples.get((workload.name, other), [])
                       for other in against], is_time(workload))
        return "-" if value is None else f"{value:.2f}"

    def _value_cell(self, workload, server):
        if self.failed(workload, server):
            return "failed"
        value = self.median(workload, server)
        if value is None:
            return "-"
        return number(value, 0 if workload.unit == "IOPS" else None)

    def _values(self):
        lines = []
        for workload in self.workloads:
            unit = "time in s" if is_time(workload) else workload.unit
            cells = [self._value_cell(workload, server)
                     for server in self.servers]
            cells += [self._ratio_cell(workload, server, against)
                      for _, server, against in RATIOS]
            lines.append([f"{workload.title}, {unit}"] + cells)
        return table(["median", *self.servers,
                      *(title for title, _, _ in RATIOS)], lines)

    def _cost_cell(self, workload, server):
        cpu = self.median(workload, server, "cpu_us_per_op")
        if cpu is None:
            return "-"
        memory = self.median(workload, server, "peak_rss_kib")
        return f"{number(cpu)} / {memory / 1024:.0f}"

    def _costs(self):
        """Of the servers that have processes of their own."""
        servers = [server for server in self.servers
                   if server not in ("raw", "loop")]
        lines = [[workload.title] + [self._cost_cell(workload, server)
                                     for server in servers]
                 for workload in self.workloads]
        return table(["CPU us per request / peak MiB", *servers], lines)

    def text(self):
        """Everything, for people."""
        lines = self._values() + ["", NOTE, ""] + self._costs()
        if self.failures:
            lines += ["", "Failed:", ""]
            lines += [f"- {workload} on {server}: {reason}" for
                      (workload, server), reason in self.failures.items()]
        return "\n".join(lines) + "\n"

    def _spread(self, samples):
        values = [sample["value"] for sample in samples]
        return {"median": statistics.median(values), "min": min(values),
                "max": max(values), "samples": samples}

    def _workload_data(self, workload):
        data = {"name": workload.name, "title": workload.title,
                "unit": workload.unit,
                "better": "less" if is_time(workload) else "more",
                "servers": {}}
        for server in self.servers:
            samples = self.samples.get((workload.name, server))
            if samples:
                data["servers"][server] = self._spread(samples)
        return data

    def data(self):
        """Everything, for programs."""
        failures = [{"workload": workload, "server": server, "reason": reason}
                    for (workload, server), reason in self.failures.items()]
        return {"settings": self.settings, "machine": machine(),
                "workloads": [self._workload_data(workload)
                              for workload in self.workloads],
                "failures": failures}
