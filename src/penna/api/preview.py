"""The first records of a text as training would take them, each with its place and shape, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from penna.config.recipe import build_recipe, merge
from penna.data.inspection.documents import read_for_inspection
from penna.data.reading.shapes import Shape
from penna.data.reading.sources import BadRecord

_SHOWN = 400  # characters of a part


@dataclass(frozen=True)
class Preview:
    """A record to look at: its parts by name (a text and its label, turns by their roles), 400 characters each."""

    where: str  # "file:line"
    shape: Shape | None  # None of a bad record
    parts: tuple[tuple[str, str], ...]
    fault: str = ""  # of a bad record: why it cannot be used


def preview_data(paths: Sequence[str], overrides: Mapping[str, Any] | None = None, *, count: int = 6) -> list[Preview]:
    """The first ``count`` records of files, read as the section data in ``overrides`` says.

    Of a long text file, each is a piece of it. Raises DataError where there is nothing to read.
    """
    config = build_recipe(merge({}, {**(overrides or {}), "data.path": list(paths)}), origin="options").data
    found: list[Preview] = []
    for item in islice(read_for_inspection(config), count):
        if isinstance(item, BadRecord):
            found.append(Preview(f"{item.file}:{item.line}", None, (), item.reason))
            continue
        if item.shape == "messages":
            parts = item.turns
        elif item.shape == "completion":
            parts = (("prompt", item.prompt), ("completion", item.completion))
        else:
            parts = (("text", item.text), *([] if item.label is None else [("label", item.label)]))
        cut = tuple((name, text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…") for name, text in parts)
        found.append(Preview(item.place(), item.shape, cut))
    return found
