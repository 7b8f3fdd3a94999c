"""Where in a text its tokens stand, and what follows from it.

In comes a text, out come its ids, each with the characters it was made of. From these places it is known which
characters the vocabulary has no token for, and how many bytes of the text stand behind a token, also for tokenizers
whose tokens do not spell the text they were read from.
"""

from __future__ import annotations

from dataclasses import dataclass

from penna.tokenizer.tokenizer import Tokenizer, check_text

_BYTES_ARE_TOKENS = "byte-level BPE"  # a kind that learns from bytes: a character in pieces is nothing special


@dataclass(frozen=True)
class EncodedText:
    """A text's ids, and the first character of each and the one behind its last."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


def encode_with_offsets(tokenizer: Tokenizer, text: str) -> EncodedText:
    """The ids that ``tokenizer.encode`` gives, with their places.

    Raises TokenizerError for text with a lone surrogate.
    """
    check_text(text, "the text")
    encoding = tokenizer._inner.encode(text, add_special_tokens=False)
    return EncodedText(tuple(encoding.ids), tuple(encoding.offsets))


def out_of_vocabulary(tokenizer: Tokenizer, text: str, encoded: EncodedText) -> tuple[str, ...]:
    """What the vocabulary has no token for, each once, in the order of the text.

    Characters that are read as their bytes, and words or characters that become the unknown token. Of a byte-level BPE
    nothing is lacking.
    """
    if tokenizer.kind == _BYTES_ARE_TOKENS:
        return ()
    pieces = tokenizer.byte_table.rendered
    found = dict.fromkeys(
        text[start:end]
        for index, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
        if index == tokenizer.unknown_id or not is_complete_utf8(pieces[index])
    )
    return tuple(found)


def byte_count_from(tokenizer: Tokenizer, text: str, encoded: EncodedText, first: int) -> int:
    """How many UTF-8 bytes of ``text`` the tokens from number ``first`` on stand for."""
    if first == 0:
        return len(text.encode())
    if tokenizer.lossless:
        return sum(len(tokenizer.byte_table.rendered[index]) for index in encoded.ids[first:])
    return len(text[encoded.offsets[first - 1][1] :].encode())


def is_complete_utf8(piece: bytes) -> bool:
    """Whether bytes are whole characters."""
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
