"""The character tokenizer: one token per character.

In comes training text, out comes a vocabulary laid out as: the separator (id 0), the characters of the text and all of
ASCII by code point, then the 115 bytes of which UTF-8 makes every other character. A character that was never seen is
so written by its two to four bytes, and nothing is lost. ASCII needs no byte tokens (its characters are its bytes), nor
do the 13 byte values that UTF-8 never uses, which makes an English vocabulary 244 rows instead of the 322 of all 256
bytes beside 65 letters. (Half-byte tokens would need still fewer rows, but a token must stand for whole bytes:
`Tokenizer.token_bytes` counts and streams by them.) To the `tokenizers` library this is BPE without a single merge.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models

from penna.text.files import SEPARATOR, mark_special

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
    mark_special(inner, [SEPARATOR])
    return inner
