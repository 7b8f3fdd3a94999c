"""The encoder-decoder: an encoder reads a source, and a GPT with cross-attention in every block generates from it.

``encode`` turns sources into an ``EncoderCache`` once per request; ``hidden`` takes it as an argument. The decoder
keeps a GPT's parameter names (``wte wpe h.N.attn ... ln_f``), so it can start from a pretrained GPT (``load_decoder``).
New parameters are ``h.N.crossattention`` and ``h.N.ln_cross_attn``, named as in Hugging Face's GPT-2, and those under
``encoder.``. With ``tie``, one matrix is source embedding, target embedding and output matrix (Vaswani et al. 2017,
section 3.4); otherwise there are three. Cross-attention does not use rotary positions: source and target positions have
no distance. Shapes: B batch, T tokens of this call, S tokens of the longest source, H heads, K key/value heads,
D head_dim, C n_embd.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.cache import EncoderCache
from penna.model.gpt import GPT, Block, Context, RMSNorm, attend, make_norm, rotary_tables, sinusoidal_table
from penna.model.linear import Linear


class Encoder(nn.Module):
    """A stack of the decoder's blocks with weights of its own, in which every source token attends to every other.

    It has a token embedding (``wte``) only if ``tie`` is off; otherwise the model applies the decoder's.
    """

    sinusoids: Tensor  # (source_size, C), only with sinusoidal positions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = None if config.tie else nn.Embedding(config.rows, config.n_embd)
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.source_span, config.n_embd)
        elif config.positions == "sinusoidal":
            table = sinusoidal_table(config.source_span, config.n_embd, config.position_scale)
            self.register_buffer("sinusoids", table, persistent=False)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.encoder_layers))
        self.ln_f = make_norm(config, config.n_embd) if config.norm_position == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor, attention: list[Tensor] | None = None) -> Tensor:
        """Hidden states after the final norm of embedded tokens: (B, S, C) -> (B, S, C).

        ``mask`` (B, 1, 1, S) is False for padding, whose hidden states are meaningless. Each block appends its
        attention weights (B, H, S, S) to ``attention`` if given.
        """
        span = x.shape[1]
        if span > self.config.source_span:
            raise ValueError(f"{span} tokens do not fit a source of {self.config.source_span}")
        rotary = None
        if self.config.positions == "learned":
            x = x + self.wpe.weight[:span]
        elif self.config.positions == "sinusoidal":
            x = x + self.sinusoids[:span]
        else:
            positions = torch.arange(span, device=x.device)
            cos, sin = rotary_tables(positions, self.config.head_width, self.config.rope_theta)
            rotary = (cos[None], sin[None])
        context = Context(rotary, cache=None, placement=None, mask=mask, attention=attention)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, context)
        return self.ln_f(x)


class CrossAttention(nn.Module):
    """Attention from target tokens to the whole source: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.kv_heads, config.head_width
        self.dropout = config.dropout
        self.q_attn = Linear(config.n_embd, self.n_head * self.head_dim, bias=config.bias)
        self.c_attn = Linear(config.n_embd, 2 * self.n_kv_head * self.head_dim, bias=config.bias)
        self.c_proj = Linear(self.n_head * self.head_dim, config.n_embd, bias=config.bias)
        self.q_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, eps=config.norm_eps) if config.qk_norm else None

    def keys_and_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of encoded sources: (B, S, C) -> two tensors (B, K, S, D)."""
        B, S, _ = states.shape
        k, v = self.c_attn(states).view(B, S, 2 * self.n_kv_head, self.head_dim).chunk(2, dim=2)
        if self.k_norm is not None:
            k = self.k_norm(k)
        return k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Attend to the encoder cache."""
        assert context.encoder_cache is not None
        B, T, _ = x.shape
        q = self.q_attn(x).view(B, T, self.n_head, self.head_dim)
        if self.q_norm is not None:
            q = self.q_norm(q)
        y = attend(
            q.transpose(1, 2),  # (B, H, T, D)
            context.encoder_cache.keys[self.layer],
            context.encoder_cache.values[self.layer],
            context.encoder_cache.mask,
            causal=False,
            dropout=self.dropout if self.training else 0.0,
            weights=context.cross_attention,
        )
        y = self.c_proj(y.transpose(1, 2).reshape(B, T, -1))
        return F.dropout(y, self.dropout, self.training)


class CrossBlock(Block):
    """A GPT's block with cross-attention between self-attention and MLP."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.crossattention = CrossAttention(config, layer)
        self.ln_cross_attn = make_norm(config, config.n_embd)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if self.is_pre_norm:
            x = x + self.attn(self.ln_1(x), context)
            x = x + self.crossattention(self.ln_cross_attn(x), context)
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.attn(x, context))
        x = self.ln_cross_attn(x + self.crossattention(x, context))
        return self.ln_2(x + self.mlp(x))


class Seq2Seq(GPT):
    """Encoder and decoder with one vocabulary. ``config.vocab_size`` must be set."""

    arch: ClassVar[str] = "seq2seq"
    block: ClassVar[type[Block]] = CrossBlock

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)

    def encode(self, source_ids: Tensor, lengths: Tensor, attention: list[Tensor] | None = None) -> EncoderCache:
        """Encode sources (B, S), padded on the right, with lengths (B,) of at least 1.

        Padding ids have no effect. Each encoder block appends its attention weights (B, H, S, S) to ``attention`` if
        given.
        """
        width, lengths = source_ids.shape[1], lengths.to(source_ids.device)
        if not torch.compiler.is_compiling() and bool(((lengths < 1) | (lengths > width)).any()):
            raise ValueError(f"source lengths must be between 1 and {width}, not {lengths.tolist()}")
        mask = (torch.arange(width, device=source_ids.device) < lengths[:, None])[:, None, None]  # (B, 1, 1, S)
        embedding = self.wte if self.encoder.wte is None else self.encoder.wte
        return self.build_encoder_cache(self.encoder(embedding(source_ids), mask, attention), mask)

    def build_encoder_cache(self, states: Tensor, mask: Tensor) -> EncoderCache:
        """The cross-attention cache of encoder states (B, S, C); ``mask`` (B, 1, 1, S) is False for padding."""
        blocks = [block for block in self.h if isinstance(block, CrossBlock)]
        keys, values = zip(*(block.crossattention.keys_and_values(states) for block in blocks), strict=True)
        return EncoderCache(states, keys, values, mask)

    def load_decoder(self, weights: Mapping[str, Tensor]) -> None:
        """Load a GPT's state dict into the decoder; encoder and cross-attention keep their weights.

        With tied embeddings, the encoder uses the GPT's token embedding from then on. Raises RuntimeError naming the
        tensors that are missing, unknown or of another shape.
        """
        new = {name: tensor for name, tensor in self.state_dict().items() if not is_gpt_weight(name)}
        self.load_state_dict({**weights, **new})

    def stack_depth(self, name: str) -> int:
        """Number of blocks in the stack that this parameter belongs to."""
        return self.config.encoder_layers if name.startswith("encoder.") else self.config.n_layer


def is_gpt_weight(name: str) -> bool:
    """Whether a Seq2Seq parameter also exists in a plain GPT."""
    return not (name.startswith("encoder.") or ".crossattention." in name or ".ln_cross_attn." in name)


def build_model(config: ModelConfig) -> GPT:
    """The model of a configuration, chosen by ``arch``. Call ``init_weights`` or load weights next."""
    return Seq2Seq(config) if config.arch == "seq2seq" else GPT(config)
