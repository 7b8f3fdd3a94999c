"""How much of generated text is a verbatim copy of the training text.

A token is *verbatim* if it is in a span of at least ``shortest`` tokens that appears, token for token, inside one
document of the training text. Separators and the prompt do not count. Measuring spans, and comparing with unseen text
of the same kind, follows McCoy et al. 2021 ("How much do language models copy from their training data?"); that
verbatim continuation means memorization, Carlini et al. 2021 ("Extracting training data from large language models")
and 2023 ("Quantifying memorization").

The shortest span is 13 tokens, the length from which Brown et al. 2020 (GPT-3, appendix C) treat overlap as no
accident, or 50 bytes of text (nine English words, 17 Chinese characters), whichever is longer: 13 letters of a
character tokenizer are two words and prove nothing. Text counts as memorized if half of it is verbatim or if one span
is four times the shortest: about 50 tokens, the length from which Carlini et al. 2023 call a continuation memorized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.verbatim import Match, Tokens, find_verbatim
from penna.tokenizer.tokenizer import Tokenizer

MEMORIZED_SHARE = 0.5  # text counts as memorized from this verbatim share
MEMORIZED_SPANS = 4  # or from a span of this many times the shortest

_SHORTEST_TOKENS, _SHORTEST_BYTES = 13, 50
_UNSEEN = 16  # passages of unseen text to compare with
_QUOTED = 100  # characters of a span shown in the verdict


@dataclass(frozen=True)
class GeneratedText:
    """The continuation of a prompt. Separators among the ids end documents."""

    prompt: str
    ids: Sequence[int]


@dataclass(frozen=True)
class VerbatimSpan:
    """A span of a generated text that appears in the training text, and the first document that has it."""

    text: str
    tokens: int
    characters: int
    document: int  # of the training part, from 1


@dataclass(frozen=True)
class MemorizedText:
    """How much of one text is verbatim."""

    prompt: str
    tokens: int  # generated, without separators
    verbatim: int  # of them, in spans of at least the shortest length
    longest: VerbatimSpan | None  # None if no span is long enough
    json_properties = ("share",)

    @property
    def share(self) -> float:
        """Verbatim tokens among the generated ones."""
        return self.verbatim / max(self.tokens, 1)


@dataclass(frozen=True)
class Memorization:
    """How much of a set of generated texts is verbatim."""

    shortest: int  # tokens of the shortest span that counts
    texts: tuple[MemorizedText, ...]
    unseen_share: float | None  # the same share for unseen text of the same kind, if there is any
    json_properties = ("memorized", "verdict", "share")

    @property
    def share(self) -> float:
        """Verbatim tokens among all generated ones."""
        return sum(text.verbatim for text in self.texts) / max(sum(text.tokens for text in self.texts), 1)

    @property
    def memorized(self) -> bool:
        """Whether at least half of the tokens are verbatim, or one span is four times the shortest."""
        return self.share >= MEMORIZED_SHARE or (
            self.longest is not None and self.longest.tokens >= MEMORIZED_SPANS * self.shortest
        )

    @property
    def longest(self) -> VerbatimSpan | None:
        """The longest span of all texts."""
        spans = [text.longest for text in self.texts if text.longest is not None]
        return max(spans, key=lambda span: span.tokens, default=None)

    @property
    def verdict(self) -> str:
        """The result for a person, in one or two sentences."""
        if all(text.tokens < self.shortest for text in self.texts):
            return f"The sample is too short to check for memorization: it has fewer than {self.shortest} tokens."
        if self.longest is None:
            return (
                f"No memorization found: no passage of {self.shortest} or more tokens in this sample appears in the "
                "training text."
            )
        if not self.memorized:
            found = "Little memorization found"
        elif self.share < MEMORIZED_SHARE:
            found = "Memorized passages found"
        else:
            found = "Memorization found"
        unseen = "" if self.unseen_share is None else f" (compared with {self.unseen_share:.0%} of unseen text)"
        return (
            f"{found}: {self.share:.0%} of this sample appears verbatim in the training text{unseen}. The longest "
            f"passage has {self.longest.tokens} tokens: “{_truncated(self.longest.text)}”."
        )


def shortest_span(bytes_per_token: float) -> int:
    """The tokens that a span must have to count, for a tokenizer with this mean number of bytes per token."""
    return max(_SHORTEST_TOKENS, round(_SHORTEST_BYTES / max(bytes_per_token, 1e-9)))


def generated_ids(tokenizer: Tokenizer, prompt: str, text: str) -> list[int]:
    """The ids of a generated text as the training text would have them: encoded with the prompt, which is removed.

    A separator that is spelled out in the text becomes the separator token again.
    """
    separator = tokenizer.separator_id
    name = None if separator is None else tokenizer.rendered_bytes(separator).decode(errors="replace")
    first, *further = text.split(name) if name else [text]
    ids = tokenizer.encode(prompt + first)[len(tokenizer.encode(prompt)) :]
    for document in further:
        assert separator is not None
        ids += [separator, *tokenizer.encode(document)]
    return ids


def unseen_passages(stream: Tokens, length: int) -> list[list[int]]:
    """Up to 16 passages of ``length`` ids that do not overlap, evenly spread over a stream of unseen text."""
    count = min(_UNSEEN, len(stream) // max(length, 1)) if length else 0
    return [stream.read(int(start), length).tolist() for start in np.linspace(0, len(stream) - length, count)]


def measure_memorization(
    stream: Tokens,
    generated: Sequence[GeneratedText],
    tokenizer: Tokenizer,
    *,
    shortest: int,
    unseen: Sequence[Sequence[int]] = (),
) -> Memorization:
    """Search a training stream for ``generated`` texts, and for ``unseen`` ones (ids) to compare with.

    ``shortest`` is the number of tokens that a span must have (`shortest_span`).
    """
    separator = -1 if tokenizer.separator_id is None else tokenizer.separator_id
    texts = [np.asarray(ids, dtype=np.int64) for ids in (*(text.ids for text in generated), *unseen)]
    found = find_verbatim(stream, texts, separator=separator, shortest=shortest)
    results: list[MemorizedText] = []
    for text, ids, verbatim in zip(generated, texts, found, strict=False):
        count = int((ids != separator).sum())
        span = None if verbatim.longest is None else _span(ids, verbatim.longest, tokenizer)
        results.append(MemorizedText(text.prompt, count, int(verbatim.tokens.sum()), span))
    unseen_count = sum(int((ids != separator).sum()) for ids in texts[len(generated) :])
    unseen_verbatim = sum(int(verbatim.tokens.sum()) for verbatim in found[len(generated) :])
    return Memorization(shortest, tuple(results), unseen_verbatim / unseen_count if unseen_count else None)


def _span(ids: NDArray[np.int64], match: Match, tokenizer: Tokenizer) -> VerbatimSpan:
    text = tokenizer.decode(ids[match.start : match.start + match.tokens].tolist())
    return VerbatimSpan(text, match.tokens, len(text), match.document)


def _truncated(text: str) -> str:
    """A text on one line; a long one is cut after a word."""
    flat = " ".join(text.split())
    if len(flat) <= _QUOTED:
        return flat
    cut = flat[:_QUOTED]
    return (cut[: cut.rfind(" ")] if " " in cut[_QUOTED // 2 :] else cut) + " …"
