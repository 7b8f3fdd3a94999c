"""A small model, and its Hugging Face folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penna.config.sections import ModelConfig
from penna.interop.hf_folder import write_hf
from penna.model.gpt import GPT

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 6, "vocab_size": 11}


@pytest.fixture
def small() -> Callable[..., GPT]:
    """small(**fields) -> a GPT with a few hundred parameters."""

    def make(**fields: object) -> GPT:
        model = GPT(ModelConfig(**{**SMALL, **fields}))
        model.init_weights(seed=0)
        return model

    return make


@pytest.fixture
def written(small, tmp_path: Path) -> Callable[..., Path]:
    """written(**fields) -> the Hugging Face folder of such a GPT."""

    def make(**fields: object) -> Path:
        model = small(**fields)
        write_hf(model.config, model.state_dict(), tmp_path / "model", tokenizer=None)
        return tmp_path / "model"

    return make
