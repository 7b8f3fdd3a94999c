"""Hashed n-gram embeddings, added to the token embeddings.

The n-grams (2 to n tokens) that end at each token are hashed into a table with far fewer rows than there are n-grams
(as in fastText: Bojanowski et al. 2017, "Enriching Word Vectors with Subword Information"). The rows are narrow and
projected to the model's width. N-grams only look back, so the model stays causal. For a small model on little text,
the lookup replaces what layers of attention would have to learn first. Shapes: B batch, T tokens, n longest n-gram.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.linear import Linear

NGRAM_TABLE = "ngrams.table.weight"  # the parameter name in a model
NO_TOKEN = -1  # the id of positions before the start of a text
_FNV_PRIME = 0x100000001B3
_GOLDEN_RATIO = -0x61C8864680B583EB  # 2^64 divided by the golden ratio, as a signed integer


class NgramEmbedding(nn.Module):
    """Embeddings of token n-grams, for a configuration with ``ngram_size``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.ngram_size is not None and config.ngram_rows is not None and config.ngram_width is not None
        self.size, self.rows = config.ngram_size, config.ngram_rows
        self.table = nn.Embedding(self.rows, config.ngram_width)
        self.proj = Linear(config.ngram_width, config.n_embd, bias=False)
        self._dropout = config.ngram_dropout

    def forward(self, ids: Tensor) -> Tensor:
        """The sum of the n-grams that end at each token: ids (B, n - 1 + T) -> (B, T, C).

        The first n - 1 ids are context only. An n-gram that starts before its text (``NO_TOKEN``) adds nothing.
        """
        rows, inside = self.table_rows(ids)
        kept = F.dropout(inside.to(self.table.weight.dtype), self._dropout, self.training)  # drops whole n-grams
        return self.proj((self.table(rows) * kept[..., None]).sum(dim=2))

    def table_rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The table row of each n-gram, and whether it lies inside its text: both (B, T, n - 1)."""
        count = ids.shape[1] - self.size + 1
        hashed = ids[:, self.size - 1 :] + 1
        rows: list[Tensor] = []
        inside: list[Tensor] = []
        for back in range(1, self.size):
            before = ids[:, self.size - 1 - back : self.size - 1 - back + count]
            hashed = hashed * _FNV_PRIME + before + 1  # overflow wraps around on every device
            mixed = hashed * _GOLDEN_RATIO
            rows.append(((mixed >> 20) & 0xFFFFFFFF) % self.rows)
            inside.append(before != NO_TOKEN)
        return torch.stack(rows, dim=2), torch.stack(inside, dim=2)


def pad_start(ids: Tensor, size: int) -> Tensor:
    """Pad ids (B, T) that start their texts for an ``NgramEmbedding``: (B, size - 1 + T)."""
    return F.pad(ids, (size - 1, 0), value=NO_TOKEN)
