"""Small-batch products match double precision, whichever method is the fastest on this machine."""

from collections.abc import Generator
from typing import Any

import pytest
import torch

import penna.model.fast.small_batch_matmul as module
from penna.config.sections import ModelConfig
from penna.model.cache import KVCache
from penna.model.fast import onednn as products
from penna.model.fast.decode import FastDecoder
from penna.model.fast.small_batch_matmul import (
    SmallBatchMatmul,
    is_packing_faster,
    is_slicing_faster,
    slice_count,
    sliced_linear,
    small_batch_matmul,
)
from penna.model.gpt import GPT
from penna.model.linear import linear

METHODS = [
    pytest.param((packing, slicing), marks=pytest.mark.skipif(packing and not has_onednn, reason="needs oneDNN"))
    for has_onednn in [torch.backends.mkldnn.is_available()]
    for packing in (True, False)
    for slicing in (True, False)
]


@pytest.fixture
def methods(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, bool]:
    """Whether packing and slicing count as faster."""
    packing, slicing = request.param
    monkeypatch.setattr(module, "is_packing_faster", lambda: packing)
    monkeypatch.setattr(module, "is_slicing_faster", lambda: slicing)
    return packing, slicing


def random_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def double_precision(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return (x.double() @ weight.double().T + (0 if bias is None else bias.double())).float()


@pytest.mark.parametrize("methods", METHODS, indirect=True)
@pytest.mark.parametrize(
    "shape", [(512,), (1, 512), (1, 1, 512), (2, 512), (1, 2, 512), (2, 1, 512), (3, 5, 512), (40, 512)], ids=str
)
@pytest.mark.parametrize("rows", [700, 1733, 2100])  # 1733 is prime, so it has no equal slices
@pytest.mark.parametrize("biased", [True, False])
@torch.no_grad()
def test_a_product_matches_double_precision(
    methods: tuple[bool, bool], shape: tuple[int, ...], rows: int, biased: bool
) -> None:
    weight, x, bias = (
        random_tensor(rows, 512),
        random_tensor(*shape, seed=1),
        random_tensor(rows, seed=2) if biased else None,
    )
    kept = small_batch_matmul(weight)
    assert (kept is not None) == any(methods)
    torch.testing.assert_close(
        linear(x, weight, bias, "blas", kept), double_precision(x, weight, bias), rtol=1e-4, atol=1e-4
    )
    if kept is not None:
        torch.testing.assert_close(kept.multiply(x, bias), double_precision(x, weight, bias), rtol=1e-4, atol=1e-4)


def test_sliced_linear_accepts_a_row_with_any_strides() -> None:
    weight, wide = random_tensor(60, 32), random_tensor(32, 3, seed=1)
    x = wide.t()[1:2]  # (1, 32) with a stride of three
    torch.testing.assert_close(
        sliced_linear(x, weight.view(4, 15, 32), None), double_precision(x, weight, None), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("methods", METHODS, indirect=True)
@torch.no_grad()
def test_a_changed_weight_no_longer_matches(methods: tuple[bool, bool]) -> None:
    weight, x = random_tensor(700, 512), random_tensor(3, 512, seed=1)
    kept = small_batch_matmul(weight)
    assert kept is None or kept.applies_to(x, weight)
    weight += 1
    assert kept is None or not kept.applies_to(x, weight)
    torch.testing.assert_close(
        linear(x, weight, None, "blas", kept), double_precision(x, weight, None), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("methods", METHODS, indirect=True)
@torch.no_grad()
def test_freezing_again_uses_the_changed_weights(methods: tuple[bool, bool]) -> None:
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=256, block_size=8, vocab_size=700))
    model.init_weights(0)
    model.eval().requires_grad_(False).freeze_for_inference()
    c_fc = model.get_submodule("h.0.mlp.c_fc")
    weight, prepared = c_fc.get_parameter("weight"), c_fc.small_batch
    model.freeze_for_inference()
    assert c_fc.small_batch is prepared
    for change in (lambda: weight.add_(0.1), lambda: setattr(weight, "data", random_tensor(*weight.shape))):
        change()
        ids, cache = torch.tensor([[3]]), KVCache(model.config, 1, 8)
        expected = GPT.hidden(model, ids)
        model.freeze_for_inference()
        torch.testing.assert_close(FastDecoder(model).hidden(ids, cache), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("methods", METHODS, indirect=True)
@torch.no_grad()
def test_zero_rows_give_zero_rows(methods: tuple[bool, bool]) -> None:
    kept = small_batch_matmul(random_tensor(700, 512))
    assert kept is None or kept.multiply(torch.empty(0, 512), None).shape == (0, 700)


@torch.inference_mode()
def test_inference_tensors_have_no_faster_product() -> None:
    assert small_batch_matmul(torch.ones(700, 512)) is None


def test_it_does_not_apply_if_gradients_are_needed() -> None:
    weight = random_tensor(700, 512)
    assert not SmallBatchMatmul(weight).applies_to(random_tensor(3, 512), weight)


def test_small_weights_and_other_types_have_no_faster_product() -> None:
    assert small_batch_matmul(torch.ones(8, 8)) is None
    assert small_batch_matmul(torch.ones(700, 512, dtype=torch.bfloat16)) is None


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8, 16, 96])
def test_slices_are_equal_and_keep_all_threads_busy(threads: int) -> None:
    for rows in (768, 2304, 50257, 4097, 1733):
        count = slice_count(rows, threads)
        if count is not None:
            assert rows % count == 0
            busiest = -(-count // threads)  # most slices of one thread
            assert count / threads >= 0.9 * busiest
    assert slice_count(768, threads) == threads
    assert slice_count(50257, 2) == 29
    assert slice_count(1733, 2) is None


class Clock:
    """A clock that only products advance, each by its cost."""

    def __init__(self) -> None:
        self.now, self.cost = 0.0, {"onednn": 1.0, "blas": 1.0, "slices": 1.0}

    def product(self, name: str) -> Any:
        def spend(*operands: Any) -> None:
            self.now += self.cost[name]

        return spend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Generator[Clock]:
    clock = Clock()
    monkeypatch.setattr(module, "onednn_linear", clock.product("onednn"))
    monkeypatch.setattr(module, "sliced_linear", clock.product("slices"))
    monkeypatch.setattr(module.F, "linear", clock.product("blas"))
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock.now)
    for measured in (is_packing_faster, is_slicing_faster):
        measured.cache_clear()
    yield clock
    for measured in (is_packing_faster, is_slicing_faster):
        measured.cache_clear()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
@pytest.mark.parametrize(
    ("blas", "onednn", "slices", "packing", "slicing"),
    [
        (2.0, 1.0, 0.5, True, True),
        (2.0, 1.0, 1.0, True, False),  # slicing is compared with packing here
        (1.0, 1.0, 0.5, False, True),
        (1.1, 1.0, 1.0, False, False),
        (1.0, 3.0, 2.0, False, False),
    ],
)
def test_a_method_is_used_if_it_is_clearly_faster(
    clock: Clock, blas: float, onednn: float, slices: float, packing: bool, slicing: bool
) -> None:
    clock.cost.update(blas=blas, onednn=onednn, slices=slices)
    assert is_packing_faster() == packing
    assert is_slicing_faster() == slicing
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=256, block_size=8, vocab_size=50)).eval().requires_grad_(False)
    model.freeze_for_inference()
    assert (model.get_submodule("h.0.mlp.c_fc").small_batch is not None) == (packing or slicing)
    assert model.get_submodule("h.0.attn.c_proj").small_batch is None, "a small weight"
