"""Scoring: texts in, how likely a model finds each of their tokens out; or words behind a context in, which it expects.

Nothing is put in front of a text: its first token has nothing before it, so no probability, and is not counted. With
``start_token`` the document separator stands in front, as it does where the model learned, and the first token counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from penna.api.capabilities import check_can_continue, check_can_generate
from penna.errors import DataError, TokenizerError
from penna.evaluate.language_model import perplexity
from penna.evaluate.sequence_scores import SequenceScores, next_token_logprobs, score_sequences, window_start
from penna.loading import LoadedModel
from penna.tokenizer.continuations import JoinedContinuation, join_continuation
from penna.tokenizer.offsets import EncodedText, byte_count_from, encode_with_offsets, out_of_vocabulary
from penna.tokenizer.tokenizer import Tokenizer

Measure = Literal["perplexity", "logprob", "bits-per-byte"]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token behind those before it."""

    token: str  # as `Tokenizer.token_text` shows it
    id: int
    logprob: float | None  # natural logarithm; None where nothing stands before it
    rank: int | None  # 1: the likeliest of the vocabulary


@dataclass(frozen=True)
class TextScore:
    """How likely a model finds a text."""

    text: str
    tokens: tuple[TokenScore, ...]  # the start token too, where there is one
    bytes: int  # of text that the counted tokens stand for
    windows: int  # read so many, overlapping by half a block; 1 where the text fits the block
    lacking: tuple[str, ...]  # what the vocabulary has no token for

    @property
    def counted(self) -> int:
        """How many tokens have a probability."""
        return sum(token.logprob is not None for token in self.tokens)

    @property
    def logprob(self) -> float | None:
        """Natural logarithm of the product of all tokens' probabilities; None where no token is counted."""
        return _total(self.tokens)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean cost of a counted token; infinite where that is too large for a float."""
        return None if self.logprob is None else perplexity(-self.logprob / self.counted)

    @property
    def bits_per_byte(self) -> float | None:
        """The cost of the counted tokens in bits, over the bytes they stand for; None where they stand for none."""
        return None if self.logprob is None or not self.bytes else -self.logprob / math.log(2) / self.bytes

    def cost(self, by: Measure) -> float:
        """What texts are ranked by, the least first; infinite where no token is counted."""
        if self.logprob is None:
            return math.inf
        found = {"perplexity": self.perplexity, "logprob": -self.logprob, "bits-per-byte": self.bits_per_byte}[by]
        return math.inf if found is None else found

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {
            "text": self.text,
            "tokens": [asdict(token) for token in self.tokens],
            "logprob": self.logprob,
            "perplexity": None if self.perplexity == math.inf else self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "counted": self.counted,
            "bytes": self.bytes,
            "windows": self.windows,
            "lacking": list(self.lacking),
        }


@dataclass(frozen=True)
class WordScore:
    """A word behind a context."""

    word: str
    text: str  # as it stands behind the context, with the space in front where one was put
    tokens: tuple[TokenScore, ...]
    together: bool  # whether it was cut into tokens with its context, rather than by itself

    @property
    def logprob(self) -> float:
        """Natural logarithm of P(word | context), the product of its tokens' probabilities."""
        return _total(self.tokens) or 0.0

    @property
    def probability(self) -> float:
        """P(word | context): that the text goes on with these tokens, whatever stands behind them."""
        return math.exp(self.logprob)

    @property
    def perplexity(self) -> float:
        """Per token of the word; infinite where it is too large for a float."""
        return perplexity(-self.logprob / len(self.tokens))

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; an overflowing perplexity is null."""
        return {
            "word": self.word,
            "text": self.text,
            "tokens": [asdict(token) for token in self.tokens],
            "logprob": self.logprob,
            "probability": self.probability,
            "perplexity": None if self.perplexity == math.inf else self.perplexity,
            "together": self.together,
        }


@dataclass(frozen=True)
class ContinuationScores:
    """What a model expects behind a context."""

    context: str
    context_tokens: tuple[str, ...]  # the start token too, where there is one
    context_read: int  # how many of them, the last ones, the first token behind them was predicted from
    words: tuple[WordScore, ...]  # in the order they were given
    top: tuple[TokenScore, ...]  # the likeliest next tokens
    lacking: tuple[str, ...]  # what the vocabulary has no token for, in context and words

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "context": self.context,
            "context_tokens": list(self.context_tokens),
            "context_read": self.context_read,
            "words": [word.as_json() for word in self.words],
            "top": [asdict(token) for token in self.top],
            "lacking": list(self.lacking),
        }


def score(loaded: LoadedModel, texts: Sequence[str], start_token: bool = False) -> list[TextScore]:
    """The chain of each text, in their order.

    Raises RunError where the model cannot go on with a text, DataError for a text without a token, TokenizerError where
    there is no separator to start from.
    """
    tokenizer = _ready(loaded)
    start = _start_ids(loaded, tokenizer) if start_token else []
    placed = [encode_with_offsets(tokenizer, text) for text in texts]
    for number, (text, found) in enumerate(zip(texts, placed, strict=True), start=1):
        _check_not_empty(f"Text {number} of {len(texts)}" if len(texts) > 1 else "The text", text, found.ids)
    chains = score_sequences(loaded.model, [[*start, *found.ids] for found in placed])
    return [
        _text_score(tokenizer, text, found, start, chain)
        for text, found, chain in zip(texts, placed, chains, strict=True)
    ]


def rank_texts(scores: Sequence[TextScore], by: Measure = "perplexity") -> list[TextScore]:
    """The likeliest text first; texts of which no token is counted come last."""
    return sorted(scores, key=lambda found: found.cost(by))


def score_after(
    loaded: LoadedModel,
    context: str,
    words: Sequence[str],
    top: int = 10,
    *,
    start_token: bool = False,
    space: bool = True,
) -> ContinuationScores:
    """P(word | context) of each word, and the ``top`` likeliest next tokens.

    `penna.tokenizer.continuations` joins context and word, with a space between them if ``space`` is true.
    Raises what ``score`` raises, also for a word without a token, or where there is no context to go on from.
    """
    tokenizer = _ready(loaded)
    start = _start_ids(loaded, tokenizer) if start_token else []
    ids, joined = join_continuation(tokenizer, context, words, space=space)
    before = [*start, *ids]
    if not before:
        raise DataError(
            "The context has no token, and nothing is put in front of it.",
            "At least one token to go on from.",
            "Give a context, or begin a document: --start-token.",
        )
    for number, (word, found) in enumerate(zip(words, joined, strict=True), start=1):
        _check_not_empty(f"Word {number} of {len(words)}", word, found.ids)
    chains = score_sequences(loaded.model, [[*before, *word.ids] for word in joined], [len(before)] * len(joined))
    block = loaded.model.config.block_size
    return ContinuationScores(
        context=context,
        context_tokens=tuple(map(tokenizer.token_text, before)),
        context_read=len(before) - window_start(len(before), block),
        words=tuple(
            WordScore(word, found.text, _token_scores(tokenizer, found.ids, chain, len(before)), found.together)
            for word, found, chain in zip(words, joined, chains, strict=True)
        ),
        top=_likeliest(tokenizer, next_token_logprobs(loaded.model, before), top),
        lacking=_lacking_in(tokenizer, context, joined),
    )


def _ready(loaded: LoadedModel) -> Tokenizer:
    check_can_generate(loaded)
    check_can_continue(loaded)
    return loaded.require_tokenizer()


def _start_ids(loaded: LoadedModel, tokenizer: Tokenizer) -> list[int]:
    if tokenizer.separator_id is None:
        raise TokenizerError(
            f"The tokenizer of {loaded.source} has no document separator.",
            "A start token is the separator that stands between documents.",
            "Leave out --start-token: the first token of a text is then not counted.",
        )
    return [tokenizer.separator_id]


def _check_not_empty(name: str, text: str, ids: Sequence[int]) -> None:
    if not ids:
        raise DataError(
            f"{name} is empty." if not text else f"{name}, {text!r}, has no token: the tokenizer leaves all of it out.",
            "At least one token.",
            "Leave it out, or write something there.",
        )


def _text_score(
    tokenizer: Tokenizer, text: str, placed: EncodedText, start: list[int], chain: SequenceScores
) -> TextScore:
    return TextScore(
        text=text,
        tokens=_token_scores(tokenizer, [*start, *placed.ids], chain, 0),
        bytes=byte_count_from(tokenizer, text, placed, 1 - len(start)),
        windows=chain.windows,
        lacking=out_of_vocabulary(tokenizer, text, placed),
    )


def _token_scores(
    tokenizer: Tokenizer, ids: Sequence[int], chain: SequenceScores, first: int
) -> tuple[TokenScore, ...]:
    """Ids that stand in a chain from its token ``first`` on."""
    return tuple(
        TokenScore(tokenizer.token_text(index), index, float(logprob) if rank else None, int(rank) or None)
        for index, logprob, rank in zip(ids, chain.logprobs[first:], chain.ranks[first:], strict=True)
    )


def _likeliest(
    tokenizer: Tokenizer, logprobs: np.ndarray[Any, np.dtype[np.float64]], top: int
) -> tuple[TokenScore, ...]:
    known = logprobs[: tokenizer.vocab_size]  # an embedding may have rows that no token has
    order = np.argsort(-known, kind="stable")[:top].tolist()
    return tuple(
        TokenScore(tokenizer.token_text(index), index, float(known[index]), int((logprobs > known[index]).sum()) + 1)
        for index in order
    )


def _lacking_in(tokenizer: Tokenizer, context: str, joined: Sequence[JoinedContinuation]) -> tuple[str, ...]:
    texts = [context, *(word.text for word in joined)]
    return tuple(
        dict.fromkeys(
            part for text in texts for part in out_of_vocabulary(tokenizer, text, encode_with_offsets(tokenizer, text))
        )
    )


def _total(tokens: Sequence[TokenScore]) -> float | None:
    counted = [token.logprob for token in tokens if token.logprob is not None]
    return math.fsum(counted) if counted else None
