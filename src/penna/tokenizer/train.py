"""Training a tokenizer: characters, byte-level BPE or unigram.

Texts are read once, as a stream. The same texts give the same tokenizer, byte for byte.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from penna.config.sections import TokenizerConfig
from penna.errors import TokenizerError
from penna.tokenizer.files import SEPARATOR
from penna.tokenizer.tokenizer import Tokenizer, check_text
from penna.tokenizer.unigram import train_unigram

MIN_BPE_VOCABULARY = 256 + 1  # the bytes and the separator
# GPT-2's pattern (Radford et al. 2019, section 2.2), except that combining marks continue a word. GPT-2 treats the
# vowel signs of Devanagari and the vowel points of Arabic and Hebrew as punctuation, which splits their words into
# single letters.
_WORDS = r"'(?:s|t|re|ve|m|ll|d)| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
_ASCII = frozenset(map(chr, range(0x80)))
_NON_ASCII_BYTES = (*range(0x80, 0xC0), *range(0xC2, 0xF5))  # continuation bytes, then leading bytes


def train_tokenizer(
    config: TokenizerConfig, texts: Iterable[str], report: Callable[[str], None] = lambda _: None
) -> Tokenizer:
    """Train the tokenizer of ``config``. With kind "file", load it instead and do not read ``texts``.

    ``report`` receives a message if the vocabulary is smaller than requested, or if only a sample of the text is used.
    Raises TokenizerError if there is no text, if a text has a lone surrogate, or if ``vocab_size`` is too small.
    """
    if config.kind == "file":
        assert config.path is not None  # validated by the section
        return Tokenizer.load(os.path.expandvars(config.path))
    texts = _require_text(_check_texts([texts] if isinstance(texts, str) else texts))
    match config.kind:
        case "char":
            return Tokenizer(train_characters(texts))
        case "bpe":
            tokenizer = Tokenizer(train_byte_bpe(texts, config.vocab_size))
        case "unigram":
            tokenizer = Tokenizer(train_unigram(texts, config.vocab_size, report))
    if tokenizer.vocab_size < config.vocab_size:
        report(f"The text is too small for {config.vocab_size:,} tokens: the vocabulary has {tokenizer.vocab_size:,}.")
    return tokenizer


def train_characters(texts: Iterable[str]) -> tokenizers.Tokenizer:
    """One token per character: BPE without merges.

    The vocabulary is the separator (id 0), the characters of the text and of ASCII by code point, and the 115 bytes of
    non-ASCII UTF-8, which encode characters that are not in the text. So nothing is lost, and an English vocabulary has
    244 entries instead of the 322 that 256 bytes and 65 letters would need.
    """
    seen = set(_ASCII)
    for text in texts:
        seen.update(text)
    tokens = [SEPARATOR, *sorted(seen), *(f"<0x{byte:02X}>" for byte in _NON_ASCII_BYTES)]
    vocab = {token: index for index, token in enumerate(tokens)}
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens([SEPARATOR])
    return inner


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE, as in GPT-2, with up to ``vocab_size`` tokens; fewer if the text has no more pairs to merge.

    The vocabulary is the separator (id 0), the 256 bytes, and the merges in the order they were learned. Merges do not
    cross word boundaries. Only distinct words and their counts are kept in memory.
    """
    if vocab_size < MIN_BPE_VOCABULARY:
        raise TokenizerError(
            f"A bpe tokenizer cannot have {vocab_size} tokens.",
            f"It needs a vocab_size of at least {MIN_BPE_VOCABULARY}: the 256 bytes and the separator.",
            'Use a larger vocab_size, or kind = "char" for a small vocabulary.',
        )
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_WORDS), "isolated"),
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


def _require_text(texts: Iterator[str]) -> Iterator[str]:
    """``texts``, after raising TokenizerError if there are none."""
    first = next(texts, None)
    if first is None:
        raise TokenizerError(
            "There is no text to train a tokenizer on.",
            "Expected at least one text that is not empty.",
            "Check the data path and the name of the text column.",
        )
    return chain([first], texts)


def _check_texts(texts: Iterable[str]) -> Iterator[str]:
    """The texts that are not empty. Raises TokenizerError for a lone surrogate."""
    for number, text in enumerate(texts, 1):
        check_text(text, f"training text {number}")
        if text:
            yield text
