"""Data verbs: prepare a recipe's data, report on its quality, and preview its first records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from penna.api.recipes import resolve_recipe
from penna.api.tokenizers import load_tokenizer
from penna.api.train import prepare_recipe
from penna.config.recipe import build_recipe, merge
from penna.data.cache import Progress
from penna.data.quality.documents import read_documents
from penna.data.quality.inspect import inspect_text
from penna.data.quality.result import DataReport
from penna.data.sources.fields import Shape
from penna.data.sources.records import BadRecord
from penna.report.histograms import plot_lengths
from penna.report.plot_files import check_plot_path
from penna.runs.folder import RUNS
from penna.train.task import PreparedData

_PREVIEW_CHARACTERS = 400  # per part of a record


@dataclass(frozen=True)
class Preview:
    """A record as training would read it: its parts by name (text and label, or turns by role), shortened."""

    location: str  # "file:line"
    shape: Shape | None  # None for a bad record
    parts: tuple[tuple[str, str], ...]
    error: str = ""  # why a bad record cannot be used


def prepare_data(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    report: Progress = lambda _: None,
) -> PreparedData:
    """Prepare the token shards or examples of a recipe, or of files and folders, as training does first."""
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
    report: Progress = lambda _: None,
) -> DataReport:
    """Report on files and folders of text: counts, lengths, scripts, damage, duplicates, and what they mean.

    ``overrides`` are fields of the section data (``{"data.document": "block"}``). With ``tokenizer`` (a folder, file or
    run) the text is also encoded. With ``test`` (or data.valid_path) it is compared with these files. ``figure`` names
    an .svg or .png for a plot of the lengths. ``report`` receives the progress of a long text.
    """
    if figure is not None:
        check_plot_path(figure)
    fields = {**(overrides or {}), **({"data.path": list(paths)} if paths else {})}
    if test:
        fields["data.valid_path"] = list(test)
    config = build_recipe(merge({}, fields), origin="options").data
    loaded = None if tokenizer is None else load_tokenizer(tokenizer, runs_dir)
    found = inspect_text(config, loaded, tokenizer or "", report)
    if figure is not None:
        plot_lengths(found.lengths, figure)
    return found


def preview_data(paths: Sequence[str], overrides: Mapping[str, Any] | None = None, *, count: int = 6) -> list[Preview]:
    """The first ``count`` records of files, or the first chunks of a long text file.

    ``overrides`` are fields of the section data. Raises DataError if there is nothing to read.
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
        found.append(Preview(item.location(), item.shape, tuple((name, _shortened(text)) for name, text in parts)))
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= _PREVIEW_CHARACTERS else f"{text[:_PREVIEW_CHARACTERS]}…"
