"""Averages per epoch: the rows of a run's metrics.jsonl in, a figure for each epoch out.

A training row is a mean over some steps of one epoch, and says over how many targets, texts and bytes (``due``).
Weighed by them, the rows of an epoch give exactly what one mean over all of its steps would. Logs of an older Penna do
not say it, and may have a row across an epoch's end: such rows are weighed by tokens, and shared out by steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil, inf
from typing import Any

from penna.evaluate.language_model import perplexity

Row = dict[str, Any]  # of a run's metrics.jsonl


@dataclass(frozen=True)
class MeanMetrics:
    """Figures over many targets and texts, in nats and shares; None where a task has none of it."""

    loss: float  # what is minimised
    accuracy: float | None  # of tokens; of a classifier, of texts
    bits_per_byte: float | None
    label_loss: float | None
    lm_loss: float | None
    lm_accuracy: float | None
    macro_f1: float | None  # of an evaluation alone: no mean of rows gives it

    @property
    def perplexity(self) -> float | None:
        """Of a token; None of a classifier that learns none, infinite where it overflows."""
        if self.label_loss is None:
            return perplexity(self.loss)
        return None if self.lm_loss is None else perplexity(self.lm_loss)

    def as_json(self) -> dict[str, float | None]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {**asdict(self), "perplexity": None if self.perplexity == inf else self.perplexity}


@dataclass(frozen=True)
class EpochMetrics:
    """What a run did in one of its epochs."""

    number: int  # from 1
    share: float  # of the epoch, that was trained
    steps: int
    tokens: int  # learned from
    minutes: float  # from the last step before the epoch to its own last; evaluations in between included
    train: MeanMetrics
    valid: MeanMetrics | None  # measured at its last step; None where nothing was
    exact: bool  # weighed by what was due, and no row is missing

    @property
    def whole(self) -> bool:
        """Whether the epoch was trained to its end."""
        return self.share == 1.0

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        means = {"train": self.train.as_json(), "valid": None if self.valid is None else self.valid.as_json()}
        return {**asdict(self), "whole": self.whole, **means}


@dataclass(frozen=True)
class _Part:
    """What a training row tells of one epoch."""

    row: Row
    epoch: int
    steps: float
    tokens: float
    seconds: float


def epoch_metrics(rows: Sequence[Row]) -> list[EpochMetrics]:
    """The epochs a run began, in order; none where it logged no training step."""
    parts: dict[int, list[_Part]] = {}
    for part in _parts(rows):
        parts.setdefault(part.epoch, []).append(part)
    evaluated = {row["step"]: row for row in rows if row["split"] == "valid"}
    return [_figures(own, evaluated) for _, own in sorted(parts.items())]


def _parts(rows: Sequence[Row]) -> Iterator[_Part]:
    """Training rows, each shared out to the epochs that its steps are of."""
    before: Row = {"step": 0, "epoch": 0.0, "tokens": 0, "seconds": 0.0}
    for row in rows:
        if row["split"] != "train":
            continue
        last = max(1, ceil(row["epoch"]))
        # A row that says what was due is of one epoch, also where the rows between it and the one before are lost.
        first = last if "due" in row else int(before["epoch"]) + 1
        span = row["epoch"] - before["epoch"]
        for epoch in range(first, last + 1):
            within = min(row["epoch"], epoch) - max(before["epoch"], epoch - 1)
            share = within / span if span else 1.0  # steps may be too many for the digits of an epoch
            steps, tokens, seconds = (share * (row[name] - before[name]) for name in ("step", "tokens", "seconds"))
            yield _Part(row, epoch, steps, tokens, seconds)
        before = row


def _figures(parts: Sequence[_Part], evaluated: dict[int, Row]) -> EpochMetrics:
    """Of the parts of one epoch."""
    number, last = parts[0].epoch, parts[-1].row
    tokens = round(sum(part.tokens for part in parts))
    has_due = all("due" in part.row for part in parts)
    ends_here = last["epoch"] <= number  # else nothing was logged, and so nothing evaluated, at the epoch's last step
    valid = evaluated.get(last["step"]) if ends_here else None
    return EpochMetrics(
        number=number,
        share=min(last["epoch"] - (number - 1), 1.0),
        steps=round(sum(part.steps for part in parts)),
        tokens=tokens,
        minutes=sum(part.seconds for part in parts) / 60,
        train=_means(parts, has_due),
        valid=None if valid is None else _measured(valid),
        exact=has_due and sum(part.row["due"]["tokens"] for part in parts) == tokens,
    )


def _measured(row: Row) -> MeanMetrics:
    """The figures of an evaluation as they are."""
    others = (field.name for field in fields(MeanMetrics) if field.name != "loss")
    return MeanMetrics(row["loss"], **{name: row.get(name) for name in others})


def _means(parts: Sequence[_Part], has_due: bool) -> MeanMetrics:
    def mean(term: str, figure: str, less: str | None = None) -> float | None:
        """Of a figure (less another), weighed by what of the term was due, or by tokens where no row says it."""
        weighed = [
            (
                part.row["due"][term] if has_due else part.tokens,
                part.row[figure] - (part.row[less] if less is not None else 0.0),
            )
            for part in parts
            if figure in part.row
        ]
        total = sum(weight for weight, _ in weighed)
        return sum(weight * value for weight, value in weighed) / total if total else None

    bits_per_byte = mean("bytes", "bits_per_byte")
    if "label_loss" not in parts[0].row:
        return MeanMetrics(mean("loss", "loss") or 0.0, mean("loss", "accuracy"), bits_per_byte, None, None, None, None)
    label_loss = mean("label", "label_loss") or 0.0
    learns_tokens = "lm_loss" in parts[0].row
    return MeanMetrics(
        # What the tokens add is their loss times a weight: it is a mean over tokens, as the label's is over texts.
        loss=label_loss + ((mean("lm", "loss", less="label_loss") or 0.0) if learns_tokens else 0.0),
        accuracy=mean("label", "accuracy"),
        bits_per_byte=bits_per_byte,
        label_loss=label_loss,
        lm_loss=mean("lm", "lm_loss"),
        lm_accuracy=mean("lm", "lm_accuracy"),
        macro_f1=None,
    )
