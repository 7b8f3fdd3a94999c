"""Write a Hugging Face folder: the class is chosen, unsupported fields are rejected, and writing is atomic."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from penna.config.sections import ModelConfig, TokenizerConfig
from penna.errors import InteropError
from penna.interop import hf_folder
from penna.interop.hf_folder import hf_class_name, read_hf, write_hf
from penna.tokenizer.train import train_tokenizer


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"preset": "gpt2"}, "GPT2LMHeadModel"),
        ({"preset": "gpt2-xl", "positions": "sinusoidal", "n_inner": 100, "tie": False}, "GPT2LMHeadModel"),
        ({"preset": "gpt1"}, "OpenAIGPTLMHeadModel"),
        ({"preset": "gpt1", "positions": "sinusoidal"}, "OpenAIGPTLMHeadModel"),
        ({"preset": "gpt2", "norm_position": "post"}, "OpenAIGPTLMHeadModel"),
        ({"preset": "modern"}, "Qwen3ForCausalLM"),
        ({"preset": "modern", "n_kv_head": 2, "head_dim": 10, "n_inner": 100, "tie": False}, "Qwen3ForCausalLM"),
    ],
)
def test_a_model_is_written_as_the_class_that_supports_it(fields, name):
    assert hf_class_name(ModelConfig(**fields)) == name


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"preset": "modern", "mlp": "relu2"}, 'mlp = "relu2": Qwen3ForCausalLM supports only "swiglu"'),
        ({"preset": "modern", "qk_norm": False}, "qk_norm = false: Qwen3ForCausalLM supports only true"),
        ({"preset": "modern", "bias": True}, "bias = true: Qwen3ForCausalLM supports only false"),
        ({"preset": "modern", "norm_position": "post"}, 'norm_position = "post": Qwen3ForCausalLM supports only "pre"'),
        ({"preset": "modern", "norm": "layernorm"}, 'norm = "layernorm": Qwen3ForCausalLM supports only "rmsnorm"'),
        ({"preset": "modern", "positions": "none"}, 'positions = "none": Qwen3ForCausalLM supports only "rotary"'),
        ({"preset": "gpt2", "n_kv_head": 4}, "n_kv_head = 4: GPT2LMHeadModel supports only n_head = 12"),
        ({"preset": "gpt2", "head_dim": 80}, "head_dim = 80: GPT2LMHeadModel supports only n_embd / n_head = 64"),
        (
            {"preset": "gpt2", "positions": "rotary"},
            'positions = "rotary": GPT2LMHeadModel supports only "learned" or "sinusoidal"',
        ),
        ({"preset": "gpt1", "n_inner": 100}, "n_inner = 100: OpenAIGPTLMHeadModel supports only 4 n_embd = 3072"),
        ({"preset": "gpt2", "arch": "seq2seq"}, 'arch = "seq2seq": GPT2LMHeadModel supports only "gpt"'),
        ({"preset": "gpt1", "bias": False}, "bias = false: OpenAIGPTLMHeadModel supports only true"),
    ],
)
def test_an_unsupported_field_is_rejected_with_the_values_of_the_closest_class(fields, expected, tmp_path):
    with pytest.raises(InteropError) as caught:
        hf_class_name(ModelConfig(**fields))
    assert expected in caught.value.happened
    assert caught.value.expected
    assert caught.value.advice
    with pytest.raises(InteropError):
        write_hf(ModelConfig(**fields, vocab_size=9), {}, tmp_path / "out", tokenizer=None)
    assert not (tmp_path / "out").exists()


def test_every_unsupported_field_is_listed():
    with pytest.raises(InteropError) as caught:
        hf_class_name(ModelConfig(preset="modern", mlp="relu2", qk_norm=False))
    assert 'mlp = "relu2"' in caught.value.happened
    assert "qk_norm = false" in caught.value.happened
    assert "GPT2LMHeadModel would need another positions, norm, mlp, bias." in caught.value.expected


def test_the_folder_has_pytorch_safetensors_without_a_tied_head(written):
    folder = written()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - safe_open is not a mapping
        assert file.get_tensor("transformer.h.0.attn.c_attn.weight").shape == (8, 24)


def test_weights_have_the_permissions_of_the_configuration(written):
    folder = written()
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_weights_of_any_float_type_are_written_as_float32(small, tmp_path: Path):
    model = small().to(torch.bfloat16)
    write_hf(model.config, dict(model.named_parameters()), tmp_path / "out", tokenizer=None)
    weights = read_hf(tmp_path / "out").weights
    assert torch.equal(weights["h.1.attn.c_attn.weight"], model.h[1].attn.c_attn.weight.detach().float())


@pytest.mark.parametrize("inside", ["file", "folder"])
def test_an_output_that_is_not_empty_is_rejected_and_unchanged(inside, small, tmp_path: Path):
    output = tmp_path / "out"
    kept = output if inside == "file" else output / "kept.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("precious")
    model = small()
    with pytest.raises(InteropError, match="exists and is not an empty folder"):
        write_hf(model.config, model.state_dict(), output, tokenizer=None)
    assert kept.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [output]


def test_new_nested_and_empty_folders_are_written(small, tmp_path: Path):
    model = small()
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "empty", tmp_path / "a" / "b"):
        assert write_hf(model.config, model.state_dict(), output, tokenizer=None) == "GPT2LMHeadModel"
        assert read_hf(output).config == model.config


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_no_files(error, small, tmp_path: Path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(hf_folder, "save_file", fail)
    model = small()
    expected = InteropError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_hf(model.config, model.state_dict(), tmp_path / "out", tokenizer=None)
    assert list(tmp_path.iterdir()) == []
    if isinstance(caught.value, InteropError):
        assert "No space left on device" in caught.value.happened


def test_weights_that_do_not_match_the_configuration_are_rejected_by_name(small, tmp_path: Path):
    model = small()
    weights = model.state_dict()
    weights["extra"] = weights.pop("h.0.ln_1.bias")
    with pytest.raises(InteropError) as caught:
        write_hf(model.config, weights, tmp_path / "out", tokenizer=None)
    assert "missing: h.0.ln_1.bias" in caught.value.happened
    assert "unexpected: extra" in caught.value.happened
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_is_written_and_its_separator_is_begin_and_end_token(small, tmp_path: Path):
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["hello world"])
    model = small(vocab_size=tokenizer.vocab_size)
    write_hf(model.config, model.state_dict(), tmp_path / "out", tokenizer=tokenizer)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((tmp_path / "out" / name).read_text())
        assert settings["eos_token_id"] == settings["bos_token_id"] == tokenizer.separator_id is not None
    back = read_hf(tmp_path / "out").tokenizer
    assert back is not None
    assert back.encode("hello") == tokenizer.encode("hello")


def test_a_tokenizer_with_too_many_tokens_is_rejected_in_both_directions(small, tmp_path: Path):
    tokenizer = train_tokenizer(TokenizerConfig(kind="char"), ["hello world, how are you?"])
    model = small(vocab_size=tokenizer.vocab_size - 1)
    with pytest.raises(InteropError, match=r"The tokenizer has .* tokens, but the model has embeddings"):
        write_hf(model.config, model.state_dict(), tmp_path / "out", tokenizer=tokenizer)
    write_hf(model.config, model.state_dict(), tmp_path / "out", tokenizer=None)
    tokenizer.save(tmp_path / "out")
    with pytest.raises(InteropError, match=r"The tokenizer has .* tokens, but the model has embeddings"):
        read_hf(tmp_path / "out")


def test_transformers_is_not_imported():
    code = "import sys, penna.interop.hf_folder; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
