"""The settings form has a field for every setting, and its command-line flags mean the same settings."""

import argparse

import pytest

from penna.api.generation_defaults import override_settings
from penna.cli.arguments import add_generation_arguments, generation_settings
from penna.config.generation import GenerationConfig
from penna.errors import RecipeError
from penna.serve.errors import RequestRejected
from penna.serve.limits import check_generation
from penna.serve.settings import ServeSettings
from penna.studio.pages.settings_form import field_kind, field_text, flag_words, generation_flags, parse_value

OWN = GenerationConfig(temperature=0.7, top_p=0.9, stop=("\n",))
CONFIGS = [
    GenerationConfig(),
    OWN,
    GenerationConfig(temperature=0, max_new_tokens=7),
    GenerationConfig(
        num_beams=4, num_beam_groups=2, diversity_penalty=0.5, early_stopping="never", length_penalty=-1.5
    ),
    GenerationConfig(num_beams=2, early_stopping=True),
    GenerationConfig(penalty_alpha=0.6, top_k=4),
    GenerationConfig(top_k=5, min_p=0.1, typical_p=0.5, repetition_penalty=1.3, presence_penalty=-1.0),
    GenerationConfig(stop=("--a", "a\nb", "\\n", "it's"), bad_words=("-x",), no_repeat_ngram_size=3, min_new_tokens=2),
    GenerationConfig(choices=("yes", "no"), past_block="slide", prompt_lookup_num_tokens=None),
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("own", [GenerationConfig(temperature=0.8), OWN, GenerationConfig(num_beams=3)])
def test_the_flags_give_the_same_settings(config, own):
    parser = argparse.ArgumentParser()
    add_generation_arguments(parser, {})
    assert override_settings(own, generation_settings(parser.parse_args(generation_flags(config, own)))) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_a_field_gives_back_its_value(config):
    for name in GenerationConfig.model_fields:
        value = getattr(config, name)
        assert parse_value(name, field_text(name, value)) == value


def test_an_empty_field_means_no_limit_or_the_default():
    assert parse_value("top_k", None) is None
    assert parse_value("temperature", None) == 1.0
    assert parse_value("stop", "") == ()
    assert parse_value("max_new_tokens", 20.0) == 20
    assert field_kind("early_stopping") == ("choice", (False, True, "never"))


def test_a_fraction_of_a_token_is_rejected_by_name():
    with pytest.raises(RecipeError, match=r"max_new_tokens must be a whole number \(got 1\.5\)"):
        override_settings(GenerationConfig(), {"max_new_tokens": parse_value("max_new_tokens", 1.5)})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_new_tokens": 2000}, "2,000 tokens"),
        ({"num_beams": 17}, "17 beams"),
        ({"penalty_alpha": 0.5, "top_k": 17}, "top_k"),
        ({"stop": ("a", "b", "c", "d", "e")}, "5 stop strings"),
    ],
)
def test_settings_beyond_the_limits_are_rejected(fields, named):
    with pytest.raises(RequestRejected, match=named) as error:
        check_generation(GenerationConfig(**fields), ServeSettings())
    assert error.value.expected
    assert error.value.advice
    check_generation(GenerationConfig(top_k=500), ServeSettings())


def test_a_value_that_looks_like_a_flag_is_joined_to_its_flag():
    assert flag_words("prompt", "--help") == ["--prompt=--help"]
