"""Score texts: the probability of each token of a text, and of words after a context.

The first token of a text has nothing before it, so it has no probability and is not counted. With ``start_token`` the
document separator comes first, as in training, and the first token counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    """A token, scored after those before it."""

    token: str  # in the form of `Tokenizer.token_text`
    id: int
    logprob: float | None  # natural logarithm; None if there is nothing before it
    rank: int | None  # 1: the most probable of the vocabulary


@dataclass(frozen=True)
class TextScore:
    """How probable a text is for a model."""

    text: str
    tokens: tuple[TokenScore, ...]  # including the start token, if any
    bytes: int  # of the text of the counted tokens
    windows: int  # overlapping windows in which it was read; 1 if it fits the block
    lacking: tuple[str, ...]  # parts of the text that the vocabulary cannot represent
    json_properties = ("logprob", "perplexity", "bits_per_byte", "counted")

    @property
    def counted(self) -> int:
        """The number of tokens with a probability."""
        return sum(token.logprob is not None for token in self.tokens)

    @property
    def logprob(self) -> float | None:
        """Natural logarithm of the product of all token probabilities; None if no token is counted."""
        return _total_logprob(self.tokens)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean negative log-probability; infinite if that is too large for a float."""
        return None if self.logprob is None else perplexity(-self.logprob / self.counted)

    @property
    def bits_per_byte(self) -> float | None:
        """The negative log-probability in bits, per byte of the counted tokens; None if they have no bytes."""
        return None if self.logprob is None or not self.bytes else -self.logprob / math.log(2) / self.bytes

    def cost(self, by: Measure) -> float:
        """The measure by which texts are ranked, lowest first; infinite if no token is counted."""
        if self.logprob is None:
            return math.inf
        found = {"perplexity": self.perplexity, "logprob": -self.logprob, "bits-per-byte": self.bits_per_byte}[by]
        return math.inf if found is None else found


@dataclass(frozen=True)
class WordScore:
    """How probable a word is after a context."""

    word: str
    text: str  # as it continues the context, with the space that was added, if any
    tokens: tuple[TokenScore, ...]
    together: bool  # whether it was tokenized together with its context rather than alone
    json_properties = ("logprob", "probability", "perplexity")

    @property
    def logprob(self) -> float:
        """Natural logarithm of P(word | context), the product of its token probabilities."""
        return _total_logprob(self.tokens) or 0.0

    @property
    def probability(self) -> float:
        """P(word | context): the probability that the text continues with these tokens, whatever follows them."""
        return math.exp(self.logprob)

    @property
    def perplexity(self) -> float:
        """Per token of the word; infinite if it is too large for a float."""
        return perplexity(-self.logprob / len(self.tokens))


@dataclass(frozen=True)
class ContinuationScores:
    """What a model expects after a context."""

    context: str
    context_tokens: tuple[str, ...]  # including the start token, if any
    context_read: int  # the number of last context tokens from which the next one was predicted
    words: tuple[WordScore, ...]  # in the given order
    top: tuple[TokenScore, ...]  # the most probable next tokens
    lacking: tuple[str, ...]  # parts of the context and the words that the vocabulary cannot represent


def score(loaded: LoadedModel, texts: Sequence[str], start_token: bool = False) -> list[TextScore]:
    """The scores of all tokens of each text, in the order of the texts.

    Raises RunError if the model cannot continue a text, DataError for a text without a token, TokenizerError if
    ``start_token`` is set and the tokenizer has no separator.
    """
    tokenizer = _tokenizer(loaded)
    start = _start_ids(loaded, tokenizer) if start_token else []
    encoded = [encode_with_offsets(tokenizer, text) for text in texts]
    for number, (text, found) in enumerate(zip(texts, encoded, strict=True), start=1):
        _check_not_empty(f"Text {number} of {len(texts)}" if len(texts) > 1 else "The text", text, found.ids)
    scores = score_sequences(loaded.model, [[*start, *found.ids] for found in encoded])
    return [
        _text_score(tokenizer, text, found, start, own) for text, found, own in zip(texts, encoded, scores, strict=True)
    ]


