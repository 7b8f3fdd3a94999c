"""Evaluate a model on pairs of prompt and completion: loss, generated texts, extracts, and the use of the prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penna.api.complete import Completer, completer, top_sentences
from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.config.generation import GenerationConfig
from penna.config.tasks import CompleteTask
from penna.data.examples.batches import ValidationExamples
from penna.data.examples.example import Example
from penna.data.examples.store import pack_examples
from penna.data.sources.fields import Completion
from penna.errors import DataError
from penna.evaluate.completions import ExampleScores, SourceUse, derangement, score_examples, source_use
from penna.evaluate.language_model import perplexity, score_rows
from penna.evaluate.rouge import Interval, RougeKind
from penna.evaluate.summaries import SummaryMetrics, SummaryScorer, SystemMetrics, paired_leads
from penna.formatting import plural
from penna.loading import LoadedModel, load_model
from penna.model.precision import Dtype
from penna.runs.folder import RUNS
from penna.storage import to_json
from penna.train.device import resolve_device
from penna.train.objective import NextTokenObjective

_EXTRACTED = 3  # sentences, as many as the baselines have


@dataclass(frozen=True)
class CompletionItem:
    """The outputs for one item."""

    place: str  # file:line
    output: str  # the generated text
    extract: str  # the sentences that the model ranks highest


@dataclass(frozen=True)
class CompletionMetrics:
    """What ``penna evaluate`` reports about completions.

    Loss, accuracy and bits per byte are over all pairs; texts are generated greedily for ``items`` of them.
    """

    pairs: int
    refused: tuple[str, ...]  # pairs that cannot be scored: file:line and the reason
    bad_records: int  # skipped while reading
    loss: float  # nats per token of the completions, including their ends
    perplexity: float
    bits_per_byte: float
    accuracy: float  # share of these tokens that were the most probable
    tokens: int
    items: int
    max_new_tokens: int
    ended: int  # outputs that the model ended itself
    cut: int  # items whose prompt was truncated
    summaries: SummaryMetrics
    extract: SystemMetrics  # the sentences that the model ranks highest
    extract_leads: Mapping[str, Mapping[RougeKind, Interval]]  # per baseline, the extract's mean F-measure minus its
    source_use: SourceUse | None  # None for a single item
    shuffled: SystemMetrics | None  # texts generated after another item's prompt
    shuffled_lead: Mapping[RougeKind, Interval] | None  # the system's mean F-measure minus that of ``shuffled``
    written: tuple[CompletionItem, ...]


def evaluate_completions(
    target: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    items: int = 300,
    max_new_tokens: int | None = None,
    seed: int = 0,
    runs_dir: Path = RUNS,
    device: str = "auto",
    dtype: Dtype = "float32",
) -> CompletionMetrics:
    """Evaluate a model on pairs of prompt and completion.

    ``overrides`` are fields of the sections data and task (``{"data.path": [...], "task.template": "..."}``). Without a
    path, the run's own validation part is used; a path is read with the run's columns. Texts are generated for
    ``items`` pairs, drawn with ``seed``, which also determines random-3, the shuffled prompts and the intervals. The
    metrics of a run are saved in its evaluations/ under the text's name. Raises DataError if no pair is usable.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)
    evaluation = evaluation_data(loaded, completer(loaded).format.task, overrides or {})
    assert isinstance(evaluation.task, CompleteTask)
    model = completer(loaded, task=evaluation.task)
    new_tokens = model.new_tokens(max_new_tokens)
    read = read_evaluation_data(evaluation, model.format)
    pairs, places = read.items, read.locations
    encoded = model.format.encode(pairs, model.tokenizer, ())
    refused = tuple(
        f"{place}: {reason}" for place, reason in zip(places, encoded, strict=True) if isinstance(reason, str)
    )
    kept = [number for number, example in enumerate(encoded) if not isinstance(example, str)]
    if not kept:
        raise DataError(
            f"None of {plural(len(pairs), 'pair', 'pairs')} can be scored"
            + (f"; the first: {refused[0]}." if refused else "."),
            "Expected pairs of a prompt and a completion (an article and its summary) that fit the model's block.",
            "Check --data.prompt-column and --data.completion-column.",
        )
    loss, accuracy, bits, tokens = _prediction_metrics(
        loaded, [encoded[number] for number in kept], [pairs[number] for number in kept]
    )
    random = np.random.default_rng(seed)
    drawn = [kept[at] for at in sorted(random.choice(len(kept), min(items, len(kept)), replace=False))]
    metrics = CompletionMetrics(
        pairs=len(kept),
        refused=refused,
        bad_records=read.bad_records,
        loss=loss,
        perplexity=perplexity(loss),
        bits_per_byte=bits,
        accuracy=accuracy,
        tokens=tokens,
        **_output_metrics(
            model, [pairs[number] for number in drawn], [places[number] for number in drawn], new_tokens, seed
        ),
    )
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "text": list(evaluation.data.path), "seed": seed}
        loaded.run.save_evaluation(evaluation.name, {**about, **to_json(metrics)})
    return metrics


