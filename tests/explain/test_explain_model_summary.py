"""The model summary equals the counts of transformers and torch and the size of the actual tensors."""

from pathlib import Path

import pytest
import torch
from random_probes import gpt2_and_ours, qwen3_and_ours, random_model, randomized
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from penna.config.sections import ModelConfig
from penna.config.training import AdamWConfig, MuonConfig
from penna.explain.model_summary import model_summary
from penna.model.cache import KVCache
from penna.model.precision import convert_weights
from penna.model.seq2seq import Seq2Seq
from penna.train.optimizers import Optimizers

SHAPES = {
    "gpt2": {},
    "gpt1, untied": {"preset": "gpt1", "tie": False},
    "modern, grouped, wide": {"preset": "modern", "n_kv_head": 2, "head_dim": 12},
    "n-grams and classes": {"ngram_size": 3, "ngram_rows": 50, "n_class": 3},
}


def seq2seq(**fields: object) -> Seq2Seq:
    shape = {"n_layer": 2, "n_encoder_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 24, "source_size": 16}
    return randomized(Seq2Seq(ModelConfig(arch="seq2seq", vocab_size=61, **{**shape, **fields})))


def bytes_of(model: nn.Module) -> int:
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    tables = ("sinusoids", "rotary")  # computed, not weights
    return sum(sizes.values()) - sum(tensor.nbytes for name, tensor in model.named_buffers() if name.startswith(tables))


@pytest.mark.parametrize("both", [gpt2_and_ours, qwen3_and_ours])
def test_parameters_equal_those_of_transformers(both, tmp_path: Path):
    theirs, ours = both(tmp_path)
    found = model_summary(ours)
    assert found.parameters == theirs.num_parameters()
    assert sum(part.parameters for part in found.parts) == theirs.num_parameters()


def test_parts_are_counted_over_all_blocks_and_a_tied_head_has_no_parameters():
    parts = {part.name: part for part in model_summary(random_model()).parts}
    assert parts["h.*.attn.c_attn"].shapes == ((96, 32), (96,))
    assert (parts["h.*.attn.c_attn"].times, parts["h.*.attn.c_attn"].parameters) == (3, 3 * (96 * 32 + 96))
    assert (parts["lm_head"].shapes, parts["lm_head"].parameters) == (((61, 32),), 0)
    untied = {part.name: part for part in model_summary(random_model(tie=False)).parts}
    assert untied["lm_head"].parameters == 61 * 32
    both = {part.name: part for part in model_summary(seq2seq()).parts}
    assert (both["h.*.attn.c_attn"].times, both["encoder.h.*.attn.c_attn"].times) == (2, 3)
    assert both["h.*.crossattention.c_attn"].shapes[0] == (64, 32)


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_equal_those_of_torch_forward_and_backward(shape):
    model = random_model(**SHAPES[shape]).requires_grad_(True)
    ids = torch.randint(61, (1, 20), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        logits = model.logits(model.hidden(ids, attention=[]))
        forward = counter.get_total_flops()
        logits.sum().backward()
    found = model_summary(model, 20).flops
    assert found.context == 20
    assert found.forward * 20 == forward
    assert found.training * 20 == counter.get_total_flops()
    assert model_summary(model).flops.context == 24


@pytest.mark.parametrize("fields", [{}, {"tie": False, "preset": "modern", "n_kv_head": 2}])
def test_the_source_of_a_seq2seq_is_counted_separately(fields):
    model = seq2seq(**fields)
    ids = torch.randint(61, (1, 24), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        memory = model.encode(ids[:, :16], torch.tensor([16]), attention=[])
        source = counter.get_total_flops()
        model.logits(model.hidden(ids, attention=[], encoder_cache=memory, cross_attention=[]))
    found = model_summary(model)
    assert (found.flops.context, found.flops.source_context) == (24, 16)
    assert found.flops.source * 16 == source
    assert found.flops.forward * 24 == counter.get_total_flops() - source
    kept = (*memory.keys, *memory.values, memory.states)
    assert found.memory.memory_per_source_token["float32"] * 16 == sum(each.nbytes for each in kept)


@pytest.mark.parametrize("shape", ["gpt2", "modern, grouped, wide", "n-grams and classes"])
def test_memory_equals_that_of_weights_and_cache(shape):
    model = random_model(**SHAPES[shape])
    found = model_summary(model).memory
    assert found.weights["float32"] == bytes_of(model)
    cache = KVCache(model.config, 1, 24, dtype=torch.bfloat16)
    assert found.cache_per_token["bfloat16"] * 24 == cache.store.nbytes
    assert found.cache_per_token["float32"] == 2 * found.cache_per_token["bfloat16"]
    convert_weights(model, "int8")
    assert found.weights["int8"] == bytes_of(model)
    half = random_model(**SHAPES[shape])
    convert_weights(half, "bfloat16")
    assert found.weights["bfloat16"] == bytes_of(half)


@pytest.mark.parametrize("optim", [AdamWConfig(), MuonConfig()])
@pytest.mark.parametrize("make", [random_model, seq2seq])
def test_training_memory_equals_that_of_gradients_and_optimizer_states(make, optim):
    model = make().requires_grad_(True)
    found = model_summary(model, optimizer=optim.kind).memory.training
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert found["gradients"] == sum(parameter.grad.nbytes for parameter in model.parameters())
    optimizers = Optimizers(model, optim)
    optimizers.step()
    state = optimizers.state()
    assert found.get("muon", 0) == sum(value.nbytes for name, value in state.items() if name.endswith("/momentum"))
    assert found["adamw"] == sum(value.nbytes for name, value in state.items() if "/exp_avg" in name)
    assert ("muon" in found) == (optim.kind == "muon")
