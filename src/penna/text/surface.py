"""What each token stands for in text, as bytes.

A tokenizer writes its tokens in a spelling of its own: GPT-2's puts every byte as a printable letter ("Ġthe" is
" the"), others write a byte they have no character for as "<0xE2>". In comes a `tokenizers.Tokenizer`; out comes, per
id, the UTF-8 bytes the token puts into the text. A token may be part of a character, so bytes are the only form in
which tokens can be joined, counted (bits per byte) and streamed without loss. The spelling is read from the
tokenizer's decoder, the steps by which the `tokenizers` library itself turns tokens back into text.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, cast

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Surface:
    """The bytes of every token of one tokenizer."""

    rendered: tuple[bytes, ...]
    """Per id, what decoding writes; for a special token its name. b"" for ids that no token has."""
    special_ids: frozenset[int]
    """The ids of special tokens: they are rendered, but stand for no text."""
    exact: bool
    """Whether joining these bytes is all that decoding does (some foreign decoders also drop or add spaces)."""


def surface_of(inner: tokenizers.Tokenizer) -> Surface:
    """Read off what every token of ``inner`` stands for."""
    steps = _decoder_steps(inner)
    vocab = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    rendered = [b""] * (max(vocab.values(), default=-1) + 1)
    for token, index in vocab.items():
        rendered[index] = token.encode() if index in added else _bytes_of(token, steps)
    special_ids = frozenset(index for index, token in added.items() if token.special)
    return Surface(tuple(rendered), special_ids, all(_is_exact(step) for step in steps))


def byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte: printable Latin-1 stands for itself, the other 68 for U+0100 and on.

    From bytes_to_unicode in openai/gpt-2, src/encoder.py.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_OF_LETTER = byte_letters()


def _decoder_steps(inner: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """The decoder's steps as the dictionaries they are in ``tokenizer.json``, sequences unfolded."""
    decoder: Any = inner.decoder
    if decoder is None:
        return []
    return _unfold(cast("dict[str, Any]", json.loads(decoder.__getstate__())))


def _unfold(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner_step for part in step["decoders"] for inner_step in _unfold(part)]


def _is_exact(step: dict[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return step.get("prepend_scheme") == "never"
    return step["type"] in ("ByteLevel", "ByteFallback", "Fuse", "Replace")


def _bytes_of(token: str, steps: list[dict[str, Any]]) -> bytes:
    for step in steps:
        match step["type"]:
            case "ByteLevel":
                # A token with a letter outside the alphabet is taken as it is, as the library does.
                letters = [_BYTE_OF_LETTER.get(letter) for letter in token]
                return token.encode() if None in letters else bytes(cast("list[int]", letters))
            case "ByteFallback":
                if byte := _BYTE_TOKEN.fullmatch(token):
                    return bytes([int(byte[1], 16)])
            case "Replace" if "String" in step["pattern"]:
                token = token.replace(step["pattern"]["String"], step["content"])
            case "Metaspace":
                token = token.replace(step["replacement"], " ")
            case "WordPiece":
                token = token.removeprefix(step["prefix"]) if token.startswith(step["prefix"]) else " " + token
            case "BPEDecoder":
                token = token.removesuffix(step["suffix"]) + (" " if token.endswith(step["suffix"]) else "")
            case _:
                pass
    return token.encode()
