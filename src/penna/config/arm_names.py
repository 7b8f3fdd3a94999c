"""Names of a grid's arms, made of the values of its axes: short, different from each other, and fit for a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from penna.config.experiment import ARM

_LONGEST = 40  # characters of one value in a name


def arm_names(axes: Sequence[tuple[str, Sequence[Any]]]) -> list[str]:
    """A name for every combination of the axes' values, the last axis changing fastest."""
    pieces = [_unique([_piece(axis, value) for value in values]) for axis, values in axes]
    return _unique(["-".join(parts) for parts in product(*pieces)])


def _piece(axis: str, value: Any) -> str:
    """A word as it is, a number behind its field's name, a path by its last part."""
    leaf = axis.rpartition(".")[2].replace("_", "-")
    if isinstance(value, bool):
        text = leaf if value else f"no-{leaf}"
    elif isinstance(value, str):
        text = _word(axis, leaf, value)
    elif isinstance(value, int | float):
        text = f"{leaf}-{value:g}" if isinstance(value, float) else f"{leaf}-{value}"
    elif isinstance(value, list):
        text = "-".join([leaf, *map(str, value)])
    else:
        text = leaf
    return re.sub(r"[^\w.]+", "-", text)[:_LONGEST].strip("-._") or leaf


def _word(axis: str, leaf: str, value: str) -> str:
    if value.startswith(ARM):
        return f"from-{value.removeprefix(ARM)}"
    if "." in axis and value == "none":
        return "scratch" if leaf == "init-from" else f"no-{leaf}"
    return Path(value).name


def _unique(names: Sequence[str]) -> list[str]:
    """The names, a number behind those that came before."""
    found: list[str] = []
    for name in names:
        free, number = name, 2
        while free in found:
            free, number = f"{name}-{number}", number + 1
        found.append(free)
    return found
