# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results: kept by workload and server, shown as medians and ratios."""

import json
import os
import platform
import statistics

EXPORTS = ("qsd-qed", "qsd-qcow2")


def _shown(value, unit):
    if unit == "IOPS" or value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}"


def _row(cells):
    return "| " + " | ".join(cells) + " |"


class Results:
    def __init__(self, workloads, servers, settings):
        self.workloads = workloads
        self.servers = servers
        self.settings = settings
        self.samples = {}           # (workload, server): list of dicts

    def add(self, workload, server, sample):
        self.samples.setdefault((workload.name, server), []).append(sample)

    def median(self, workload, server, key="value"):
        samples = self.samples.get((workload.name, server))
        if not samples:
            return None
        return statistics.median(sample[key] for sample in samples)

    def _ratio(self, workload, server, against):
        """The median of the rounds' own ratios, which load that comes and goes
        moves less than it moves medians; to the best of several."""
        ours = self.samples.get((workload.name, server), [])
        others = [self.samples[workload.name, other] for other in against
                  if (workload.name, other) in self.samples]
        ratios = [sample["value"] / max(other["value"] for other in row)
                  for sample, *row in zip(ours, *others) if row]
        return f"{statistics.median(ratios):.2f}" if ratios else "-"

    def _table(self, first, line):
        heads = [first] + line[0]
        rows = [_row(heads), _row(["---"] + ["---:"] * len(line[0]))]
        return rows + [_row([title] + cells) for title, cells in line[1]]

    def _values(self):
        lines = []
        for workload in self.workloads:
            cells = []
            for server in self.servers:
                value = self.median(workload, server)
                cells.append("-" if value is None else
                             _shown(value, workload.unit))
            cells += [self._ratio(workload, "qedfs", ["floor"]),
                      self._ratio(workload, "qedfs", ["qsd-qed"]),
                      self._ratio(workload, "qedfs", EXPORTS)]
            lines.append((f"{workload.title}, {workload.unit}", cells))
        heads = list(self.servers) + ["qedfs / floor", "qedfs / qsd-qed",
                                      "qedfs / best qsd"]
        return self._table("median", (heads, lines))

    def _costs(self):
        """Of the servers that have processes of their own."""
        servers = [server for server in self.servers
                   if server not in ("raw", "loop")]
        lines = []
        for workload in self.workloads:
            cells = []
            for server in servers:
                cpu = self.median(workload, server, "cpu_us_per_op")
                memory = self.median(workload, server, "peak_rss_kib")
                cells.append("-" if cpu is None else
                             f"{cpu:.1f} / {memory / 1024:.0f}")
            lines.append((workload.title, cells))
        return self._table("CPU us per request / peak MiB", (servers, lines))

    def table(self):
        return "\n".join(self._values() + [""] + self._costs()) + "\n"

    def _spread(self, samples):
        values = [sample["value"] for sample in samples]
        return {"median": statistics.median(values), "min": min(values),
                "max": max(values), "samples": samples}

    def as_json(self):
        rows = []
        for workload in self.workloads:
            row = {"name": workload.name, "title": workload.title,
                   "unit": workload.unit, "servers": {}}
            for server in self.servers:
                samples = self.samples.get((workload.name, server))
                if samples:
                    row["servers"][server] = self._spread(samples)
            rows.append(row)
        machine = {"kernel": platform.release(), "cpus": os.cpu_count()}
        return json.dumps({"settings": self.settings, "machine": machine,
                           "workloads": rows}, indent=1) + "\n"
