"""generation_config.json: transformers reads Penna's files as the same settings, and Penna reads files of others."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penna.config.generation import GenerationConfig
from penna.config.sections import TokenizerConfig
from penna.errors import InteropError
from penna.interop.generation_config import (
    GENERATION_FILE,
    bad_words_ids,
    generation_config_to_json,
    read_generation_config,
    write_generation_config,
)
from penna.tokenizer.train import train_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import transformers
from transformers.generation.configuration_utils import GenerationMode


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        TokenizerConfig(vocab_size=300), ["The sun rose. A bad word, a worse word, and the sun set."]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generation")


def read(folder: Path, content: dict, tokenizer=None) -> GenerationConfig:
    (folder / GENERATION_FILE).write_text(json.dumps(content), encoding="utf-8")
    return read_generation_config(folder / GENERATION_FILE, tokenizer)


# --- Export

SHARES = st.none() | st.floats(0.01, 1)
PENALTIES = st.floats(-2, 2).map(lambda number: round(number, 3))


@st.composite
def configs(draw) -> GenerationConfig:
    most = draw(st.integers(1, 300))
    fields = {
        "max_new_tokens": most,
        "min_new_tokens": draw(st.integers(0, most)),
        "repetition_penalty": draw(st.sampled_from([1.0, 1.2, 0.7])),
        "presence_penalty": draw(PENALTIES),
        "frequency_penalty": draw(PENALTIES),
        "no_repeat_ngram_size": draw(st.none() | st.integers(1, 5)),
        "bad_words": draw(st.lists(st.text("bad wors", min_size=1, max_size=5), max_size=3)),
        "stop": draw(st.lists(st.text(min_size=1, max_size=3), max_size=2)),
    }
    kind = draw(st.sampled_from(["greedy", "sample", "beam", "groups", "contrastive"]))
    if kind in ("greedy", "sample"):
        fields["prompt_lookup_num_tokens"] = draw(st.none() | st.integers(1, 9))
        fields["past_block"] = draw(st.sampled_from(["restart", "slide"]))
    if kind == "greedy":
        fields["temperature"] = 0.0
    if kind == "sample":
        fields["temperature"] = draw(st.floats(0.01, 5))
        fields |= {name: draw(SHARES) for name in ("top_p", "min_p", "typical_p")}
        fields["top_k"] = draw(st.none() | st.integers(1, 99))
    if kind == "contrastive":
        fields |= {"penalty_alpha": draw(st.floats(0, 1)), "top_k": draw(st.integers(2, 9))}
    if kind in ("beam", "groups"):
        fields |= {"num_beams": 6, "length_penalty": draw(PENALTIES)}
        fields["early_stopping"] = draw(st.sampled_from([True, False, "never"]))
    if kind == "groups":
        fields |= {"num_beam_groups": draw(st.sampled_from([2, 3, 6])), "diversity_penalty": 0.5}
    return GenerationConfig(**fields)


@settings(max_examples=80, deadline=None)
@given(config=configs())
def test_what_is_written_is_read_as_it_was(config, folder, tokenizer):
    write_generation_config(folder / GENERATION_FILE, config, tokenizer)
    assert read_generation_config(folder / GENERATION_FILE, tokenizer) == config


@settings(max_examples=80, deadline=None)
@given(config=configs())
def test_transformers_reads_the_same_settings(config, folder, tokenizer):
    write_generation_config(folder / GENERATION_FILE, config, tokenizer)
    theirs = transformers.GenerationConfig.from_pretrained(folder)
    # The values that transformers' generate() uses for missing settings.
    default = theirs._get_default_generation_params()

    def of(name: str):
        value = getattr(theirs, name, None)
        return default.get(name) if value is None else value

    mode = {
        "greedy": GenerationMode.GREEDY_SEARCH,
        "sample": GenerationMode.SAMPLE,
        "beam": GenerationMode.BEAM_SEARCH,
        "contrastive": GenerationMode.CONTRASTIVE_SEARCH,
    }[config.strategy]
    if config.num_beam_groups > 1:
        mode = GenerationMode.GROUP_BEAM_SEARCH
    if config.prompt_lookup_num_tokens:
        mode = GenerationMode.ASSISTED_GENERATION
    if config.penalty_alpha == 0:
        mode = GenerationMode.GREEDY_SEARCH  # contrastive search without a penalty is greedy
    assert theirs.get_generation_mode() == mode
    assert theirs.max_new_tokens == config.max_new_tokens
    assert (of("min_new_tokens") or 0) == config.min_new_tokens
    assert of("do_sample") == (config.strategy == "sample")
    if config.strategy == "sample":
        assert of("temperature") == config.temperature
        assert (of("top_k") or None) == config.top_k
        assert of("top_p") == (config.top_p or 1.0)
        assert of("min_p") == config.min_p
        assert of("typical_p") == (config.typical_p or 1.0)
    if config.strategy == "contrastive":
        assert (of("penalty_alpha"), of("top_k")) == (config.penalty_alpha, config.top_k)
    for name in ("repetition_penalty", "num_beams", "num_beam_groups", "diversity_penalty", "length_penalty"):
        assert of(name) == getattr(config, name)
    assert of("early_stopping") == config.early_stopping
    assert (of("no_repeat_ngram_size") or None) == config.no_repeat_ngram_size
    assert of("prompt_lookup_num_tokens") == config.prompt_lookup_num_tokens
    assert tuple(of("stop_strings") or ()) == config.stop
    assert of("bad_words_ids") == (bad_words_ids(config.bad_words, tokenizer) or None)
    assert theirs.eos_token_id == tokenizer.separator_id


def test_a_file_has_changed_settings_and_those_with_other_defaults_in_transformers(tokenizer):
    ids = {"bos_token_id": tokenizer.separator_id, "eos_token_id": tokenizer.separator_id}
    assert generation_config_to_json(GenerationConfig(), tokenizer) == {
        **ids,
        "do_sample": True,
        "max_new_tokens": 200,
        "top_k": 0,
    }
    assert generation_config_to_json(GenerationConfig(temperature=0, stop=("\n",)), tokenizer) == {
        **ids,
        "do_sample": False,
        "max_new_tokens": 200,
        "stop_strings": ["\n"],
    }
    assert generation_config_to_json(GenerationConfig(), None)["eos_token_id"] is None


def test_bad_words_are_banned_alone_and_after_a_space(tokenizer):
    ids = bad_words_ids(["bad", "word"], tokenizer)
    assert [tokenizer.decode(each) for each in ids] == ["bad", " bad", "word", " word"]
    assert bad_words_ids(["word", "word", " word"], tokenizer) == [
        tokenizer.encode(text) for text in ("word", " word", "  word")
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"choices": ("yes", "no")}, "choices = ['yes', 'no']"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"bad_words": ("bad",)}, "bad_words = ['bad']"),
    ],
)
def test_settings_that_a_file_cannot_hold_are_rejected_by_name(fields, expected):
    with pytest.raises(InteropError) as caught:
        generation_config_to_json(GenerationConfig(**fields), None)
    assert expected in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice


# --- Import


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({}, {"temperature": 0}),
        ({"_from_model_config": True, "eos_token_id": 50256, "transformers_version": "4.26"}, {"temperature": 0}),
        # Without do_sample, sampling limits have no effect.
        ({"do_sample": False, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1}, {"temperature": 0}),
        ({"do_sample": True}, {}),  # no default top_k
        (
            {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [1, 2]},
            {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
        ),
        ({"do_sample": True, "top_k": 0, "min_p": 0.0, "no_repeat_ngram_size": 0}, {}),
        ({"do_sample": True, "temperature": None, "top_p": None, "stop_strings": None, "bad_words_ids": None}, {}),
        ({"do_sample": True, "penalty_alpha": 0.6, "top_k": 4}, {"top_k": 4}),
        ({"penalty_alpha": 0.6, "top_k": 4}, {"penalty_alpha": 0.6, "top_k": 4}),
        ({"penalty_alpha": 0.6}, {"temperature": 0}),
        ({"num_beams": 4, "early_stopping": True, "top_k": 9}, {"num_beams": 4, "early_stopping": True}),
        ({"num_beams": 1, "early_stopping": True, "length_penalty": 2.0}, {"temperature": 0}),
        ({"max_length": 30, "max_new_tokens": 7, "use_cache": True}, {"max_new_tokens": 7, "temperature": 0}),
        ({"do_sample": True, "presence_penalty": 1.5}, {"presence_penalty": 1.5}),
        ({"stop_strings": "###"}, {"stop": ("###",), "temperature": 0}),
        ({"stop_strings": ["a", "b"]}, {"stop": ("a", "b"), "temperature": 0}),
        ({"choices": ["x"]}, {"temperature": 0}),
    ],
    ids=str,
)
def test_a_file_has_the_meaning_that_it_has_in_transformers(content, fields, tmp_path):
    assert read(tmp_path, content) == GenerationConfig(**fields)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"do_sample": "yes"}, "do_sample = 'yes'"),
        ({"do_sample": True, "temperature": -1}, "temperature must be at least 0 (got -1)"),
        ({"do_sample": True, "top_p": 1.5}, "top_p must be at most 1 (got 1.5)"),
        ({"do_sample": True, "top_p": float("nan")}, "top_p must be"),
        ({"do_sample": True, "top_k": "many"}, "top_k must be a whole number (got 'many')"),
        ({"do_sample": True, "num_beams": 4}, "num_beams = 4"),
        ({"num_beams": "four"}, "num_beams must be a whole number (got 'four')"),
        ({"num_beams": 3, "num_beam_groups": 2, "diversity_penalty": 1.0}, "num_beams = 3"),
        ({"max_new_tokens": 5, "min_new_tokens": 6}, "min_new_tokens = 6"),
        ({"num_beams": 4, "prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens"),
        ({"stop_strings": 7}, "stop must be a list (got 7)"),
        ({"bad_words_ids": [[1, 2]]}, "[1, 2]"),
        ({"bad_words_ids": 3}, "bad_words_ids has 3"),
    ],
    ids=str,
)
def test_invalid_values_are_rejected_with_file_and_name(content, expected, tmp_path):
    with pytest.raises(InteropError) as caught:
        read(tmp_path, content)
    assert str(tmp_path / GENERATION_FILE) in caught.value.happened
    assert expected in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice


def test_a_missing_or_damaged_file_is_rejected_by_name(tmp_path):
    with pytest.raises(InteropError, match=GENERATION_FILE):
        read_generation_config(tmp_path / GENERATION_FILE, None)
    (tmp_path / GENERATION_FILE).write_text("{")
    with pytest.raises(InteropError, match=GENERATION_FILE):
        read_generation_config(tmp_path / GENERATION_FILE, None)


def test_bad_words_ids_are_decoded_to_words(tmp_path, tokenizer):
    encoded = [tokenizer.encode(text) for text in ("bad", " bad", " worse", "sun")]
    end = tokenizer.separator_id
    config = read(tmp_path, {"bad_words_ids": [*encoded, [end]], "eos_token_id": end}, tokenizer)
    assert config.bad_words == ("bad", " worse", "sun")
    for ids in ([end], [tokenizer.vocab_size], []):
        with pytest.raises(InteropError, match="bad_words_ids"):
            read(tmp_path, {"bad_words_ids": [ids]}, tokenizer)
