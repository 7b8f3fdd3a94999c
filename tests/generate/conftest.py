"""Small models whose choices are clear-cut, and the result of an engine run."""

import os
from collections.abc import Callable, Sequence

import pytest
import torch
from reference_decoding import EngineResult

from penna.config.sections import ModelConfig
from penna.generate.engine import generate
from penna.generate.request import BeamStep, Finish, GeneratedToken, Request
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}


@pytest.fixture(scope="session")
def build() -> Callable[..., GPT]:
    """build(seed=0, **fields) -> a small model with large random weights, so that its next tokens differ widely."""

    @torch.no_grad()
    def make(seed: int = 0, **fields: object) -> GPT:
        model = build_model(ModelConfig(**{**SHAPE, **fields}))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def run() -> Callable[..., list[EngineResult]]:
    """run(model, requests, slots=32) -> what the engine told of each request; nothing may come after its finish."""

    def all_of(model: GPT, requests: Sequence[Request], slots: int = 32) -> list[EngineResult]:
        tokens: list[list[GeneratedToken]] = [[] for _ in requests]
        steps: list[list[BeamStep]] = [[] for _ in requests]
        ends: dict[int, Finish] = {}
        for event in generate(model, requests, slots=slots):
            assert event.request not in ends
            if isinstance(event, GeneratedToken):
                tokens[event.request].append(event)
            elif isinstance(event, BeamStep):
                steps[event.request].append(event)
            else:
                ends[event.request] = event
        return [
            EngineResult(tuple(tokens[at]), ends[at].reason, ends[at].hypotheses, tuple(steps[at]))
            for at in range(len(requests))
        ]

    return all_of
