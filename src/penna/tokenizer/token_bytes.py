"""What each token stands for in text, as bytes.

A tokenizer writes its tokens in a spelling of its own: GPT-2's puts every byte as a printable letter ("Ġthe" is
" the"), others write a byte they have no character for as "<0xE2>". In comes a `tokenizers.Tokenizer`; out comes, per
id, the UTF-8 bytes the token puts into the text. A token may be part of a character, so bytes are the only form in
which tokens can be joined, counted (bits per byte) and streamed without loss. The spelling is read from the
tokenizer's decoder, the steps by which the `tokenizers` library itself turns tokens back into text. Some of these treat
the ends of a text otherwise (WordPiece puts a space before every word but the first), so a token may have another form
as the first or the last one; decoding and streaming both go by these forms, and so give the same text.
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
    """Per id, what decoding writes inside a text; for a special token its name. b"" for ids that no token has."""
    rendered_first: tuple[bytes, ...]
    """The same for the first token of a text."""
    special_ids: frozenset[int]
    """The ids of special tokens: they are rendered, but stand for no text."""
    trailing_space_ids: frozenset[int]
    """Tokens whose last byte is a space that is not written where they are the last of a text."""
    stripped_spaces: int
    """How many spaces are dropped from the start of a text."""
    is_exact: bool
    """Whether joining ``rendered`` is all that decoding does."""
    is_supported: bool
    """Whether the steps of the decoder are all known; where not, only the library can decode."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids``; bytes that form no character become U+FFFD."""
        if not len(ids):
            return ""
        pieces = [self.rendered_first[ids[0]], *[self.rendered[index] for index in ids[1:]]]
        if ids[-1] in self.trailing_space_ids:
            pieces[-1] = pieces[-1][:-1]
        return self.strip_leading_spaces(b"".join(pieces).decode("utf-8", errors="replace"))

    def strip_leading_spaces(self, text: str) -> str:
        """``text`` without the spaces that are dropped from a start."""
        drop = min(self.stripped_spaces, len(text) - len(text.lstrip(" ")))
        return text[drop:]


def token_bytes(inner: tokenizers.Tokenizer) -> TokenBytes:
    """Read off what every token of ``inner`` stands for."""
    steps = _decoder_steps(inner)
    vocab = inner.get_vocab(with_added_tokens=True)
    added = inner.get_added_tokens_decoder()
    rendered = [b""] * (max(vocab.values(), default=-1) + 1)
    opening = list(rendered)
    # The names of added tokens are in no spelling of bytes; the steps that concern words and spaces do touch them.
    around = [step for step in steps if step["type"] not in ("ByteLevel", "ByteFallback")]
    for token, index in vocab.items():
        own = around if index in added else steps
        rendered[index], opening[index] = _bytes_of(token, own, first=False), _bytes_of(token, own, first=True)
    suffix = next((step["suffix"] for step in steps if step["type"] == "BPEDecoder"), None)
    behind = frozenset(index for token, index in vocab.items() if suffix and token.endswith(suffix))
    stripped = sum(step["start"] for step in steps if step["type"] == "Strip")
    return TokenBytes(
        rendered=tuple(rendered),
        rendered_first=tuple(opening),
        special_ids=frozenset(index for index, token in added.items() if token.special),
        trailing_space_ids=behind,
        stripped_spaces=stripped,
        is_exact=opening == rendered and not behind and not stripped and all(map(_is_exact, steps)),
        is_supported=_is_followed(steps),
    )


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


def _is_followed(steps: list[dict[str, Any]]) -> bool:
    """Whether `_bytes_of` and `Surface` do all that these steps do."""
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


def _bytes_of(token: str, steps: list[dict[str, Any]], *, first: bool) -> bytes:
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
                dropped = first and step.get("prepend_scheme") != "never"
                token = token.replace(step["replacement"], "" if dropped else " ")
            case "WordPiece":
                token = _word_part(token, step, first=first)
            case "BPEDecoder":
                token = token.replace(step["suffix"], " ")
            case _:
                pass
    return token.encode()


# From `cleanup` in huggingface/tokenizers, tokenizers/src/decoders/wordpiece.rs, which is applied token by token.
_TIDIED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def _word_part(token: str, step: dict[str, Any], *, first: bool) -> str:
    """A token of WordPiece: a space before what begins a word, unless it is the first or punctuation."""
    if not first:
        token = token.removeprefix(step["prefix"]) if token.startswith(step["prefix"]) else " " + token
    if step["cleanup"]:
        for apart, together in _TIDIED:
            token = token.replace(apart, together)
    return token
