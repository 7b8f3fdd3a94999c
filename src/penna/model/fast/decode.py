"""A faster forward pass for decoding: the GPT's blocks as functions over plain weights.

A small model's decoding step takes less time than Python spends on calling modules. `FastDecoder` computes what
`GPT.hidden` computes with a cache, but with as few operations as possible: no modules, no dropout, one sum per
rotation, keys and values written at once. Shapes: B rows, T tokens of each, R tokens in total, H heads, K key/value
heads, D head_dim, C n_embd.
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

_Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Call:
    """Inputs that all blocks of one call share."""

    context: Context
    rotary: tuple[Tensor, Tensor] | None  # see ``_signed_rotary``
    B: int
    T: int
    real: Tensor | None  # (R,) indices of the real tokens among B * T, if some are padding


_Project = Callable[[Tensor, _Call], tuple[Tensor, Tensor, Tensor]]  # (R, C) -> queries, all keys, all values
_Attend = Callable[[Tensor, Tensor, Tensor, _Call], Tensor]  # queries, keys, values -> (R, C)


class _BlockFunctions(NamedTuple):
    """One block as functions."""

    norm_1: _Layer
    qkv: _Project
    attention: _Attend
    norm_2: _Layer
    mlp: _Layer


class FastDecoder:
    """The forward pass with a cache. The model is in evaluation mode and its weights do not change."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._is_pre_norm = model.config.norm_position == "pre"
        self._wte = model.wte.weight
        kind = model.config.positions
        self._positions = model.wpe.weight if kind == "learned" else model.sinusoids if kind == "sinusoidal" else None
        self._blocks = [_block_functions(cast(Block, block)) for block in model.h]
        self._norm = _norm(model.ln_f)

    @staticmethod
    def supports(model: GPT) -> bool:
        """Whether it can run this model: a GPT without an encoder, in float32 or with int8 weights."""
        return model.arch == "gpt" and model.wte.weight.dtype == torch.float32

    def hidden(self, ids: Tensor, cache: KVCache, placement: Placement | None = None) -> Tensor:
        """Hidden states after the final norm, as `GPT.hidden`: ids (B, T) -> (B, T, C).

        The ids continue each row of the cache, or take the positions in ``placement``. Their keys and values are
        written; the caller advances the cache.
        """
        context = self._model.context(ids, cache, placement)
        x = self._embed(ids, context, is_continuation=placement is None).flatten(0, 1)  # (R, C)
        return self._norm(self._run(x, self._blocks, _call(context, ids))).view(*ids.shape, -1)

    def prefill(self, ids: Tensor, lengths: Tensor, cache: KVCache) -> None:
        """Write keys and values of texts, ids (B, T) padded on the right with lengths (B,); the caller advances.

        Padding goes through attention only, and the last block only writes its keys and values.
        """
        context = self._model.context(ids, cache)
        x = self._embed(ids, context, is_continuation=True).flatten(0, 1)
        real = (torch.arange(ids.shape[1]) < lengths[:, None]).flatten().nonzero()[:, 0].to(ids.device)  # (R,)
        call, (*blocks, last) = _call(context, ids, real), self._blocks
        x = self._run(x[real], blocks, call)
        last.qkv(last.norm_1(x) if self._is_pre_norm else x, call)

    def _run(self, x: Tensor, blocks: Sequence[_BlockFunctions], call: _Call) -> Tensor:
        """Tokens (R, C) through the blocks."""
        for norm_1, qkv, attention, norm_2, mlp in blocks:
            if self._is_pre_norm:
                x = x + attention(*qkv(norm_1(x), call), call)
                x = x + mlp(norm_2(x))
            else:
                x = norm_1(x + attention(*qkv(x, call), call))
                x = norm_2(x + mlp(x))
        return x

    def _embed(self, ids: Tensor, context: Context, *, is_continuation: bool) -> Tensor:
        """As `GPT.embed`; if all rows have the same length, their positions are a slice of the table."""
        placement = context.placement
        if self._model.ngrams is not None or placement is None or placement.start is None or not is_continuation:
            return self._model.embed(ids, context)
        x = torch.embedding(self._wte, ids)
        return x if self._positions is None else x + self._positions.narrow(0, placement.start, ids.shape[1])


def _call(context: Context, ids: Tensor, real: Tensor | None = None) -> _Call:
    rotary = None if context.rotary is None else _signed_rotary(context.rotary)
    return _Call(context, rotary, ids.shape[0], ids.shape[1], real)


