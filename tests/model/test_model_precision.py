"""int8 and bfloat16 weights: close to float32, and independent of the batch."""

import math

import pytest
import torch
from torch import nn

from penna.config.sections import ModelConfig
from penna.errors import DeviceError
from penna.model.gpt import GPT
from penna.model.linear import Int8Linear, Linear
from penna.model.precision import convert_weights
from penna.model.seq2seq import Seq2Seq, build_model


def small_model(**fields: object) -> GPT:
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 24, "vocab_size": 61}
    model = build_model(ModelConfig(**{**shape, **fields}))
    model.init_weights(0)
    return model.eval().requires_grad_(False)


def quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row-wise quantization in Python integers."""
    scales = [max(abs(value) for value in row) / 127 or 1.0 for row in x.tolist()]
    rows = [[round(value / scale) for value in row] for row, scale in zip(x.tolist(), scales, strict=True)]
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(scales, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_the_integer_product_scaled_by_row(bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(48, 20, bias=bias)
    x = torch.randn(5, 48, generator=generator) * torch.tensor([[1.0], [1e-3], [50.0], [1.0], [0.0]])
    rows, scales = quantize(x)
    columns, widths = quantize(layer.weight.detach())
    expected = rows @ columns.T * scales[:, None] * widths
    if bias:
        expected += layer.bias.detach().double()
    got = Int8Linear(layer.weight, layer.bias if bias else None)(x)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    assert got[4].tolist() == ([0.0] * 20 if not bias else layer.bias.tolist())


def test_a_row_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    layer, x = Int8Linear(torch.randn(96, 64, generator=generator), None), torch.randn(32, 64, generator=generator)
    together = layer(x)
    assert all(torch.equal(layer(x[row : row + 1])[0], together[row]) for row in range(32))
    assert torch.equal(layer(x.view(4, 8, 64)), together.view(4, 8, 96))


@pytest.mark.parametrize("fields", [{}, {"preset": "modern"}, {"tie": False}, {"arch": "seq2seq"}], ids=str)
def test_every_layer_of_a_model_uses_int8_and_is_close_to_float32(fields: dict[str, object]) -> None:
    plain, small = small_model(**fields), small_model(**fields)
    convert_weights(small, "int8")
    assert not any(isinstance(module, Linear) for module in small.modules())
    ids = torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(1))
    logprobs = []
    for model in (plain, small):
        encoder_cache = model.encode(ids, torch.tensor([20, 4, 9])) if isinstance(model, Seq2Seq) else None
        logprobs.append(model(ids, encoder_cache=encoder_cache).log_softmax(-1))
    assert (logprobs[0] - logprobs[1]).abs().max() < 0.05
    assert not torch.equal(logprobs[0], logprobs[1])
    loss = [float(-each[:, :-1].gather(2, ids[:, 1:, None]).mean()) for each in logprobs]
    assert math.exp(loss[1] - loss[0]) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rotary"])
def test_bfloat16_is_close_to_float32(positions: str) -> None:
    plain, short = small_model(positions=positions), small_model(positions=positions)
    convert_weights(short, "bfloat16")
    ids = torch.randint(0, 61, (3, 20), generator=torch.Generator().manual_seed(1))
    assert short(ids).dtype == torch.bfloat16
    assert (plain(ids) - short(ids).float()).abs().max() < 0.05


def test_int8_on_another_device_is_rejected() -> None:
    with torch.device("meta"):
        model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, vocab_size=9))
    with pytest.raises(DeviceError, match="int8 weights are not supported on meta"):
        convert_weights(model, "int8")
