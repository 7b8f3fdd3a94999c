"""FastDecoder gives the same results as the model's modules."""

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.model.cache import KVCache
from penna.model.fast.decode import FastDecoder
from penna.model.gpt import GPT

SHAPES = {
    "gpt2": {"preset": "gpt2"},
    "gpt1, post-norm": {"preset": "gpt1"},
    "sinusoidal": {"positions": "sinusoidal", "position_scale": 0.5},
    "no positions": {"positions": "none"},
    "modern": {"preset": "modern"},
    "modern, grouped heads": {"preset": "modern", "n_kv_head": 2},
    "modern, relu2, untied": {"preset": "modern", "mlp": "relu2", "tie": False},
    "rotary without norms of queries": {"preset": "modern", "qk_norm": False},
    "n-grams": {"preset": "modern", "ngram_size": 3, "ngram_rows": 64, "ngram_width": 8},
}


@torch.no_grad()
def random_model(fields: dict[str, object]) -> GPT:
    shape = {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}
    model = GPT(ModelConfig(**{**shape, **fields}))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.dim() == 1))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("lengths", [[5, 5, 5], [2, 7, 4], [6], [0, 0]], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_hidden_states_equal_those_of_the_modules(name: str, lengths: list[int]) -> None:
    model = random_model(SHAPES[name])
    step, generator = FastDecoder(model), torch.Generator().manual_seed(1)
    ours, theirs = (KVCache(model.config, len(lengths), 24) for _ in range(2))
    for cache in (ours, theirs):
        if max(lengths):
            prompt = torch.randint(0, 61, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(2))
            model.hidden(prompt, cache)
        cache.advance(torch.tensor(lengths))
    for count in (1, 3, 1, 2):
        ids = torch.randint(0, 61, (len(lengths), count), generator=generator)
        torch.testing.assert_close(step.hidden(ids, ours), model.hidden(ids, theirs), rtol=1e-5, atol=1e-5)
        ours.advance(count)
        theirs.advance(count)
    torch.testing.assert_close(ours.store, theirs.store, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1, 9, 4], [3, 3], [0, 6, 1], [12]], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_prefill_of_padded_texts_fills_the_cache_like_separate_texts(name: str, lengths: list[int]) -> None:
    model = random_model(SHAPES[name])
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 61, (len(lengths), max(lengths)), generator=generator)
    together = KVCache(model.config, len(lengths), 24)
    FastDecoder(model).prefill(ids, torch.tensor(lengths), together)
    for row, length in enumerate(lengths):
        alone = KVCache(model.config, 1, 24)
        if length:
            model.hidden(ids[row : row + 1, :length], alone)
        found = together.store[:, row : row + 1, ..., :length, :]
        torch.testing.assert_close(found, alone.store[..., :length, :], rtol=1e-5, atol=1e-5)


def test_branches_of_a_tree_equal_those_of_the_modules() -> None:
    model = random_model(SHAPES["modern"])
    caches = [KVCache(model.config, 1, 24) for _ in range(2)]
    read = []
    for cache, hidden in zip(caches, (FastDecoder(model).hidden, model.hidden), strict=True):
        model.hidden(torch.tensor([[3, 4, 5]]), cache)
        cache.advance(3)
        visible = torch.tensor([[True, True, True, True, False], [True, True, True, False, True]])
        placement = cache.place_tree(torch.tensor([[3, 3]]), visible, None)
        read.append(hidden(torch.tensor([[7, 8]]), cache, placement=placement))
    torch.testing.assert_close(read[0], read[1], rtol=1e-5, atol=1e-5)
    alone = model.hidden(torch.tensor([[3, 4, 5, 8]]))[:, -1]
    torch.testing.assert_close(read[0][:, 1], alone, rtol=1e-5, atol=1e-5)


def test_only_float32_gpts_are_supported() -> None:
    model = random_model({})
    assert FastDecoder.supports(model)
    assert not FastDecoder.supports(random_model({}).bfloat16())
