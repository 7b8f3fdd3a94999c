"""Colors of scores in plots, pages and the terminal: blue for an answer, orange against it, purple for an amount.

Zero is white and the largest score has the full color. Blue and orange stay distinct for color-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

FOR, AGAINST, AMOUNT = "#2b6cb0", "#d9730d", "#6b3fa0"

LEVELS = 10
_MAX_OPACITY = 0.62  # keeps text readable on the strongest color


def strength(score: float, scale: float) -> float:
    """A score relative to the score of full color, from -1 to 1; 0 if either is missing."""
    if not scale or not math.isfinite(score):
        return 0.0
    return max(-1.0, min(score / scale, 1.0))


def shade(part: float, signed: bool) -> str:
    """The color of a relative score from -1 to 1, on white."""
    end = AMOUNT if not signed else FOR if part > 0 else AGAINST
    return "#" + "".join(f"{round(255 + abs(part) * (value - 255)):02x}" for value in _rgb(end))


def ink(background: str) -> str:
    """Black or white, whichever has more contrast with a color (relative luminance of WCAG 2.2)."""
    linear = [
        (v / 12.92) if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (p / 255 for p in _rgb(background))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def level(part: float, signed: bool) -> str:
    """The CSS class that colors a relative score from -1 to 1; empty for a score near 0."""
    number = round(abs(part) * LEVELS)
    kind = "p" if not signed else "f" if part > 0 else "a"
    return f"{kind}{number}" if number else ""


def level_rules(ancestor: str = "") -> Iterator[str]:
    """The CSS rules of all levels, inside the elements of a selector, with --for, --against and --amount as colors."""
    for kind, color in (("f", "for"), ("a", "against"), ("p", "amount")):
        for number in range(1, LEVELS + 1):
            opacity = f"{number / LEVELS * _MAX_OPACITY:.3f}"
            yield f"{ancestor}.{kind}{number}{{background:rgb(var(--{color})/{opacity})}}"
