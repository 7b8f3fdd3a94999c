"""How a model writes unless told otherwise, and what is asked of it instead: one set of settings laid over another.

A run's own settings stand in the ``generation_config.json`` of its folder, as those of a Hugging Face folder do. What
is given beside them counts first; and where it chooses another strategy, the settings of the one that is left give way.
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

_LIMITS = ("top_p", "min_p", "typical_p")
_DRAWING = ("temperature", "top_k", *_LIMITS)
_BEAMS = ("num_beams", "num_beam_groups", "diversity_penalty", "length_penalty", "early_stopping")
_ONE_BY_ONE = (
    "prompt_lookup_num_tokens",
    "choices",
    "past_block",
)  # for texts that grow token by token, without a search
_BESIDE_CHOICES = ("min_new_tokens", "bad_words", "stop", "no_repeat_ngram_size", "prompt_lookup_num_tokens")
_SAYS_HOW = (*GenerationConfig.model_fields, "do_sample", "stop_strings", "bad_words_ids")


def default_settings(loaded: LoadedModel, otherwise: GenerationConfig = DEFAULT_CONFIG) -> GenerationConfig:
    """A model's own settings; ``otherwise`` where it has none.

    Many a ``generation_config.json`` names special tokens and nothing else: that is none. Raises ExchangeError for a
    file that cannot be followed.
    """
    folder = loaded.source if loaded.run is None else loaded.run.path
    file = folder / GENERATION_FILE
    said = (
        {name for name, value in read_json_object(file).items() if value is not None} if file.exists() else set[str]()
    )
    if said.isdisjoint(_SAYS_HOW):
        return otherwise
    return read_generation_config(file, loaded.tokenizer)


def save_default_settings(loaded: LoadedModel, config: GenerationConfig) -> Path:
    """Make these settings the run's own; the file.

    Raises RunError where the model is not a run's, and ExchangeError for settings such a file cannot hold.
    """
    if loaded.run is None:
        raise RunError(
            f"{loaded.source} is not a run, and settings are saved in a run's folder alone.",
            "A run folder, or one of its checkpoints.",
            f"Make a run of it first: `penna import {loaded.source} --name NAME`.",
        )
    return save_run_defaults(loaded.run.path, config, loaded.tokenizer)


def save_run_defaults(run_folder: Path, config: GenerationConfig, tokenizer: Tokenizer | None) -> Path:
    """As ``save_default_settings``, for a run that is not loaded."""
    file = run_folder / GENERATION_FILE
    write_generation_config(file, config, tokenizer)
    return file


def override_settings(defaults: GenerationConfig, given: Mapping[str, Any]) -> GenerationConfig:
    """``defaults`` with the values ``given``, none of them against one that was given.

    Where what is given chooses another strategy than that of the defaults, all settings that choose a strategy are left
    out of the defaults: temperature, top_k, top_p, min_p, typical_p, the beams' and penalty_alpha. Raises RecipeError
    for values that cannot be, or that do not go together.
    """
    left_out = _giving_way(defaults, given)
    kept = {name: value for name, value in defaults.explicit_settings().items() if name not in left_out}
    return generation_config({**kept, **given})


def _giving_way(defaults: GenerationConfig, given: Mapping[str, Any]) -> set[str]:
    """The defaults that what is given takes the place of."""
    left_out: set[str] = set()
    strategy = _strategy(defaults, given)
    if strategy != defaults.strategy:
        left_out.update(_DRAWING, _BEAMS, ("penalty_alpha",))
    if strategy in ("beam", "contrastive"):
        left_out.update(_ONE_BY_ONE)
    if given.get("num_beams", defaults.num_beams) % defaults.num_beam_groups:
        left_out.update(("num_beam_groups", "diversity_penalty"))
    if given.get("choices"):
        left_out.update(_BESIDE_CHOICES)
    if any(given.get(name) for name in _BESIDE_CHOICES):
        left_out.add("choices")
    if given.get("max_new_tokens", defaults.max_new_tokens) < given.get("min_new_tokens", defaults.min_new_tokens):
        left_out.update(("max_new_tokens", "min_new_tokens"))
    return left_out


def _strategy(defaults: GenerationConfig, given: Mapping[str, Any]) -> str:
    """The strategy that the values given choose, else that of the defaults."""
    said = {name for name, value in given.items() if value is not None}
    if "penalty_alpha" in said:
        return "contrastive"
    if given.get("num_beams", 1) > 1:
        return "beam"
    if "temperature" in said:
        return "greedy" if given["temperature"] == 0 else "sample"
    weighs = defaults.strategy == "contrastive" and given.get("top_k") != 1  # top_k is how many it chooses among
    if said.intersection(_LIMITS) or ("top_k" in said and not weighs):
        return "sample"
    is_search = defaults.strategy in ("beam", "contrastive")
    if is_search and (given.get("num_beams") == 1 or any(given.get(name) for name in _ONE_BY_ONE)):
        return "sample"
    return defaults.strategy
