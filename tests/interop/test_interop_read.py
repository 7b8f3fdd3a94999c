"""Read a Hugging Face folder: unsupported settings and damaged files are rejected by name."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from penna.errors import InteropError
from penna.interop.hf_folder import read_hf
from penna.model.gpt import GPT

GPT2, GPT1, QWEN3 = {"preset": "gpt2"}, {"preset": "gpt1"}, {"preset": "modern"}


def edit_config(folder: Path, **changes: object) -> None:
    """Change fields of config.json; the value ... removes a field."""
    file = folder / "config.json"
    settings = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not ...}))


def edit_weights(folder: Path, change) -> None:
    """Edit the dictionary of the folder's tensors with ``change``."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def error_message(folder: Path, **options: bool) -> str:
    """The message of the InteropError for the folder; it must have all three parts."""
    with pytest.raises(InteropError) as caught:
        read_hf(folder, **options)
    assert caught.value.happened
    assert caught.value.expected
    assert caught.value.advice
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (GPT2, "activation_function", "relu"),
        (GPT2, "activation_function", "gelu"),
        (GPT2, "scale_attn_weights", False),
        (GPT2, "scale_attn_by_inverse_layer_idx", True),
        (GPT2, "add_cross_attention", True),
        (GPT2, "quantization_config", {"bits": 4}),
        (GPT1, "afn", "relu"),
        (QWEN3, "attention_bias", True),
        (QWEN3, "hidden_act", "gelu"),
        (QWEN3, "use_sliding_window", True),
        (QWEN3, "layer_types", ["full_attention", "sliding_attention"]),
        (QWEN3, "rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        (QWEN3, "rope_scaling", {"type": "linear", "factor": 2.0}),
        (QWEN3, "rope_parameters", {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
        (QWEN3, "partial_rotary_factor", 0.5),
    ],
)
def test_an_unsupported_setting_is_rejected_with_its_value(model, field, value, written):
    folder = written(**model)
    edit_config(folder, **{field: value})
    message = error_message(folder)
    assert f"{field} = {json.dumps(value)}" in message
    assert str(folder / "config.json") in message


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (GPT2, {"reorder_and_upcast_attn": True, "n_inner": None, "summary_type": "cls_index", "n_ctx": ...}),
        (GPT2, {"activation_function": "gelu_pytorch_tanh", "architectures": ["GPT2Model"]}),
        (GPT2, {"architectures": ..., "activation_function": ..., "layer_norm_epsilon": ...}),
        (GPT2, {"n_embd": ..., "hidden_size": 8, "n_positions": ..., "max_position_embeddings": 6}),
        (QWEN3, {"rope_parameters": ..., "layer_types": ..., "rope_scaling": None, "sliding_window": 4096}),
        (QWEN3, {"rope_parameters": {"type": "default", "rope_theta": 10000.0}, "rope_theta": ...}),
    ],
)
def test_harmless_and_missing_settings_have_no_effect(model, fields, written):
    folder = written(**model)
    before = read_hf(folder)
    edit_config(folder, **fields)
    after = read_hf(folder)
    assert after.config == before.config
    assert all(torch.equal(tensor, before.weights[name]) for name, tensor in after.weights.items())


def test_all_problems_are_reported_at_once(written):
    folder = written(**GPT2)
    edit_config(folder, activation_function="relu", add_cross_attention=True)
    message = error_message(folder)
    assert "activation_function" in message
    assert "add_cross_attention" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "architecture LlamaForCausalLM"),
        ({"architectures": ["GPT2ForTokenClassification"]}, "architecture GPT2ForTokenClassification"),
        ({"architectures": ..., "model_type": "bert"}, "model_type bert"),
        ({"architectures": [], "model_type": ...}, "no architecture"),
    ],
)
def test_an_unknown_architecture_is_rejected_with_the_supported_ones(changes, expected, written):
    folder = written(**GPT2)
    edit_config(folder, **changes)
    message = error_message(folder)
    assert expected in message
    assert "GPT2LMHeadModel, OpenAIGPTLMHeadModel, Qwen3ForCausalLM" in message


