"""The characters of a text that each of its tokens was made from.

Offsets show which characters the vocabulary lacks, and how many bytes of the text follow a token, also for tokenizers
that are not lossless.
"""

from __future__ import annotations

from dataclasses import dataclass

from penna.tokenizer.tokenizer import Tokenizer, check_text

_BYTE_LEVEL = "byte-level BPE"  # learns from bytes, so a character split into bytes is normal


@dataclass(frozen=True)
class EncodedText:
    """A text's ids, each with its first character and the one after its last."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


def encode_with_offsets(tokenizer: Tokenizer, text: str) -> EncodedText:
    """The ids of ``tokenizer.encode`` with their offsets. Raises TokenizerError for text with a lone surrogate."""
    check_text(text, "the text")
    encoding = tokenizer._inner.encode(text, add_special_tokens=False)
    return EncodedText(tuple(encoding.ids), tuple(encoding.offsets))


def out_of_vocabulary(tokenizer: Tokenizer, text: str, encoded: EncodedText) -> tuple[str, ...]:
    """The parts of a text that have no token, each once, in order.

    These are characters encoded as bytes, and words or characters encoded as the unknown token. A byte-level BPE has
    none.
    """
    if tokenizer.kind == _BYTE_LEVEL:
        return ()
    rendered = tokenizer.byte_table.rendered
    parts = dict.fromkeys(
        text[start:end]
        for index, (start, end) in zip(encoded.ids, encoded.offsets, strict=True)
        if index == tokenizer.unknown_id or not is_complete_utf8(rendered[index])
    )
    return tuple(parts)


def byte_count_from(tokenizer: Tokenizer, text: str, encoded: EncodedText, first: int) -> int:
    """How many UTF-8 bytes of ``text`` belong to the tokens from number ``first`` on."""
    if first == 0:
        return len(text.encode())
    if tokenizer.lossless:
        return sum(len(tokenizer.byte_table.rendered[index]) for index in encoded.ids[first:])
    return len(text[encoded.offsets[first - 1][1] :].encode())


def is_complete_utf8(content: bytes) -> bool:
    """Whether bytes are whole characters."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
