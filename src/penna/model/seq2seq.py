"""The second architecture: an encoder reads a source, and a GPT with cross-attention in every block writes.

``encode`` turns sources into a ``Memory`` once per request; ``hidden`` takes it beside the cache, and everything else
is the GPT's. The decoder is a GPT and keeps a GPT's names (``wte wpe h.N.attn ... ln_f``); what is new stands beside
them: ``h.N.crossattention`` and ``h.N.ln_cross_attn``, named as in Hugging Face's GPT-2, and the encoder under
``encoder.``. So the weights of a pretrained GPT are a decoder's by name (``load_decoder``).

With ``tie`` one matrix embeds the source, embeds the target and gives the logits (Vaswani et al. 2017, section 3.4);
without it there are three. Under rotary positions cross-attention turns nothing: a place in the source and one in the
target have no distance from each other. Shapes: B batch, T tokens of this call, S tokens of the longest source, H
heads, K key/value heads, D head_dim, C n_embd.
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

# MERGED model.encoder: The encoder: a source's token embeddings in, its hidden states out; every token looks at
# every other.
#
# It is a stack of the decoder's own blocks (``penna.model.gpt.Block``) with weights of its own, and with a mask
# over the
# padding in place of the causal one, so that every field of ``ModelConfig`` means here what it means there: Vaswani
# et
# al. 2017 with ``norm_position = "post"``, and what has been usual since with ``"pre"``. Shapes: B batch, S tokens
# of the
# longest source, C n_embd.


class Encoder(nn.Module):
    """Reads sources, padded on the right. Of a configuration whose ``arch`` is seq2seq.

    It embeds tokens by itself (``wte``) only where ``tie`` is off; else its owner does, with the decoder's embedding.
    """

    sinusoids: Tensor  # (source_size, C) where positions are sinusoidal

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
        """Last hidden states of embedded tokens, after the final norm: (B, S, C) -> (B, S, C).

        ``mask`` (B, 1, 1, S) is True where there is source; what is not is looked at by no token, and its own states
        mean nothing. Attention weights, one (B, H, S, S) per block, are appended to ``attention`` where it is given.
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
            at = torch.arange(span, device=x.device)
            cos, sin = rotary_tables(at, self.config.head_width, self.config.rope_theta)
            rotary = (cos[None], sin[None])
        context = Context(rotary, cache=None, placement=None, mask=mask, attention=attention)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, context)
        return self.ln_f(x)


class CrossAttention(nn.Module):
    """Each token of the target looks at the whole source: (B, T, C) -> (B, T, C)."""

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
        """What a source is looked up by and what is found there: (B, S, C) -> two of (B, K, S, D)."""
        B, S, _ = states.shape
        k, v = self.c_attn(states).view(B, S, 2 * self.n_kv_head, self.head_dim).chunk(2, dim=2)
        if self.k_norm is not None:
            k = self.k_norm(k)
        return k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Add to each token what it finds in the memory."""
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
    """A GPT's block with cross-attention between its two parts, added and normalised as they are."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__(config, layer)
        self.crossattention = CrossAttention(config, layer)
        self.ln_cross_attn = make_norm(config, config.n_embd)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """All three parts, each with its residual sum."""
        if self.pre:
            x = x + self.attn(self.ln_1(x), context)
            x = x + self.crossattention(self.ln_cross_attn(x), context)
            return x + self.mlp(self.ln_2(x))
        x = self.ln_1(x + self.attn(x, context))
        x = self.ln_cross_attn(x + self.crossattention(x, context))
        return self.ln_2(x + self.mlp(x))


class Seq2Seq(GPT):
    """Encoder and decoder. ``config.vocab_size`` must be known; both sides read the same vocabulary."""

    arch: ClassVar[str] = "seq2seq"
    block: ClassVar[type[Block]] = CrossBlock

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)

    def encode(self, source_ids: Tensor, lengths: Tensor, attention: list[Tensor] | None = None) -> EncoderCache:
        """What the decoder writes from: sources (B, S), padded on the right, with their lengths (B,) -> Memory.

        A length is at least 1; which ids stand behind it changes nothing. The encoder's attention weights, one
        (B, H, S, S) per block, are appended to ``attention`` where it is given.
        """
        width, lengths = source_ids.shape[1], lengths.to(source_ids.device)
        if not torch.compiler.is_compiling() and bool(((lengths < 1) | (lengths > width)).any()):
            raise ValueError(f"lengths of sources {width} wide lie between 1 and {width}, not {lengths.tolist()}")
        mask = (torch.arange(width, device=source_ids.device) < lengths[:, None])[:, None, None]  # (B, 1, 1, S)
        embedding = self.wte if self.encoder.wte is None else self.encoder.wte
        return self.build_encoder_cache(self.encoder(embedding(source_ids), mask, attention), mask)

    def build_encoder_cache(self, states: Tensor, mask: Tensor) -> EncoderCache:
        """Hidden states of any encoder (B, S, C), as this decoder looks at them where ``mask`` (B, 1, 1, S) is True."""
        blocks = [block for block in self.h if isinstance(block, CrossBlock)]
        keys, values = zip(*(block.crossattention.keys_and_values(states) for block in blocks), strict=True)
        return EncoderCache(states, keys, values, mask)

    def load_decoder(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the state dict of a GPT: its weights become the decoder's, encoder and cross-attention stay.

        Where embeddings are tied, the encoder reads through the GPT's from then on. Raises RuntimeError, which names
        them, where tensors are missing, unknown or of another shape.
        """
        new = {name: tensor for name, tensor in self.state_dict().items() if not is_gpt_weight(name)}
        self.load_state_dict({**weights, **new})

    def stack_depth(self, name: str) -> int:
        """How many blocks the stack has that the parameter of this name belongs to."""
        return self.config.encoder_layers if name.startswith("encoder.") else self.config.n_layer


def is_gpt_weight(name: str) -> bool:
    """Whether a plain GPT, too, has the parameter of this name in a Seq2Seq."""
    return not (name.startswith("encoder.") or ".crossattention." in name or ".ln_cross_attn." in name)


def build_model(config: ModelConfig) -> GPT:
    """The model of a configuration, by its ``arch``; its weights are not set yet (``init_weights``)."""
    return Seq2Seq(config) if config.arch == "seq2seq" else GPT(config)
