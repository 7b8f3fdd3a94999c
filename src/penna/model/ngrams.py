"""Hashed n-grams: beside each token, embeddings of the last two, three, … tokens that end with it.

In come token ids with those before them, out comes what is added to the token embeddings. A table of far fewer rows
than there are n-grams is looked up by a hash of their ids (fastText's way: Bojanowski et al. 2017, "Enriching Word
Vectors with Subword Information"), narrow, and projected to the width of the model. It only looks back, so a model with
it is as causal as one without. For a small model on short texts it does by lookup what layers of attention would first
have to learn. Shapes: B batch, T tokens, n the longest n-gram.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.linear import Linear

NGRAM_TABLE = "ngrams.table.weight"  # its name among a model's parameters
NO_TOKEN = -1  # stands where a text has not begun
_PRIME = 0x100000001B3  # of the FNV hash
_MIX = -0x61C8864680B583EB  # 2^64 over the golden ratio, as a signed number


class NgramEmbedding(nn.Module):
    """Embeddings of token n-grams. Of a configuration that has an ``ngram_size``."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.ngram_size is not None and config.ngram_rows is not None and config.ngram_width is not None
        self.size, self.rows = config.ngram_size, config.ngram_rows
        self.table = nn.Embedding(self.rows, config.ngram_width)
        self.proj = Linear(config.ngram_width, config.n_embd, bias=False)
        self._dropout = config.ngram_dropout

    def forward(self, ids: Tensor) -> Tensor:
        """The sum over the n-grams that end at each token: (B, n - 1 + T) ids, n - 1 of them before -> (B, T, C).

        An n-gram that would begin before its text (``NONE_BEFORE``) adds nothing.
        """
        rows, whole = self.table_rows(ids)
        kept = F.dropout(whole.to(self.table.weight.dtype), self._dropout, self.training)  # whole n-grams, not features
        return self.proj((self.table(rows) * kept[..., None]).sum(dim=2))

    def table_rows(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Which row each n-gram has, and whether it lies within its text: both (B, T, n - 1)."""
        count = ids.shape[1] - self.size + 1
        hashed = ids[:, self.size - 1 :] + 1
        rows: list[Tensor] = []
        whole: list[Tensor] = []
        for back in range(1, self.size):
            before = ids[:, self.size - 1 - back : self.size - 1 - back + count]
            hashed = hashed * _PRIME + before + 1  # wraps around, on every device alike
            mixed = hashed * _MIX
            rows.append(((mixed >> 20) & 0xFFFFFFFF) % self.rows)
            whole.append(before != NO_TOKEN)
        return torch.stack(rows, dim=2), torch.stack(whole, dim=2)


def pad_start(ids: Tensor, size: int) -> Tensor:
    """Ids (B, T) of texts from their beginning, as ``NgramEmbedding`` reads them: (B, size - 1 + T)."""
    return F.pad(ids, (size - 1, 0), value=NO_TOKEN)
