"""What is to be explained: ids that a model read, which of them may have mattered, and what about its answer is asked.

A question asks for one number, its *value*: how likely the model finds certain next tokens, or a class, in nats. With a
foil it asks why this rather than that: the difference of two values (Yin and Neubig 2022, "Interpreting Language Models
with Contrastive Explanations"). Next tokens are asked for from the end of the ids backwards, so that a question means
the same when tokens are left out. Shapes: B rows, T tokens, C n_embd.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from penna.model.gpt import GPT
from penna.train.classification import Pooling, label_scores


@dataclass(frozen=True)
class NextTokens:
    """log P(tokens | ids), the sum over tokens that follow one another; less that of a foil in the only one's place."""

    tokens: tuple[int, ...]  # at least one
    foil: int | None = None  # only beside a single token

    @property
    def last_positions(self) -> int:
        """How many of the last tokens that are read the value is taken from."""
        return len(self.tokens)

    def value(self, model: GPT, hidden: Tensor) -> Tensor:
        """Of rows of last hidden states (B, T, C): (B,), in nats."""
        logits = model.logits(hidden[:, -len(self.tokens) :]).float()  # (B, n, vocab_size)
        logprobs = logits.log_softmax(dim=-1)
        found = logprobs.gather(2, _ids(self.tokens, hidden).expand(len(hidden), -1)[..., None])[..., 0].sum(dim=1)
        return found if self.foil is None else found - logprobs[:, -1, self.foil]

    def probability(self, model: GPT, hidden: Tensor) -> Tensor:
        """Of the tokens, whatever the foil: (B,)."""
        return NextTokens(self.tokens).value(model, hidden).exp()


@dataclass(frozen=True)
class Label:
    """log P(class | ids); less that of another class."""

    number: int
    pooling: Pooling
    foil: int | None = None

    last_positions = 1

    def value(self, model: GPT, hidden: Tensor) -> Tensor:
        """Of rows of last hidden states (B, T, C), none of them padded: (B,), in nats."""
        lengths = torch.full((len(hidden),), hidden.shape[1], device=hidden.device)
        logprobs = label_scores(model, hidden, lengths, self.pooling).log_softmax(dim=-1)
        return logprobs[:, self.number] - (0.0 if self.foil is None else logprobs[:, self.foil])

    def probability(self, model: GPT, hidden: Tensor) -> Tensor:
        """Of the class, whatever the foil: (B,)."""
        return Label(self.number, self.pooling).value(model, hidden).exp()


Target = NextTokens | Label


@dataclass(frozen=True)
class Question:
    """One number that is asked for, and the tokens that may be held responsible for it."""

    ids: tuple[int, ...]  # all that is read; of a continuation, all but its last token
    first: int  # the first token that may have mattered
    end: int  # the one behind the last such
    target: Target

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= len(self.ids):
            raise ValueError(f"tokens {self.first} to {self.end} of {len(self.ids)} cannot be asked about")

    @property
    def features(self) -> range:
        """The places of the tokens that may have mattered."""
        return range(self.first, self.end)


def _ids(tokens: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.tensor(tokens, device=like.device)