def _block_functions(block: Block) -> _BlockFunctions:
    return _BlockFunctions(_norm(block.ln_1), *_attention(block.attn), _norm(block.ln_2), _mlp(block.mlp))


def _norm(module: nn.Module) -> _Layer:
    if isinstance(module, RMSNorm):
        return _rms_norm(module.weight, module.eps)
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps, False)
    return lambda x: x


def _rms_norm(weight: Tensor, eps: float) -> _Layer:
    inverse_width, eps_tensor = 1 / weight.shape[-1], torch.tensor(eps, device=weight.device)

    def normalize(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.addcmul(eps_tensor, length, length, value=inverse_width).rsqrt_().mul(x).mul_(weight)

    return normalize


def _attention(module: SelfAttention) -> tuple[_Project, _Attend]:
    H, K, D, layer = module.n_head, module.n_kv_head, module.head_dim, module.layer
    c_attn, c_proj = _linear(module.c_attn), _linear(module.c_proj)
    normalize = None
    if module.q_norm is not None and module.k_norm is not None:
        weights = torch.stack((*[module.q_norm.weight] * H, *[module.k_norm.weight] * K))  # (H + K, D)
        normalize = _rms_norm(weights, module.q_norm.eps)

    def qkv(x: Tensor, call: _Call) -> tuple[Tensor, Tensor, Tensor]:
        cache, placement = cast(KVCache, call.context.cache), cast(Placement, call.context.placement)
        heads = c_attn(x)  # (R, (H + 2K) D)
        if call.real is not None:
            heads = heads.new_zeros(call.B * call.T, heads.shape[1]).index_copy_(0, call.real, heads)
        heads = heads.view(call.B, call.T, H + 2 * K, D)
        if normalize is not None or call.rotary is not None:
            qk = heads[:, :, : H + K]  # (B, T, H + K, D)
            if normalize is not None:
                qk = normalize(qk)
            if call.rotary is not None:
                qk = torch.addcmul(qk * call.rotary[0], qk.roll(D // 2, -1), call.rotary[1])
            heads = torch.cat((qk, heads[:, :, H + K :]), dim=2)
        q, kv = torch.split_with_sizes(heads, (H, 2 * K), 2)
        kv = kv.view(call.B, call.T, 2, K, D).permute(0, 2, 3, 1, 4)  # (B, 2, K, T, D)
        return q.transpose(1, 2), *cache.write(layer, kv, placement)

    def attention(q: Tensor, keys: Tensor, values: Tensor, call: _Call) -> Tensor:
        mask = call.context.mask
        causal = call.T > 1 and mask is None
        if H == K:
            y = F.scaled_dot_product_attention(q, keys, values, mask, is_causal=causal)  # (B, H, T, D)
        else:
            y = attend(q, keys, values, mask, causal=causal, dropout=0.0, weights=None)
        y = (y if call.T == 1 else y.transpose(1, 2)).reshape(call.B * call.T, H * D)
        return c_proj(y if call.real is None else y[call.real])  # (R, C)

    return qkv, attention


def _signed_rotary(rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, T, 1, D) such that the rotation is x * cos + roll(x, D / 2) * sin."""
    cos, sin = rotary
    first, second = sin.chunk(2, dim=-1)
    return cos, torch.cat((-first, second), dim=-1)


def _mlp(module: MLP) -> _Layer:
    c_fc, c_proj, kind = _linear(module.c_fc), _linear(module.c_proj), module.kind

    def transform(x: Tensor) -> Tensor:
        x = c_fc(x)
        if kind == "gelu":
            return c_proj(F.gelu(x, approximate="tanh"))
        if kind == "relu2":
            return c_proj(F.relu(x).square())
        gate, value = x.chunk(2, dim=-1)
        return c_proj(F.silu(gate) * value)

    return transform


def _linear(module: nn.Module) -> _Layer:
    """The product of a layer, with every choice made in advance."""
    if not isinstance(module, Linear):
        return module.forward
    weight, small_batch = module.weight, module.small_batch
    bias = cast(Tensor | None, module.bias)
    if small_batch is not None:
        return lambda x: small_batch.multiply(x, bias)
    transposed = weight.t().contiguous()  # BLAS multiplies a few rows faster with a small weight in this order
    return (lambda x: torch.mm(x, transposed)) if bias is None else (lambda x: torch.addmm(bias, x, transposed))
