"""A model's own generation settings, and settings that override them.

A run's settings are in the ``generation_config.json`` of its folder, as in a Hugging Face folder. Given settings
override them; if they choose another decoding strategy, conflicting defaults are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penna.api.generate import DEFAULT_CONFIG
from penna.config.generation import GenerationConfig, generation_config
from penna.errors import RunError
from penna.interop.generation_config import GENERATION_FILE, read_generation_config, write_generation_config
from penna.interop.hf_files import read_json_object
from penna.loading import LoadedModel
from penna.tokenizer.tokenizer import Tokenizer

_FILTERS = ("top_p", "min_p", "typical_p")
_SAMPLING = ("temperature", "top_k", *_FILTERS)
_BEAMS = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
_TOKEN_BY_TOKEN = (
    "prompt_lookup_num_tokens",
    "choices",
    "past_block",
)  # only without a search
_NOT_WITH_CHOICES = ("min_new_tokens", "bad_words", "stop", "no_repeat_ngram_size", "prompt_lookup_num_tokens")
_GENERATION_FIELDS = (*GenerationConfig.model_fields, "do_sample", "stop_strings", "bad_words_ids")


def default_settings(loaded: LoadedModel, otherwise: GenerationConfig = DEFAULT_CONFIG) -> GenerationConfig:
    """A model's own settings; ``otherwise`` if it has none.

    A ``generation_config.json`` that names only special tokens counts as none. Raises InteropError for an unsupported
    file.
    """
    folder = loaded.source if loaded.run is None else loaded.run.path
    file = folder / GENERATION_FILE
    names = (
        {name for name, value in read_json_object(file).items() if value is not None} if file.exists() else set[str]()
    )
    if names.isdisjoint(_GENERATION_FIELDS):
        return otherwise
    return read_generation_config(file, loaded.tokenizer)


def save_default_settings(loaded: LoadedModel, config: GenerationConfig) -> Path:
    """Save settings as the run's own; return the file. Raises RunError if the model is not a run, and InteropError for
    settings that the file cannot hold."""
    if loaded.run is None:
        raise RunError(
            f"{loaded.source} is not a run.",
            "Settings are saved in a run folder.",
            f"Import it as a run first: `penna import {loaded.source} --name NAME`.",
        )
    return save_run_defaults(loaded.run.path, config, loaded.tokenizer)


def save_run_defaults(run_folder: Path, config: GenerationConfig, tokenizer: Tokenizer | None) -> Path:
    """Like ``save_default_settings``, for a run that is not loaded."""
    file = run_folder / GENERATION_FILE
    write_generation_config(file, config, tokenizer)
    return file


def override_settings(defaults: GenerationConfig, given: Mapping[str, Any]) -> GenerationConfig:
    """``defaults`` overridden by the ``given`` settings.

    If the given settings choose another decoding strategy, the defaults' settings of a strategy are dropped:
    temperature, top_k, top_p, min_p, typical_p, those of beam search, and penalty_alpha. Raises RecipeError for invalid
    or contradictory values.
    """
    dropped = _dropped_defaults(defaults, given)
    kept = {name: value for name, value in defaults.explicit_settings().items() if name not in dropped}
    return generation_config({**kept, **given})


def _dropped_defaults(defaults: GenerationConfig, given: Mapping[str, Any]) -> set[str]:
    """The defaults that conflict with the given settings."""
    dropped: set[str] = set()
    strategy = _strategy(defaults, given)
    if strategy != defaults.strategy:
        dropped.update(_SAMPLING, _BEAMS, ("penalty_alpha",))
    if strategy in ("beam", "contrastive"):
        dropped.update(_TOKEN_BY_TOKEN)
    if given.get("num_beams", defaults.num_beams) % defaults.num_beam_groups:
        dropped.update(("num_beam_groups", "diversity_penalty"))
    if given.get("choices"):
        dropped.update(_NOT_WITH_CHOICES)
    if any(given.get(name) for name in _NOT_WITH_CHOICES):
        dropped.add("choices")
    if given.get("max_new_tokens", defaults.max_new_tokens) < given.get("min_new_tokens", defaults.min_new_tokens):
        dropped.update(("max_new_tokens", "min_new_tokens"))
    return dropped


def _strategy(defaults: GenerationConfig, given: Mapping[str, Any]) -> str:
    """The strategy that the given settings choose, else that of the defaults."""
    names = {name for name, value in given.items() if value is not None}
    if "penalty_alpha" in names:
        return "contrastive"
    if given.get("num_beams", 1) > 1:
        return "beam"
    if "temperature" in names:
        return "greedy" if given["temperature"] == 0 else "sample"
    keeps_top_k = (
        defaults.strategy == "contrastive" and given.get("top_k") != 1
    )  # here top_k is the number of candidates
    if names.intersection(_FILTERS) or ("top_k" in names and not keeps_top_k):
        return "sample"
    is_search = defaults.strategy in ("beam", "contrastive")
    if is_search and (given.get("num_beams") == 1 or any(given.get(name) for name in _TOKEN_BY_TOKEN)):
        return "sample"
    return defaults.strategy
