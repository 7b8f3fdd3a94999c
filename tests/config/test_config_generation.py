"""Generation settings: ranges, combinations, and the decoding strategy that follows from them."""

import math
import re

import pytest
from pydantic import ValidationError

from penna.config.generation import GenerationConfig, generation_config
from penna.errors import RecipeError


def refusal(**fields) -> RecipeError:
    """The error for these settings, which has three sentences."""
    with pytest.raises(RecipeError) as caught:
        generation_config(fields)
    error = caught.value
    assert all(part.endswith((".", "?")) for part in (error.happened, error.expected, error.advice))
    return error


# --- each field's range

INF, NAN = math.inf, math.nan
OUTSIDE = {
    "max_new_tokens": [-1, 1.5, "many"],
    "min_new_tokens": [-1, None],
    "temperature": [-0.1, INF, NAN],
    "top_k": [0, -3, 2.5],
    "top_p": [0.0, 1.1, -0.5, NAN],
    "min_p": [0.0, 1.1, NAN],
    "typical_p": [0.0, 1.1, NAN],
    "repetition_penalty": [0.0, -1.0, INF, NAN],
    "presence_penalty": [INF, -INF, NAN],
    "frequency_penalty": [INF, -INF, NAN],
    "no_repeat_ngram_size": [0, -1],
    "bad_words": [("",), ("word", ""), "word"],
    "stop": [("",), 7],
    "choices": [("yes", "")],
    "num_beams": [0, -2],
    "num_beam_groups": [0],
    "diversity_penalty": [-0.1, INF, NAN],
    "length_penalty": [INF, NAN],
    "early_stopping": ["always", None, 3],
    "penalty_alpha": [-0.1, 1.1, NAN],
    "prompt_lookup_num_tokens": [0, -1],
    "past_block": ["stop", None],
}
LIMITS = {
    "max_new_tokens": [0, 10**9],
    "min_new_tokens": [0, 200],
    "temperature": [0, 5e-324, 1e300],
    "top_k": [None, 1, 10**9],
    "top_p": [None, 1e-9, 1],
    "min_p": [None, 1e-9, 1],
    "typical_p": [None, 1e-9, 1],
    "repetition_penalty": [1e-9, 1e9],
    "presence_penalty": [-1e9, 1e9],
    "frequency_penalty": [-1e9, 1e9],
    "no_repeat_ngram_size": [None, 1],
    "bad_words": [(), ("word", " ")],
    "stop": [(), ("\n",)],
    "choices": [(), ("yes",)],
    "num_beams": [1, 64],
    "num_beam_groups": [1],
    "diversity_penalty": [0],
    "length_penalty": [1.0],
    "early_stopping": [False],
    "penalty_alpha": [None],
    "prompt_lookup_num_tokens": [None, 1],
    "past_block": ["restart", "slide"],
}


def test_the_cases_below_cover_every_field():
    assert OUTSIDE.keys() == LIMITS.keys() == GenerationConfig.model_fields.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in OUTSIDE for value in OUTSIDE[name]])
def test_a_value_outside_its_range_is_refused_with_name_rule_and_value(name, value):
    error = refusal(**{name: value})
    assert re.search(rf"\b{name}(\[\d\])? must ", error.happened) and f"(got {value!r})" in error.happened
    description = GenerationConfig.model_fields[name].description
    assert description and description in error.expected


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in LIMITS for value in LIMITS[name]])
def test_a_value_at_the_limit_of_its_range_is_accepted(name, value):
    assert getattr(generation_config({name: value}), name) == value


def test_an_unknown_setting_is_refused_with_a_suggestion_and_the_known_ones():
    error = refusal(topp=0.9)
    assert error.happened == "There is no setting 'topp'. Did you mean 'top_p'?"
    assert "top_p" in error.expected


def test_all_errors_are_reported_at_once():
    error = refusal(top_p=2, top_k=0, tempature=1)
    assert all(
        part in error.happened
        for part in ("top_p must be at most 1 (got 2)", "top_k must be at least 1 (got 0)", "'tempature'")
    )


# --- combinations

