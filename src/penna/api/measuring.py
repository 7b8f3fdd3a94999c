"""Measuring: runs and texts in, figures out, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penna.compare.figures import draw_curves
from penna.config.recipe import build_recipe, merge
from penna.data.batches import ValidationWindows
from penna.data.prepare import prepare, prepare_for_evaluation
from penna.data.shards import TokenStream
from penna.evaluate.language_model import LanguageModelFigures, count_words, language_model_figures, score_rows
from penna.exchange.load import load_model
from penna.runs.folder import RUNS, find_run
from penna.tasks.pretrain import next_token_objective
from penna.train.device import resolve_device


def evaluate(
    target: str, overrides: Mapping[str, Any] | None = None, *, runs_dir: Path = RUNS, device: str = "auto"
) -> LanguageModelFigures:
    """Score running text in windows of the model's block side by side, in float32.

    ``overrides`` are fields of the section data (``{"data.path": [...]}``). Without a path, the run's own validation
    text is scored. The figures of a run are kept in its evaluations/ under the text's name.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device))
    tokenizer = loaded.need_tokenizer()
    if overrides and "data.path" in overrides:
        data = build_recipe(merge({}, overrides)).data
        name = Path(data.path[0]).stem
        folder, words = prepare_for_evaluation(data, tokenizer, count_words)
    else:
        data = loaded.need_run().recipe().data
        prepared = prepare(data, tokenizer)
        name, folder = "validation-part", prepared.folder
        words = sum(count_words(text) for text in prepared.corpus.documents("valid"))
    block = loaded.model.config.block_size
    windows = ValidationWindows(TokenStream(folder, "valid"), block)
    sums, counts = score_rows(loaded.model, next_token_objective(tokenizer), windows)
    figures = language_model_figures(sums, counts, words, block)
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "text": list(data.path)}
        loaded.run.save_evaluation(name, {**about, **figures.as_json()})
    return figures


def plot(targets: Sequence[str], *, runs_dir: Path = RUNS, output: Path | None = None) -> list[Path]:
    """Draw the curves of runs into one figure; the files written."""
    runs = [find_run(target, runs_dir) for target in targets]
    return draw_curves(runs, output or runs[0].figures)
