"""Hugging Face's ``generation_config.json`` to Penna's generation settings and back.

Names and meanings are those of ``transformers``. Settings that it does not have (``presence_penalty``,
``frequency_penalty``, ``past_block``, ``bad_words`` as text) are written under Penna's names, which it ignores. Two
things differ: in such a file ``do_sample`` decides whether temperature and limits apply, while in Penna a temperature
of 0 means greedy decoding; and ``transformers`` uses ``top_k = 50`` if a file has none, so no limit is written as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penna.config.generation import GenerationConfig, generation_config
from penna.errors import InteropError, RecipeError, TokenizerError
from penna.interop.hf_files import read_json_object
from penna.storage import write_json
from penna.tokenizer.tokenizer import Tokenizer

GENERATION_FILE = "generation_config.json"

# Fields with the same name and meaning for every strategy.
_COMMON = (
    "max_new_tokens",
    "min_new_tokens",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "prompt_lookup_num_tokens",
    "past_block",
)
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # used only if do_sample is true
_BEAMS = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
_ZERO_IS_NONE = ("top_k", "min_p", "no_repeat_ngram_size", "prompt_lookup_num_tokens")


def generation_config_to_json(config: GenerationConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The content of a ``generation_config.json`` with these settings; the tokenizer's separator ends a text.

    Raises InteropError for settings that such a file cannot hold: ``choices``, ``max_new_tokens = 0``, and bad words
    without a tokenizer.
    """
    _check_exportable(config, tokenizer)
    separator = None if tokenizer is None else tokenizer.separator_id
    is_sampling = config.strategy == "sample"
    names = [*_COMMON, *_BEAMS, *(_SAMPLING if is_sampling else ())]
    if config.strategy == "contrastive":
        names += ["penalty_alpha", "top_k"]
    default = GenerationConfig()
    changed = {name: value for name in names if (value := getattr(config, name)) != getattr(default, name)}
    content: dict[str, Any] = {
        "bos_token_id": separator,
        "eos_token_id": separator,
        "do_sample": is_sampling,
        **changed,
        "max_new_tokens": config.max_new_tokens,
    }
    if is_sampling:
        content["top_k"] = config.top_k or 0
    if config.stop:
        content["stop_strings"] = list(config.stop)
    if config.bad_words and tokenizer is not None:
        content["bad_words"] = list(config.bad_words)
        content["bad_words_ids"] = bad_words_ids(config.bad_words, tokenizer)
    return content


def write_generation_config(file: Path, config: GenerationConfig, tokenizer: Tokenizer | None) -> None:
    """Write the settings as a ``generation_config.json``, atomically. Raises as `generation_config_to_json` does."""
    write_json(file, generation_config_to_json(config, tokenizer))


def read_generation_config(file: Path, tokenizer: Tokenizer | None) -> GenerationConfig:
    """The settings in a ``generation_config.json`` of Penna or another program.

    Missing settings have Penna's defaults. Settings that ``transformers`` ignores are ignored, for example ``top_p``
    without ``do_sample`` or ``early_stopping`` without beams; so are those that Penna does not have, for example
    ``max_length`` (which counts the prompt). ``bad_words_ids`` are decoded to words. Raises InteropError naming the
    file for invalid values, unsupported strategies, and bad words that are not the encoding of a text.
    """
    content = {name: value for name, value in read_json_object(file).items() if value is not None}
    values = {name: content[name] for name in _COMMON if name in content}
    is_sampling, beams = _is_sampling(content, file), content.get("num_beams", 1)
    if is_sampling and beams != 1:
        raise InteropError(
            f"{file} combines sampling (do_sample = true) with num_beams = {beams}, which is not supported.",
            "Beam search needs do_sample = false, and sampling needs num_beams = 1.",
            "Change one of the two in that file.",
        )
    if is_sampling:
        values |= {name: content[name] for name in _SAMPLING if name in content}
    elif beams != 1:
        values |= {name: content[name] for name in _BEAMS if name in content}
    elif _is_contrastive(content):
        values |= {name: content[name] for name in ("penalty_alpha", "top_k")}
    else:
        values["temperature"] = 0
    for name in _ZERO_IS_NONE:
        if values.get(name) == 0:
            del values[name]
    if "stop_strings" in content:
        stop = content["stop_strings"]
        values["stop"] = [stop] if isinstance(stop, str) else stop
    if "bad_words" in content:
        values["bad_words"] = content["bad_words"]
    elif "bad_words_ids" in content:
        values["bad_words"] = _decode_bad_words(content, file, tokenizer)
    try:
        return generation_config(values)
    except RecipeError as error:
        raise InteropError(
            f"{file} is invalid: {error.happened}", error.expected, "Change or remove that setting in the file."
        ) from error


