"""A question about a model's prediction, and a probe that runs the model on it layer by layer.

Every method of this package is built on these. A question has one number, its *value*: the log-probability of certain
next tokens or of a class, in nats. With a foil it is the difference of two log-probabilities: why this rather than that
(Yin and Neubig 2022, "Interpreting Language Models with Contrastive Explanations"). Next tokens are located from the
end of the ids, so that a question keeps its meaning when tokens are removed.

Token embeddings are those of `GPT.embed_tokens`: hashed n-grams, if a model has them, are part of the embedding of the
token that ends them. Positions are added after any change. Shapes: B rows, T tokens, C n_embd, H heads, L blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from penna.model.gpt import GPT
from penna.train.classification import Pooling, class_logits

TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class NextTokens:
    """log P(tokens | ids), summed over consecutive tokens; minus that of a foil at the position of a single token."""

    tokens: tuple[int, ...]  # at least one
    foil: int | None = None  # only with a single token

    @property
    def last_positions(self) -> int:
        """The number of last positions of the input that the value is read from."""
        return len(self.tokens)

    def value(self, model: GPT, hidden: Tensor) -> Tensor:
        """The value for rows of last hidden states (B, T, C): (B,), in nats."""
        logits = model.logits(hidden[:, -len(self.tokens) :]).float()  # (B, n, vocab_size)
        logprobs = logits.log_softmax(dim=-1)
        tokens = torch.tensor(self.tokens, device=hidden.device).expand(len(hidden), -1)
        found = logprobs.gather(2, tokens[..., None])[..., 0].sum(dim=1)
        return found if self.foil is None else found - logprobs[:, -1, self.foil]

    def probability(self, model: GPT, hidden: Tensor) -> Tensor:
        """The probability of the tokens, without the foil: (B,)."""
        return NextTokens(self.tokens).value(model, hidden).exp()


@dataclass(frozen=True)
class Label:
    """log P(class | ids); minus that of another class."""

    number: int
    pooling: Pooling
    foil: int | None = None

    last_positions = 1

    def value(self, model: GPT, hidden: Tensor) -> Tensor:
        """The value for rows of last hidden states (B, T, C) without padding: (B,), in nats."""
        lengths = torch.full((len(hidden),), hidden.shape[1], device=hidden.device)
        logprobs = class_logits(model, hidden, lengths, self.pooling).log_softmax(dim=-1)
        return logprobs[:, self.number] - (0.0 if self.foil is None else logprobs[:, self.foil])

    def probability(self, model: GPT, hidden: Tensor) -> Tensor:
        """The probability of the class, without the foil: (B,)."""
        return Label(self.number, self.pooling).value(model, hidden).exp()


Target = NextTokens | Label


@dataclass(frozen=True)
class Question:
    """A target, and the input tokens that may have influenced it."""

    ids: tuple[int, ...]  # the whole input; for a continuation, including all of its tokens but the last
    first: int  # the first explained token
    end: int  # the end of the explained tokens, exclusive
    target: Target

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= len(self.ids):
            raise ValueError(f"tokens {self.first} to {self.end} are not within {len(self.ids)} tokens")

    @property
    def features(self) -> range:
        """The positions of the explained tokens."""
        return range(self.first, self.end)


class Probe:
    """A model in evaluation mode, and a question. The model's weights no longer require gradients."""

    def __init__(self, model: GPT, question: Question) -> None:
        if model.config.arch != "gpt":
            raise ValueError(f'only models of arch = "gpt" can be explained (got "{model.config.arch}")')
        self.model = model.eval().requires_grad_(False)
        self.question = question
        self.ids = torch.tensor(question.ids, device=model.wte.weight.device)  # (T,)

    @property
    def n_layer(self) -> int:
        """The number of blocks."""
        return self.model.config.n_layer

    def embeddings(self) -> Tensor:
        """The input embeddings without positions: (1, T, C)."""
        return self.model.embed_tokens(self.ids[None])

    def add_positions(self, embeddings: Tensor) -> Tensor:
        """The input of the first block: (B, T, C) -> (B, T, C)."""
        return self.model.add_positions(embeddings)

    def run_blocks(
        self, x: Tensor, first: int = 0, end: int | None = None, attention: list[Tensor] | None = None
    ) -> Tensor:
        """Run ``x`` (B, T, C) through the blocks ``first`` to ``end``, exclusive.

        Each block appends its attention weights (B, H, T, T) to ``attention``, if given.
        """
        context = self.model.context(torch.empty(x.shape[:2], device=x.device), None, None, attention)
        for block in list(self.model.h)[first:end]:
            x = block(x, context)
        return x

    def states(self, embeddings: Tensor) -> list[Tensor]:
        """The states before the first block and after each, without the final norm: L + 1 of (B, T, C)."""
        found = [self.add_positions(embeddings)]
        for layer in range(self.n_layer):
            found.append(self.run_blocks(found[-1], layer, layer + 1))
        return found

    def final_norm(self, x: Tensor) -> Tensor:
        """The input of `GPT.logits`: (B, T, C) -> (B, T, C)."""
        return self.model.ln_f(x)

    def value(self, embeddings: Tensor) -> Tensor:
        """The question's value in nats for rows of embeddings, with gradients: (B, T, C) -> (B,)."""
        hidden = self.final_norm(self.run_blocks(self.add_positions(embeddings)))
        return self.question.target.value(self.model, hidden)

    @torch.inference_mode()
    def values(self, embeddings: Tensor) -> Tensor:
        """The values without gradients, in batches of limited size: (B, T, C) -> (B,)."""
        return torch.cat([self.value(rows) for rows in embeddings.split(self.batch_rows(embeddings.shape[1]))])

    @torch.inference_mode()
    def values_and_probabilities(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The values and the target's probabilities for rows of ids of equal length: two of (B,)."""
        values: list[Tensor] = []
        probabilities: list[Tensor] = []
        step, target = self.batch_rows(len(rows[0])), self.question.target
        for start in range(0, len(rows), step):
            hidden = self.model.hidden(torch.tensor(rows[start : start + step], device=self.ids.device))
            values.append(target.value(self.model, hidden))
            probabilities.append(target.probability(self.model, hidden))
        return torch.cat(values), torch.cat(probabilities)

    def batch_rows(self, length: int) -> int:
        """The number of rows of this length in one batch."""
        return max(1, TOKENS_AT_ONCE // length)
