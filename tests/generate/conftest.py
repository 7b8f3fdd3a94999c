"""Shared by the tests of generation: small models whose choices are clear-cut, and what a run of the engine wrote."""

import os
from collections.abc import Callable, Sequence

import pytest
import torch

from penna.config.sections import ModelConfig
from penna.generate.engine import Finish, NewToken, Request, generate
from penna.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}


@pytest.fixture(scope="session")
def build() -> Callable[..., GPT]:
    """build(seed=0, **fields) -> a small GPT with large random weights, so that its next tokens differ widely."""

    @torch.no_grad()
    def make(seed: int = 0, **fields: object) -> GPT:
        model = GPT(ModelConfig(**{**SHAPE, **fields}))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def run() -> Callable[[GPT, Sequence[Request]], list[tuple[list[int], list[float], str]]]:
    """run(model, requests) -> per request: its ids, their log-probabilities, why it ended."""

    def all_of(model: GPT, requests: Sequence[Request]) -> list[tuple[list[int], list[float], str]]:
        ids: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        reasons: list[list[str]] = [[] for _ in requests]
        for event in generate(model, requests):
            assert not reasons[event.request], "nothing comes after the finish"
            if isinstance(event, NewToken):
                ids[event.request].append(event.id)
                logprobs[event.request].append(event.logprob)
            else:
                assert isinstance(event, Finish)
                reasons[event.request].append(event.reason)
        return [(i, p, r) for i, p, (r,) in zip(ids, logprobs, reasons, strict=True)]

    return all_of
