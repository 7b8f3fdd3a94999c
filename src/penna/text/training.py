"""Training a tokenizer: texts in, a `Tokenizer` out, by the kind the recipe names.

Each kind has a file of its own (`characters`, `byte_bpe`, `unigram`); here are only the choice between them and what
they share: the texts are gone through once, as they come, and must be Unicode and not all empty. The same texts give
the same tokenizer, byte for byte.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.text.byte_bpe import train_byte_bpe
from penna.text.characters import train_characters
from penna.text.tokenizer import Tokenizer, check_text
from penna.text.unigram import train_unigram


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], say: Callable[[str], None] = lambda _: None
) -> Tokenizer:
    """Train the tokenizer that ``config`` asks for; with kind "file", read it and leave ``texts`` alone.

    A text may be a word or a whole book. ``say`` is told where fewer tokens were learned than asked for, and where only
    a sample of the text was learned from. Raises TokenizerError when there is no text, when a text has no UTF-8 form,
    or when ``config.vocab_size`` is too small for the kind.
    """
    if config.kind == "file":
        assert config.path is not None  # the section saw to it
        return Tokenizer.load(os.path.expandvars(config.path))
    texts = _readable(texts)
    match config.kind:
        case "char":
            return Tokenizer(train_characters(texts))
        case "bpe":
            tokenizer = Tokenizer(train_byte_bpe(texts, config.vocab_size))
        case "unigram":
            tokenizer = Tokenizer(train_unigram(texts, config.vocab_size, say))
    if tokenizer.vocab_size < config.vocab_size:
        say(f"The text gave {tokenizer.vocab_size:,} tokens of the {config.vocab_size:,} asked for.")
    return tokenizer


def _readable(texts: Iterable[str]) -> Iterator[str]:
    """``texts`` without empty ones, each checked as it passes; raises at once when there is nothing but those."""
    checked = _checked([texts] if isinstance(texts, str) else texts)
    first = next(checked, None)
    if first is None:
        raise TokenizerError(
            "There is no text to train a tokenizer on.",
            "Expected at least one text that is not empty.",
            "Check the data path and the name of the text column.",
        )
    return chain([first], checked)


def _checked(texts: Iterable[str]) -> Iterator[str]:
    for place, text in enumerate(texts):
        check_text(text, f"training text {place + 1}")
        if text:
            yield text
