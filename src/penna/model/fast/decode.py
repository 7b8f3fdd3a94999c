"""Tokens for every row: the decoder's blocks as one function over flat weights.

A small model's step is over in less time than Python takes to find its way through modules. Here the numbers that
`GPT.hidden` gives for tokens behind a cache are made with as few operations as they can be: no modules, no dropout, one
sum for a rotation, keys and values written at once. Shapes: B rows, T tokens of each, R tokens in all, H heads, K
key/value heads, D head_dim, C n_embd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.model.cache import KVCache, Placement
from penna.model.gpt import GPT, MLP, Block, Context, RMSNorm, SelfAttention, attend
from penna.model.linear import Linear

_Apply = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Call:
    """What the blocks of one call share."""

    context: Context
    rotary: tuple[Tensor, Tensor] | None  # as ``_one_sum`` gives them
    B: int
    T: int
    real: Tensor | None  # (R,) which of the B * T tokens are worked out, if not all


_Write = Callable[[Tensor, _Call], tuple[Tensor, Tensor, Tensor]]  # (R, C) -> queries, and all keys and values
_Mix = Callable[[Tensor, Tensor, Tensor, _Call], Tensor]  # these -> (R, C)


class _Parts(NamedTuple):
    """A block."""

    norm_1: _Apply
    write: _Write
    mix: _Mix
    norm_2: _Apply
    mlp: _Apply


class FastDecoder:
    """Reads tokens behind each row of a cache. The model is in evaluation mode, and its weights stay as they are."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._is_pre = model.config.norm_position == "pre"
        self._wte = model.wte.weight
        kind = model.config.positions
        self._positions = model.wpe.weight if kind == "learned" else model.sinusoids if kind == "sinusoidal" else None
        self._blocks = [_parts(cast(Block, block)) for block in model.h]
        self._norm = _norm(model.ln_f)

    @staticmethod
    def supports(model: GPT) -> bool:
        """Whether it can read what this model reads: a GPT without an encoder, in float32 but for int8 weights."""
        return model.arch == "gpt" and model.wte.weight.dtype == torch.float32

    def hidden(self, ids: Tensor, cache: KVCache, placement: Placement | None = None) -> Tensor:
        """Last hidden states of ids (B, T) behind what each row of the cache holds, or where ``placement`` says they
        stand, after the final norm: (B, T, C).

        Keys and values are written, and the caller advances the cache, as with `GPT.hidden`.
        """
        context = self._model.context(ids, cache, placement)
        x = self._embed(ids, context, is_chain=placement is None).flatten(0, 1)  # (R, C)
        return self._norm(self._through(x, self._blocks, _call(context, ids))).view(*ids.shape, -1)

    def prefill(self, ids: Tensor, lengths: Tensor, cache: KVCache) -> None:
        """Write keys and values of ids (B, T), texts of these lengths (B,) filled up on the right, behind what each row
        of the cache holds; the caller advances it.

        Nothing but attention is worked out for what fills up, and nothing at all that only hidden states would need.
        """
        context = self._model.context(ids, cache)
        x = self._embed(ids, context, is_chain=True).flatten(0, 1)
        real = (torch.arange(ids.shape[1]) < lengths[:, None]).flatten().nonzero()[:, 0].to(ids.device)  # (R,)
        call, (*blocks, last) = _call(context, ids, real), self._blocks
        x = self._through(x[real], blocks, call)
        last.write(last.norm_1(x) if self._is_pre else x, call)

    def _through(self, x: Tensor, blocks: Sequence[_Parts], call: _Call) -> Tensor:
        """Tokens (R, C) through blocks."""
        for norm_1, write, mix, norm_2, mlp in blocks:
            if self._is_pre:
                x = x + mix(*write(norm_1(x), call), call)
                x = x + mlp(norm_2(x))
            else:
                x = norm_1(x + mix(*write(x, call), call))
                x = norm_2(x + mlp(x))
        return x

    def _embed(self, ids: Tensor, context: Context, *, is_chain: bool) -> Tensor:
        """As `GPT.embed`; where all rows stand at the same place, positions are a part of their table."""
        at = context.placement
        if self._model.ngrams is not None or at is None or at.start is None or not is_chain:
            return self._model.embed(ids, context)
        x = torch.embedding(self._wte, ids)
        return x if self._positions is None else x + self._positions.narrow(0, at.start, ids.shape[1])


