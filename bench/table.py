# SPDX-License-Identifier: LGPL-2.1-or-later
"""Results as text: Markdown tables."""


def number(value, digits=None):
    """Thousands apart; decimals where they say something."""
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}".replace(",", " ")


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def table(heads, lines):
    """The first column is text, the others are figures."""
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return [_row(cells) for cells in [heads, rule] + lines]
