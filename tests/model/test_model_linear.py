"""Linear layers by oneDNN: values and gradients match torch's, and the faster library is chosen."""

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
def onednn_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that oneDNN multiplied."""
    shapes: list[tuple[int, ...]] = []
    original = module.onednn_linear

    def product(x: Any, weight: Any, bias: Any) -> Any:
        shapes.append(tuple(weight.shape))
        return original(x, weight, bias)

    monkeypatch.setattr(module, "onednn_linear", product)
    return shapes


def random_tensor(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(300, 70), (3, 100, 70), (2, 3, 50, 70)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_match_double_precision(
    shape: tuple[int, ...], biased: bool, onednn_calls: list[tuple[int, ...]]
) -> None:
    leaves = [random_tensor(*shape, seed=0), random_tensor(90, 70, seed=1), random_tensor(90, seed=2)][
        : 3 if biased else 2
    ]
    upstream = random_tensor(*shape[:-1], 90, seed=3)
    ours = [leaf.clone().requires_grad_() for leaf in leaves]
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    y = linear(ours[0], ours[1], ours[2] if biased else None, "onednn")
    reference = F.linear(*exact)
    y.backward(upstream)
    reference.backward(upstream.double())
    assert len(onednn_calls) == 3, "forward, and the two products of the backward pass"
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), reference, rtol=1e-5, atol=1e-4)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert mine.grad.is_contiguous()
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-5, atol=1e-3)


def test_non_contiguous_inputs_work_and_unneeded_gradients_are_skipped(onednn_calls: list[tuple[int, ...]]) -> None:
    x, weight = random_tensor(70, 300, seed=0).t(), random_tensor(90, 70, seed=1).requires_grad_()
    y = linear(x, weight, None, "onednn")
    y.sum(0, keepdim=True).expand(300, 90).sum().backward()  # an upstream gradient with stride 0
    assert len(onednn_calls) == 2, "the gradient of x is not computed"
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, (x.sum(0) * 300).expand(90, 70), rtol=1e-4, atol=1e-2)


def test_small_products_other_types_and_autocast_use_blas(onednn_calls: list[tuple[int, ...]]) -> None:
    x, weight = random_tensor(300, 70, seed=0), random_tensor(90, 70, seed=1)
    assert torch.equal(linear(x, weight, None, "blas"), F.linear(x, weight))
    linear(x[:5], weight, None, "onednn")
    assert linear(x.double(), weight.double(), None, "onednn").dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight, None, "onednn").dtype == torch.bfloat16
    assert not onednn_calls
    linear(x, weight, None, "onednn")
    assert onednn_calls


@pytest.mark.parametrize("tie", [True, False])
def test_a_model_gives_the_same_logits_and_gradients_with_both_libraries(
    tie: bool, onednn_calls: list[tuple[int, ...]]
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
    assert len(onednn_calls) == 3 * (4 * 2 + 1), "every layer and the head, forward and twice backward"
    for one, other in pairwise(found):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def set_costs(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Set the time that a product takes in each library, on a clock that only products advance."""
    clock, cost = [0.0], {"onednn": 1.0, "blas": 1.0}

    def spend(name: str) -> Any:
        def product(*operands: Any) -> None:
            clock[0] += cost[name]

        return product

    monkeypatch.setattr(module, "onednn_linear", spend("onednn"))
    monkeypatch.setattr(module.F, "linear", spend("blas"))
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock[0])
    return cost


def test_the_faster_library_is_chosen_and_blas_if_it_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    cost, cpu = set_costs(monkeypatch), torch.device("cpu")
    for blas, chosen in ((2.0, "onednn"), (1.2, "onednn"), (1.1, "blas"), (0.5, "blas")):
        cost["blas"] = blas
        assert fastest_matmul(cpu) == chosen
    assert fastest_matmul(torch.device("cuda")) == "blas"


def test_a_layer_keeps_torchs_parameter_names_and_uses_blas_by_default() -> None:
    layer = Linear(4, 3)
    assert layer.matmul == "blas"
    assert set(layer.state_dict()) == {"weight", "bias"}