def _prediction_metrics(
    loaded: LoadedModel, examples: Sequence[Example | str], pairs: Sequence[Completion]
) -> tuple[float, float, float, int]:
    """Loss per token, accuracy, bits per byte and number of tokens of the completions."""
    rows = ValidationExamples(pack_examples([example for example in examples if not isinstance(example, str)]))
    vocabulary = loaded.model.config.rows
    sums, counts = score_rows(loaded.model, NextTokenObjective(torch.zeros(vocabulary)), rows)
    size = sum(len(pair.completion.encode()) for pair in pairs)
    tokens = counts["loss"]
    return sums["loss"] / tokens, sums["correct"] / tokens, sums["loss"] / math.log(2) / size, tokens


def _output_metrics(
    model: Completer, pairs: Sequence[Completion], places: Sequence[str], new_tokens: int, seed: int
) -> dict[str, Any]:
    """The metrics of generated texts and extracts, and of the same texts after another item's prompt."""
    scorer = SummaryScorer([pair.prompt for pair in pairs], [pair.completion for pair in pairs], seed=seed)
    requests, cut = model.requests(
        [pair.prompt for pair in pairs], GenerationConfig(max_new_tokens=new_tokens, temperature=0)
    )
    outputs = model.generate(requests)
    extracts = [
        "\n".join(sentence.text for sentence in top_sentences(model.rank(pair.prompt), _EXTRACTED)) for pair in pairs
    ]
    summaries = scorer.compare([output.text for output in outputs])
    extract = scorer.score(f"extract-{_EXTRACTED}", extracts)
    use = shuffled = None
    if len(pairs) > 1:
        order = derangement(len(pairs), seed)
        own = _score_pairs(model, pairs)
        others = [replace(pair, prompt=pairs[other].prompt) for pair, other in zip(pairs, order, strict=True)]
        use = source_use(own, _score_pairs(model, others), seed)
        shuffled = scorer.score("shuffled", [outputs[other].text for other in order])
    return {
        "items": len(pairs),
        "max_new_tokens": new_tokens,
        "ended": sum(output.finish == "stop" for output in outputs),
        "cut": sum(cut),
        "summaries": summaries,
        "extract": extract,
        "extract_leads": {
            baseline.name: paired_leads(extract, baseline, seed)
            for baseline in summaries.baselines
            if baseline.name != "source"
        },
        "source_use": use,
        "shuffled": shuffled,
        "shuffled_lead": None if shuffled is None else paired_leads(summaries.system, shuffled, seed),
        "written": tuple(
            CompletionItem(place, output.text, extracted)
            for place, output, extracted in zip(places, outputs, extracts, strict=True)
        ),
    }


def _score_pairs(model: Completer, pairs: Sequence[Completion]) -> ExampleScores:
    examples = model.format.encode(pairs, model.tokenizer, ())
    return score_examples(model.loaded.model, [example for example in examples if not isinstance(example, str)])
