"""Whether a model recites: what it wrote and the text it learned from in, the share that stands there verbatim out.

A token of a written text is *verbatim* where it lies in a span of at least ``shortest`` tokens that stands, token for
token, inside one document of the training text. The separator and the prompt are not what the model wrote and do not
count. Spans as the measure, and unseen text of the same kind as the yardstick beside it, are those of McCoy et al. 2021
("How much do language models copy from their training data?"); that verbatim continuation means memorisation, of
Carlini et al. 2021 ("Extracting training data from large language models") and 2023 ("Quantifying memorization").

The shortest span is 13 tokens, the length at which Brown et al. 2020 (GPT-3, appendix C) take overlap for no accident,
or as many as stand for 50 bytes of text (nine English words, 17 Chinese characters), whichever is more: thirteen
letters of a character tokenizer are two words, and prove nothing. A model recites where half of what it wrote is
verbatim, or where one span is four times the shortest: about 50 tokens, the length at which Carlini et al. 2023 call a
continuation memorised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penna.evaluate.verbatim import Match, Tokens, find_verbatim
from penna.tokenizer.tokenizer import Tokenizer

MEMORIZED_SHARE, MEMORIZED_SPANS = 0.5, 4  # a model recites from this share on, or from a span of so many shortest ones

_SHORTEST_TOKENS, _SHORTEST_BYTES = 13, 50
_UNSEEN = 16  # stretches of unseen text measured beside
_QUOTED = 100  # characters of a span shown in the verdict


@dataclass(frozen=True)
class GeneratedText:
    """What a model wrote behind a prompt; separators between the ids part one document from the next."""

    prompt: str
    ids: Sequence[int]


@dataclass(frozen=True)
class VerbatimSpan:
    """A stretch of a written text that stands in the training text, and the first place where it does."""

    text: str
    tokens: int
    characters: int
    document: int  # of the training part, the first being 1


@dataclass(frozen=True)
class MemorizedText:
    """How much of one text is verbatim."""

    prompt: str
    tokens: int  # written, without separators
    verbatim: int  # of them, in spans of at least the shortest length
    longest: VerbatimSpan | None  # None where no span is long enough

    @property
    def share(self) -> float:
        """Verbatim tokens among those written."""
        return self.verbatim / max(self.tokens, 1)


@dataclass(frozen=True)
class Memorization:
    """How much of what a model wrote stands verbatim in its training text."""

    shortest: int  # tokens a span must have
    texts: tuple[MemorizedText, ...]
    unseen_share: float | None  # the same share of unseen text of the same kind, where there is any

    @property
    def share(self) -> float:
        """Verbatim tokens among all that were written."""
        return sum(text.verbatim for text in self.texts) / max(sum(text.tokens for text in self.texts), 1)

    @property
    def memorized(self) -> bool:
        """Whether at least half of what was written is verbatim, or one span is four times the shortest."""
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
        """One sentence for a person."""
        if all(text.tokens < self.shortest for text in self.texts):
            return f"What it wrote is too short to tell whether it recites: less than {self.shortest} tokens."
        if self.longest is None:
            return f"It does not recite: nothing of {self.shortest} tokens or more stands in its training text."
        does = "recites" if self.memorized else "does not recite"
        in_places = " in places" if self.memorized and self.share < MEMORIZED_SHARE else ""
        unseen = "" if self.unseen_share is None else f" (of unseen text, {self.unseen_share:.0%} does)"
        return (
            f"It {does} its training text{in_places}: {self.share:.0%} of what it wrote stands there word for word"
            f"{unseen}; the longest span is {self.longest.tokens} tokens: “{_shortened(self.longest.text)}”."
        )

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {
            "recites": self.memorized,
            "verdict": self.verdict,
            "share": self.share,
            "unseen_share": self.unseen_share,
            "shortest": self.shortest,
            "texts": [{**asdict(text), "share": text.share} for text in self.texts],
        }


def shortest_span(bytes_per_token: float) -> int:
    """How many tokens a span must have to count, for a tokenizer whose tokens stand for so many bytes on average."""
    return max(_SHORTEST_TOKENS, round(_SHORTEST_BYTES / max(bytes_per_token, 1e-9)))


def generated_ids(tokenizer: Tokenizer, prompt: str, text: str) -> list[int]:
    """The ids of a written text as its training text would have them: encoded behind its prompt, which is taken off.

    A separator that was written by its name is the separator again.
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
    """Stretches of ``length`` ids, evenly over a stream of unseen text: 16, or as many as lie in it side by side."""
    count = min(_UNSEEN, len(stream) // max(length, 1)) if length else 0
    return [stream.read(int(start), length).tolist() for start in np.linspace(0, len(stream) - length, count)]


def measure_memorization(
    stream: Tokens,
    written: Sequence[GeneratedText],
    tokenizer: Tokenizer,
    *,
    shortest: int,
    unseen: Sequence[Sequence[int]] = (),
) -> Memorization:
    """Look for ``written`` texts in a training stream, and for ``unseen`` ones (ids) as a yardstick.

    ``shortest`` is how many tokens a span must have (`shortest_span`).
    """
    separator = -1 if tokenizer.separator_id is None else tokenizer.separator_id
    texts = [np.asarray(ids, dtype=np.int64) for ids in (*(text.ids for text in written), *unseen)]
    found = find_verbatim(stream, texts, separator=separator, shortest=shortest)
    results: list[MemorizedText] = []
    for text, ids, verbatim in zip(written, texts, found, strict=False):
        count = int((ids != separator).sum())
        span = None if verbatim.longest is None else _span(ids, verbatim.longest, tokenizer)
        results.append(MemorizedText(text.prompt, count, int(verbatim.tokens.sum()), span))
    unseen_count = sum(int((ids != separator).sum()) for ids in texts[len(written) :])
    unseen_verbatim = sum(int(verbatim.tokens.sum()) for verbatim in found[len(written) :])
    return Memorization(shortest, tuple(results), unseen_verbatim / unseen_count if unseen_count else None)


def _span(ids: NDArray[np.int64], match: Match, tokenizer: Tokenizer) -> VerbatimSpan:
    text = tokenizer.decode(ids[match.start : match.start + match.tokens].tolist())
    return VerbatimSpan(text, match.tokens, len(text), match.document)


def _shortened(text: str) -> str:
    """On one line, and cut behind a word where it is long."""
    flat = " ".join(text.split())
    if len(flat) <= _QUOTED:
        return flat
    cut = flat[:_QUOTED]
    return (cut[: cut.rfind(" ")] if " " in cut[_QUOTED // 2 :] else cut) + " …"
