"""Measuring completions: a model and pairs in, how well it predicts, writes and picks, and whether it reads, out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from penna.train.device import resolve_device
from penna.train.objective import NextTokenObjective

_EXTRACTED = 3  # sentences, as many as the baselines have


@dataclass(frozen=True)
class CompletionItem:
    """What was made of one item."""

    place: str  # file:line
    output: str  # what the model wrote
    extract: str  # the sentences it rates highest


@dataclass(frozen=True)
class CompletionMetrics:
    """What ``penna evaluate`` tells about completions.

    Loss, accuracy and bits are over all pairs; texts are written for ``items`` of them, greedily.
    """

    pairs: int
    refused: tuple[str, ...]  # pairs that cannot be scored: file:line and why
    bad_records: int  # left out where the pairs were read
    loss: float  # nats per token of the completions, their ends counted
    perplexity: float
    bits_per_byte: float
    accuracy: float  # share of these tokens that were the likeliest
    tokens: int
    items: int
    max_new_tokens: int
    ended: int  # outputs that the model ended itself
    cut: int  # items whose prompt was cut to leave room
    summaries: SummaryMetrics
    extract: SystemMetrics  # the sentences the model rates highest
    extract_leads: Mapping[
        str, Mapping[RougeKind, Interval]
    ]  # per baseline, the extract's mean F-measure minus that one's
    source_use: SourceUse | None  # None of a single item
    shuffled: SystemMetrics | None  # what the model writes behind another item's prompt
    shuffled_lead: Mapping[RougeKind, Interval] | None  # the system's mean F-measure minus that one's
    written: tuple[CompletionItem, ...]

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        shuffled_lead = None if self.shuffled_lead is None else _leads_as_json(self.shuffled_lead)
        return {
            "pairs": self.pairs,
            "refused": list(self.refused),
            "bad_records": self.bad_records,
            "loss": self.loss,
            "perplexity": None if self.perplexity == math.inf else self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "accuracy": self.accuracy,
            "tokens": self.tokens,
            "items": self.items,
            "max_new_tokens": self.max_new_tokens,
            "ended": self.ended,
            "cut": self.cut,
            "source_use": None if self.source_use is None else self.source_use.as_json(),
            "shuffled": None if self.shuffled is None else self.shuffled.as_json(),
            "shuffled_lead": shuffled_lead,
            "summaries": self.summaries.as_json(),
            "extract": self.extract.as_json(),
            "extract_leads": {name: _leads_as_json(lead) for name, lead in self.extract_leads.items()},
            "written": [asdict(item) for item in self.written],
        }


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
    """Measure a model on pairs of prompt and completion, in float32.

    ``overrides`` are fields of the sections data and task (``{"data.path": [...], "task.template": "..."}``). Without a
    path, the run's own validation part is taken; a path is read by the run's columns. Texts are written for ``items``
    pairs, drawn by ``seed``, which also draws random-3, the shuffled prompts and the intervals. The figures of a run
    are kept in its evaluations/ under the text's name. Raises DataError where no pair can be used.
    """
    loaded = load_model(target, runs_dir=runs_dir, device=resolve_device(device), dtype=dtype)
    asked = evaluation_data(loaded, completer(loaded).format.task, overrides or {})
    assert isinstance(asked.task, CompleteTask)
    at_hand = completer(loaded, task=asked.task)
    new = at_hand.new_tokens(max_new_tokens)
    read = read_evaluation_data(asked, at_hand.format)
    pairs, places = read.items, read.locations
    encoded = at_hand.format.encode(pairs, at_hand.tokenizer, ())
    refused = tuple(
        f"{place}: {reason}" for place, reason in zip(places, encoded, strict=True) if isinstance(reason, str)
    )
    kept = [number for number, example in enumerate(encoded) if not isinstance(example, str)]
    if not kept:
        raise DataError(
            f"Of {plural(len(pairs), 'pair', 'pairs')} none can be scored"
            + (f"; the first: {refused[0]}." if refused else "."),
            "Pairs of a prompt and a completion (an article and its summary), each of which fits the model's block.",
            "Check --data.prompt-column and --data.completion-column.",
        )
    loss, accuracy, bits, tokens = _predicted(loaded, [encoded[number] for number in kept], [pairs[n] for n in kept])
    random = np.random.default_rng(seed)
    drawn = [kept[at] for at in sorted(random.choice(len(kept), min(items, len(kept)), replace=False))]
    figures = CompletionMetrics(
        pairs=len(kept),
        refused=refused,
        bad_records=read.bad_records,
        loss=loss,
        perplexity=perplexity(loss),
        bits_per_byte=bits,
        accuracy=accuracy,
        tokens=tokens,
        **_written(at_hand, [pairs[number] for number in drawn], [places[number] for number in drawn], new, seed),
    )
    if loaded.run is not None:
        about = {"checkpoint": loaded.source.name, "text": list(asked.data.path), "seed": seed}
        loaded.run.save_evaluation(asked.name, {**about, **figures.as_json()})
    return figures


def _predicted(
    loaded: LoadedModel, examples: Sequence[Example | str], pairs: Sequence[Completion]
) -> tuple[float, float, float, int]:
    """Loss per token, accuracy, bits per byte of the completions, and how many tokens they have."""
    rows = ValidationExamples(pack_examples([example for example in examples if not isinstance(example, str)]))
    vocabulary = loaded.model.config.rows
    sums, counts = score_rows(loaded.model, NextTokenObjective(torch.zeros(vocabulary)), rows)
    size = sum(len(pair.completion.encode()) for pair in pairs)
    tokens = counts["loss"]
    return sums["loss"] / tokens, sums["correct"] / tokens, sums["loss"] / math.log(2) / size, tokens


def _written(
    at_hand: Completer, pairs: Sequence[Completion], places: Sequence[str], new: int, seed: int
) -> dict[str, Any]:
    """The figures of what is written and picked, behind each pair's prompt and behind another's."""
    scorer = SummaryScorer([pair.prompt for pair in pairs], [pair.completion for pair in pairs], seed=seed)
    requests, cut = at_hand.requests(
        [pair.prompt for pair in pairs], GenerationConfig(max_new_tokens=new, temperature=0)
    )
    outputs = at_hand.generate(requests)
    extracts = [
        "\n".join(sentence.text for sentence in top_sentences(at_hand.rank(pair.prompt), _EXTRACTED)) for pair in pairs
    ]
    summaries = scorer.compare([output.text for output in outputs])
    extract = scorer.score(f"extract-{_EXTRACTED}", extracts)
    use = shuffled = None
    if len(pairs) > 1:
        order = derangement(len(pairs), seed)
        own = _scored(at_hand, pairs)
        others = [replace(pair, prompt=pairs[other].prompt) for pair, other in zip(pairs, order, strict=True)]
        use = source_use(own, _scored(at_hand, others), seed)
        shuffled = scorer.score("shuffled", [outputs[other].text for other in order])
    return {
        "items": len(pairs),
        "max_new_tokens": new,
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
            CompletionItem(place, output.text, picked)
            for place, output, picked in zip(places, outputs, extracts, strict=True)
        ),
    }


def _scored(at_hand: Completer, pairs: Sequence[Completion]) -> ExampleScores:
    examples = at_hand.format.encode(pairs, at_hand.tokenizer, ())
    return score_examples(at_hand.loaded.model, [example for example in examples if not isinstance(example, str)])


def _leads_as_json(lead: Mapping[RougeKind, Interval]) -> dict[str, Any]:
    return {kind: asdict(interval) for kind, interval in lead.items()}
