"""Parity with transformers in both directions: the same weights give the same logits (to 1e-4 in float32).

Every parameter is random, so a weight that is missing, transposed or misplaced is noticed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OpenAIGPTModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from penna.config.sections import TokenizerConfig
from penna.interop.hf_folder import read_hf, write_hf
from penna.model.gpt import GPT
from penna.tokenizer.train import train_tokenizer

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def gpt2(**fields):
    shape = {"vocab_size": 53, "n_positions": 20, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**{**shape, "bos_token_id": None, "eos_token_id": None, **fields}))


def gpt1(**fields):
    shape = {"vocab_size": 53, "n_positions": 20, "n_embd": 32, "n_layer": 2, "n_head": 4}
    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(**{**shape, **fields}))


def qwen3(**fields):
    shape = {
        "vocab_size": 53,
        "max_position_embeddings": 20,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 8,
    }
    return Qwen3ForCausalLM(Qwen3Config(**{**shape, **fields}))


IMPORTED = {
    "gpt2": gpt2,
    "gpt2, one head": lambda: gpt2(n_head=1, n_layer=1),
    "gpt2, own n_inner, eps and head": lambda: gpt2(
        n_inner=24, layer_norm_epsilon=1e-2, tie_word_embeddings=False, activation_function="gelu_pytorch_tanh"
    ),
    "gpt2, upcast attention": lambda: gpt2(reorder_and_upcast_attn=True),
    "gpt1": gpt1,
    "gpt1, own eps and head": lambda: gpt1(layer_norm_epsilon=1e-2, tie_word_embeddings=False, n_layer=3),
    "qwen3, untied": qwen3,
    "qwen3, tied, grouped": lambda: qwen3(num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3, wide heads, theta, eps": lambda: qwen3(
        head_dim=12,
        num_key_value_heads=1,
        rms_norm_eps=1e-2,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    ),
}

EXPORTED = {
    "gpt2": {"preset": "gpt2"},
    "gpt2, own n_inner, eps and head": {"preset": "gpt2", "n_inner": 24, "norm_eps": 1e-2, "tie": False},
    "gpt2, sinusoidal": {"preset": "gpt2", "positions": "sinusoidal", "position_scale": 0.3},
    "gpt1": {"preset": "gpt1"},
    "gpt1, own head": {"preset": "gpt1", "tie": False},
    "gpt1, sinusoidal": {"preset": "gpt1", "positions": "sinusoidal", "position_scale": 0.3},
    "modern, tied": {"preset": "modern"},
    "modern, grouped, wide, own head": {
        "preset": "modern",
        "n_kv_head": 2,
        "head_dim": 12,
        "tie": False,
        "rope_theta": 500.0,
        "norm_eps": 1e-2,
        "n_inner": 40,
    },
}


@pytest.mark.parametrize("name", IMPORTED)
def test_an_imported_model_gives_the_same_logits(name, tmp_path: Path, randomize, some_ids):
    theirs = randomize(IMPORTED[name]())
    theirs.save_pretrained(tmp_path)
    imported = read_hf(tmp_path)
    ours = GPT(imported.config).eval()
    ours.load_state_dict(imported.weights, strict=True)
    assert all(tensor.dtype == torch.float32 for tensor in imported.weights.values())
    assert imported.tokenizer is None
    ids = some_ids(3, 20, 53)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, **TOLERANCE)


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_model_gives_the_same_logits_in_transformers(name, tmp_path: Path, build, some_ids):
    ours = build(**EXPORTED[name])
    written = write_hf(ours.config, ours.state_dict(), tmp_path / "out", tokenizer=None)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    theirs, loading = loaded
    assert type(theirs).__name__ == written
    assert not any(loading.values()), loading
    assert theirs.dtype == torch.float32
    ids = some_ids(3, 24)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(ids).logits, ours(ids), **TOLERANCE)


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_model_is_imported_with_the_same_weights(name, tmp_path: Path, build):
    ours = build(**EXPORTED[name])
    write_hf(ours.config, ours.state_dict(), tmp_path / "out", tokenizer=None)
    imported = read_hf(tmp_path / "out")
    if ours.config.positions == "sinusoidal":
        torch.testing.assert_close(imported.weights.pop("wpe.weight"), ours.sinusoids, atol=0, rtol=0)
        assert imported.config.positions == "learned"
    else:
        assert imported.config.model_dump(exclude={"position_scale"}) == ours.config.model_dump(
            exclude={"position_scale"}
        )
    assert imported.weights.keys() == ours.state_dict().keys()
    for key, tensor in ours.state_dict().items():
        assert torch.equal(imported.weights[key], tensor), key


@pytest.mark.parametrize(
    ("base_class", "make"),
    [
        (GPT2Model, gpt2),
        (OpenAIGPTModel, gpt1),
        (Qwen3Model, lambda: qwen3(tie_word_embeddings=True)),
    ],
)
def test_a_base_model_without_head_and_prefix_is_imported(base_class, make, tmp_path: Path, randomize, some_ids):
    theirs = randomize(make())
    base = getattr(theirs, theirs.base_model_prefix)
    assert type(base) is base_class
    base.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [base_class.__name__]
    imported = read_hf(tmp_path)
    ours = GPT(imported.config).eval()
    ours.load_state_dict(imported.weights)
    ids = some_ids(2, 9, 53)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, **TOLERANCE)


def test_shards_are_read_like_one_file(tmp_path: Path, randomize):
    theirs = randomize(gpt2())
    theirs.save_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    whole, shards = read_hf(tmp_path / "whole"), read_hf(tmp_path / "shards")
    assert whole.config == shards.config
    assert all(torch.equal(tensor, shards.weights[name]) for name, tensor in whole.weights.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_with_the_same_values(dtype, tmp_path: Path, randomize):
    theirs = randomize(qwen3()).to(dtype)
    theirs.save_pretrained(tmp_path)
    weights = read_hf(tmp_path).weights
    assert weights["wte.weight"].dtype == torch.float32
    assert torch.equal(weights["wte.weight"], theirs.model.embed_tokens.weight.float())


@pytest.mark.parametrize("make", [gpt2, gpt1, qwen3])
def test_attention_weights_equal_theirs(make, tmp_path: Path, randomize, some_ids):
    theirs = randomize(make())
    theirs.save_pretrained(tmp_path)
    theirs.set_attn_implementation("eager")
    imported = read_hf(tmp_path)
    ours = GPT(imported.config).eval()
    ours.load_state_dict(imported.weights)
    ids, attention = some_ids(2, 11, 53), []
    with torch.no_grad():
        expected = theirs(ids, output_attentions=True).attentions
        ours.hidden(ids, attention=attention)
    assert len(attention) == len(expected) == imported.config.n_layer
    for got, want in zip(attention, expected, strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE)


@pytest.mark.parametrize("preset", ["gpt2", "gpt1", "modern"])
def test_an_exported_tokenizer_gives_the_same_ids_in_transformers(preset, tmp_path: Path, build):
    text = "In the beginning was the word. 한국어도 있다.\n  And 12 numbers!"
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=300), [text * 3])
    ours = build(preset=preset, vocab_size=tokenizer.vocab_size + 3)
    write_hf(ours.config, ours.state_dict(), tmp_path / "out", tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert theirs.decode(tokenizer.encode(text)) == text
    settings = AutoConfig.from_pretrained(tmp_path / "out")
    assert settings.eos_token_id == settings.bos_token_id == tokenizer.separator_id is not None
    assert GenerationConfig.from_pretrained(tmp_path / "out").eos_token_id == tokenizer.separator_id
    back = read_hf(tmp_path / "out")
    assert back.tokenizer is not None
    assert back.tokenizer.fingerprint() == tokenizer.fingerprint()


def test_rotary_settings_are_written_for_transformers_5_and_4(tmp_path: Path, build):
    ours = build(preset="modern", rope_theta=500.0, n_kv_head=2)
    write_hf(ours.config, ours.state_dict(), tmp_path / "out", tokenizer=None)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["rope_theta"] == 500.0
    settings = AutoConfig.from_pretrained(tmp_path / "out")
    assert settings.rope_parameters == {"rope_type": "default", "rope_theta": 500.0}
    assert settings.layer_types == ["full_attention"] * 2
    assert settings.eos_token_id is None


def test_greedy_generation_equals_transformers(tmp_path: Path, build, some_ids):
    ours = build(preset="gpt2")
    write_hf(ours.config, ours.state_dict(), tmp_path / "out", tokenizer=None)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    ids = some_ids(1, 4)
    expected = theirs.generate(ids, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(ids))
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat((ids, ours(ids)[:, -1:].argmax(-1)), dim=1)
    assert ids.tolist() == expected.tolist()


def test_rotary_settings_of_transformers_4_are_read(tmp_path: Path, randomize, some_ids):
    theirs = randomize(qwen3(rope_parameters={"rope_type": "default", "rope_theta": 500.0}))
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text())
    del settings["rope_parameters"], settings["layer_types"]
    file.write_text(json.dumps({**settings, "rope_theta": 500.0, "rope_scaling": None}))
    imported = read_hf(tmp_path)
    assert imported.config.rope_theta == 500.0
    ours = GPT(imported.config).eval()
    ours.load_state_dict(imported.weights)
    ids = some_ids(2, 9, 53)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, **TOLERANCE)
