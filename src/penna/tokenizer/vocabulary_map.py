"""Whether one tokenizer does to text what another does, and which id of the one is which of the other.

In come two tokenizers, out comes the id of the old one for each of the new one's, or the reasons why there is none to
be had. Weights that learned with the old tokenizer can go on with the new one where every text is cut into the same
tokens by both: the same normalisation, the same cutting into words, the same model (merges, scores, unknown token) and
the same tokens of text. The numbers of the tokens may differ, as rows can be put in another order. What stands outside
of this is not compared: control tokens, which no text is encoded to; the post-processor and the chat template, which
put control tokens around a text and are not used by `Tokenizer.encode`; and the decoder, which gives no ids.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from penna.tokenizer.tokenizer import Tokenizer

_SHOWN = 3  # how many tokens a message names
_LONGEST = 120  # characters of a setting that a message shows
_PARTS_OF_VOCABULARY = ("vocab", "merges", "unk_id")
# Of the model, no value, none of it and an empty one are the same: no dropout, no prefix, no suffix.
_EMPTY_IS_NONE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


@dataclass(frozen=True)
class VocabularyMap:
    """How the ids of a new tokenizer stand to those of an old one."""

    old_ids: dict[int, int]
    """New id to old id, for each token both have; no two have the same old id."""
    added: dict[str, int]
    """Control tokens that only the new one has, and their new ids."""
    differences: tuple[str, ...]
    """What one does to text and the other does not, each "… there, … here", the old one being "there"."""


def map_vocabulary(new: Tokenizer, old: Tokenizer) -> VocabularyMap:
    """Match the ids of ``new`` with those of ``old`` by the tokens' spelling.

    Only where ``differences`` is empty do ``old_ids`` and ``added`` cover every token of ``new``, and every token of
    ``old`` is matched.
    """
    here, there = (tokenizer._inner.get_vocab(with_added_tokens=True) for tokenizer in (new, old))
    old_ids = {index: there[token] for token, index in here.items() if token in there}
    added = {token: index for token, index in here.items() if token not in there and token in new.special_tokens}
    if new.fingerprint() == old.fingerprint():
        return VocabularyMap(old_ids, added, ())
    differences = [*_differences(new, old), *_vocabulary_differences(new, old)]
    if lost := [token for token in old.special_tokens if token not in here]:
        differences.append(f"{_named('control token', lost)} there, and not here")
    if len(old_ids) != len(set(old_ids.values())) or len({*here.values()}) != len(here):
        differences.append("two tokens share an id")
    return VocabularyMap(old_ids, dict(sorted(added.items(), key=lambda item: item[1])), tuple(differences))


def _differences(new: Tokenizer, old: Tokenizer) -> list[str]:
    """The differences in how text is cut, the tokens' names and numbers aside."""
    here, there = (json.loads(tokenizer._inner.to_str()) for tokenizer in (new, old))
    found: list[str] = []
    for part in ("normalizer", "pre_tokenizer"):
        if _without_offsets(here[part]) != _without_offsets(there[part]):
            found.append(_said(part, there[part], here[part]))
    if here["model"]["type"] != there["model"]["type"]:
        return [*found, _said("model", there["model"]["type"], here["model"]["type"])]
    ours, theirs = _settings(here["model"]), _settings(there["model"])
    found += [
        _said(f"model.{name}", theirs.get(name), ours.get(name))
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    found += _merge_differences(here["model"].get("merges", []), there["model"].get("merges", []))
    found += _score_differences(here["model"], there["model"], {*new.special_tokens, *old.special_tokens})
    # Added tokens that are no control tokens are taken out of plain text before the model sees it.
    plain_here, plain_there = (_added_to_text(content["added_tokens"]) for content in (here, there))
    for token in sorted({*plain_here, *plain_there}):
        if plain_here.get(token) != plain_there.get(token):
            found.append(_said(f"the added token {token!r}", plain_there.get(token), plain_here.get(token)))
    return found


def _vocabulary_differences(new: Tokenizer, old: Tokenizer) -> list[str]:
    """The tokens of text that only one of the models has."""
    ours, theirs = (tokenizer._inner.get_vocab(with_added_tokens=False) for tokenizer in (new, old))
    only_here = [token for token in ours if token not in theirs and token not in new.special_tokens]
    only_there = [token for token in theirs if token not in ours and token not in old.special_tokens]
    return [
        f"{_named('token', sorted(tokens))} {where}"
        for tokens, where in ((only_here, "here, and not there"), (only_there, "there, and not here"))
        if tokens
    ]


def _without_offsets(step: Any) -> Any:
    """A step of ``tokenizer.json`` without ``trim_offsets``, which concerns places in the text and no ids."""
    if isinstance(step, dict):
        return {key: _without_offsets(value) for key, value in step.items() if key != "trim_offsets"}
    if isinstance(step, list):
        return [_without_offsets(part) for part in step]
    return step


def _settings(model: dict[str, Any]) -> dict[str, Any]:
    """What a model of ``tokenizer.json`` is told, beside its vocabulary; the unknown token by its spelling."""
    settings = {key: value for key, value in model.items() if key not in _PARTS_OF_VOCABULARY}
    for key in _EMPTY_IS_NONE:
        settings[key] = settings.get(key) or None
    if model.get("unk_id") is not None:
        settings["unk_token"] = model["vocab"][model["unk_id"]][0]
    return settings


def _merge_differences(here: list[Any], there: list[Any]) -> list[str]:
    if here == there:
        return []
    if len(here) != len(there):
        return [f"merges: {len(there):,} there, {len(here):,} here"]
    first = next(place for place, pair in enumerate(here) if pair != there[place])
    return [_said(f"merge {first + 1}", there[first], here[first])]


def _score_differences(here: dict[str, Any], there: dict[str, Any], special: Collection[str]) -> list[str]:
    """The pieces of a unigram model whose scores differ; other models have none."""
    if here["type"] != "Unigram":
        return []
    ours, theirs = (dict(model["vocab"]) for model in (here, there))
    other = [piece for piece in ours if piece in theirs and ours[piece] != theirs[piece] and piece not in special]
    return [f"another score of {_named('token', other)}"] if other else []


def _added_to_text(added: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The added tokens that are cut out of plain text, and how."""
    return {
        token["content"]: {key: value for key, value in token.items() if key not in ("id", "content", "special")}
        for token in added
        if not token["special"]
    }


def _said(name: str, there: Any, here: Any) -> str:
    def short(value: Any) -> str:
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"

    return f"{name}: {short(there)} there, {short(here)} here"


def _named(what: str, tokens: list[str]) -> str:
    names = ", ".join(map(repr, tokens[:_SHOWN]))
    more = f" and {len(tokens) - _SHOWN:,} more" if len(tokens) > _SHOWN else ""
    return f"the {what}{'s' if len(tokens) > 1 else ''} {names}{more}"
