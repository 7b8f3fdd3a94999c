"""The GPT: token ids to hidden states and logits.

One class covers GPT-1, GPT-2 and Qwen3, depending on ``ModelConfig``. Modules have GPT-2's names, so that Hugging Face
weights map by name. Modules keep no state between calls: the KV cache and the lists that collect attention weights are
arguments. Shapes: B batch, T tokens of this call, S tokens attended to, H heads, K key/value heads, D head_dim,
C n_embd.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.cache import EncoderCache, KVCache, Placement
from penna.model.fast.small_batch_matmul import SmallBatchMatmul, small_batch_matmul
from penna.model.linear import Int8Linear, Linear, Matmul, linear
from penna.model.ngrams import NgramEmbedding, pad_start


@dataclass(frozen=True)
class Context:
    """Inputs that all blocks of one forward pass share."""

    rotary: tuple[Tensor, Tensor] | None  # cos and sin, each (B or 1, T, 1, D)
    cache: KVCache | None
    placement: Placement | None  # positions of the tokens in the cache
    mask: Tensor | None  # (B, 1, T or 1, S), True or 0 if a token is attended to; None for causal attention
    attention: list[Tensor] | None  # each block appends its attention weights, (B, H, T, S)
    encoder_cache: EncoderCache | None = None
    cross_attention: list[Tensor] | None = None  # each block appends its cross-attention weights, (B, H, T, S)


def sinusoidal_table(block_size: int, n_embd: int, scale: float) -> Tensor:
    """Sinusoidal positions: sines in even columns, cosines in odd columns, (block_size, n_embd).

    Vaswani et al. 2017, section 3.5. Their amplitude of 1 is replaced by ``scale``, because token embeddings have a
    standard deviation of only 0.02.
    """
    position = torch.arange(block_size, dtype=torch.float64)[:, None]
    frequency = torch.exp(torch.arange(0, n_embd, 2, dtype=torch.float64) * (-math.log(10000.0) / n_embd))
    table = torch.empty(block_size, n_embd, dtype=torch.float64)
    table[:, 0::2] = torch.sin(position * frequency)
    table[:, 1::2] = torch.cos(position * frequency)
    return (scale * table).float()


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles: (..., T) -> two tensors (..., T, 1, head_dim) (Su et al. 2021)."""
    exponent = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions.float()[..., None] / theta**exponent  # (..., T, D/2)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)  # (..., T, 1, D)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair (i, i + D/2) of x (B, T, H, D) by the angle of its position."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)


class RMSNorm(nn.Module):
    """Division by the root mean square over the last axis, in float32 (Zhang and Sennrich 2019).

    Uses a vector norm, which reads its input once; torch's own RMSNorm reads it several times.
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (..., width)."""
        wide = x.float()
        mean_square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square() / x.shape[-1]
        return (wide * torch.rsqrt(mean_square + self.eps) * self.weight).to(x.dtype)