def rank_texts(scores: Sequence[TextScore], by: Measure = "perplexity") -> list[TextScore]:
    """The most probable text first; texts without counted tokens come last."""
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
    """P(word | context) of each word, and the ``top`` most probable next tokens.

    `penna.tokenizer.continuations` joins context and word, with a space between them if ``space`` is true. Raises the
    errors of ``score``, also for a word without a token or an empty context.
    """
    tokenizer = _tokenizer(loaded)
    start = _start_ids(loaded, tokenizer) if start_token else []
    ids, joined = join_continuation(tokenizer, context, words, space=space)
    before = [*start, *ids]
    if not before:
        raise DataError(
            "The context is empty.",
            "At least one token is needed to predict from.",
            "Use a longer context, or start with the document separator: --start-token.",
        )
    for number, (word, found) in enumerate(zip(words, joined, strict=True), start=1):
        _check_not_empty(f"Word {number} of {len(words)}", word, found.ids)
    scores = score_sequences(loaded.model, [[*before, *word.ids] for word in joined], [len(before)] * len(joined))
    block = loaded.model.config.block_size
    return ContinuationScores(
        context=context,
        context_tokens=tuple(map(tokenizer.token_text, before)),
        context_read=len(before) - window_start(len(before), block),
        words=tuple(
            WordScore(word, found.text, _token_scores(tokenizer, found.ids, own, len(before)), found.together)
            for word, found, own in zip(words, joined, scores, strict=True)
        ),
        top=_top_tokens(tokenizer, next_token_logprobs(loaded.model, before), top),
        lacking=_all_out_of_vocabulary(tokenizer, context, joined),
    )


def _tokenizer(loaded: LoadedModel) -> Tokenizer:
    """The tokenizer of a model that can score texts."""
    check_can_generate(loaded)
    check_can_continue(loaded)
    return loaded.require_tokenizer()


def _start_ids(loaded: LoadedModel, tokenizer: Tokenizer) -> list[int]:
    if tokenizer.separator_id is None:
        raise TokenizerError(
            f"The tokenizer of {loaded.source} has no document separator.",
            "--start-token needs one.",
            "Leave out --start-token; the first token of a text is then not counted.",
        )
    return [tokenizer.separator_id]


def _check_not_empty(name: str, text: str, ids: Sequence[int]) -> None:
    if not ids:
        raise DataError(
            f"{name} is empty." if not text else f"{name}, {text!r}, has no token: the tokenizer drops all of it.",
            "At least one token is needed.",
            "Leave it out or change it.",
        )


def _text_score(
    tokenizer: Tokenizer, text: str, encoded: EncodedText, start: list[int], scores: SequenceScores
) -> TextScore:
    return TextScore(
        text=text,
        tokens=_token_scores(tokenizer, [*start, *encoded.ids], scores, 0),
        bytes=byte_count_from(tokenizer, text, encoded, 1 - len(start)),
        windows=scores.windows,
        lacking=out_of_vocabulary(tokenizer, text, encoded),
    )


def _token_scores(
    tokenizer: Tokenizer, ids: Sequence[int], scores: SequenceScores, first: int
) -> tuple[TokenScore, ...]:
    """The scores of ids that start at token ``first`` of a sequence."""
    return tuple(
        TokenScore(tokenizer.token_text(index), index, float(logprob) if rank else None, int(rank) or None)
        for index, logprob, rank in zip(ids, scores.logprobs[first:], scores.ranks[first:], strict=True)
    )


def _top_tokens(
    tokenizer: Tokenizer, logprobs: np.ndarray[Any, np.dtype[np.float64]], top: int
) -> tuple[TokenScore, ...]:
    known = logprobs[: tokenizer.vocab_size]  # an embedding may have rows without tokens
    order = np.argsort(-known, kind="stable")[:top].tolist()
    return tuple(
        TokenScore(tokenizer.token_text(index), index, float(known[index]), int((logprobs > known[index]).sum()) + 1)
        for index in order
    )


def _all_out_of_vocabulary(tokenizer: Tokenizer, context: str, joined: Sequence[JoinedContinuation]) -> tuple[str, ...]:
    texts = [context, *(word.text for word in joined)]
    return tuple(
        dict.fromkeys(
            part for text in texts for part in out_of_vocabulary(tokenizer, text, encode_with_offsets(tokenizer, text))
        )
    )


def _total_logprob(tokens: Sequence[TokenScore]) -> float | None:
    counted = [token.logprob for token in tokens if token.logprob is not None]
    return math.fsum(counted) if counted else None
