"""Training a tokenizer: texts in, a `Tokenizer` out, by the kind the recipe names.

Each kind has a file of its own (`characters`, `byte_bpe`, `unigram`); here are only the choice between them and what
they share: the texts are gone through once, as they come, and must be Unicode and not all empty. The same texts give
the same tokenizer, byte for byte.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer.files import SEPARATOR, add_special_tokens
from penna.tokenizer.tokenizer import Tokenizer, check_text
from penna.tokenizer.unigram import train_unigram

# MERGED tokenizer.byte_bpe: Byte-level BPE, as GPT-2 has it: the most frequent pair of tokens becomes a token,
# again and again.
#
# In comes training text, out comes a vocabulary laid out as: the separator (id 0), the 256 bytes, then the merges
# in the
# order they were learned. Text is first cut into words, numbers, punctuation and spaces, and no merge crosses a cut.
# Since every byte is a token, any text can be written and nothing needs normalising. Only the distinct words and
# their
# counts are held in memory.
#
# The cuts are those of GPT-2's pattern (Radford et al. 2019, section 2.2), but that a word goes on through its marks.
# GPT-2 counts the vowel signs of Devanagari and the vowel points of Arabic and Hebrew as punctuation, which cuts
# their
# words into single letters that can never be merged.


MIN_BPE_VOCABULARY = 256 + 1  # the bytes and the separator
_CUTS = r"'(?:s|t|re|ve|m|ll|d)| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Learn up to ``vocab_size`` tokens from ``texts``; fewer when the text has no more pairs to merge."""
    if vocab_size < MIN_BPE_VOCABULARY:
        raise TokenizerError(
            f"A bpe tokenizer of {vocab_size} tokens cannot be made.",
            f"Expected vocab_size of at least {MIN_BPE_VOCABULARY}: the 256 bytes and the separator.",
            'Give a larger vocab_size, or use kind = "char" for a small vocabulary.',
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_CUTS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(iter(texts), trainer=trainer)
    return inner


# MERGED tokenizer.characters: The character tokenizer: one token per character.
#
# In comes training text, out comes a vocabulary laid out as: the separator (id 0), the characters of the text and
# all of
# ASCII by code point, then the 115 bytes of which UTF-8 makes every other character. A character that was never
# seen is
# so written by its two to four bytes, and nothing is lost. ASCII needs no byte tokens (its characters are its
# bytes), nor
# do the 13 byte values that UTF-8 never uses, which makes an English vocabulary 244 rows instead of the 322 of all
# 256
# bytes beside 65 letters. (Half-byte tokens would need still fewer rows, but a token must stand for whole bytes:
# `Tokenizer.token_bytes` counts and streams by them.) To the `tokenizers` library this is BPE without a single merge.


_ASCII = frozenset(map(chr, range(0x80)))
_BYTES_BEYOND_ASCII = (*range(0x80, 0xC0), *range(0xC2, 0xF5))  # continuing bytes, then leading ones


def train_characters(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """One token for every character in ``texts``."""
    seen = set(_ASCII)
    for text in texts:
        seen.update(text)
    tokens = [SEPARATOR, *sorted(seen), *(f"<0x{byte:02X}>" for byte in _BYTES_BEYOND_ASCII)]
    vocab = {token: index for index, token in enumerate(tokens)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    add_special_tokens(inner, [SEPARATOR])
    return inner


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], report: Callable[[str], None] = lambda _: None
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
            tokenizer = Tokenizer(train_unigram(texts, config.vocab_size, report))
    if tokenizer.vocab_size < config.vocab_size:
        report(f"The text gave {tokenizer.vocab_size:,} tokens of the {config.vocab_size:,} asked for.")
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
