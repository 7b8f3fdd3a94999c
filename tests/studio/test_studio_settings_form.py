"""The form of settings: every setting of writing has a field and words, and the terminal line says the same."""

import argparse
import re

import pytest

from penna.api.generation_defaults import override_settings
from penna.cli.arguments import add_generation_arguments, generation_settings
from penna.config.generation import GenerationConfig
from penna.errors import RecipeError
from penna.serve.errors import RequestRejected
from penna.serve.limits import check_generation
from penna.serve.settings import ServeSettings
from penna.studio.pages import chat_words, playground_words, settings_words
from penna.studio.pages.settings_form import flag, flags, kind_of, typed_of, value_of

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
def test_the_line_of_the_terminal_makes_the_same_settings(config, own):
    parser = argparse.ArgumentParser()
    add_generation_arguments(parser, {})
    assert override_settings(own, generation_settings(parser.parse_args(flags(config, own)))) == config


@pytest.mark.parametrize("config", CONFIGS)
def test_what_stands_in_a_field_means_the_value_it_was_made_of(config):
    for name in GenerationConfig.model_fields:
        value = getattr(config, name)
        assert value_of(name, typed_of(name, value)) == value


def test_an_empty_field_is_no_limit_or_what_usually_counts():
    assert value_of("top_k", None) is None
    assert value_of("temperature", None) == 1.0
    assert value_of("stop", "") == ()
    assert value_of("max_new_tokens", 20.0) == 20
    assert kind_of("early_stopping") == ("words", (False, True, "never"))


def test_half_a_token_is_refused_by_name():
    with pytest.raises(RecipeError, match=r"max_new_tokens = 1\.5"):
        override_settings(GenerationConfig(), {"max_new_tokens": value_of("max_new_tokens", 1.5)})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"max_new_tokens": 2000}, "2,000 tokens"),
        ({"num_beams": 17}, "17 beams"),
        ({"penalty_alpha": 0.5, "top_k": 17}, "top_k"),
        ({"stop": ("a", "b", "c", "d", "e")}, "5 stop strings"),
    ],
)
def test_more_than_a_page_writes_at_once_is_refused(fields, named):
    with pytest.raises(RequestRejected, match=named) as error:
        check_generation(GenerationConfig(**fields), ServeSettings())
    assert error.value.expected
    assert error.value.advice
    check_generation(GenerationConfig(top_k=500), ServeSettings())


def test_a_value_that_looks_like_a_flag_is_kept_in_one_word():
    assert flag("prompt", "--help") == ["--prompt=--help"]


@pytest.mark.parametrize("words", [settings_words.WORDS, playground_words.WORDS, chat_words.WORDS])
def test_all_words_are_there_in_three_languages_with_the_same_values(words):
    for row in words.values():
        assert len(row) == 3
        assert all(row)
        assert len({frozenset(re.findall(r"{(\w+)}", text)) for text in row}) == 1
    assert all(f"settings.{name}" in settings_words.WORDS for name in GenerationConfig.model_fields)
