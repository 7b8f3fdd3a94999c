"""Products of few rows: the numbers of double precision, whichever way this machine was measured to be fast in."""

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

WAYS = [
    pytest.param((packing, slicing), marks=pytest.mark.skipif(packing and not has_onednn, reason="needs oneDNN"))
    for has_onednn in [torch.backends.mkldnn.is_available()]
    for packing in (True, False)
    for slicing in (True, False)
]


@pytest.fixture
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, bool]:
    """Whether packing is held to be faster, and slicing."""
    packing, slicing = request.param
    monkeypatch.setattr(module, "is_packing_faster", lambda: packing)
    monkeypatch.setattr(module, "is_slicing_faster", lambda: slicing)
    return packing, slicing


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exact(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return (x.double() @ weight.double().T + (0 if bias is None else bias.double())).float()


@pytest.mark.parametrize("ways", WAYS, indirect=True)
@pytest.mark.parametrize(
    "shape", [(512,), (1, 512), (1, 1, 512), (2, 512), (1, 2, 512), (2, 1, 512), (3, 5, 512), (40, 512)], ids=str
)
@pytest.mark.parametrize("rows", [700, 1733, 2100])  # 1733 is a prime number: no slices of it are equal; 2100 is many
@pytest.mark.parametrize("biased", [True, False])
@torch.no_grad()
def test_a_product_is_that_of_double_precision(
    ways: tuple[bool, bool], shape: tuple[int, ...], rows: int, biased: bool
) -> None:
    weight, x, bias = numbers(rows, 512), numbers(*shape, seed=1), numbers(rows, seed=2) if biased else None
    kept = small_batch_matmul(weight)
    assert (kept is not None) == any(ways)
    torch.testing.assert_close(linear(x, weight, bias, "blas", kept), exact(x, weight, bias), rtol=1e-4, atol=1e-4)
    if kept is not None:
        torch.testing.assert_close(kept.multiply(x, bias), exact(x, weight, bias), rtol=1e-4, atol=1e-4)


def test_one_row_of_any_strides_is_multiplied_by_slices() -> None:
    weight, wide = numbers(60, 32), numbers(32, 3, seed=1)
    x = wide.t()[1:2]  # (1, 32), each number three from the next
    torch.testing.assert_close(
        sliced_linear(x, weight.view(4, 15, 32), None), exact(x, weight, None), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("ways", WAYS, indirect=True)
@torch.no_grad()
def test_a_weight_that_changed_is_no_longer_stood_for(ways: tuple[bool, bool]) -> None:
    weight, x = numbers(700, 512), numbers(3, 512, seed=1)
    kept = small_batch_matmul(weight)
    assert kept is None or kept.applies_to(x, weight)
    weight += 1
    assert kept is None or not kept.applies_to(x, weight)
    torch.testing.assert_close(linear(x, weight, None, "blas", kept), exact(x, weight, None), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ways", WAYS, indirect=True)
@torch.no_grad()
def test_a_model_that_is_settled_again_is_read_as_it_is_now(ways: tuple[bool, bool]) -> None:
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=256, block_size=8, vocab_size=700))
    model.init_weights(0)
    model.eval().requires_grad_(False).freeze_for_inference()
    weight = model.h[0].mlp.c_fc.weight
    made = model.h[0].mlp.c_fc.small_batch
    model.freeze_for_inference()
    assert model.h[0].mlp.c_fc.small_batch is made
    for change in (lambda: weight.add_(0.1), lambda: setattr(weight, "data", numbers(*weight.shape))):
        change()
        ids, cache = torch.tensor([[3]]), KVCache(model.config, 1, 8)
        expected = GPT.hidden(model, ids)
        model.freeze_for_inference()
        torch.testing.assert_close(FastDecoder(model).hidden(ids, cache), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ways", WAYS, indirect=True)
@torch.no_grad()
def test_no_rows_at_all_give_none(ways: tuple[bool, bool]) -> None:
    kept = small_batch_matmul(numbers(700, 512))
    assert kept is None or kept.multiply(torch.empty(0, 512), None).shape == (0, 700)


@torch.inference_mode()
def test_a_weight_that_cannot_tell_whether_it_was_changed_is_left_as_it_is() -> None:
    assert small_batch_matmul(torch.ones(700, 512)) is None


def test_it_is_not_taken_where_gradients_are_wanted() -> None:
    weight = numbers(700, 512)
    assert not SmallBatchMatmul(weight).applies_to(numbers(3, 512), weight)


def test_small_weights_and_other_types_are_left_as_they_are() -> None:
    assert small_batch_matmul(torch.ones(8, 8)) is None
    assert small_batch_matmul(torch.ones(700, 512, dtype=torch.bfloat16)) is None


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8, 16, 96])
def test_slices_are_equal_and_keep_all_threads_at_work(threads: int) -> None:
    for rows in (768, 2304, 50257, 4097, 1733):
        count = slice_count(rows, threads)
        if count is not None:
            assert rows % count == 0
            busiest = -(-count // threads)  # slices of the thread that has the most
            assert count / threads >= 0.9 * busiest
    assert slice_count(768, threads) == threads
    assert slice_count(50257, 2) == 29
    assert slice_count(1733, 2) is None


class Clock:
    """Time that only products move, each by what it is said to cost."""

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
        (2.0, 1.0, 1.0, True, False),  # slices are held against what one row would take without them
        (1.0, 1.0, 0.5, False, True),
        (1.1, 1.0, 1.0, False, False),
        (1.0, 3.0, 2.0, False, False),
    ],
)
def test_a_way_is_taken_where_it_takes_clearly_less_time(
    clock: Clock, blas: float, onednn: float, slices: float, packing: bool, slicing: bool
) -> None:
    clock.cost.update(blas=blas, onednn=onednn, slices=slices)
    assert is_packing_faster() == packing
    assert is_slicing_faster() == slicing
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=256, block_size=8, vocab_size=50)).eval().requires_grad_(False)
    model.freeze_for_inference()
    assert (model.h[0].mlp.c_fc.small_batch is not None) == (packing or slicing)
    assert model.h[0].attn.c_proj.small_batch is None, "a small weight"
