"""How good summaries are: sources, references and outputs in, one result out, with what the source alone would get.

Lead-3 (the first three sentences of the source) is a baseline that many summarisers of news do not beat; random-3
(three of its sentences, in their order; ROUGE over ten draws) says what any piece of the source is worth, and the whole
source what a model gets that only copies. They are measured on the same items as the system, and the system's lead over
each of them comes with a paired interval: one that spans zero says that the items cannot tell the two apart. The
references are measured against the sources too: how much people copy and add is the yardstick for the system's copying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from penna.errors import DataError
from penna.evaluate.bleu import OverlapMetrics, OverlapScorer, Tokenization
from penna.evaluate.copying import CopyMetrics, Source, copy_metrics
from penna.evaluate.rouge import (
    ROUGE_KINDS,
    Interval,
    RougeKind,
    RougeMetrics,
    Scores,
    bootstrap_means,
    interval,
    rouge_scores,
)
from penna.evaluate.sentences import sentences
from penna.evaluate.words import words

_SENTENCES = 3  # of the baselines lead-3 and random-3
_DRAWS = 10  # of random-3: a single one is a point of ROUGE-2 above or below their mean on 200 items
_FMEASURE = 2  # column of `rouge_scores`


@dataclass(frozen=True)
class SystemMetrics:
    """One system, or one baseline, on all items."""

    name: str
    rouge: Mapping[RougeKind, RougeMetrics]
    overlap: OverlapMetrics
    words: int  # of all outputs, in `rouge_words`
    length_ratio: float | None  # words of all outputs over those of all references
    empty: int  # outputs without a word; they count as 0
    copying: CopyMetrics
    fmeasures: tuple[tuple[float, ...], ...]  # per item, ROUGE F-measures in the order of KINDS; not part of the JSON

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "name": self.name,
            "rouge": {kind: asdict(figures) for kind, figures in self.rouge.items()},
            **asdict(self.overlap),
            "words": self.words,
            "length_ratio": self.length_ratio,
            "empty": self.empty,
            "copying": self.copying.as_json(),
        }


@dataclass(frozen=True)
class SummaryMetrics:
    """A system's summaries, beside baselines made from the sources and the references themselves."""

    items: int
    source_words: int  # of all sources
    reference_words: int  # of all references
    empty_references: int  # references without a word: every output scores 0 against them
    bleu_tokenization: Tokenization
    seed: int  # of random-3 and of the bootstrap
    system: SystemMetrics
    baselines: tuple[SystemMetrics, ...]
    leads: Mapping[str, Mapping[RougeKind, Interval]]  # per baseline, the system's mean F-measure minus the baseline's
    references: CopyMetrics

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "items": self.items,
            "source_words": self.source_words,
            "reference_words": self.reference_words,
            "empty_references": self.empty_references,
            "bleu_tokenization": self.bleu_tokenization,
            "seed": self.seed,
            "system": self.system.as_json(),
            "baselines": [baseline.as_json() for baseline in self.baselines],
            "leads": {name: {kind: asdict(lead) for kind, lead in leads.items()} for name, leads in self.leads.items()},
            "references": self.references.as_json(),
        }


