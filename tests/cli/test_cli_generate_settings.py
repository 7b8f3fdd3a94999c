"""Generation settings that override others: given settings always apply, and a run's settings never conflict with them."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penna.api.chat import ChatSettings, reply_settings
from penna.api.complete import completion_settings
from penna.api.generation_defaults import override_settings
from penna.cli.arguments import generation_settings
from penna.cli.main import parse
from penna.config.generation import (
    GenerationConfig,
    format_value,
    generation_config,
    parse_settings,
    parse_strategy,
    parse_value,
    setting_type,
)
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import RecipeError
from penna.interop.hf_folder import write_hf
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.tokenizer.train import train_tokenizer

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "max_new_tokens": st.integers(0, 30),
    "min_new_tokens": st.integers(0, 30),
    "temperature": st.sampled_from([0.0, 0.5, 1.0]),
    "top_k": st.sampled_from([None, 1, 4]),
    "top_p": st.sampled_from([None, 0.9]),
    "min_p": st.sampled_from([None, 0.1]),
    "repetition_penalty": st.just(1.2),
    "no_repeat_ngram_size": st.sampled_from([None, 3]),
    "stop": st.sampled_from([(), ("a",)]),
    "choices": st.sampled_from([(), ("a", "b")]),
    "num_beams": st.integers(1, 6),
    "num_beam_groups": st.integers(1, 3),
    "diversity_penalty": st.sampled_from([0.0, 0.5]),
    "length_penalty": st.sampled_from([1.0, 2.0]),
    "early_stopping": st.sampled_from([False, True, "never"]),
    "penalty_alpha": st.sampled_from([None, 0.6]),
    "prompt_lookup_num_tokens": st.sampled_from([None, 4]),
}


def can_be(values: dict[str, Any]) -> bool:
    try:
        generation_config(values)
    except RecipeError:
        return False
    return True


FEW = st.sets(st.sampled_from(sorted(VALUES)), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: VALUES[name] for name in sorted(names)})
)


@given(defaults=FEW.filter(can_be), settings=FEW.filter(can_be))
def test_valid_settings_can_override_any_defaults(defaults: dict[str, Any], settings: dict[str, Any]) -> None:
    made = override_settings(generation_config(defaults), settings)
    assert {name: getattr(made, name) for name in settings} == settings
    assert override_settings(generation_config(defaults), {}) == generation_config(defaults)
    if "repetition_penalty" in defaults:  # what belongs to no strategy stays
        assert made.repetition_penalty == 1.2


@pytest.mark.parametrize(
    ("defaults", "settings", "made"),
    [
        ("temperature=0.8", "num_beams=4", "num_beams=4"),
        ("temperature=0.8 top_k=40", "penalty_alpha=0.6 top_k=4", "penalty_alpha=0.6 top_k=4"),
        ("temperature=0.8 top_p=0.9 min_p=0.1", "greedy", "greedy"),
        ("greedy", "top_p=0.9", "top_p=0.9"),
        ("temperature=0.8", "top_p=0.9", "temperature=0.8 top_p=0.9"),
        ("temperature=0.8 top_p=0.9", "top_p=none", "temperature=0.8 top_p=none"),
        ("num_beams=4 length_penalty=2", "greedy", "greedy"),
        ("num_beams=4 length_penalty=2", "num_beams=6", "num_beams=6 length_penalty=2"),
        ("num_beams=4 length_penalty=2", "num_beams=1", "num_beams=1"),
        ("num_beams=4", "length_penalty=2", "num_beams=4 length_penalty=2"),
        ("num_beams=4", "prompt_lookup_num_tokens=3", "prompt_lookup_num_tokens=3"),
        ("penalty_alpha=0.6 top_k=4", "top_k=8", "penalty_alpha=0.6 top_k=8"),
        ("penalty_alpha=0.6 top_k=4", "temperature=0.5", "temperature=0.5"),
        ("stop=x repetition_penalty=1.2", "choices=a choices=b", "repetition_penalty=1.2 choices=a choices=b"),
        ("min_new_tokens=20", "max_new_tokens=9", "max_new_tokens=9"),
    ],
)
def test_settings_of_another_strategy_are_dropped(defaults: str, settings: str, made: str) -> None:
    over = override_settings(generation_config(parse_settings(defaults)), parse_settings(settings))
    assert over == generation_config(parse_settings(made))


@pytest.mark.parametrize("settings", ["num_beams=4 temperature=0.7", "greedy top_k=3", "length_penalty=2"])
def test_conflicting_settings_are_refused(settings: str) -> None:
    with pytest.raises(RecipeError, match="do not fit together"):
        override_settings(GenerationConfig(temperature=0.8, top_p=0.9), parse_settings(settings))


# --- Words


def test_a_printed_setting_can_be_typed_again() -> None:
    said = parse_settings('stop="a b" top_k=none early_stopping=never min-p=0.1 num_beams=2 bad_words=none')
    assert said == {
        "stop": ("a b",), "top_k": None, "early_stopping": "never", "min_p": 0.1, "num_beams": 2, "bad_words": (),
    }  # fmt: skip
    for name, value in said.items():
        if not setting_type(name).is_repeatable:
            assert parse_value(name, format_value(value)) == value
    assert format_value(("a b", "c")) == "'a b',c"
    assert parse_settings(f"stop={format_value(('it is' + chr(39) + 's',))}") == {"stop": ("it is's",)}
    assert format_value(True) == "true"


@pytest.mark.parametrize("name", GenerationConfig.model_fields)
def test_every_default_has_the_type_of_its_setting(name: str) -> None:
    default = GenerationConfig.model_fields[name].default
    word = format_value(default)
    assert parse_value(name, word) == default
    assert type(parse_value(name, word)) is type(default)


def test_an_unnamed_strategy_is_named_after_its_settings() -> None:
    assert parse_strategy("mine: top_p=0.9") == ("mine", {"top_p": 0.9})
    assert parse_strategy("stop=User:") == ("stop=User:", {"stop": ("User:",)})
    assert parse_strategy("usual:") == ("usual", {})
    assert parse_strategy(r"stop=\n stop='#'") == (r"stop=\n stop='#'", {"stop": ("\n", "#")})


# --- The other verbs that write


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    """A folder with generation settings."""
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["abc"])
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=16, vocab_size=tokenizer.vocab_size))
    write_hf(model.config, model.state_dict(), tmp_path / "hf", tokenizer=tokenizer)
    return LoadedModel(model.eval(), tokenizer, tmp_path / "hf", None)


def test_replies_and_completions_use_the_models_settings_with_their_own_length(loaded: LoadedModel) -> None:
    assert reply_settings(loaded) == ChatSettings().generation
    assert completion_settings(loaded) == GenerationConfig(temperature=0)
    own = {"do_sample": True, "top_p": 0.5, "max_new_tokens": 500, "min_new_tokens": 300}
    (loaded.source / "generation_config.json").write_text(json.dumps(own))
    assert reply_settings(loaded) == GenerationConfig(max_new_tokens=128, top_p=0.5)
    completing = completion_settings(loaded)
    assert completing == GenerationConfig(top_p=0.5)
    assert "max_new_tokens" not in completing.model_fields_set  # so that it goes by what the run learned from


@pytest.mark.parametrize("verb", ["generate", "chat", "complete"])
def test_the_flags_are_the_same(verb: str) -> None:
    words = [
        verb,
        "run",
        "--num-beams",
        "4",
        "--early-stopping",
        "true",
        "--stop",
        r"a\n",
        "--stop",
        "b",
        "--max-new-tokens",
        "9",
    ]
    assert generation_settings(parse(words)) == {
        "max_new_tokens": 9,
        "stop": ("a\n", "b"),
        "num_beams": 4,
        "early_stopping": True,
    }
    assert generation_settings(parse([verb, "run", "--greedy"])) == {"temperature": 0.0}
    assert generation_settings(parse([verb, "run"])) == {}


def test_chat_settings_override_earlier_ones() -> None:
    settings = ChatSettings().with_changes(num_beams=4, history_turns=3)
    assert (settings.generation, settings.history_turns) == (GenerationConfig(max_new_tokens=128, num_beams=4), 3)
    drawn = settings.with_changes(temperature=0.5)
    assert drawn.said() == {
        "max_new_tokens": 128, "temperature": 0.5, "history_tokens": None, "history_turns": 3, "seed": 0, "system": None,
    }  # fmt: skip
