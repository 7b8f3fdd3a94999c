"""How a text is written, as Hugging Face's ``generation_config.json``: settings in and out.

Both names and meanings are those of ``transformers``, which reads what is written here as the same settings; what it
has no name for (``presence_penalty``, ``frequency_penalty``, ``past_block``, and ``bad_words`` as text) stands beside
them under Penna's own names, and is passed over by it.

The two differ in how a strategy is named. There ``do_sample`` decides whether temperature and limits mean anything;
here a temperature of 0 takes the likeliest. And ``transformers`` draws from 50 tokens where a file leaves ``top_k``
out, so that no limit is written as 0.
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

# Fields that mean the same under the same name, whatever the strategy.
_SAME = (
    "max_new_tokens",
    "min_new_tokens",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "no_repeat_ngram_size",
    "prompt_lookup_num_tokens",
    "past_block",
)
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # mean something where do_sample is true
_BEAMS = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
_ZERO_IS_NONE = ("top_k", "min_p", "no_repeat_ngram_size", "prompt_lookup_num_tokens")


def generation_config_to_json(config: GenerationConfig, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The content of a ``generation_config.json`` that says these settings; the tokenizer's separator ends a text.

    Raises ExchangeError for what such a file cannot hold: ``choices``, which are of one request and no default;
    ``max_new_tokens`` of 0; bad words without a tokenizer.
    """
    _check_can_be_written(config, tokenizer)
    separator = None if tokenizer is None else tokenizer.separator_id
    drawn = config.strategy == "sample"
    names = [*_SAME, *_BEAMS, *(_DRAWING if drawn else ())]
    if config.strategy == "contrastive":
        names += ["penalty_alpha", "top_k"]
    default = GenerationConfig()
    said = {name: value for name in names if (value := getattr(config, name)) != getattr(default, name)}
    content: dict[str, Any] = {
        "bos_token_id": separator,
        "eos_token_id": separator,
        "do_sample": drawn,
        **said,
        "max_new_tokens": config.max_new_tokens,
    }
    if drawn:
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
    """The settings in a ``generation_config.json``, Penna's or any other's.

    What the file does not say is Penna's default, also where ``transformers`` has another. Passed over is what
    ``transformers`` passes over, such as a ``top_p`` without ``do_sample`` or an ``early_stopping`` without beams, and
    what Penna has no setting for, such as ``max_length`` (which counts the prompt) and the ids of special tokens.
    ``bad_words_ids`` become the words they spell. Raises ExchangeError, which names the file, for values that cannot
    be, for strategies Penna has not, and for bad words that no text spells.
    """
    content = {name: value for name, value in read_json_object(file).items() if value is not None}
    values = {name: content[name] for name in _SAME if name in content}
    is_drawn, beams = _is_drawn(content, file), content.get("num_beams", 1)
    if is_drawn and beams != 1:
        raise InteropError(
            f"{file} cannot be followed: it draws (do_sample = true) along num_beams = {beams}.",
            "Beam search takes the likeliest texts: do_sample = false; or a draw has one beam.",
            "Change one of the two in that file.",
        )
    if is_drawn:
        values |= {name: content[name] for name in _DRAWING if name in content}
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
        values["bad_words"] = _words_of(content, file, tokenizer)
    try:
        return generation_config(values)
    except RecipeError as error:
        raise InteropError(
            f"{file} cannot be followed. {error.happened}", error.expected, "Change or leave out that setting there."
        ) from error


def bad_words_ids(words: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """The token sequences of words that are never to be written: each as it is, and behind a space."""
    spelled = tokenizer.encode_batch([form for word in words for form in (word, f" {word}")])
    return [list(ids) for ids in dict.fromkeys(tuple(ids) for ids in spelled if ids)]


def _check_can_be_written(config: GenerationConfig, tokenizer: Tokenizer | None) -> None:
    if config.choices:
        raise InteropError(
            f"choices = {list(config.choices)} cannot be written to a {GENERATION_FILE}.",
            "Such a file holds what goes for every text; choices are of one.",
            "Leave them out.",
        )
    if config.max_new_tokens == 0:
        raise InteropError(
            f"max_new_tokens = 0 cannot be written to a {GENERATION_FILE}: transformers refuses to read it.",
            "max_new_tokens: 1 or more.",
            "Change that setting.",
        )
    if config.bad_words and tokenizer is None:
        raise InteropError(
            f"bad_words = {list(config.bad_words)} cannot be written without a tokenizer.",
            f"A {GENERATION_FILE} holds them as token ids.",
            "Give the model's tokenizer, or leave them out.",
        )


def _is_drawn(content: dict[str, Any], file: Path) -> bool:
    is_drawn = content.get("do_sample", False)
    if not isinstance(is_drawn, bool):
        raise InteropError(
            f"{file} cannot be followed. do_sample = {is_drawn!r} is neither true nor false.",
            "do_sample: true draws each token, false takes the likeliest.",
            "Change or leave out that setting there.",
        )
    return is_drawn


def _is_contrastive(content: dict[str, Any]) -> bool:
    """Whether a file means contrastive search; as ``transformers`` has it, only with a top_k above 1."""
    return "penalty_alpha" in content and content.get("top_k") not in (None, 0, 1)


def _words_of(content: dict[str, Any], file: Path, tokenizer: Tokenizer | None) -> list[str]:
    """The words that ``bad_words_ids`` spell; a word behind a space is meant along with the word.

    Ids of the end of a text are passed over, as in ``transformers``.
    """
    ends = content.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    words: list[str] = []
    sequences = content["bad_words_ids"]
    for ids in sequences if isinstance(sequences, list) else [sequences]:
        if isinstance(ids, list) and len(ids) == 1 and ids[0] in ends:
            continue
        word = _spelled(ids, tokenizer)
        if word is None:
            raise InteropError(
                f"{file} cannot be followed. bad_words_ids has {ids}, which no text is encoded to.",
                "Tokens of a word, or of a word behind a space.",
                "Take them out of bad_words_ids in that file.",
            )
        words.append(word)
    return [word for word in dict.fromkeys(words) if not (word.startswith(" ") and word[1:] in words)]


def _spelled(ids: Any, tokenizer: Tokenizer | None) -> str | None:
    """The text that is encoded to these ids, alone or behind a space; None where there is none."""
    if tokenizer is None or not isinstance(ids, list) or not ids or not all(type(index) is int for index in ids):
        return None
    try:
        text = tokenizer.decode(ids)
        return text if text and tokenizer.encode(text) == ids else None
    except TokenizerError:
        return None
