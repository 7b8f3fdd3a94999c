"""How well a model predicts what is due in each of many examples, and whether it reads what stands in front of it.

A model that has learned a language writes a plausible summary without looking at the article. So each target is scored
behind its own source and behind another item's: by how much its loss rises is what reading the source is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from penna.data.batches import IGNORE_INDEX
from penna.data.examples.batches import batch_of
from penna.data.examples.example import Example
from penna.data.examples.store import pack_examples
from penna.evaluate.language_model import perplexity
from penna.evaluate.rouge import Interval, bootstrap_means, interval
from penna.model.gpt import GPT
from penna.train.objective import Batch, encode_source

_TOKENS_AT_ONCE = 8192
_LOGITS_AT_ONCE = 512  # rows

Nats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ExampleScores:
    """What each example's due tokens cost."""

    nats: Nats  # (N,) summed over the example's due tokens
    tokens: Numbers  # (N,) how many are due

    @property
    def loss(self) -> float:
        """Nats per due token, over all examples."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def means(self) -> Nats:
        """Nats per due token of each example: (N,)."""
        return self.nats / self.tokens


@dataclass(frozen=True)
class SourceUse:
    """What reading its own source is worth to a model, beside reading another item's."""

    items: int
    loss: float  # nats per token of the targets, each behind its own source
    shuffled_loss: float  # each behind another item's
    rise: Interval  # the second less the first, with a paired interval over items
    perplexity: float
    shuffled_perplexity: float

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


def score_examples(model: GPT, examples: Sequence[Example]) -> ExampleScores:
    """Nats and counts of the due tokens of each example, each at least one; the model is in evaluation mode."""
    packed = pack_examples(examples)
    order = np.argsort(packed.lengths, kind="stable")
    at_once = max(1, _TOKENS_AT_ONCE // (model.config.block_size + 1))
    nats, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        batch = {name: tensor.to(model.wte.weight.device) for name, tensor in batch_of(packed, rows).items()}
        nats[rows] = row_nats(model, batch).cpu().numpy()
        tokens[rows] = (batch["targets"] != IGNORE_INDEX).sum(dim=1).cpu().numpy()
    return ExampleScores(nats, tokens)


@torch.no_grad()
def row_nats(model: GPT, batch: Batch) -> Tensor:
    """Nats of the due targets of each row, summed: (B,) of float64. Logits are made for due tokens alone."""
    targets = batch["targets"]  # (B, T)
    due = targets != IGNORE_INDEX
    hidden = model.hidden(batch["ids"], encoder_cache=encode_source(model, batch))[due]  # (due tokens, C)
    costs = [
        torch.nn.functional.cross_entropy(model.logits(states).float(), wanted, reduction="none").double()
        for states, wanted in zip(hidden.split(_LOGITS_AT_ONCE), targets[due].split(_LOGITS_AT_ONCE), strict=True)
    ]
    places = due.nonzero()[:, 0]  # (due tokens,) the row of each
    return torch.zeros(len(targets), dtype=torch.float64, device=targets.device).index_add_(0, places, torch.cat(costs))


def source_use(own: ExampleScores, shuffled: ExampleScores, seed: int) -> SourceUse:
    """Compare the same targets behind their own sources and behind others'.

    The interval is of resampled items (a paired bootstrap: Koehn 2004), with all tokens of each.
    """
    rise = shuffled.nats - own.nats
    resampled = bootstrap_means(np.stack([rise, own.tokens.astype(np.float64)], axis=1), seed)  # (RESAMPLES, 2)
    return SourceUse(
        items=len(own.nats),
        loss=own.loss,
        shuffled_loss=shuffled.loss,
        rise=interval(float(rise.sum() / own.tokens.sum()), resampled[:, 0] / resampled[:, 1]),
        perplexity=perplexity(own.loss),
        shuffled_perplexity=perplexity(shuffled.loss),
    )


def derangement(count: int, seed: int) -> Numbers:
    """A permutation of at least two items that leaves none in its place: one cycle through all (Sattolo 1986)."""
    random = np.random.default_rng(seed)
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = int(random.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
