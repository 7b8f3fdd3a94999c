"""Scores as colours: blue for an answer and orange against it, purple for how much a word counted.

Both pairs stay apart for people who tell few colours, and every scale is white at zero and as strong as its largest
score at the end.
"""

from __future__ import annotations

import math

FOR, AGAINST, AMOUNT = "#2b6cb0", "#d9730d", "#6b3fa0"


def strength(score: float, most: float) -> float:
    """A score as part of the largest, from -1 to 1; 0 where there is none."""
    if not most or not math.isfinite(score):
        return 0.0
    return max(-1.0, min(score / most, 1.0))


def shade(part: float, signed: bool) -> str:
    """The colour of a part from -1 to 1, on white."""
    end = AMOUNT if not signed else FOR if part > 0 else AGAINST
    return "#" + "".join(f"{round(255 + abs(part) * (value - 255)):02x}" for value in _parts(end))


def ink(background: str) -> str:
    """Black or white, whichever reads better on a colour (WCAG 2.2, relative luminance)."""
    linear = [
        (v / 12.92) if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (p / 255 for p in _parts(background))
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"


def _parts(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
