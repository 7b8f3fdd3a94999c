"""Numbers and texts as people read them, in messages, tables and plots."""

from __future__ import annotations

import math
from itertools import accumulate


def format_probability(logprob: float) -> str:
    """The probability for a natural logarithm, in a few characters even if it is too small for a float."""
    if logprob > math.log(0.00095):
        return f"{math.exp(min(logprob, 0.0)):.4f}"
    exponent, mantissa = divmod(logprob / math.log(10), 1)
    digits, _, carried = f"{10**mantissa:.1e}".partition("e")
    return f"{digits}e{int(exponent) + int(carried)}"


def one_line(text: str) -> str:
    """A text on one line: line ends become ⏎, other unprintable characters become escapes."""
    return "".join(
        letter if letter.isprintable() else "⏎" if letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def truncate_end(text: str, cells: int) -> str:
    """A text in at most ``cells`` terminal cells; the end of a longer one is replaced by …"""
    from rich.cells import cell_len, set_cell_size  # the command line imports this module at startup

    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1).rstrip() + "…"


def truncate_start(text: str, cells: int) -> str:
    """A text in at most ``cells`` terminal cells; the start of a longer one is replaced by …"""
    from rich.cells import cell_len

    if cell_len(text) <= cells:
        return text
    sizes = accumulate(cell_len(letter) for letter in reversed(text))
    return "…" + text[len(text) - sum(size < cells for size in sizes) :]


def percent(share: float) -> str:
    """A share as "3.4 %" or "62 %"; never "0 %" for a small share or "100 %" for nearly all."""
    value = share * 100
    if value in (0, 100):
        return f"{value:.0f} %"
    if value < 0.1:
        return "under 0.1 %"
    if value > 99.9:
        return "over 99.9 %"
    return f"{value:.1f} %" if value < 10 or value > 99 else f"{value:.0f} %"


def plural(count: int, one: str, many: str) -> str:
    """A count with its noun: "1 word", "2,000 words"."""
    return f"{count:,} {one if count == 1 else many}"
