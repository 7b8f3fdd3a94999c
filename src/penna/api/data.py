"""Data: texts in, what they hold and what that means out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penna.api.recipes import resolve_recipe
from penna.api.tokenizers import load_tokenizer
from penna.api.training import prepare_recipe
from penna.compare.lengths import check_figure_name, draw_lengths
from penna.config.recipe import build_recipe, merge
from penna.data.inspection.inspect import inspect, silent
from penna.data.inspection.result import Inspection
from penna.runs.folder import RUNS
from penna.train.ready import Ready


def prepare_data(
    targets: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    say: Callable[[str], None] = silent,
) -> Ready:
    """Turn what a recipe, or files and folders, hold into token shards or examples, as training does first."""
    recipe, _ = resolve_recipe(targets, overrides, runs_dir=runs_dir)
    return prepare_recipe(recipe, None, say)


def inspect_data(
    paths: Sequence[str],
    overrides: Mapping[str, Any] | None = None,
    *,
    tokenizer: str | None = None,
    test: Sequence[str] = (),
    figure: Path | None = None,
    runs_dir: Path = RUNS,
    say: Callable[[str], None] = silent,
) -> Inspection:
    """Look at files and folders of text: amounts, lengths, scripts, damage, duplicates, and what they mean.

    ``overrides`` are fields of the section data (``{"data.document": "block"}``). With ``tokenizer`` (a folder, a file
    or a run) the text is also cut by it; with ``test`` (or data.valid_path) it is held against these files, read in the
    same way. ``figure`` names an .svg or .png to draw the lengths to. ``say`` is told how far a long text was read.
    """
    if figure is not None:
        check_figure_name(figure)
    given = {**(overrides or {}), **({"data.path": list(paths)} if paths else {})}
    if test:
        given["data.valid_path"] = list(test)
    config = build_recipe(merge({}, given), origin="options").data
    cutter = None if tokenizer is None else load_tokenizer(tokenizer, runs_dir)
    inspection = inspect(config, cutter, tokenizer or "", say)
    if figure is not None:
        draw_lengths(inspection.lengths, figure)
    return inspection
