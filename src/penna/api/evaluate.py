"""Evaluate a model by its task, check a run for memorization, and plot training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penna.api.capabilities import check_can_continue
from penna.api.chat_metrics import ChatMetrics, evaluate_chat
from penna.api.classify import evaluate_classification
from penna.api.completion_metrics import CompletionMetrics, evaluate_completions
from penna.config.recipe import build_recipe, merge
from penna.data.cache import Progress
from penna.data.prepare import prepare, prepare_for_evaluation
from penna.data.shards import TokenStream
from penna.errors import DataError, RecipeError, RunError
from penna.evaluate.classification import ClassificationMetrics
from penna.evaluate.language_model import LanguageModelMetrics, language_model_metrics, score_rows
from penna.evaluate.memorization import (
    GeneratedText,
    Memorization,
    generated_ids,
    measure_memorization,
    shortest_span,
    unseen_passages,
)
from penna.loading import load_model, load_task
from penna.model.precision import Dtype
from penna.report.training_plots import Axis, write_training_curves
from penna.runs.folder import RUNS, find_run
from penna.storage import to_json
from penna.tasks.pretrain import next_token_objective, validation_rows
from penna.tokenizer.tokenizer import Tokenizer
from penna.train.device import resolve_device

Metrics = LanguageModelMetrics | ClassificationMetrics | ChatMetrics | CompletionMetrics


def evaluate(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
    report: Progress = lambda _: None,
) -> Metrics:
    """Evaluate a model by its task, or by ``task.kind`` among the overrides.

    ``overrides`` are fields of the sections data and task. Without a path, the run's own validation part is used. The
    metrics of a run are saved in its evaluations/.
    """
    given = dict(overrides or {})
    kind = given.pop("task.kind", None) or load_task(target, runs_dir).kind
    sections = ("data", "task") if kind == "complete" else ("data",)
    if without_effect := [name for name in given if name.partition(".")[0] not in sections]:
        raise RecipeError(
            f"{without_effect[0]} = {given[without_effect[0]]} has no effect on an evaluation.",
            f"Use fields of {' and '.join(sections)}, and task.kind to evaluate by another task.",
            "Leave it out.",
        )
    match kind:
        case "classify":
            return evaluate_classification(target, given, runs_dir=runs_dir, device=device, dtype=dtype, report=report)
        case "chat":
            return evaluate_chat(target, given, runs_dir=runs_dir, device=device, dtype=dtype)
        case "complete":
            return evaluate_completions(target, given, runs_dir=runs_dir, device=device, dtype=dtype)
        case _:
            return evaluate_text(target, given, runs_dir=runs_dir, device=device, dtype=dtype)


def evaluate_text(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
) -> LanguageModelMetrics:
    """Score running text in windows of the model's block that do not overlap.

    ``overrides`` are fields of the section data (``{"data.path": [...]}``). Without a path, the run's own validation
    text is scored. The metrics of a run are saved in its evaluations/ under the text's name.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)
    check_can_continue(loaded)
    tokenizer = loaded.require_tokenizer()
    if overrides and "data.path" in overrides:
        windows = "documents" if loaded.starts_documents else "packed"
        data = build_recipe(merge({}, {"data.windows": windows, **overrides})).data
        name = Path(data.path[0]).stem
        folder, part = prepare_for_evaluation(data, tokenizer)
    else:
        data = loaded.require_run().recipe().data
        prepared = prepare(data, tokenizer)
        name, folder, part = "validation-part", prepared.folder, prepared.manifest.parts["valid"]
    block = loaded.model.config.block_size
    rows = validation_rows(data, TokenStream(folder, "valid"), tokenizer, block)
    sums, counts = score_rows(loaded.model, next_token_objective(tokenizer, part), rows)
    metrics = language_model_metrics(sums, counts, part.words, block)
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "text": list(data.path)}
        loaded.run.save_evaluation(name, {**about, **to_json(metrics)})
    return metrics


def memorization(target: str, *, runs_dir: Path = RUNS) -> Memorization:
    """How much of a run's last samples is a verbatim copy of its training text; saved in its evaluations/.

    Raises RunError if the run has no samples, DataError if the training text has changed.
    """
    run = find_run(target, runs_dir)
    samples = run.samples()
    if not samples:
        raise RunError(
            f"The run {run.path} has no samples.",
            "Samples are needed to check for memorization.",
            "Train with --train.sample-tokens above 0.",
        )
    tokenizer = Tokenizer.load(run.tokenizer)
    prepared = prepare(run.recipe().data, tokenizer)
    if run.info().get("data", {}).get("content_hash") != prepared.corpus.content_hash:
        raise DataError(
            f"The training text of {run.path} has changed.",
            "Samples can only be compared with the text that the run was trained on.",
            "Restore that text.",
        )
    generated = [
        GeneratedText(sample["prompt"], generated_ids(tokenizer, sample["prompt"], sample["text"]))
        for sample in samples
        if sample["step"] == samples[-1]["step"]
    ]
    length = max(len(text.ids) for text in generated)
    result = measure_memorization(
        TokenStream(prepared.folder, "train"),
        generated,
        tokenizer,
        shortest=shortest_span(prepared.bytes_per_token),
        unseen=unseen_passages(TokenStream(prepared.folder, "valid"), length),
    )
    run.save_evaluation("memorization", {"step": samples[-1]["step"], **to_json(result)})
    return result


def plot(targets: Sequence[str], *, runs_dir: Path = RUNS, output: Path | None = None, by: Axis = "step") -> list[Path]:
    """Plot the training curves of runs in one figure over steps, epochs, tokens or seconds; returns the files."""
    runs = [find_run(target, runs_dir) for target in targets]
    return write_training_curves(runs, output or runs[0].figures, by=by)
