"""Properties that follow from ``tokenizer.json``: the kind, whether it is lossless, and the unknown token."""

import json
from dataclasses import dataclass
from typing import Any

import tokenizers

from penna.tokenizer.token_bytes import TokenBytes

_UTF8_BYTES = (*range(0x80), *range(0x80, 0xC0), *range(0xC2, 0xF5))


@dataclass(frozen=True)
class TokenizerProperties:
    """See the properties with the same names of `penna.tokenizer.tokenizer.Tokenizer`."""

    kind: str
    lossless: bool
    unknown_id: int | None


def tokenizer_properties(inner: tokenizers.Tokenizer, byte_table: TokenBytes) -> TokenizerProperties:
    """The properties of ``inner``, whose tokens have the bytes of ``byte_table``."""
    content: dict[str, Any] = json.loads(inner.to_str())
    model = content["model"]
    has_all_bytes = {bytes([byte]) for byte in _UTF8_BYTES} <= set(byte_table.rendered)
    keeps_text = content["normalizer"] is None and _keeps_text(content["pre_tokenizer"])
    lossless = byte_table.is_exact and keeps_text and has_all_bytes
    return TokenizerProperties(_kind(content), lossless, None if has_all_bytes else _unknown_id(inner, model))


def _kind(content: dict[str, Any]) -> str:
    model = content["model"]
    match model["type"]:
        case "BPE" if "ByteLevel" in _step_types(content["decoder"]):
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


def _step_types(decoder: dict[str, Any] | None) -> set[str]:
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*map(_step_types, decoder.get("decoders", [])))


def _keeps_text(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Whether a pre-tokenizer only splits text, without adding or dropping any."""
    if pre_tokenizer is None:
        return True
    match pre_tokenizer["type"]:
        case "Sequence":
            return all(map(_keeps_text, pre_tokenizer["pretokenizers"]))
        case "ByteLevel":
            return not pre_tokenizer["add_prefix_space"]
        case "Split" | "Punctuation":
            return pre_tokenizer.get("behavior") != "Removed"
        case kind:
            return kind in ("Digits", "UnicodeScripts")
