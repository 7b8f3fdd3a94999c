"""Small runs of every task, and a server for them in a thread, on a real port."""

import contextlib
import os
import socket
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from uvicorn import Server

from penna.api.models import load
from penna.config.schema import Recipe
from penna.config.sections import ModelConfig, TokenizerConfig
from penna.config.tasks import ChatTask, ClassifyTask, CompleteTask, PretrainTask, TaskConfig
from penna.loading import LoadedModel
from penna.model.seq2seq import build_model
from penna.runs.checkpoint import Checkpoint, write_checkpoint
from penna.runs.folder import new_run
from penna.serve.app import create_app
from penna.serve.registry import Registry
from penna.serve.server import create_server, open_socket
from penna.serve.settings import ServeSettings
from penna.tokenizer.chat import with_chat_template
from penna.tokenizer.special_tokens import with_special_tokens
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.train import train_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

BLOCK = 48
LETTERS = train_tokenizer(TokenizerConfig(kind="char"), ["abcdefghijklmnopqrstuvwxyz .,é한국어\n"])
WORDS = train_tokenizer(
    TokenizerConfig(kind="bpe", vocab_size=320), ["the rain in Spain stays mainly in the plain. 비가 온다 "] * 5
)


@torch.no_grad()
def made(runs: Path, name: str, task: TaskConfig, tokenizer: Tokenizer, **model: Any) -> Path:
    """A run of a model with large random weights, so that its next tokens differ widely."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": BLOCK, "vocab_size": tokenizer.vocab_size}
    config = ModelConfig(**{**shape, **model})
    gpt = build_model(config)
    generator = torch.Generator().manual_seed(len(name))
    for key, parameter in gpt.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.copy_(noise + 1 if parameter.dim() == 1 and key.endswith("weight") else noise)
    with new_run(runs, name, Recipe(model=config, task=task), overwrite=False) as run:
        tokenizer.save(run.tokenizer)
        path = write_checkpoint(run.checkpoints, 0, Checkpoint(gpt.state_dict(), {}, {"step": 0}))
        run.set_checkpoint("last", path)
        run.set_checkpoint("best", path)
    return runs / name


def made_runs(runs: Path) -> Path:
    """writer, words, talker, teller (of classes) and summer (of completions)."""
    made(runs, "writer", PretrainTask(), LETTERS)
    made(runs, "words", PretrainTask(), WORDS)
    made(runs, "talker", ChatTask(), with_chat_template(LETTERS, "penna"))
    made(runs, "teller", ClassifyTask(labels=["bad", "good", "so so"]), LETTERS, n_class=3)
    task = CompleteTask()
    made(runs, "summer", task, with_special_tokens(LETTERS, [task.separator]))
    return runs


NAMES = ("writer", "words", "talker", "teller", "summer")


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    port: int
    runs: Path
    registry: Registry
    server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, **more)

    def loaded(self, name: str) -> LoadedModel:
        """The same model, loaded by itself."""
        return load(str(self.runs / name), device="cpu")

    def raw(self) -> contextlib.AbstractContextManager[socket.socket]:
        """A bare connection."""
        return contextlib.closing(socket.create_connection(("127.0.0.1", self.port), timeout=60))


@contextlib.contextmanager
def running(runs: Path, names: tuple[str, ...] = NAMES, **settings: Any) -> Generator[Running]:
    """A server of these runs on a port of its own."""
    limits = ServeSettings(**{"port": 0, "drain_seconds": 5.0, **settings})
    registry = Registry(names, limits, runs_dir=runs, device="cpu")
    server = create_server(create_app(registry, limits), limits)
    with open_socket(limits) as listener:
        started = threading.Event()
        startup = server.startup

        async def result(sockets: Any = None) -> None:
            await startup(sockets)
            started.set()

        server.startup = result  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        assert started.wait(60)
        try:
            yield Running(listener.getsockname()[1], runs, registry, server)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def events(lines: Iterator[str]) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in lines if line]
