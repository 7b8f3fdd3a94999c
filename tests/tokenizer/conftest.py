"""Fixtures: a small tokenizer of each kind, and the data folder."""

import os
from pathlib import Path

import pytest
from multilingual_texts import KINDS, TRAINING_TEXTS

from penna.config.sections import TokenizerConfig
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    return {kind: train_tokenizer(TokenizerConfig(kind=kind, vocab_size=480), TRAINING_TEXTS) for kind in KINDS}


@pytest.fixture(scope="session", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, Tokenizer]) -> Tokenizer:
    return tokenizers[request.param]


@pytest.fixture(scope="session")
def data() -> Path:
    if "PENNA_DATA" not in os.environ:
        pytest.skip("PENNA_DATA is not set")
    return Path(os.environ["PENNA_DATA"])