def make_norm(config: ModelConfig, width: int) -> nn.Module:
    """The configured normalization over the last axis."""
    if config.norm == "rmsnorm":
        return RMSNorm(width, eps=config.norm_eps)
    return nn.LayerNorm(width, eps=config.norm_eps)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool, dropout: float, weights: list[Tensor] | None
) -> Tensor:
    """Scaled dot-product attention: q (B, H, T, D), k and v (B, K, S, D) -> (B, H, T, D).

    The mask is either boolean (True: attended to) or added to the scores (0 or minus infinity). If ``weights`` is a
    list, the attention weights (B, H, T, S) are appended to it; otherwise the faster fused kernel is used.
    """
    B, H, T, D = q.shape
    K = k.shape[1]
    if K != H and T == 1 and weights is None:  # treat the heads of a group as tokens: they share keys
        y = attend(q.view(B, K, H // K, D), k, v, mask, causal=False, dropout=dropout, weights=None)
        return y.reshape(B, H, T, D)
    if K != H:
        k, v = k.repeat_interleave(H // K, dim=1), v.repeat_interleave(H // K, dim=1)
    if weights is None:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    weights.append(scores.softmax(dim=-1))
    return F.dropout(weights[-1], dropout) @ v


class SelfAttention(nn.Module):
    """Multi-head or grouped-query self-attention, causal unless a mask is given: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.kv_heads, config.head_width
        self.dropout = config.dropout
        self.c_attn = Linear(config.n_embd, (self.n_head + 2 * self.n_kv_head) * self.head_dim, bias=config.bias)
        self.c_proj = Linear(self.n_head * self.head_dim, config.n_embd, bias=config.bias)
        self.q_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Attend to the cache and the tokens of this call."""
        B, T, _ = x.shape
        heads = self.c_attn(x).view(B, T, -1, self.head_dim)  # (B, T, H + 2K, D)
        q, k, v = heads.split((self.n_head, self.n_kv_head, self.n_kv_head), dim=2)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if context.rotary is not None:
            q, k = rotate(q, context.rotary), rotate(k, context.rotary)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H or K, T, D)
        if context.cache is not None and context.placement is not None:
            k, v = context.cache.write(self.layer, torch.stack((k, v), dim=1), context.placement)  # (B, K, S, D)
        causal, dropout = context.mask is None and T > 1, self.dropout if self.training else 0.0
        y = attend(q, k, v, context.mask, causal=causal, dropout=dropout, weights=context.attention)  # (B, H, T, D)
        y = self.c_proj(y.transpose(1, 2).reshape(B, T, -1))
        return F.dropout(y, self.dropout, self.training)


class MLP(nn.Module):
    """Feed-forward layer, applied to each token: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind, self.dropout = config.mlp, config.dropout
        width = config.inner_width
        # For swiglu, gate and value are stacked in one matrix, the gate first.
        self.c_fc = Linear(config.n_embd, 2 * width if self.kind == "swiglu" else width, bias=config.bias)
        self.c_proj = Linear(width, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        x = self.c_fc(x)  # (B, T, n_inner), swiglu: (B, T, 2 n_inner)
        if self.kind == "gelu":
            x = F.gelu(x, approximate="tanh")
        elif self.kind == "relu2":
            x = F.relu(x).square()
        else:
            gate, value = x.chunk(2, dim=-1)
            x = F.silu(gate) * value
        return F.dropout(self.c_proj(x), self.dropout, self.training)


class Block(nn.Module):
    """Self-attention and MLP with residual connections, normalized before (GPT-2) or after the sum (GPT-1)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.is_pre_norm = config.norm_position == "pre"
        self.ln_1 = make_norm(config, config.n_embd)
        self.attn = SelfAttention(config, layer)
        self.ln_2 = make_norm(config, config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.is_pre_norm:
            x = x + self.attn(self.ln_1(x), context)
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.attn(x, context))
        return self.ln_2(x + self.mlp(x))


class GPT(nn.Module):
    """The decoder-only model. ``config.vocab_size`` must be set."""

    arch: ClassVar[str] = "gpt"
    block: ClassVar[type[Block]] = Block
    sinusoids: Tensor  # (block_size, C), only with sinusoidal positions
    rotary_cos: Tensor  # (block_size, 1, D), only with rotary positions
    rotary_sin: Tensor  # (block_size, 1, D), only with rotary positions
    matmul: Matmul = "blas"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.arch != self.arch:
            raise ValueError(f"{type(self).__name__} has arch = {self.arch}, not {config.arch}; use build_model")
        self.config = config
        self.wte = nn.Embedding(config.rows, config.n_embd)
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.block_size, config.n_embd)
        elif config.positions == "sinusoidal":
            table = sinusoidal_table(config.block_size, config.n_embd, config.position_scale)
            self.register_buffer("sinusoids", table, persistent=False)
        elif config.positions == "rotary":
            cos, sin = rotary_tables(torch.arange(config.block_size), config.head_width, config.rope_theta)
            self.register_buffer("rotary_cos", cos, persistent=False)
            self.register_buffer("rotary_sin", sin, persistent=False)
        self.ngrams = None if config.ngram_size is None else NgramEmbedding(config)
        self.h = nn.ModuleList(self.block(config, layer) for layer in range(config.n_layer))
        self.ln_f = make_norm(config, config.n_embd) if config.norm_position == "pre" else nn.Identity()
        self.lm_head = None if config.tie else Linear(config.n_embd, config.rows, bias=False)
        self.int8_head: Int8Linear | None = None  # replaces head_weight if set
        self._small_batch_head: SmallBatchMatmul | None = None
        self.score = None if config.n_class is None else Linear(config.n_embd, config.n_class, bias=False)

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Initialize every parameter: matrices normal with standard deviation 0.02, biases zero, norms one.

        Projections into the residual stream have a standard deviation of 0.02 / sqrt(2 n_layer) (Radford et al. 2019)
        or are zero, depending on ``residual_init``. A parameter depends only on the seed and its name, so it is the
        same on every device and in models that differ elsewhere.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            deviation = 0.02
            if name.endswith("c_proj.weight"):
                scaled = self.config.residual_init == "scaled"
                deviation = 0.02 / math.sqrt(2 * self.stack_depth(name)) if scaled else 0.0
            generator = torch.Generator().manual_seed(_parameter_seed(seed, name))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)

    def stack_depth(self, name: str) -> int:
        """Number of blocks in the stack that this parameter belongs to."""
        return self.config.n_layer

    def hidden(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        attention: list[Tensor] | None = None,
        *,
        encoder_cache: EncoderCache | None = None,
        cross_attention: list[Tensor] | None = None,
        placement: Placement | None = None,
    ) -> Tensor:
        """Hidden states after the final norm: ids (B, T) -> (B, T, C).

        With a cache, the ids continue each row, or take the positions in ``placement``. Their keys and values are
        written; the caller advances the cache. ``encoder_cache`` is required by a seq2seq model and rejected by a GPT.
        Each block appends its attention weights (B, H, T, S) to ``attention`` and ``cross_attention`` if given.
        """
        if (encoder_cache is None) == (self.arch == "seq2seq"):
            raise ValueError(f"arch = {self.arch} {'needs an' if encoder_cache is None else 'takes no'} encoder cache")
        if encoder_cache is not None and encoder_cache.batch != len(ids):
            raise ValueError(f"{len(ids)} rows of ids do not match {encoder_cache.batch} sources")
        context = replace(
            self.context(ids, cache, placement, attention), encoder_cache=encoder_cache, cross_attention=cross_attention
        )
        x = F.dropout(self.embed(ids, context), self.config.dropout, self.training)
        for block in self.h:
            x = block(x, context)
        return self.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the next token: (..., C) -> (..., vocab_size)."""
        if self.int8_head is not None:
            return self.int8_head(hidden)
        return linear(hidden, self.head_weight, None, self.matmul, self._small_batch_head)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, (vocab_size, C); with tied embeddings, the token embeddings."""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def use_matmul(self, matmul: Matmul) -> None:
        """Set the library that computes float32 products in every layer."""
        for module in self.modules():
            if isinstance(module, Linear | GPT):
                module.matmul = matmul

    def freeze_for_inference(self) -> None:
        """Prepare fast products of a few rows (`small_batch_matmul`) for weights that will not change.

        This may keep a second copy of the weights. Call it again after changing weights.
        """
        if self.int8_head is None:
            self._small_batch_head = small_batch_matmul(self.head_weight, self._small_batch_head)
        for module in self.modules():
            if isinstance(module, Linear):
                module.small_batch = small_batch_matmul(module.weight, module.small_batch)

    def forward(self, ids: Tensor, cache: KVCache | None = None, encoder_cache: EncoderCache | None = None) -> Tensor:
        """Logits of the next token at every position: (B, T) -> (B, T, vocab_size)."""
        return self.logits(self.hidden(ids, cache, encoder_cache=encoder_cache))

    def embed(self, ids: Tensor, context: Context) -> Tensor:
        """Token, n-gram and position embeddings, summed: (B, T) -> (B, T, C)."""
        return self.add_positions(self.embed_tokens(ids, context.placement), context.placement)

    def embed_tokens(self, ids: Tensor, placement: Placement | None = None) -> Tensor:
        """Token and n-gram embeddings, without positions: (B, T) -> (B, T, C)."""
        x = self.wte(ids)  # (B, T, C)
        if self.ngrams is None:
            return x
        ngram_ids = pad_start(ids, self.ngrams.size) if placement is None else placement.ngram_ids
        assert ngram_ids is not None
        return x + self.ngrams(ngram_ids).view_as(x)

    def add_positions(self, x: Tensor, placement: Placement | None = None) -> Tensor:
        """Add learned or sinusoidal positions to embeddings (B, T, C); rotary ones are applied in attention."""
        if self.config.positions in ("rotary", "none"):
            return x
        table = self.wpe.weight if self.config.positions == "learned" else self.sinusoids
        if placement is None:
            return x + table[: x.shape[1]]
        return x + F.embedding(placement.positions, table)

    def context(
        self,
        ids: Tensor,
        cache: KVCache | None,
        placement: Placement | None = None,
        attention: list[Tensor] | None = None,
    ) -> Context:
        """The shared inputs of all blocks. Raises ValueError if the ids exceed the block size or the cache."""
        T = ids.shape[1]
        if cache is None and self.config.block_size < T:
            raise ValueError(f"{T} tokens do not fit a block of {self.config.block_size}")
        if cache is not None and placement is None:
            placement = cache.place_next(ids)
        rotary = None
        if self.config.positions == "rotary":
            if placement is None:
                rotary = self.rotary_cos[None, :T], self.rotary_sin[None, :T]
            else:
                rotary = self.rotary_cos[placement.positions], self.rotary_sin[placement.positions]
        return Context(rotary, cache, placement, None if placement is None else placement.mask, attention)


def _parameter_seed(seed: int, name: str) -> int:
    """The seed of one parameter."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]) >> 1


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters; a tied matrix counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
