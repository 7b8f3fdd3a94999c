"""Cross-entropy in chunks equals torch's own in values, gradients and counts, with any masks and chunk sizes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import penna.train.objective as module
from penna.data.batches import IGNORE_INDEX
from penna.train.objective import cross_entropy

C, V = 24, 50


def case(rows: int, masked: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(2, rows // 2, C, generator=random), torch.randn(V, C, generator=random)
    targets = torch.randint(V, (2, rows // 2), generator=random)
    targets[torch.rand(targets.shape, generator=random) < masked] = IGNORE_INDEX
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def by_torch(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    logits = F.linear(hidden, weight).double().flatten(0, 1)
    loss = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    return loss, int((logits.argmax(-1) == targets.flatten()).sum())


@pytest.mark.parametrize("rows_at_once", [2, 7, 64, 1000])
@pytest.mark.parametrize("masked", [0.0, 0.6])
@pytest.mark.parametrize("matmul", ["blas", "onednn"])
def test_loss_count_and_gradients_equal_torchs(
    rows_at_once: int, masked: float, matmul: module.Matmul, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOGITS_PER_CHUNK", rows_at_once * V)
    monkeypatch.setattr(module, "_MIN_ROWS", 1)
    hidden, weight, targets = case(64, masked)
    expected, right = by_torch(hidden, weight, targets)
    (expected / 3).backward()
    grads = [hidden.grad, weight.grad]
    hidden.grad = weight.grad = None
    loss, correct = cross_entropy(hidden, weight, targets, matmul)
    (loss / 3).backward()
    assert int(correct) == right
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip((hidden.grad, weight.grad), grads, strict=True):
        assert mine is not None and theirs is not None
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_all_masked_targets_add_nothing_and_are_not_nan() -> None:
    hidden, weight, targets = case(8, masked=1.0)
    loss, correct = cross_entropy(hidden, weight, targets, "blas")
    loss.backward()
    assert (loss.item(), int(correct)) == (0.0, 0)
    assert hidden.grad is not None and weight.grad is not None
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_huge_logits_stay_finite() -> None:
    hidden, weight, targets = case(8, masked=0.0)
    loss, _ = cross_entropy(hidden * 1e4, weight, targets, "blas")
    loss.backward()
    expected, _ = by_torch(hidden.detach() * 1e4, weight.detach(), targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert hidden.grad is not None
    assert bool(hidden.grad.isfinite().all())


def test_without_gradients_nothing_is_saved_for_a_backward_pass() -> None:
    hidden, weight, targets = case(8, masked=0.0)
    with torch.no_grad():
        loss, _ = cross_entropy(hidden, weight, targets, "blas")
    assert not loss.requires_grad


def test_a_frozen_head_still_propagates_gradients() -> None:
    hidden, weight, targets = case(8, masked=0.0)
    expected, _ = by_torch(hidden, weight, targets)
    (wanted,) = torch.autograd.grad(expected, [hidden])
    loss, _ = cross_entropy(hidden, weight.detach(), targets, "blas")
    (found,) = torch.autograd.grad(loss, [hidden])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_bfloat16_products_give_a_float32_loss_near_the_exact_one() -> None:
    hidden, weight, targets = case(64, masked=0.3)
    expected, _ = by_torch(hidden, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = cross_entropy(hidden, weight, targets, "onednn")
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32


def test_ties_count_once_and_double_precision_stays_double() -> None:
    hidden, weight, targets = case(8, masked=0.0)
    _, correct = cross_entropy(torch.zeros_like(hidden), weight, targets, "blas")
    assert int(correct) == int((targets == 0).sum()), "of equal logits the first is the likeliest"
    loss, _ = cross_entropy(hidden.double(), weight.double(), targets, "blas")
    expected, _ = by_torch(hidden.double(), weight.double(), targets)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    loss.backward()
