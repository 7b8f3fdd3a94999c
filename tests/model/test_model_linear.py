"""Products through oneDNN: the same numbers as torch's own, gradients too, and only where they are meant to run."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import penna.model.linear as module
from penna.config.sections import ModelConfig
from penna.model.fast import onednn as products
from penna.model.gpt import GPT
from penna.model.linear import Linear, fastest_matmul, linear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that oneDNN was handed."""
    shapes: list[tuple[int, ...]] = []
    genuine = module.onednn_linear

    def product(x: Any, weight: Any, bias: Any) -> Any:
        shapes.append(tuple(weight.shape))
        return genuine(x, weight, bias)

    monkeypatch.setattr(module, "onednn_linear", product)
    return shapes


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(300, 70), (3, 100, 70), (2, 3, 50, 70)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_double_precision(
    shape: tuple[int, ...], biased: bool, called: list[tuple[int, ...]]
) -> None:
    leaves = [numbers(*shape, seed=0), numbers(90, 70, seed=1), numbers(90, seed=2)][: 3 if biased else 2]
    upstream = numbers(*shape[:-1], 90, seed=3)
    ours = [leaf.clone().requires_grad_() for leaf in leaves]
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    y = linear(ours[0], ours[1], ours[2] if biased else None, "onednn")
    reference = F.linear(*exact)
    y.backward(upstream)
    reference.backward(upstream.double())
    assert len(called) == 3, "forward, and the two products of the backward pass"
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), reference, rtol=1e-5, atol=1e-4)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert mine.grad.is_contiguous()
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-5, atol=1e-3)


def test_inputs_that_are_not_contiguous_and_gradients_nobody_asked_for(called: list[tuple[int, ...]]) -> None:
    x, weight = numbers(70, 300, seed=0).t(), numbers(90, 70, seed=1).requires_grad_()
    y = linear(x, weight, None, "onednn")
    y.sum(0, keepdim=True).expand(300, 90).sum().backward()  # an upstream gradient with stride 0
    assert len(called) == 2, "the gradient of x is not computed"
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, (x.sum(0) * 300).expand(90, 70), rtol=1e-4, atol=1e-2)


def test_small_products_other_types_and_autocast_stay_with_blas(called: list[tuple[int, ...]]) -> None:
    x, weight = numbers(300, 70, seed=0), numbers(90, 70, seed=1)
    assert torch.equal(linear(x, weight, None, "blas"), F.linear(x, weight))
    linear(x[:5], weight, None, "onednn")
    assert linear(x.double(), weight.double(), None, "onednn").dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight, None, "onednn").dtype == torch.bfloat16
    assert not called
    linear(x, weight, None, "onednn")
    assert called


@pytest.mark.parametrize("tie", [True, False])
def test_a_model_gives_the_same_logits_and_gradients_with_either_library(
    tie: bool, called: list[tuple[int, ...]]
) -> None:
    config = ModelConfig(n_layer=2, n_head=2, n_embd=64, block_size=64, vocab_size=96, tie=tie)
    model = GPT(config)
    model.init_weights(0)
    ids = torch.randint(96, (8, 64), generator=torch.Generator().manual_seed(0))
    found: list[list[torch.Tensor]] = []
    for matmul in ("blas", "onednn"):
        model.use_matmul(matmul)
        model.zero_grad()
        logits = model(ids)
        logits.square().sum().backward()
        found.append([logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(called) == 3 * (4 * 2 + 1), "every layer and the head, forward and twice backward"
    for one, other in pairwise(found):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def priced(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What a product by each library costs from now on, on a clock that only products move."""
    clock, cost = [0.0], {"onednn": 1.0, "blas": 1.0}

    def spend(name: str) -> Any:
        def product(*operands: Any) -> None:
            clock[0] += cost[name]

        return product

    monkeypatch.setattr(module, "onednn_linear", spend("onednn"))
    monkeypatch.setattr(module.F, "linear", spend("blas"))
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock[0])
    return cost


def test_the_choice_is_by_time_and_blas_where_it_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, cpu = priced(monkeypatch), torch.device("cpu")
    for blas, chosen in ((2.0, "onednn"), (1.2, "onednn"), (1.1, "blas"), (0.5, "blas")):
        cost["blas"] = blas
        assert fastest_matmul(cpu) == chosen
    assert fastest_matmul(torch.device("cuda")) == "blas"


def test_a_layer_keeps_torchs_names_and_default() -> None:
    layer = Linear(4, 3)
    assert layer.matmul == "blas"
    assert set(layer.state_dict()) == {"weight", "bias"}