def _call(context: Context, ids: Tensor, real: Tensor | None = None) -> _Call:
    rotary = None if context.rotary is None else _one_sum(context.rotary)
    return _Call(context, rotary, ids.shape[0], ids.shape[1], real)


def _parts(block: Block) -> _Parts:
    return _Parts(_norm(block.ln_1), *_attention(block.attn), _norm(block.ln_2), _mlp(block.mlp))


def _norm(module: nn.Module) -> _Apply:
    if isinstance(module, RMSNorm):
        return _rms_norm(module.weight, module.eps)
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps, False)
    return lambda x: x


def _rms_norm(weight: Tensor, eps: float) -> _Apply:
    share, least = 1 / weight.shape[-1], torch.tensor(eps, device=weight.device)

    def normalise(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.addcmul(least, length, length, value=share).rsqrt_().mul(x).mul_(weight)

    return normalise


def _attention(module: SelfAttention) -> tuple[_Write, _Mix]:
    H, K, D, layer = module.n_head, module.n_kv_head, module.head_dim, module.layer
    project, out = _linear(module.c_attn), _linear(module.c_proj)
    normalise = None
    if module.q_norm is not None and module.k_norm is not None:
        weights = torch.stack((*[module.q_norm.weight] * H, *[module.k_norm.weight] * K))  # (H + K, D)
        normalise = _rms_norm(weights, module.q_norm.eps)

    def write(x: Tensor, call: _Call) -> tuple[Tensor, Tensor, Tensor]:
        cache, placement = cast(KVCache, call.context.cache), cast(Placement, call.context.placement)
        heads = project(x)
        if call.real is not None:
            heads = heads.new_zeros(call.B * call.T, heads.shape[1]).index_copy_(0, call.real, heads)
        heads = heads.view(call.B, call.T, H + 2 * K, D)
        if normalise is not None or call.rotary is not None:
            qk = heads[:, :, : H + K]
            if normalise is not None:
                qk = normalise(qk)
            if call.rotary is not None:
                qk = torch.addcmul(qk * call.rotary[0], qk.roll(D // 2, -1), call.rotary[1])
            heads = torch.cat((qk, heads[:, :, H + K :]), dim=2)
        q, both = torch.split_with_sizes(heads, (H, 2 * K), 2)
        both = both.view(call.B, call.T, 2, K, D).permute(0, 2, 3, 1, 4)
        return q.transpose(1, 2), *cache.write(layer, both, placement)

    def mix(q: Tensor, keys: Tensor, values: Tensor, call: _Call) -> Tensor:
        mask = call.context.mask
        causal = call.T > 1 and mask is None
        if H == K:
            y = F.scaled_dot_product_attention(q, keys, values, mask, is_causal=causal)
        else:
            y = attend(q, keys, values, mask, causal=causal, dropout=0.0, weights=None)
        y = (y if call.T == 1 else y.transpose(1, 2)).reshape(call.B * call.T, H * D)
        return out(y if call.real is None else y[call.real])

    return write, mix


def _one_sum(rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, T, 1, D) such that a rotation is x * cos + roll(x, D / 2) * sin."""
    cos, sin = rotary
    first, second = sin.chunk(2, dim=-1)
    return cos, torch.cat((-first, second), dim=-1)


def _mlp(module: MLP) -> _Apply:
    into, out, kind = _linear(module.c_fc), _linear(module.c_proj), module.kind

    def transform(x: Tensor) -> Tensor:
        x = into(x)
        if kind == "gelu":
            return out(F.gelu(x, approximate="tanh"))
        if kind == "relu2":
            return out(F.relu(x).square())
        gate, value = x.chunk(2, dim=-1)
        return out(F.silu(gate) * value)

    return transform


def _linear(module: nn.Module) -> _Apply:
    """A layer's product, without looking at each call for what cannot change."""
    if not isinstance(module, Linear):
        return module.forward
    weight, few_rows = module.weight, module.small_batch
    bias = cast(Tensor | None, module.bias)
    if few_rows is not None:
        return lambda x: few_rows.multiply(x, bias)
    turned = weight.t().contiguous()  # BLAS is quicker with few rows where a small weight lies the other way round
    return (lambda x: torch.mm(x, turned)) if bias is None else (lambda x: torch.addmm(bias, x, turned))
