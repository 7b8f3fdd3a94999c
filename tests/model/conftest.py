"""Random small models and ids; transformers is offline and quiet."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from penna.config.sections import ModelConfig
from penna.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

DEFAULT_FIELDS = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}


@torch.no_grad()
def _randomize(module: nn.Module, seed: int = 0) -> Any:
    """Randomize every parameter, norm weights around one and all others around zero, so that each has an effect."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.2
        is_norm = parameter.dim() == 1 and name.endswith("weight")
        parameter.copy_(noise + 1 if is_norm else noise)
    return module.eval()


@pytest.fixture
def randomize() -> Callable[..., Any]:
    return _randomize


@pytest.fixture
def build() -> Callable[..., GPT]:
    """build(seed=0, **fields) -> a small random GPT in evaluation mode."""

    def make(seed: int = 0, **fields: object) -> GPT:
        return _randomize(GPT(ModelConfig(**{**DEFAULT_FIELDS, **fields})), seed)

    return make


@pytest.fixture
def some_ids() -> Callable[..., Tensor]:
    """some_ids(batch, tokens, vocab=61, seed=0) -> random ids (batch, tokens)."""

    def make(batch: int, tokens: int, vocab: int = 61, seed: int = 0) -> Tensor:
        return torch.randint(vocab, (batch, tokens), generator=torch.Generator().manual_seed(seed))

    return make
