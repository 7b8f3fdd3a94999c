"""Models that need no training, and workers for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch

from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ChatTask, TaskConfig
from penna.loading import LoadedModel
from penna.model.seq2seq import build_model
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker
from penna.tokenizer.chat import with_chat_template
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

LETTERS = train_tokenizer(TokenizerConfig(kind="char"), ["abcdefghijklmnopqrstuvwxyz .,"])
BYTES = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=264), ["the rain in Spain. 비가 온다 "] * 5)


@torch.no_grad()
def tiny_model(tokenizer: Tokenizer = LETTERS, task: TaskConfig | None = None, **fields: Any) -> LoadedModel:
    """A model with large random weights, so that its next tokens differ widely."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 48, "vocab_size": tokenizer.vocab_size}
    model = build_model(ModelConfig(**{**shape, **fields}))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    model.eval().requires_grad_(False)
    more = {} if task is None else {"default_task": task}
    return LoadedModel(model, tokenizer, Path("tiny"), None, **more)


def tiny_chat_model(**fields: Any) -> LoadedModel:
    """A model that can chat."""
    return tiny_model(with_chat_template(LETTERS, "penna"), ChatTask(), **fields)


@asynccontextmanager
async def running_worker(loaded: LoadedModel) -> AsyncGenerator[Worker]:
    """A worker that is closed at the end."""
    worker = Worker(loaded, ServeSettings())
    try:
        yield worker
    finally:
        await worker.close(5)


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; fail after a minute."""

    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())
