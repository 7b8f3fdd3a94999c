"""Byte-level BPE, as GPT-2 has it: the most frequent pair of tokens becomes a token, again and again.

In comes training text, out comes a vocabulary laid out as: the separator (id 0), the 256 bytes, then the merges in the
order they were learned. Text is first cut into words, numbers, punctuation and spaces, and no merge crosses a cut.
Since every byte is a token, any text can be written and nothing needs normalising. Only the distinct words and their
counts are held in memory.

The cuts are those of GPT-2's pattern (Radford et al. 2019, section 2.2), but that a word goes on through its marks.
GPT-2 counts the vowel signs of Devanagari and the vowel points of Arabic and Hebrew as punctuation, which cuts their
words into single letters that can never be merged.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from penna.errors import TokenizerError
from penna.text.files import SEPARATOR

SMALLEST = 256 + 1  # the bytes and the separator
_CUTS = r"'(?:s|t|re|ve|m|ll|d)| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Learn up to ``vocab_size`` tokens from ``texts``; fewer when the text has no more pairs to merge."""
    if vocab_size < SMALLEST:
        raise TokenizerError(
            f"A bpe tokenizer of {vocab_size} tokens cannot be made.",
            f"Expected vocab_size of at least {SMALLEST}: one token for each of the 256 bytes, and the separator.",
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
