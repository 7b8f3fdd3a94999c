"""A model under a question: read from ids or from embeddings, layer by layer, with the question's value at the end.

What every method of this folder is built on. The embeddings of a token are those of `GPT.embed_tokens`: where a model
has hashed n-grams, they are a part of the embedding of the token they end with. Positions are added after any change.
Rows are read some at a time, so that memory does not grow with their number. Shapes: B rows, T tokens, C n_embd, H
heads, L blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.model.gpt import GPT
from penna.train.classification import Pooling, class_logits

# MERGED explain.question: What is to be explained: ids that a model read, which of them may have mattered, and what
# about its answer is asked.
#
# A question asks for one number, its *value*: how likely the model finds certain next tokens, or a class, in nats.
# With a
# foil it asks why this rather than that: the difference of two values (Yin and Neubig 2022, "Interpreting Language
# Models
# with Contrastive Explanations"). Next tokens are asked for from the end of the ids backwards, so that a question
# means
# the same when tokens are left out. Shapes: B rows, T tokens, C n_embd.


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
        logprobs = class_logits(model, hidden, lengths, self.pooling).log_softmax(dim=-1)
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


TOKENS_AT_ONCE = 4096


class Probe:
    """A model in evaluation mode, and a question about what it read. Its weights are taken as they are from here on:
    they no longer ask for gradients."""

    def __init__(self, model: GPT, question: Question) -> None:
        if model.config.arch != "gpt":
            raise ValueError(f"a model of arch = {model.config.arch} writes from a source; only a gpt can be asked")
        self.model = model.eval().requires_grad_(False)
        self.question = question
        self.ids = torch.tensor(question.ids, device=model.wte.weight.device)  # (T,)

    @property
    def n_layer(self) -> int:
        """How many blocks there are."""
        return self.model.config.n_layer

    def embeddings(self) -> Tensor:
        """What is read, embedded without positions: (1, T, C)."""
        return self.model.embed_tokens(self.ids[None])

    def add_positions(self, embeddings: Tensor) -> Tensor:
        """What the first block reads: (B, T, C) -> (B, T, C)."""
        return self.model.add_positions(embeddings)

    def run_blocks(
        self, x: Tensor, first: int = 0, end: int | None = None, attention: list[Tensor] | None = None
    ) -> Tensor:
        """``x`` (B, T, C) through the blocks from number ``first`` up to ``end``; each appends its attention weights
        (B, H, T, T) to ``attention`` where that is given."""
        context = self.model.context(torch.empty(x.shape[:2], device=x.device), None, None, attention)
        for block in list(self.model.h)[first:end]:
            x = block(x, context)
        return x

    def states(self, embeddings: Tensor) -> list[Tensor]:
        """The states before the first block and behind each, the final norm not applied: L + 1 of (B, T, C)."""
        found = [self.add_positions(embeddings)]
        for layer in range(self.n_layer):
            found.append(self.run_blocks(found[-1], layer, layer + 1))
        return found

    def final_norm(self, x: Tensor) -> Tensor:
        """The final norm: (B, T, C) -> (B, T, C), as `GPT.logits` reads it."""
        return self.model.ln_f(x)

    def value(self, embeddings: Tensor) -> Tensor:
        """The question's value, in nats, of rows of embeddings: (B, T, C) -> (B,). Gradients flow through it."""
        return self.question.target.value(self.model, self.final_norm(self.run_blocks(self.add_positions(embeddings))))

    @torch.inference_mode()
    def values(self, embeddings: Tensor) -> Tensor:
        """The same without gradients, for any number of rows: (B, T, C) -> (B,)."""
        return torch.cat([self.value(rows) for rows in embeddings.split(self.batch_rows(embeddings.shape[1]))])

    @torch.inference_mode()
    def values_and_probabilities(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The values, and the target's probabilities, of rows of ids that are of one length: two of (B,)."""
        found = [self._of_ids(some) for some in self._some(rows)]
        return torch.cat([value for value, _ in found]), torch.cat([probability for _, probability in found])

    def batch_rows(self, length: int) -> int:
        """How many rows of so many tokens are read together."""
        return max(1, TOKENS_AT_ONCE // length)

    def _some(self, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        step = self.batch_rows(len(rows[0]))
        for start in range(0, len(rows), step):
            yield torch.tensor(rows[start : start + step], device=self.ids.device)

    def _of_ids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden, target = self.model.hidden(ids), self.question.target
        return target.value(self.model, hidden), target.probability(self.model, hidden)
