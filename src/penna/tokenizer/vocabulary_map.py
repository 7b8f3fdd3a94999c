"""Comparing two tokenizers: whether they split text alike, and which ids of one are which ids of the other.

Weights trained with an old tokenizer can be used with a new one if both split every text into the same tokens: same
normalization, pre-tokenization, model (merges, scores, unknown token) and text tokens. The ids may differ. Not compared
are control tokens, the post-processor and chat template (`Tokenizer.encode` does not use them), and the decoder.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from penna.tokenizer.tokenizer import Tokenizer

_SHOWN_TOKENS = 3
_SHOWN_CHARACTERS = 120  # of a setting
_VOCABULARY_KEYS = ("vocab", "merges", "unk_id")
_EMPTY_MEANS_NONE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


@dataclass(frozen=True)
class VocabularyMap:
    """How the ids of a new tokenizer correspond to those of an old one."""

    old_ids: dict[int, int]
    """New id to old id, for each token that both have."""
    added: dict[str, int]
    """Control tokens that only the new tokenizer has, and their new ids."""
    differences: tuple[str, ...]
    """Differences in how text is split, each as "… there, … here"; the old tokenizer is "there"."""


def map_vocabulary(new: Tokenizer, old: Tokenizer) -> VocabularyMap:
    """Match the ids of ``new`` with those of ``old`` by spelling.

    Every token of ``new`` is in ``old_ids`` or ``added``, and every token of ``old`` is matched, only if
    ``differences`` is empty.
    """
    here, there = (tokenizer._inner.get_vocab(with_added_tokens=True) for tokenizer in (new, old))
    old_ids = {index: there[token] for token, index in here.items() if token in there}
    added = {token: index for token, index in here.items() if token not in there and token in new.special_tokens}
    if new.fingerprint() == old.fingerprint():
        return VocabularyMap(old_ids, added, ())
    differences = [*_splitting_differences(new, old), *_vocabulary_differences(new, old)]
    if lost := [token for token in old.special_tokens if token not in here]:
        differences.append(f"{_list_tokens('control token', lost)} there, and not here")
    if len(old_ids) != len(set(old_ids.values())) or len({*here.values()}) != len(here):
        differences.append("two tokens share an id")
    return VocabularyMap(old_ids, dict(sorted(added.items(), key=lambda item: item[1])), tuple(differences))


def _splitting_differences(new: Tokenizer, old: Tokenizer) -> list[str]:
    """Differences in how text is split, apart from the vocabularies."""
    here, there = (json.loads(tokenizer._inner.to_str()) for tokenizer in (new, old))
    found: list[str] = []
    for part in ("normalizer", "pre_tokenizer"):
        if _without_offsets(here[part]) != _without_offsets(there[part]):
            found.append(_difference(part, there[part], here[part]))
    if here["model"]["type"] != there["model"]["type"]:
        return [*found, _difference("model", there["model"]["type"], here["model"]["type"])]
    new_settings, old_settings = _model_settings(here["model"]), _model_settings(there["model"])
    found += [
        _difference(f"model.{name}", old_settings.get(name), new_settings.get(name))
        for name in sorted({*new_settings, *old_settings})
        if new_settings.get(name) != old_settings.get(name)
    ]
    found += _merge_differences(here["model"].get("merges", []), there["model"].get("merges", []))
    found += _score_differences(here["model"], there["model"], {*new.special_tokens, *old.special_tokens})
    new_added, old_added = (_added_text_tokens(content["added_tokens"]) for content in (here, there))
    for token in sorted({*new_added, *old_added}):
        if new_added.get(token) != old_added.get(token):
            found.append(_difference(f"the added token {token!r}", old_added.get(token), new_added.get(token)))
    return found


def _vocabulary_differences(new: Tokenizer, old: Tokenizer) -> list[str]:
    """Text tokens that only one of the models has."""
    here, there = (tokenizer._inner.get_vocab(with_added_tokens=False) for tokenizer in (new, old))
    only_here = [token for token in here if token not in there and token not in new.special_tokens]
    only_there = [token for token in there if token not in here and token not in old.special_tokens]
    return [
        f"{_list_tokens('token', sorted(tokens))} {where}"
        for tokens, where in ((only_here, "here, and not there"), (only_there, "there, and not here"))
        if tokens
    ]


def _without_offsets(step: Any) -> Any:
    """A step of ``tokenizer.json`` without ``trim_offsets``, which does not affect ids."""
    if isinstance(step, dict):
        return {key: _without_offsets(value) for key, value in step.items() if key != "trim_offsets"}
    if isinstance(step, list):
        return [_without_offsets(part) for part in step]
    return step


def _model_settings(model: dict[str, Any]) -> dict[str, Any]:
    """A model's settings in ``tokenizer.json`` without its vocabulary; the unknown token by its spelling."""
    settings = {key: value for key, value in model.items() if key not in _VOCABULARY_KEYS}
    for key in _EMPTY_MEANS_NONE:
        settings[key] = settings.get(key) or None
    if model.get("unk_id") is not None:
        settings["unk_token"] = model["vocab"][model["unk_id"]][0]
    return settings


def _merge_differences(here: list[Any], there: list[Any]) -> list[str]:
    if here == there:
        return []
    if len(here) != len(there):
        return [f"merges: {len(there):,} there, {len(here):,} here"]
    first = next(number for number, pair in enumerate(here) if pair != there[number])
    return [_difference(f"merge {first + 1}", there[first], here[first])]


def _score_differences(here: dict[str, Any], there: dict[str, Any], special: Collection[str]) -> list[str]:
    """The pieces of a unigram model that have different scores."""
    if here["type"] != "Unigram":
        return []
    new_scores, old_scores = (dict(model["vocab"]) for model in (here, there))
    differing = [
        piece
        for piece in new_scores
        if piece in old_scores and new_scores[piece] != old_scores[piece] and piece not in special
    ]
    return [f"another score of {_list_tokens('token', differing)}"] if differing else []


def _added_text_tokens(added: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Added tokens that are not control tokens, which the library splits off before the model sees the text."""
    return {
        token["content"]: {key: value for key, value in token.items() if key not in ("id", "content", "special")}
        for token in added
        if not token["special"]
    }


def _difference(name: str, there: Any, here: Any) -> str:
    def short(value: Any) -> str:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"

    return f"{name}: {short(there)} there, {short(here)} here"


def _list_tokens(noun: str, tokens: list[str]) -> str:
    names = ", ".join(map(repr, tokens[:_SHOWN_TOKENS]))
    more = f" and {len(tokens) - _SHOWN_TOKENS:,} more" if len(tokens) > _SHOWN_TOKENS else ""
    return f"the {noun}{'s' if len(tokens) > 1 else ''} {names}{more}"