def test_an_invalid_shape_is_rejected_by_name(written):
    folder = written(**GPT2)
    edit_config(folder, n_layer=0)
    assert "n_layer" in error_message(folder)
    edit_config(folder, n_layer=2, n_head=3)
    assert "n_embd = 8 must be divisible by n_head = 3" in error_message(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff", "[" * 100_000])
def test_a_config_that_is_not_a_json_object_is_rejected(content, written):
    folder = written(**GPT2)
    (folder / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert f"{folder / 'config.json'} cannot be read" in error_message(folder)


def test_a_missing_folder_or_config_is_rejected(tmp_path):
    assert "has no config.json" in error_message(tmp_path)
    assert "is not a folder" in error_message(tmp_path / "nowhere")


def test_a_folder_without_weights_is_rejected_with_its_files(written):
    folder = written(**GPT2)
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    message = error_message(folder)
    assert "config.json, generation_config.json, tf_model.h5" in message
    assert "model.safetensors" in message


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_weights_are_rejected(keep, written):
    folder = written(**GPT2)
    file = folder / "model.safetensors"
    os.truncate(file, keep if keep >= 0 else file.stat().st_size + keep)
    message = error_message(folder)
    assert f"{file} ({file.stat().st_size:,} bytes) cannot be read" in message


def test_missing_unexpected_and_misshapen_tensors_are_named(written):
    folder = written(**QWEN3)

    def spoil(tensors):
        del tensors["model.layers.1.self_attn.k_proj.weight"]
        tensors["model.layers.1.self_attn.k_proj.bias"] = torch.zeros(8)
        tensors["model.norm.weight"] = torch.ones(9)

    edit_weights(folder, spoil)
    message = error_message(folder)
    assert "missing: model.layers.1.self_attn.k_proj.weight" in message
    assert "unexpected: model.layers.1.self_attn.k_proj.bias" in message
    assert "wrong shape: model.norm.weight [9], expected [8]" in message


def test_a_transposed_matrix_is_rejected(written):
    folder = written(**GPT2)
    name = "transformer.h.0.mlp.c_fc.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: tensors[name].t().contiguous()}))
    assert f"{name} [32, 8], expected [8, 32]" in error_message(folder)


def test_old_buffers_are_ignored(written):
    folder = written(**GPT2)
    before = read_hf(folder).weights

    def add(tensors):
        for layer in range(2):
            tensors[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 6, 6).tril()
            tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    edit_weights(folder, add)
    after = read_hf(folder).weights
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize("model", [GPT2, GPT1, QWEN3])
def test_weight_names_without_the_prefix_are_read_for_every_class(model, written):
    """GPT-2 on the hub is a GPT2LMHeadModel with the weight names of GPT2Model."""
    folder = written(**model, tie=False)
    before = read_hf(folder).weights

    def strip(tensors):
        for name in list(tensors):
            if name != "lm_head.weight":
                tensors[name.split(".", 1)[1]] = tensors.pop(name)

    edit_weights(folder, strip)
    after = read_hf(folder)
    GPT(after.config).load_state_dict(after.weights, strict=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.weights.items())


def test_a_tied_head_may_be_stored_twice_or_once_but_must_not_differ(written):
    folder = written(**GPT2)
    before = read_hf(folder).weights
    embedding, head = "transformer.wte.weight", "lm_head.weight"
    edit_weights(folder, lambda tensors: tensors.update({head: tensors[embedding].clone()}))
    assert torch.equal(read_hf(folder).weights["wte.weight"], before["wte.weight"])
    edit_weights(folder, lambda tensors: tensors.pop(embedding))
    assert torch.equal(read_hf(folder).weights["wte.weight"], before["wte.weight"])
    edit_weights(folder, lambda tensors: tensors.update({embedding: tensors[head] + 1}))
    message = error_message(folder)
    assert "tie_word_embeddings = true, but lm_head.weight differs from transformer.wte.weight" in message


def test_a_missing_untied_head_is_named(written):
    folder = written(**QWEN3)
    edit_config(folder, tie_word_embeddings=...)  # the default of this class is false
    assert "missing: lm_head.weight" in error_message(folder)


def test_quantized_weights_are_rejected_by_name_and_type(written):
    folder = written(**GPT2)
    name = "transformer.h.1.ln_1.weight"
    edit_weights(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    assert f"{name} (int8)" in error_message(folder)


def split_in_two(folder: Path) -> dict[str, str]:
    """Replace the folder's weights by two shards; returns the index."""
    tensors = load_file(folder / "model.safetensors")
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = {name: files[number % 2] for number, name in enumerate(sorted(tensors))}
    for file in files:
        save_file({name: tensors[name] for name in index if index[name] == file}, folder / file)
    (folder / "model.safetensors").unlink()
    return index


def test_shards_are_read_and_a_missing_one_is_named(written):
    folder = written(**GPT2)
    before = read_hf(folder).weights
    index = split_in_two(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    after = read_hf(folder).weights
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "lists model-00002-of-00002.safetensors, which is missing" in error_message(folder)


@pytest.mark.parametrize(
    "weight_map",
    [None, {}, ["a"], {"wte.weight": "../model.safetensors"}, {"wte.weight": "/etc/passwd"}, {"wte.weight": 3}],
)
def test_an_invalid_index_is_rejected(weight_map, written):
    folder = written(**GPT2)
    split_in_two(folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "has no weight_map of tensor names to .safetensors files in the same folder" in error_message(folder)


def test_a_tensor_of_the_index_that_is_in_no_shard_is_named(written):
    folder = written(**GPT2)
    index = {**split_in_two(folder), "transformer.h.9.ln_1.weight": "model-00001-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert "transformer.h.9.ln_1.weight" in error_message(folder)


def test_weights_remain_valid_after_the_folder_is_deleted(written):
    folder = written(**GPT2)
    weights = read_hf(folder).weights
    before = {name: tensor.clone() for name, tensor in weights.items()}
    for file in folder.iterdir():
        file.unlink()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights.items())