def bad_words_ids(words: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The token sequences of banned words: each word alone and after a space."""
    encoded = tokenizer.encode_batch([text for word in words for text in (word, f" {word}")])
    return [list(ids) for ids in dict.fromkeys(tuple(ids) for ids in encoded if ids)]


def _check_exportable(config: GenerationConfig, tokenizer: Tokenizer | None) -> None:
    if config.choices:
        raise InteropError(
            f"choices = {list(config.choices)} cannot be written to a {GENERATION_FILE}.",
            "Such a file holds defaults for every request, and choices belong to one request.",
            "Remove them.",
        )
    if config.max_new_tokens == 0:
        raise InteropError(
            f"max_new_tokens = 0 cannot be written to a {GENERATION_FILE}, because transformers rejects it.",
            "max_new_tokens must be at least 1.",
            "Change that setting.",
        )
    if config.bad_words and tokenizer is None:
        raise InteropError(
            f"bad_words = {list(config.bad_words)} cannot be written without a tokenizer.",
            f"A {GENERATION_FILE} holds them as token ids.",
            "Use a model with a tokenizer, or remove them.",
        )


def _is_sampling(content: dict[str, Any], file: Path) -> bool:
    value = content.get("do_sample", False)
    if not isinstance(value, bool):
        raise InteropError(
            f"{file} is invalid: do_sample = {value!r}.",
            "do_sample must be true (sample each token) or false (take the likeliest).",
            "Change or remove that setting in the file.",
        )
    return value


def _is_contrastive(content: dict[str, Any]) -> bool:
    """Whether a file selects contrastive search, which needs a top_k above 1 as in ``transformers``."""
    return "penalty_alpha" in content and content.get("top_k") not in (None, 0, 1)


def _decode_bad_words(content: dict[str, Any], file: Path, tokenizer: Tokenizer | None) -> list[str]:
    """The words of ``bad_words_ids``, without those that are another word after a space.

    End-of-text ids are ignored, as in ``transformers``.
    """
    end_ids = content.get("eos_token_id")
    end_ids = end_ids if isinstance(end_ids, list) else [end_ids]
    words: list[str] = []
    sequences = content["bad_words_ids"]
    for ids in sequences if isinstance(sequences, list) else [sequences]:
        if isinstance(ids, list) and len(ids) == 1 and ids[0] in end_ids:
            continue
        word = _decode_exactly(ids, tokenizer)
        if word is None:
            raise InteropError(
                f"{file} is invalid: bad_words_ids has {ids}, which is not the encoding of a text.",
                "Each entry must be the tokens of a word, alone or after a space.",
                "Remove the entry from bad_words_ids in that file.",
            )
        words.append(word)
    return [word for word in dict.fromkeys(words) if not (word.startswith(" ") and word[1:] in words)]


def _decode_exactly(ids: Any, tokenizer: Tokenizer | None) -> str | None:
    """The text whose encoding is exactly these ids, or None."""
    if tokenizer is None or not isinstance(ids, list) or not ids or not all(type(index) is int for index in ids):
        return None
    try:
        text = tokenizer.decode(ids)
        return text if text and tokenizer.encode(text) == ids else None
    except TokenizerError:
        return None
