#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""usage: chart.py RESULTS.json >CHART.svg

Draws what bench measured: for each workload how fast each server is, as a
multiple of the best of QEMU's exports.  The axis is logarithmic, so that twice
and half as fast are equally long bars.
"""

import json
import math
import sys
from xml.sax.saxutils import escape

from ratio import ratio

BASE = ("qsd-qed", "qsd-qcow2")

# In the order in which they are drawn.  The colours are told apart by those
# who see few, and the chart brings its own background, light or dark page.
SERVERS = {"qedfs": ("qedfs", "#0072b2"),
           "floor": ("the least FUSE daemon, a raw file", "#9a9a9a"),
           "qsd-qed": ("qemu-storage-daemon, QED", "#d55e00"),
           "qsd-qcow2": ("qemu-storage-daemon, qcow2", "#e6a23c")}

FIRST = "qedfs"                 # its figures are written out

WIDTH = 940
LEFT = 376                      # where the axis begins
RIGHT = 84                      # of it, room for the figures
TOP = 92
BAR = 7
GAP = 10                        # between workloads
STEPS = (1, 2, 5)


def ticks(low, high):
    """1, 2, 5, 10... and their inverses, to enclose the two."""
    values = sorted(step * 10.0 ** power for power in range(-3, 5)
                    for step in STEPS)
    first = max(value for value in values if value <= low)
    last = min(value for value in values if value >= high)
    return [value for value in values if first <= value <= last]


def samples(workload, server):
    """None of them if it was not measured."""
    return workload["servers"].get(server, {}).get("samples", [])


def groups(results, servers, base):
    """(title, [(server, ratio, figure)]) of each workload, of those that can
    be compared."""
    found = []
    for workload in results["workloads"]:
        bars = []
        for server in servers:
            value = ratio(samples(workload, server),
                          [samples(workload, other) for other in base],
                          workload["better"] == "less")
            if value:
                median = workload["servers"][server]["median"]
                bars.append((server, value,
                             f"{median:.3g} {workload['unit']}"))
        if bars:
            found.append((workload["title"], bars))
    return found


class Axis:
    """From ratios to places."""

    def __init__(self, ratios):
        self.ticks = ticks(min(ratios + [0.9]), max(ratios + [1.1]))
        self.low = math.log(self.ticks[0])
        self.span = math.log(self.ticks[-1]) - self.low

    def x(self, value):
        """In pixels."""
        part = (math.log(value) - self.low) / self.span
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)


def text(x, y, content, style=""):
    """One line of text."""
    return f'<text x="{x}" y="{y}"{style}>{escape(content)}</text>'


def grid(axis, bottom):
    """Vertical lines with their figures; the one at 1 is QEMU."""
    lines = []
    for value in axis.ticks:
        x = axis.x(value)
        kind = "base" if value == 1 else "grid"
        lines.append(f'<line class="{kind}" x1="{x}" y1="{TOP - 8}" '
                     f'x2="{x}" y2="{bottom}"/>')
        lines.append(text(x, TOP - 14, f"{value:g}\u00d7", ' class="tick"'))
    return lines


def bar(axis, y, item):
    """From 1 to the ratio; never so short that it is not seen."""
    server, value, figure = item
    x, one = axis.x(value), axis.x(1)
    width = max(abs(x - one), 2)
    name, colour = SERVERS[server]
    return (f'<rect x="{min(x, one):.1f}" y="{y}" width="{width:.1f}" '
            f'height="{BAR - 1}" fill="{colour}">'
            f'<title>{escape(name)}: {escape(figure)}, '
            f'{value:.2f}\u00d7</title></rect>')


def group(axis, y, name, bars):
    """A workload: its title, its bars, and the figure of the first server."""
    middle = y + BAR * len(bars) / 2 + 4
    lines = [text(LEFT - 12, middle, name, ' class="name"')]
    lines += [bar(axis, y + BAR * number, item)
              for number, item in enumerate(bars)]
    if bars[0][0] == FIRST:
        lines.append(text(WIDTH - 20, middle, f"{bars[0][1]:.2f}\u00d7",
                          ' class="figure"'))
    return lines


def legend(servers):
    """Above the axis."""
    lines, x = [], 20
    for server in servers:
        name, colour = SERVERS[server]
        lines.append(f'<rect x="{x}" y="44" width="12" height="12" '
                     f'fill="{colour}"/>')
        lines.append(text(x + 17, 54, name))
        x += 40 + round(6.8 * len(name))
    return lines


STYLE = """text { font: 12px sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: bold }
.name { text-anchor: end }
.tick { text-anchor: middle; fill: #555; font-size: 11px }
.figure { text-anchor: end; font-weight: bold }
.grid { stroke: #ddd }
.base { stroke: #555; stroke-width: 1.5 }"""


def draw(results):
    """The chart as SVG; of a run without QEMU, against the floor."""
    measured = {server for workload in results["workloads"]
                for server in workload["servers"]}
    servers = [server for server in SERVERS if server in measured]
    base = [server for server in BASE if server in measured] or ["floor"]
    shown = groups(results, servers, base)
    axis = Axis([value for _, bars in shown for _, value, _ in bars])
    body, y = [], TOP
    if servers[:1] == [FIRST]:
        body.append(text(WIDTH - 20, TOP - 14, FIRST, ' class="figure"'))
    for name, bars in shown:
        body += group(axis, y, name, bars)
        y += BAR * len(bars) + GAP
    of_what = "QEMU's best FUSE export" if base != ["floor"] else "the floor"
    title = f"Speed as a multiple of {of_what} (right of 1\u00d7 is faster)"
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
         f'height="{y + 10}" viewBox="0 0 {WIDTH} {y + 10}" role="img">',
         f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>",
         f'<rect width="{WIDTH}" height="{y + 10}" rx="6" fill="#fafafa"/>',
         text(20, 28, title, ' class="title"')] +
        legend(servers) + grid(axis, y) + body + ["</svg>"]) + "\n"


def main():
    """The command."""
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    with open(sys.argv[1], encoding="utf-8") as file:
        sys.stdout.write(draw(json.load(file)))


if __name__ == "__main__":
    main()
