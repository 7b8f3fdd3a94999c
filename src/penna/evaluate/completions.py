"""The loss of a model on the target tokens of examples, and how much of it reading the source saves.

A language model can generate a plausible summary without looking at the article. So each target is scored once after
its own source and once after another item's; the rise of the loss measures how much the model uses the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

_BATCH_TOKENS = 8192
_LOGIT_ROWS = 512

Nats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ExampleScores:
    """The cost of each example's target tokens."""

    nats: Nats  # (N,) summed over the example's target tokens
    tokens: Numbers  # (N,) target tokens

    @property
    def loss(self) -> float:
        """Nats per target token, over all examples."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def means(self) -> Nats:
        """Nats per target token of each example: (N,)."""
        return self.nats / self.tokens


@dataclass(frozen=True)
class SourceUse:
    """The loss with each item's own source, compared with the loss with another item's source."""

    items: int
    loss: float  # nats per target token, after the item's own source
    shuffled_loss: float  # after another item's source
    rise: Interval  # shuffled_loss - loss, with a paired interval over items
    perplexity: float
    shuffled_perplexity: float


def score_examples(model: GPT, examples: Sequence[Example]) -> ExampleScores:
    """Nats and target tokens of each example, which has at least one; the model is in evaluation mode."""
    packed = pack_examples(examples)
    order = np.argsort(packed.lengths, kind="stable")
    batch_rows = max(1, _BATCH_TOKENS // (model.config.block_size + 1))
    nats, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    for start in range(0, len(order), batch_rows):
        rows = order[start : start + batch_rows]
        batch = {name: tensor.to(model.wte.weight.device) for name, tensor in batch_of(packed, rows).items()}
        nats[rows] = row_nats(model, batch).cpu().numpy()
        tokens[rows] = (batch["targets"] != IGNORE_INDEX).sum(dim=1).cpu().numpy()
    return ExampleScores(nats, tokens)


@torch.no_grad()
def row_nats(model: GPT, batch: Batch) -> Tensor:
    """Nats of each row's targets, summed: (B,) in float64. Logits are computed for target tokens only."""
    targets = batch["targets"]  # (B, T)
    is_target = targets != IGNORE_INDEX
    hidden = model.hidden(batch["ids"], encoder_cache=encode_source(model, batch))[is_target]  # (target tokens, C)
    costs = [
        torch.nn.functional.cross_entropy(model.logits(states).float(), ids, reduction="none").double()
        for states, ids in zip(hidden.split(_LOGIT_ROWS), targets[is_target].split(_LOGIT_ROWS), strict=True)
    ]
    rows = is_target.nonzero()[:, 0]  # (target tokens,) the row of each
    return torch.zeros(len(targets), dtype=torch.float64, device=targets.device).index_add_(0, rows, torch.cat(costs))


def source_use(own: ExampleScores, shuffled: ExampleScores, seed: int) -> SourceUse:
    """Compare the same targets after their own sources and after shuffled ones.

    The interval is a paired bootstrap over items (Koehn 2004), each with all of its tokens.
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
    """A random permutation of at least two items that leaves none in place: one cycle through all (Sattolo 1986)."""
    random = np.random.default_rng(seed)
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = int(random.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
