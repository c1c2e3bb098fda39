# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of a virtual machine that its host takes back.

Where free pages are reported to the host (the kernel's page reporting), whoever
touches a page next waits for the host to give one.  That can take longer than all
else that is measured, and which server it hits is chance.
"""

import sys

from command import FAILURES, run, say

ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
LARGEST = 10                    # pages are never joined to more than 2 to the 10th
SPARE = 1 << 20                 # KiB that stay untouched

TOUCH = """
import mmap, sys
with open("/proc/self/oom_score_adj", "w") as score:
    score.write("1000")
mmap.mmap(-1, int(sys.argv[1]),
          flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
"""


def _order():
    """Free blocks from this one on are reported; None: nobody asks for them."""
    try:
        with open(ORDER, encoding="ascii") as parameter:
            order = int(parameter.read())
    except (OSError, ValueError):
        return None
    return order if 0 <= order <= LARGEST else None


def _set_order(order):
    with open(ORDER, "w", encoding="ascii") as parameter:
        parameter.write(str(order))


def _free_kib():
    with open("/proc/meminfo", encoding="ascii") as lines:
        sizes = dict(line.split(":") for line in lines)
    return int(sizes["MemFree"].split()[0])


def _touch_free():
    """All of it, once."""
    size = (_free_kib() - SPARE) << 10
    if size > 0:
        run(sys.executable, "-c", TOUCH, str(size))


class Kept:
    """For as long as it lasts, if that is wanted, the machine keeps its memory,
    which has been touched."""

    def __init__(self, wanted):
        self.order = _order() if wanted else None

    def __enter__(self):
        if self.order is None:
            return
        say("free pages are not reported to the host until the end; "
            f"touching all of them ({ORDER} was {self.order})")
        try:
            self._keep()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        if self.order is not None:
            self._restore()

    def _keep(self):
        try:
            _set_order(LARGEST + 1)
        except OSError as error:
            say(f"free pages are reported all the same: {error}")
            self.order = None
        try:
            _touch_free()
        except FAILURES as error:
            say(f"not all memory has been touched: {error}")

    def _restore(self):
        try:
            _set_order(self.order)
        except OSError as error:
            say(f"{ORDER} could not be set back to {self.order}: {error}")
