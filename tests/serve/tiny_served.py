"""Untrained models as runs on disk and as workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from penna.api.generate import prompt_request
from penna.config.generation import GenerationConfig
from penna.config.recipe import build_recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.generate.request import Request
from penna.generate.text_stream import TextDelta
from penna.loading import LoadedModel
from penna.model.gpt import GPT
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import RunFolder, new_run
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz ."
SHAPE = {"n_layer": 2, "n_head": 4, "n_embd": 32, "block_size": 48}


def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer(TokenizerConfig(kind="char"), [LETTERS])


@torch.no_grad()
def tiny_model(vocab_size: int, seed: int = 0, **fields: Any) -> GPT:
    """A model with large random weights, so that its next tokens differ widely."""
    model = build_model(ModelConfig(**{**SHAPE, "vocab_size": vocab_size, **fields}))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    return model.eval().requires_grad_(False)


def tiny_loaded(seed: int = 0, **fields: Any) -> LoadedModel:
    """A model that is no run's."""
    tokenizer = tiny_tokenizer()
    return LoadedModel(tiny_model(tokenizer.vocab_size, seed, **fields), tokenizer, Path("tiny"), None)


def tiny_run(folder: Path, name: str, seed: int = 0, **fields: Any) -> RunFolder:
    """A run on disk with one checkpoint."""
    tokenizer = tiny_tokenizer()
    shape = {**SHAPE, "vocab_size": tokenizer.vocab_size, **fields}
    recipe = build_recipe({"tokenizer": {"kind": "char"}, "model": shape})
    with new_run(folder, name, recipe) as run:
        tokenizer.save(run.tokenizer)
        weights = tiny_model(tokenizer.vocab_size, seed, **fields).state_dict()
        path = write_checkpoint(run.checkpoints, 0, Checkpoint(weights, {}, {"step": 0}))
        run.set_checkpoint("last", path)
        run.set_checkpoint("best", path)
        run.update_info(created="2026-01-02T03:04:05+00:00")
    return RunFolder(folder / name)


def ask(loaded: LoadedModel, prompt: str = "abc", count: int = 12, seed: int = 0, **fields: Any) -> Request:
    """One text; letters can end it no earlier."""
    config = GenerationConfig(max_new_tokens=count, min_new_tokens=min(count, 2), **fields)
    return prompt_request(loaded, prompt, config, seed=seed, top_n=2)


@asynccontextmanager
async def working(loaded: LoadedModel | None = None, **settings: Any) -> AsyncGenerator[Worker]:
    """A worker, closed in the end."""
    worker = Worker(loaded or tiny_loaded(), ServeSettings(**settings))
    try:
        yield worker
    finally:
        await worker.close(5)


async def whole(worker: Worker, requests: Sequence[Request]) -> list[list[TextDelta]]:
    """All pieces of each request."""
    pieces: list[list[TextDelta]] = [[] for _ in requests]
    async for piece in worker.generate(requests):
        pieces[piece.request].append(piece)
    return pieces


def in_time(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, which must come."""

    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


async def until(condition: Any) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)
