"""What every task gives once its data is prepared: what a recipe lacked, the loop's job, and what to say and note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from penna.config.schema import Recipe
from penna.config.sections import TokenizerConfig
from penna.data.making import Say
from penna.model.gpt import GPT
from penna.text.tokenizer import Tokenizer
from penna.train.job import Job


class Ready(Protocol):
    """The data of one recipe, prepared."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the data was prepared with."""
        ...

    @property
    def folder(self) -> Path:
        """Where in the cache it is kept."""
        ...

    @property
    def content_hash(self) -> str:
        """A hash of all that is learned from; a resumed run must find the same."""
        ...

    def completed(self, recipe: Recipe) -> Recipe:
        """The recipe with what only the data knows, such as its labels; the vocabulary's size is filled in already."""
        ...

    def job(self, recipe: Recipe, model: GPT) -> Job:
        """The loop's job for a completed recipe. Raises DataError where there is too little to learn from."""
        ...

    def lines(self) -> list[str]:
        """What was prepared, for the terminal."""
        ...

    def info(self) -> dict[str, Any]:
        """What was prepared, for run.json; ``content_hash`` and ``tokenizer_hash`` among it."""
        ...


Prepare = Callable[[Recipe, "TokenizerConfig | Tokenizer", Say], Ready]
"""Prepares a recipe's data, with a tokenizer at hand or one to be learned."""
