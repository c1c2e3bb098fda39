# SPDX-License-Identifier: LGPL-2.1-or-later
"""How many times as fast one server is as others."""

import statistics


def _speeds(samples, is_time):
    """By round."""
    return {sample["round"]: 1 / sample["value"] if is_time
            else sample["value"] for sample in samples}


def ratio(samples, others, is_time):
    """To the best of the others, a list of lists of samples.  It is the median
    of the rounds' own ratios, which load that comes and goes moves less than it
    moves medians; None if no round has both.  Ratios of times are turned over:
    above 1 is faster."""
    rivals = [_speeds(other, is_time) for other in others]
    ratios = []
    for turn, speed in _speeds(samples, is_time).items():
        met = [speeds[turn] for speeds in rivals if turn in speeds]
        if met:
            ratios.append(speed / max(met))
    return statistics.median(ratios) if ratios else None
