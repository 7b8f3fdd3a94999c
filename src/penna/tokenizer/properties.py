"""What a tokenizer is made of, as far as people ask: its kind, whether it loses anything, its unknown token.

In comes a `tokenizers.Tokenizer` with the bytes of its tokens, out comes a `Build`. All of it is read from the steps
that ``tokenizer.json`` spells out.
"""

import json
from dataclasses import dataclass
from typing import Any

import tokenizers

from penna.tokenizer.token_bytes import TokenBytes

_BYTES_OF_UTF8 = (*range(0x80), *range(0x80, 0xC0), *range(0xC2, 0xF5))


@dataclass(frozen=True)
class TokenizerProperties:
    """The answers for one tokenizer; see the properties of `penna.tokenizer.tokenizer.Tokenizer`."""

    kind: str
    lossless: bool
    unknown_id: int | None


def tokenizer_properties(inner: tokenizers.Tokenizer, byte_table: TokenBytes) -> TokenizerProperties:
    """Read the steps of ``inner``, whose tokens write what ``surface`` says."""
    content: dict[str, Any] = json.loads(inner.to_str())
    model = content["model"]
    writes_all = {bytes([byte]) for byte in _BYTES_OF_UTF8} <= set(byte_table.rendered)
    lossless = (
        byte_table.is_exact and content["normalizer"] is None and _keeps_all(content["pre_tokenizer"]) and writes_all
    )
    return TokenizerProperties(_kind(content), lossless, None if writes_all else _unknown_id(inner, model))


def _kind(content: dict[str, Any]) -> str:
    model = content["model"]
    match model["type"]:
        case "BPE" if "ByteLevel" in _types(content["decoder"], "decoders"):
            return "byte-level BPE"
        case "BPE":
            return "BPE" if model["merges"] else "characters"
        case "Unigram":
            return "unigram"
        case "WordLevel":
            return "words"
        case other:
            return str(other)


def _unknown_id(inner: tokenizers.Tokenizer, model: dict[str, Any]) -> int | None:
    if model["type"] == "Unigram":
        return model["unk_id"]
    name = model.get("unk_token")
    return None if name is None else inner.token_to_id(name)


def _types(step: dict[str, Any] | None, parts: str) -> set[str]:
    if step is None:
        return set()
    return {step["type"]}.union(*(_types(part, parts) for part in step.get(parts, [])))


def _keeps_all(step: dict[str, Any] | None) -> bool:
    """Whether a pre-tokenizer only cuts, and neither drops nor adds."""
    if step is None:
        return True
    match step["type"]:
        case "Sequence":
            return all(_keeps_all(part) for part in step["pretokenizers"])
        case "ByteLevel":
            return not step["add_prefix_space"]
        case "Split" | "Punctuation":
            return step.get("behavior") != "Removed"
        case kind:
            return kind in ("Digits", "UnicodeScripts")
