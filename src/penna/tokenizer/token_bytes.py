"""The bytes that each token stands for.

Tokenizers spell tokens in their own alphabets: GPT-2 writes each byte as a printable letter ("Ġthe" is " the"), others
write a byte as "<0xE2>". A token can be part of a character, so only bytes can be joined, counted (bits per byte) and
streamed without loss. The spelling follows from the steps of the tokenizer's decoder. Some steps treat the ends of a
text differently (WordPiece puts a space before every word but the first), so a token can have another form as the first
or last one.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class TokenBytes:
    """The bytes of every token of one tokenizer."""

    rendered: tuple[bytes, ...]
    """By id, the decoded bytes inside a text; a special token's name; b"" for unused ids."""
    rendered_first: tuple[bytes, ...]
    """The same for the first token of a text."""
    special_ids: frozenset[int]
    trailing_space_ids: frozenset[int]
    """Tokens that end in a space, which is dropped at the end of a text."""
    stripped_spaces: int
    """How many spaces are dropped from the start of a text."""
    is_exact: bool
    """Whether decoding only joins ``rendered``."""
    is_supported: bool
    """Whether all steps of the decoder are known; otherwise only the library can decode."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; bytes that form no character become U+FFFD."""
        if not len(ids):
            return ""
        parts = [self.rendered_first[ids[0]], *[self.rendered[index] for index in ids[1:]]]
        if ids[-1] in self.trailing_space_ids:
            parts[-1] = parts[-1][:-1]
        return self.strip_leading_spaces(b"".join(parts).decode("utf-8", errors="replace"))

    def strip_leading_spaces(self, text: str) -> str:
        """``text`` without the spaces that decoding drops from its start."""
        drop = min(self.stripped_spaces, len(text) - len(text.lstrip(" ")))
        return text[drop:]


def token_bytes(inner: tokenizers.Tokenizer) -> TokenBytes:
    """Work out the bytes of every token of ``inner``."""
    steps = _decoder_steps(inner)
    vocab = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    rendered = [b""] * (max(vocab.values(), default=-1) + 1)
    rendered_first = list(rendered)
    # The names of added tokens are plain text, not spelled bytes; the steps for words and spaces do apply to them.
    steps_of_added = [step for step in steps if step["type"] not in ("ByteLevel", "ByteFallback")]
    for token, index in vocab.items():
        own = steps_of_added if index in added else steps
        rendered[index], rendered_first[index] = _render(token, own, first=False), _render(token, own, first=True)
    suffix = next((step["suffix"] for step in steps if step["type"] == "BPEDecoder"), None)
    trailing_space_ids = frozenset(index for token, index in vocab.items() if suffix and token.endswith(suffix))
    stripped_spaces = sum(step["start"] for step in steps if step["type"] == "Strip")
    same_at_ends = rendered_first == rendered and not trailing_space_ids and not stripped_spaces
    return TokenBytes(
        rendered=tuple(rendered),
        rendered_first=tuple(rendered_first),
        special_ids=frozenset(index for index, token in added.items() if token.special),
        trailing_space_ids=trailing_space_ids,
        stripped_spaces=stripped_spaces,
        is_exact=same_at_ends and all(map(_is_exact, steps)),
        is_supported=_is_supported(steps),
    )


def byte_letters() -> dict[str, int]:
    """GPT-2's letter for each byte: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up.

    From bytes_to_unicode in openai/gpt-2, src/encoder.py.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTE_OF_LETTER = byte_letters()


def _decoder_steps(inner: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """The decoder's steps as dictionaries of ``tokenizer.json``, with sequences flattened."""
    decoder: Any = inner.decoder
    if decoder is None:
        return []
    return _flatten(cast("dict[str, Any]", json.loads(decoder.__getstate__())))


def _flatten(step: dict[str, Any]) -> list[dict[str, Any]]:
    if step["type"] != "Sequence":
        return [step]
    return [inner_step for part in step["decoders"] for inner_step in _flatten(part)]


def _is_exact(step: dict[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        return step.get("prepend_scheme") == "never"
    return step["type"] in ("ByteLevel", "ByteFallback", "Fuse", "Replace")


def _is_supported(steps: list[dict[str, Any]]) -> bool:
    """Whether `_render` and `TokenBytes` reproduce these steps."""
    fused = False
    for step in steps:
        match step["type"]:
            case "Strip" if not fused or step["stop"] or step["content"] != " ":
                return False
            case "Replace" if "String" not in step["pattern"]:
                return False
            case "Fuse":
                fused = True
            case "ByteLevel" | "ByteFallback" | "Replace" | "Metaspace" | "WordPiece" | "BPEDecoder" | "Strip":
                pass
            case _:
                return False
    return not fused or all(step["type"] in ("Fuse", "Strip") for step in steps[steps.index({"type": "Fuse"}) :])


def _render(token: str, steps: list[dict[str, Any]], *, first: bool) -> bytes:
    for step in steps:
        match step["type"]:
            case "ByteLevel":
                # Like the library, keep a token that has a letter outside the alphabet.
                letters = [_BYTE_OF_LETTER.get(letter) for letter in token]
                return token.encode() if None in letters else bytes(cast("list[int]", letters))
            case "ByteFallback":
                if byte := _BYTE_TOKEN.fullmatch(token):
                    return bytes([int(byte[1], 16)])
            case "Replace" if "String" in step["pattern"]:
                token = token.replace(step["pattern"]["String"], step["content"])
            case "Metaspace":
                dropped = first and step.get("prepend_scheme") != "never"
                token = token.replace(step["replacement"], "" if dropped else " ")
            case "WordPiece":
                token = _render_wordpiece(token, step, first=first)
            case "BPEDecoder":
                token = token.replace(step["suffix"], " ")
            case _:
                pass
    return token.encode()


# From `cleanup` in huggingface/tokenizers, tokenizers/src/decoders/wordpiece.rs, which is applied token by token.
_CLEANUP = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def _render_wordpiece(token: str, step: dict[str, Any], *, first: bool) -> str:
    """A WordPiece token, with a space before it if it begins a word other than the first."""
    if not first:
        token = token.removeprefix(step["prefix"]) if token.startswith(step["prefix"]) else " " + token
    if step["cleanup"]:
        for before, after in _CLEANUP:
            token = token.replace(before, after)
    return token