class SummaryScorer:
    """Sources and references, read once, on which any number of systems can be measured."""

    def __init__(self, sources: Sequence[str], references: Sequence[str], *, seed: int = 0) -> None:
        """Texts item by item; ``seed`` decides what random-3 takes and what the bootstrap draws.

        Raises DataError where there are none, or not as many references as sources.
        """
        if not sources or len(sources) != len(references):
            raise DataError(
                f"There are {len(sources)} sources and {len(references)} references.",
                "One reference for each source, and at least one of them.",
                "Check the columns of the data.",
            )
        self.seed = seed
        self._references = list(references)
        self._sources = [Source(text) for text in sources]
        self._overlap = OverlapScorer(self._references)
        lengths = [len(words(reference)) for reference in references]
        self._reference_words, self._empty_references = sum(lengths), lengths.count(0)

    def score(self, name: str, outputs: Sequence[str], *further: Sequence[str]) -> SystemMetrics:
        """The figures of a system's outputs, one for each item. Raises DataError where their number is another.

        ROUGE is the mean over these outputs and ``further`` draws of the same system; all else is of these.
        """
        if len(outputs) != len(self._references):
            raise DataError(
                f"{name} has {len(outputs)} outputs for {len(self._references)} items.",
                "One output for each item, which may be empty.",
                "Generate the missing ones.",
            )
        outputs = list(outputs)
        lengths = [len(words(output)) for output in outputs]
        draws = [np.stack(list(map(rouge_scores, self._references, texts))) for texts in (outputs, *further)]
        scores = np.mean(draws, axis=0)  # (N, kinds, 3)
        fmeasures = scores[:, :, _FMEASURE]
        precision, recall, mean = scores.mean(axis=0).T
        resampled = bootstrap_means(fmeasures, self.seed)
        return SystemMetrics(
            name=name,
            rouge={
                kind: RougeMetrics(float(precision[at]), float(recall[at]), interval(mean[at], resampled[:, at]))
                for at, kind in enumerate(ROUGE_KINDS)
            },
            overlap=self._overlap.score(outputs),
            words=sum(lengths),
            length_ratio=sum(lengths) / self._reference_words if self._reference_words else None,
            empty=lengths.count(0),
            copying=copy_metrics(zip(self._sources, outputs, strict=True)),
            fmeasures=tuple(map(tuple, fmeasures.tolist())),
        )

    def baselines(self) -> tuple[SystemMetrics, ...]:
        """Lead-3, random-3 and the whole source."""
        texts = [source.text for source in self._sources]
        first, *further = (
            [random_3(text, (self.seed, number, draw)) for number, text in enumerate(texts)] for draw in range(_DRAWS)
        )
        return (
            self.score("lead-3", [lead_3(text) for text in texts]),
            self.score("random-3", first, *further),
            self.score("source", texts),
        )

    def compare(self, outputs: Sequence[str], *, name: str = "system") -> SummaryMetrics:
        """A system beside the baselines."""
        system, baselines = self.score(name, outputs), self.baselines()
        return SummaryMetrics(
            items=len(self._sources),
            source_words=sum(len(source.words) for source in self._sources),
            reference_words=self._reference_words,
            empty_references=self._empty_references,
            bleu_tokenization=self._overlap.tokenization,
            seed=self.seed,
            system=system,
            baselines=baselines,
            leads={baseline.name: paired_leads(system, baseline, self.seed) for baseline in baselines},
            references=copy_metrics(zip(self._sources, self._references, strict=True)),
        )


def measure_summaries(
    sources: Sequence[str], references: Sequence[str], outputs: Sequence[str], *, seed: int = 0, name: str = "system"
) -> SummaryMetrics:
    """Measure outputs, one for each item, in any language. Raises DataError where the lists do not go together."""
    return SummaryScorer(sources, references, seed=seed).compare(outputs, name=name)


def paired_leads(one: SystemMetrics, other: SystemMetrics, seed: int) -> dict[RougeKind, Interval]:
    """By how much the mean F-measures of one system are above another's on the same items, item by item."""
    differences: Scores = np.array(one.fmeasures) - np.array(other.fmeasures)  # (N, kinds)
    mean, resampled = differences.mean(axis=0), bootstrap_means(differences, seed)
    return {kind: interval(mean[at], resampled[:, at]) for at, kind in enumerate(ROUGE_KINDS)}


def lead_3(text: str) -> str:
    """The first three sentences, or as many as there are."""
    return "\n".join(sentences(text)[:_SENTENCES])


def random_3(text: str, seed: Sequence[int]) -> str:
    """Three sentences drawn without replacement, in the order of the text, or as many as there are."""
    found = sentences(text)
    random = np.random.default_rng(seed)
    chosen = random.choice(len(found), min(_SENTENCES, len(found)), replace=False) if found else []
    return "\n".join(found[place] for place in sorted(chosen))
