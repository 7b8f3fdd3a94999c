"""Words behind a context: how both are written together, and which tokens the word then has.

In come a context and words, out come the context's ids and those of each word behind it. Most tokenizers take a space
and the word behind it for one token, so what stands between the two matters. A space is put there as a writer would:
where the word begins with a letter or a number, unless the context ends with white space, a dash, an opening bracket or
a quotation mark, or one of the two characters that meet is of a script written without spaces (Chinese, Japanese, Thai,
Lao, Tibetan, Burmese, Khmer). A space at the end of the context belongs to the word, for that is how the model
has learned to read it; only where every character is a token of its own it stays where it is.

Then both are encoded as one text. Where that begins with the context's own ids, the rest is the word's. Where it does
not, since a token would span the border, the word is encoded by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from penna.tokenizer.tokenizer import Tokenizer

# Thai, Lao, Tibetan, Burmese, Khmer; CJK punctuation and kana; ideographs with their extensions; full-width forms.
SPACELESS_SCRIPTS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)
_NO_SPACE_BEHIND = ("Ps", "Pi", "Pd", "Pc", "Sc")  # opening brackets and quotes, dashes, _, signs of currency
_NOR_BEHIND = "'\"/\\#@"


@dataclass(frozen=True)
class JoinedContinuation:
    """A word as it stands behind its context."""

    text: str  # with the space in front, where there is one
    ids: tuple[int, ...]
    together: bool  # whether it was encoded with its context, rather than by itself


def join_continuation(
    tokenizer: Tokenizer, context: str, words: Sequence[str], *, space: bool = True
) -> tuple[list[int], list[JoinedContinuation]]:
    """The context's ids, and each word behind it. Without ``space`` none is put between them."""
    before = context
    if context.endswith(" ") and context.strip() and tokenizer.kind != "characters":
        before = context[:-1]
    handed = context[len(before) :]
    texts = [handed + (" " if space and needs_space(context, word) else "") + word for word in words]
    ids = tokenizer.encode(before) if before else []
    joined: list[JoinedContinuation] = []
    for text in texts:
        both = tokenizer.encode(before + text)
        together = both[: len(ids)] == ids
        joined.append(
            JoinedContinuation(text, tuple(both[len(ids) :] if together else tokenizer.encode(text)), together)
        )
    return ids, joined


def needs_space(context: str, word: str) -> bool:
    """Whether a writer would put a space between the two."""
    if not context or not word or not word[0].isalnum() or context[-1].isspace():
        return False
    if SPACELESS_SCRIPTS.match(context[-1]) or SPACELESS_SCRIPTS.match(word[0]):
        return False
    return context[-1] not in _NOR_BEHIND and unicodedata.category(context[-1]) not in _NO_SPACE_BEHIND
