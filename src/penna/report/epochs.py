"""Metrics per epoch, computed from a run's metrics.jsonl.

A training row is a mean over some steps of one epoch, with the numbers of targets, texts and bytes in it (``due``).
Weighted by them, the rows of an epoch give exactly the mean over all its steps. Logs of older versions lack these
numbers and may have rows across the end of an epoch; such rows are weighted by tokens and split by steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from math import ceil
from typing import Any, ClassVar

from penna.evaluate.language_model import perplexity

Row = dict[str, Any]  # of a run's metrics.jsonl


@dataclass(frozen=True)
class MeanMetrics:
    """Mean metrics, in nats and shares; None if the task does not have a metric."""

    json_properties: ClassVar = ("perplexity",)

    loss: float  # the training objective
    accuracy: float | None  # of tokens, or of texts for a classifier
    bits_per_byte: float | None
    label_loss: float | None
    lm_loss: float | None
    lm_accuracy: float | None
    macro_f1: float | None  # of evaluations only, because it is not a mean of rows

    @property
    def perplexity(self) -> float | None:
        """Perplexity per token; None for a classifier without language modeling, infinite if it overflows."""
        if self.label_loss is None:
            return perplexity(self.loss)
        return None if self.lm_loss is None else perplexity(self.lm_loss)


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of one epoch of a run."""

    json_properties: ClassVar = ("whole",)

    number: int  # from 1
    share: float  # of the epoch that was trained
    steps: int
    tokens: int  # training targets
    minutes: float  # until its last step, including evaluations
    train: MeanMetrics
    valid: MeanMetrics | None  # at its last step; None without an evaluation
    exact: bool  # weighted by the numbers of targets, without missing rows

    @property
    def whole(self) -> bool:
        """Whether the epoch was trained to its end."""
        return self.share == 1.0


@dataclass(frozen=True)
class _Part:
    """The part of a training row that belongs to one epoch."""

    row: Row
    epoch: int
    steps: float
    tokens: float
    seconds: float


def epoch_metrics(rows: Sequence[Row]) -> list[EpochMetrics]:
    """The epochs of a run in order, including an unfinished one; empty without a logged training step."""
    parts: dict[int, list[_Part]] = {}
    for part in _parts(rows):
        parts.setdefault(part.epoch, []).append(part)
    evaluated = {row["step"]: row for row in rows if row["split"] == "valid"}
    return [_epoch(own, evaluated) for _, own in sorted(parts.items())]


def _parts(rows: Sequence[Row]) -> Iterator[_Part]:
    """Training rows, split by the epochs of their steps."""
    before: Row = {"step": 0, "epoch": 0.0, "tokens": 0, "seconds": 0.0}
    for row in rows:
        if row["split"] != "train":
            continue
        last = max(1, ceil(row["epoch"]))
        # A row with ``due`` belongs to one epoch, even if rows before it are lost.
        first = last if "due" in row else int(before["epoch"]) + 1
        span = row["epoch"] - before["epoch"]
        for epoch in range(first, last + 1):
            within = min(row["epoch"], epoch) - max(before["epoch"], epoch - 1)
            share = within / span if span else 1.0  # no difference, if an epoch has too many steps for its digits
            steps, tokens, seconds = (share * (row[name] - before[name]) for name in ("step", "tokens", "seconds"))
            yield _Part(row, epoch, steps, tokens, seconds)
        before = row


def _epoch(parts: Sequence[_Part], evaluated: dict[int, Row]) -> EpochMetrics:
    """The metrics of an epoch from its parts."""
    number, last = parts[0].epoch, parts[-1].row
    tokens = round(sum(part.tokens for part in parts))
    has_due = all("due" in part.row for part in parts)
    ends_here = last["epoch"] <= number  # else there was no evaluation at the last step
    valid = evaluated.get(last["step"]) if ends_here else None
    return EpochMetrics(
        number=number,
        share=min(last["epoch"] - (number - 1), 1.0),
        steps=round(sum(part.steps for part in parts)),
        tokens=tokens,
        minutes=sum(part.seconds for part in parts) / 60,
        train=_means(parts, has_due),
        valid=None if valid is None else _evaluation_metrics(valid),
        exact=has_due and sum(part.row["due"]["tokens"] for part in parts) == tokens,
    )


def _evaluation_metrics(row: Row) -> MeanMetrics:
    """The metrics of an evaluation."""
    others = (field.name for field in fields(MeanMetrics) if field.name != "loss")
    return MeanMetrics(row["loss"], **{name: row.get(name) for name in others})


def _means(parts: Sequence[_Part], has_due: bool) -> MeanMetrics:
    def mean(term: str, metric: str, less: str | None = None) -> float | None:
        """The mean of a metric (less another), weighted by the term's number of targets, or by tokens without it."""
        weighted = [
            (
                part.row["due"][term] if has_due else part.tokens,
                part.row[metric] - (part.row[less] if less is not None else 0.0),
            )
            for part in parts
            if metric in part.row
        ]
        total = sum(weight for weight, _ in weighted)
        return sum(weight * value for weight, value in weighted) / total if total else None

    bits_per_byte = mean("bytes", "bits_per_byte")
    if "label_loss" not in parts[0].row:
        return MeanMetrics(mean("loss", "loss") or 0.0, mean("loss", "accuracy"), bits_per_byte, None, None, None, None)
    label_loss = mean("label", "label_loss") or 0.0
    learns_tokens = "lm_loss" in parts[0].row
    return MeanMetrics(
        # The language-modeling part of the loss is a mean over tokens, and the label loss a mean over texts.
        loss=label_loss + ((mean("lm", "loss", less="label_loss") or 0.0) if learns_tokens else 0.0),
        accuracy=mean("label", "accuracy"),
        bits_per_byte=bits_per_byte,
        label_loss=label_loss,
        lm_loss=mean("lm", "lm_loss"),
        lm_accuracy=mean("lm", "lm_accuracy"),
        macro_f1=None,
    )
