"""Joining a context and a word for scoring: the space between them, and the word's tokens.

Most tokenizers have a single token for a space and the word after it, so the space matters. One is added as a writer
would: before a letter or digit, unless the context ends in white space, a dash, an opening bracket or a quotation mark,
or one of the adjacent characters belongs to a script without spaces (Chinese, Japanese, Thai, Lao, Tibetan, Burmese,
Khmer). A space at the end of the context moves to the word, as in the training text, unless tokens are characters.

Both are encoded as one text. If that begins with the context's own ids, the rest are the word's ids. If not, because a
token would span the border, the word is encoded separately.
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
_NO_SPACE_AFTER_CATEGORIES = ("Ps", "Pi", "Pd", "Pc", "Sc")  # opening brackets and quotes, dashes, _, currency signs
_NO_SPACE_AFTER = "'\"/\\#@"


@dataclass(frozen=True)
class JoinedContinuation:
    """A word after its context."""

    text: str  # with the space before it, if there is one
    ids: tuple[int, ...]
    together: bool  # whether it was encoded as one text with its context


def join_continuation(
    tokenizer: Tokenizer, context: str, words: Sequence[str], *, space: bool = True
) -> tuple[list[int], list[JoinedContinuation]]:
    """The context's ids, and each word after the context. With ``space=False`` no space is added."""
    before = context
    if context.endswith(" ") and context.strip() and tokenizer.kind != "characters":
        before = context[:-1]
    moved_space = context[len(before) :]
    texts = [moved_space + (" " if space and needs_space(context, word) else "") + word for word in words]
    ids = tokenizer.encode(before) if before else []
    joined: list[JoinedContinuation] = []
    for text in texts:
        both = tokenizer.encode(before + text)
        together = both[: len(ids)] == ids
        word_ids = both[len(ids) :] if together else tokenizer.encode(text)
        joined.append(JoinedContinuation(text, tuple(word_ids), together))
    return ids, joined


def needs_space(context: str, word: str) -> bool:
    """Whether a writer would put a space between the two."""
    if not context or not word or not word[0].isalnum() or context[-1].isspace():
        return False
    if SPACELESS_SCRIPTS.match(context[-1]) or SPACELESS_SCRIPTS.match(word[0]):
        return False
    return context[-1] not in _NO_SPACE_AFTER and unicodedata.category(context[-1]) not in _NO_SPACE_AFTER_CATEGORIES