CONTRASTIVE, BEAMS = {"penalty_alpha": 0.6, "top_k": 4}, {"num_beams": 6}
GROUPS = {**BEAMS, "num_beam_groups": 3, "diversity_penalty": 0.5}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"min_new_tokens": 6, "max_new_tokens": 5}, ["min_new_tokens = 6", "max_new_tokens = 5"]),
        ({"min_new_tokens": 201}, ["min_new_tokens = 201", "max_new_tokens = 200"]),
        # Greedy decoding draws nothing.
        *[({"temperature": 0, name: value}, ["temperature = 0", name]) for name, value in
          {"top_k": 5, "top_p": 0.5, "min_p": 0.5, "typical_p": 0.5}.items()],
        ({"temperature": 0, "top_k": 5, "min_p": 0.1}, ["temperature = 0", "top_k and min_p"]),
        # Contrastive search.
        *[({**CONTRASTIVE, **other}, ["penalty_alpha", next(iter(other))]) for other in (
            {"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.9}, {"temperature": 0.7}, {"num_beams": 2},
            {"prompt_lookup_num_tokens": 3}, {"choices": ("yes",)},
        )],
        ({"penalty_alpha": 0.6}, ["penalty_alpha", "top_k"]),
        ({"penalty_alpha": 0.6, "top_k": 1}, ["penalty_alpha", "top_k"]),
        # Beam search.
        *[({**BEAMS, **other}, ["num_beams", next(iter(other))]) for other in (
            {"top_k": 4}, {"top_p": 0.9}, {"min_p": 0.1}, {"typical_p": 0.9}, {"temperature": 0.7},
            {"prompt_lookup_num_tokens": 3}, {"choices": ("yes",)},
        )],
        *[(other, ["num_beams", next(iter(other))]) for other in (
            {"num_beam_groups": 2, "diversity_penalty": 1.0}, {"diversity_penalty": 1.0}, {"length_penalty": 0.5},
            {"early_stopping": True}, {"early_stopping": "never"},
        )],
        *[({**CONTRASTIVE, **other}, ["num_beams", next(iter(other))]) for other in (
            {"length_penalty": 0.5}, {"early_stopping": True},
        )],
        ({**GROUPS, "num_beam_groups": 4}, ["num_beams = 6", "4 groups"]),
        ({**BEAMS, "num_beam_groups": 3}, ["num_beam_groups", "diversity_penalty"]),
        ({**BEAMS, "diversity_penalty": 0.5}, ["num_beam_groups", "diversity_penalty"]),
        # Choices are whole texts.
        *[({"choices": ("yes", "no"), **other}, ["choices", next(iter(other))]) for other in (
            {"min_new_tokens": 2}, {"bad_words": ("no",)}, {"stop": ("\n",)}, {"no_repeat_ngram_size": 2},
            {"prompt_lookup_num_tokens": 3},
        )],
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_fit_together_are_refused_by_name(fields, names):
    error = refusal(**fields)
    assert all(name in error.happened for name in names)
    assert "do not fit together" in error.happened


@pytest.mark.parametrize(
    ("fields", "strategy"),
    [
        ({}, "sample"),
        ({"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.9}, "sample"),
        ({"temperature": 0.7, "choices": ("yes", "no"), "repetition_penalty": 1.1}, "sample"),
        ({"temperature": 0}, "greedy"),
        ({"temperature": 0, "prompt_lookup_num_tokens": 5, "no_repeat_ngram_size": 3}, "greedy"),
        ({"temperature": 0, "choices": ("yes", "no")}, "greedy"),
        (BEAMS, "beam"),
        ({**BEAMS, "temperature": 0, "length_penalty": 0.0, "early_stopping": "never", "stop": ("\n",)}, "beam"),
        ({**BEAMS, "min_new_tokens": 3, "bad_words": ("no",), "no_repeat_ngram_size": 3}, "beam"),
        (GROUPS, "beam"),
        (CONTRASTIVE, "contrastive"),
        ({**CONTRASTIVE, "temperature": 0, "repetition_penalty": 1.2}, "contrastive"),
    ],
    ids=str,
)
def test_the_strategy_follows_from_the_settings(fields, strategy):
    config = generation_config(fields)
    assert config.strategy == strategy
    assert config.is_greedy == (fields.get("temperature") == 0)


# --- explicit settings


def test_explicit_settings_are_those_given_or_different_from_the_defaults():
    assert GenerationConfig().explicit_settings() == {}
    assert generation_config({"temperature": 1.0, "top_k": 5}).explicit_settings() == {"temperature": 1.0, "top_k": 5}
    assert GenerationConfig.model_construct(top_k=7).explicit_settings()["top_k"] == 7
    config = generation_config({"stop": ["a"], "num_beams": 2})
    assert generation_config(config.explicit_settings()) == config


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        GenerationConfig().temperature = 0.5  # pyright: ignore[reportAttributeAccessIssue]
