"""Quality of summaries: ROUGE, BLEU, chrF and copying, compared with baselines made from the sources.

Lead-3 (the first three sentences of the source) is a baseline that many news summarizers do not beat. Random-3 (three
random sentences in their order; ROUGE is the mean of ten draws) measures what any part of the source is worth, and the
whole source is what a model that only copies gets. Baselines are measured on the same items as the system, and the
system's lead over each has a paired interval: if it contains zero, the items cannot separate the two. The references
are compared with the sources too, because human copying is the standard for the system's copying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from penna.errors import DataError
from penna.evaluate.bleu import OverlapMetrics, OverlapScorer, Tokenization
from penna.evaluate.copying import CopyMetrics, Source, copy_metrics
from penna.evaluate.rouge import (
    FMEASURE,
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
_DRAWS = 10  # of random-3: one draw differs from their mean by about a point of ROUGE-2 on 200 items


@dataclass(frozen=True)
class SystemMetrics:
    """Metrics of one system or baseline on all items."""

    name: str
    rouge: Mapping[RougeKind, RougeMetrics]
    overlap: OverlapMetrics = field(metadata={"json": "inline"})
    words: int  # of all outputs
    length_ratio: float | None  # words of all outputs divided by those of all references
    empty: int  # outputs without a word; they count as 0
    copying: CopyMetrics
    fmeasures: tuple[tuple[float, ...], ...] = field(metadata={"json": False})  # per item, in the order of ROUGE_KINDS


@dataclass(frozen=True)
class SummaryMetrics:
    """Metrics of a system's summaries, of the baselines and of the references."""

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


class SummaryScorer:
    """Sources and references, parsed once, on which any number of systems can be measured."""

    def __init__(self, sources: Sequence[str], references: Sequence[str], *, seed: int = 0) -> None:
        """``seed`` determines the sentences of random-3 and the bootstrap resamples.

        Raises DataError if there are no items, or not one reference for each source.
        """
        if not sources or len(sources) != len(references):
            raise DataError(
                f"There are {len(sources)} sources and {len(references)} references.",
                "Expected one reference for each source, and at least one item.",
                "Check the columns of the data.",
            )
        self.seed = seed
        self._references = list(references)
        self._sources = [Source(text) for text in sources]
        self._overlap = OverlapScorer(self._references)
        lengths = [len(words(reference)) for reference in references]
        self._reference_words, self._empty_references = sum(lengths), lengths.count(0)

    def score(self, name: str, outputs: Sequence[str], *further: Sequence[str]) -> SystemMetrics:
        """Metrics of a system's outputs, one for each item. Raises DataError if their number differs.

        ROUGE is the mean over ``outputs`` and ``further`` draws of the same system; all else is of ``outputs``.
        """
        if len(outputs) != len(self._references):
            raise DataError(
                f"{name} has {len(outputs)} outputs for {len(self._references)} items.",
                "Expected one output, possibly empty, for each item.",
                "Generate the missing ones.",
            )
        outputs = list(outputs)
        lengths = [len(words(output)) for output in outputs]
        draws = [np.stack(list(map(rouge_scores, self._references, texts))) for texts in (outputs, *further)]
        scores = np.mean(draws, axis=0)  # (N, kinds, 3)
        fmeasures = scores[:, :, FMEASURE]
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
        """Metrics of a system and of the baselines."""
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


def paired_leads(one: SystemMetrics, other: SystemMetrics, seed: int) -> dict[RougeKind, Interval]:
    """The mean F-measures of one system minus another's on the same items, with paired intervals."""
    differences: Scores = np.array(one.fmeasures) - np.array(other.fmeasures)  # (N, kinds)
    mean, resampled = differences.mean(axis=0), bootstrap_means(differences, seed)
    return {kind: interval(mean[at], resampled[:, at]) for at, kind in enumerate(ROUGE_KINDS)}


def lead_3(text: str) -> str:
    """The first three sentences, or all if there are fewer."""
    return "\n".join(sentences(text)[:_SENTENCES])


def random_3(text: str, seed: Sequence[int]) -> str:
    """Three random sentences in the order of the text, or all if there are fewer."""
    found = sentences(text)
    random = np.random.default_rng(seed)
    chosen = random.choice(len(found), min(_SENTENCES, len(found)), replace=False) if found else []
    return "\n".join(found[number] for number in sorted(chosen))
