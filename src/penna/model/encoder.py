"""The encoder: a source's token embeddings in, its hidden states out; every token looks at every other.

It is a stack of the decoder's own blocks (``penna.model.gpt.Block``) with weights of its own, and with a mask over the
padding in place of the causal one, so that every field of ``ModelConfig`` means here what it means there: Vaswani et
al. 2017 with ``norm_position = "post"``, and what has been usual since with ``"pre"``. Shapes: B batch, S tokens of the
longest source, C n_embd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.gpt import Block, Context, make_norm, rotary_tables, sinusoidal_table


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
