"""The optimizers equal plain implementations without foreach and without fusing."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.config.training import AdamWConfig, MuonConfig
from penna.errors import RecipeError
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.train.optimizers import Muon, Optimizers, orthogonalize


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon's products in float32, also on processors that multiply bfloat16."""
    monkeypatch.setattr("penna.train.optimizers._product_dtype", lambda _: torch.float32)


def model(**fields: Any) -> GPT:
    made = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=6, vocab_size=11, **fields))
    made.init_weights(0)
    return made


def gradients(of: nn.Module, seed: int) -> None:
    """Random gradients, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in of.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def with_singular_values(rows: int, columns: int, seed: int) -> Tensor:
    """A random matrix whose singular values lie between 1 and 0.1."""
    generator = torch.Generator().manual_seed(seed)
    least = min(rows, columns)
    u, _ = torch.linalg.qr(torch.randn(rows, least, generator=generator))
    v, _ = torch.linalg.qr(torch.randn(columns, least, generator=generator))
    return u @ torch.diag(torch.linspace(1, 0.1, least)) @ v.T


SHAPES = [(16, 16), (48, 16), (16, 64), (1, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_orthogonalizing_moves_singular_values_to_about_1_and_keeps_their_vectors(
    rows: int, columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penna.train.optimizers._product_dtype", lambda _: dtype)
    matrix = with_singular_values(rows, columns, 0)
    result = orthogonalize(matrix[None])[0]
    assert result.dtype == torch.float32
    assert result.shape == matrix.shape
    values = torch.linalg.svdvals(result)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest = u @ v  # the polar factor
    cosine = float((result * nearest).sum() / result.norm() / nearest.norm())
    assert cosine > 0.97


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_matrices_are_orthogonalized_together_as_one_by_one(rows: int, columns: int) -> None:
    matrices = torch.stack([with_singular_values(rows, columns, seed) * 10.0**seed for seed in range(4)])
    alone = torch.stack([orthogonalize(matrix[None])[0] for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices), alone, atol=1e-5, rtol=0)


def test_a_zero_gradient_stays_zero() -> None:
    assert orthogonalize(torch.zeros(1, 4, 3)).abs().max() == 0


def newton_schulz(g: Tensor) -> Tensor:
    """The iteration as printed in Jordan et al. 2024, for one matrix, in double precision."""
    a, b, c = (3.4445, -4.7750, 2.0315)
    x = g.double()
    if g.shape[0] > g.shape[1]:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        y = x @ x.T
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.T if g.shape[0] > g.shape[1] else x


@pytest.mark.usefixtures("exact")
def test_muon_is_nesterov_momentum_then_newton_schulz_then_a_scaled_step() -> None:
    lr, beta, decay = 0.05, 0.9, 0.1
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in [(6, 6), (12, 6), (6, 12), (6, 6)]]
    ours = [nn.Parameter(matrix.clone()) for matrix in start]
    plain = [matrix.double() for matrix in start]
    buffers = [torch.zeros_like(matrix) for matrix in plain]
    muon = Muon(ours, lr, beta, decay)
    for _ in range(5):
        for number, matrix in enumerate(ours):
            matrix.grad = torch.randn(matrix.shape, generator=generator)
            g = matrix.grad.double()
            buffers[number] = beta * buffers[number] + (1 - beta) * g
            update = newton_schulz((1 - beta) * g + beta * buffers[number])
            scale = max(1.0, g.shape[0] / g.shape[1]) ** 0.5
            plain[number] = plain[number] * (1 - lr * decay) - lr * scale * update
        muon.step()
    for matrix, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(matrix.detach(), expected.float(), atol=2e-4, rtol=0)


def test_adamw_decays_matrices_and_embeddings_but_no_vectors() -> None:
    made = model()
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    optimizers = Optimizers(made, AdamWConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step()
    for name, parameter in made.named_parameters():
        share = 1 - 0.1 * 0.5 if parameter.dim() == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * share, msg=name)
    assert {"wte.weight", "wpe.weight", "ln_f.bias"} <= set(before)


@pytest.mark.parametrize("config", [AdamWConfig, MuonConfig])
def test_the_ngram_table_has_its_own_learning_rate(config: type[AdamWConfig] | type[MuonConfig]) -> None:
    made = model(ngram_size=2, ngram_rows=8, ngram_width=4)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    optimizers = Optimizers(
        made, config(learning_rate=0.5, ngram_learning_rate=0.125, weight_decay=0.0, grad_clip=None, eps=1e-12)
    )
    optimizers.set_multiplier(0.5)
    for parameter in made.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step()  # AdamW's first step is its rate, whatever the gradient
    for name, rate in {"ngrams.table.weight": 0.0625, "wte.weight": 0.25, "ngrams.proj.weight": 0.25}.items():
        after = made.get_parameter(name).detach()
        torch.testing.assert_close(before[name] - after, torch.full_like(after, rate), msg=name)


def test_an_ngram_learning_rate_without_ngrams_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"optim\.ngram_learning_rate = 0\.1, but the model has no n-gram table"):
        Optimizers(model(), AdamWConfig(ngram_learning_rate=0.1))


def test_adamw_equals_torchs_unfused_adamw_with_clipped_gradients() -> None:
    ours, plain = model(), model()
    config = AdamWConfig(learning_rate=0.01, weight_decay=0.1, beta1=0.8, beta2=0.9, eps=1e-6, grad_clip=0.5)
    optimizers = Optimizers(ours, config)
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in plain.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in plain.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=0.01, betas=(0.8, 0.9), eps=1e-6, foreach=False, fused=False,
    )  # fmt: skip
    for step, factor in enumerate([0.5, 1.0, 0.25]):
        gradients(ours, step)
        gradients(plain, step)
        norm = torch.stack([p.grad.square().sum() for p in plain.parameters() if p.grad is not None]).sum().sqrt()
        for parameter in plain.parameters():
            assert parameter.grad is not None
            parameter.grad *= 0.5 / (norm + 1e-6)
        optimizers.set_multiplier(factor)
        assert optimizers.learning_rate == 0.01 * factor
        for group in reference.param_groups:
            group["lr"] = 0.01 * factor
        optimizers.step()
        reference.step()
        assert all(parameter.grad is None for parameter in ours.parameters())
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_without_clipping_large_gradients_stay() -> None:
    # With beta2 = 0 and a large eps the update is lr * g / (|g| + eps): it tells a clipped gradient from a whole one.
    made = model()
    config = AdamWConfig(learning_rate=1.0, weight_decay=0.0, beta1=0.0, beta2=0.0, eps=100.0, grad_clip=None)
    optimizers = Optimizers(made, config)
    before = made.get_parameter("ln_f.weight").detach().clone()
    for parameter in made.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizers.step()
    torch.testing.assert_close(made.get_parameter("ln_f.weight").detach(), before - 0.5)


def kinds_of_state(made: nn.Module) -> dict[str, set[str]]:
    """Per parameter, what is kept of it after one step under Muon."""
    optimizers = Optimizers(made, MuonConfig())
    gradients(made, 0)
    optimizers.step()
    names = [name for name, _ in made.named_parameters()]
    return {
        name: {key.rpartition("/")[2] for key in optimizers.state() if key.startswith(f"{name}/")} for name in names
    }


def test_muon_updates_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    made = model()
    kinds = kinds_of_state(made)
    for name, parameter in made.named_parameters():
        inside = name.startswith("h.") and parameter.dim() == 2
        assert kinds[name] == ({"momentum"} if inside else {"step", "exp_avg", "exp_avg_sq"}), name


def test_muon_updates_encoder_and_cross_attention_matrices_but_no_head_or_embedding() -> None:
    fields = {"arch": "seq2seq", "n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 6, "vocab_size": 11}
    made = build_model(ModelConfig(**fields, tie=False, n_class=3))
    made.init_weights(0)
    by_muon = {name for name, kinds in kinds_of_state(made).items() if kinds == {"momentum"}}
    inside = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    cross = ["crossattention.q_attn", "crossattention.c_attn", "crossattention.c_proj"]
    assert by_muon == {f"{stack}.{name}.weight" for stack in ("h.0", "encoder.h.0") for name in inside} | {
        f"h.0.{name}.weight" for name in cross
    }
    heads = {"score.weight", "lm_head.weight", "wte.weight", "wpe.weight", "encoder.wte.weight", "encoder.wpe.weight"}
    assert heads < dict(made.named_parameters()).keys() - by_muon


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()], ids=["adamw", "muon"])
def test_restored_optimizer_state_continues_bit_identically(config: AdamWConfig | MuonConfig) -> None:
    first = model()
    optimizers = Optimizers(first, config)
    for step in range(3):
        gradients(first, step)
        optimizers.step()
    second = copy.deepcopy(first)
    again = Optimizers(second, config)
    again.load_state({name: tensor.clone() for name, tensor in optimizers.state().items()})
    for step in range(3, 6):
        for made, each in ((first, optimizers), (second, again)):
            gradients(made, step)
            each.step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    assert optimizers.state().keys() == again.state().keys()
