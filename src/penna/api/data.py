"""Data: texts in, what they hold and what that means out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from penna.api.recipes import resolve_recipe
from penna.api.tokenizers import load_tokenizer
from penna.api.train import prepare_recipe
from penna.config.recipe import build_recipe, merge
from penna.data.quality.documents import read_documents
from penna.data.quality.inspect import inspect_text, silent
from penna.data.quality.result import DataReport
from penna.data.sources.fields import Shape
from penna.data.sources.reader import BadRecord
from penna.report.histograms import check_plot_path, plot_lengths
from penna.runs.folder import RUNS
from penna.train.task import PreparedData


def prepare_data(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    report: Callable[[str], None] = silent,
) -> PreparedData:
    """Turn what a recipe, or files and folders, hold into token shards or examples, as training does first."""
    recipe, _ = resolve_recipe(targets, overrides, runs_dir=runs_dir)
    return prepare_recipe(recipe, None, report)


def inspect_data(
    paths: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    tokenizer: str | None = None,
    test: Sequence[str] = (),
    figure: Path | None = None,
    runs_dir: Path = RUNS,
    report: Callable[[str], None] = silent,
) -> DataReport:
    """Look at files and folders of text: amounts, lengths, scripts, damage, duplicates, and what they mean.

    ``overrides`` are fields of the section data (``{"data.document": "block"}``). With ``tokenizer`` (a folder, a file
    or a run) the text is also cut by it; with ``test`` (or data.valid_path) it is held against these files, read in the
    same way. ``figure`` names an .svg or .png to draw the lengths to. ``say`` is told how far a long text was read.
    """
    if figure is not None:
        check_plot_path(figure)
    given = {**(overrides or {}), **({"data.path": list(paths)} if paths else {})}
    if test:
        given["data.valid_path"] = list(test)
    config = build_recipe(merge({}, given), origin="options").data
    cutter = None if tokenizer is None else load_tokenizer(tokenizer, runs_dir)
    inspection = inspect_text(config, cutter, tokenizer or "", report)
    if figure is not None:
        plot_lengths(inspection.lengths, figure)
    return inspection


# MERGED api.preview: The first records of a text as training would take them, each with its place and shape, or
# what is wrong with it.


_SHOWN = 400  # characters of a part


@dataclass(frozen=True)
class Preview:
    """A record to look at: its parts by name (a text and its label, turns by their roles), 400 characters each."""

    location: str  # "file:line"
    shape: Shape | None  # None of a bad record
    parts: tuple[tuple[str, str], ...]
    error: str = ""  # of a bad record: why it cannot be used


def preview_data(paths: Sequence[str], overrides: Mapping[str, Any] | None = None, *, count: int = 6) -> list[Preview]:
    """The first ``count`` records of files, read as the section data in ``overrides`` says.

    Of a long text file, each is a piece of it. Raises DataError where there is nothing to read.
    """
    config = build_recipe(merge({}, {**(overrides or {}), "data.path": list(paths)}), origin="options").data
    found: list[Preview] = []
    for item in islice(read_documents(config), count):
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
        found.append(Preview(item.location(), item.shape, cut))
    return found
