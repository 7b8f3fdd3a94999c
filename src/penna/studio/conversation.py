"""A conversation that can be changed anywhere: lines and replies in, what the model is asked for each of them out.

An exchange is the user's line and the reply. Editing a line, or asking for another reply, begins a branch behind the
exchange before it; the older versions stay. What the model reads of a conversation is what `penna chat` reads: whole
exchanges fall out of its window from the oldest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from penna.api.chat import ChatSettings, chat_window
from penna.errors import DataError
from penna.generate.request import FinishReason, Request
from penna.loading import LoadedModel
from penna.serve.worker import Worker
from penna.studio.branches import Branches, Node
from penna.tasks.chat import Dialogue
from penna.tokenizer.chat import RenderedDialogue, render_chat
from penna.tokenizer.chat_template import Message
from penna.tokenizer.stream_decoder import SpacingFixer


@dataclass(frozen=True)
class Read:
    """What the model reads for a reply."""

    rendered: RenderedDialogue  # the turns, as the run's template writes them
    tokens: int
    room: int  # tokens it could read
    forgotten: int  # turns that fell out of the window


@dataclass(frozen=True)
class Exchange:
    """A line and the reply to it."""

    line: str
    reply: str
    read: Read
    seed: int
    tokens: int = 0  # of the reply
    logprob: float = 0.0  # natural logarithm of the probability of these tokens under the model
    finish: FinishReason | None = None  # None: it is being written; "cancelled": it was stopped


@dataclass(frozen=True)
class Asked:
    """What the engine is asked for one reply."""

    line: str
    behind: int | None  # the exchange it follows
    request: Request
    read: Read

    @property
    def exchange(self) -> Exchange:
        """The exchange as it begins."""
        return Exchange(self.line, "", self.read, self.request.seed)


class Talk:
    """Turns between a person and a model, in all their versions."""

    def __init__(self) -> None:
        self.branches: Branches[Exchange] = Branches()

    @property
    def exchanges(self) -> list[Node[Exchange]]:
        """Those of the version that is looked at."""
        return self.branches.path()

    def messages(self, settings: ChatSettings, behind: int | None) -> Dialogue:
        """All turns up to an exchange, the system's first where there is one."""
        system = () if settings.system is None else (Message("system", settings.system),)
        said = (
            turn
            for node in self.branches.path_to(behind)
            for turn in (Message("user", node.value.line), Message("assistant", node.value.reply))
        )
        return (*system, *said)

    def version(self, number: int) -> None:
        """Look at this version of an exchange, and at what was said behind it."""
        self.branches.go(self.branches.newest(number))

    def asked(self, loaded: LoadedModel, settings: ChatSettings, line: str, behind: int | None) -> Asked:
        """What is asked for a reply to ``line`` behind an exchange: another version of what followed it so far.

        Every exchange has a seed of its own, so that a reply to the same line is another one.

        Raises DataError for an empty line, and for one that is longer than the model can read; TokenizerError,
        TemplateError or RunError where the model cannot chat.
        """
        if not line.strip():
            raise DataError("The line is empty.", "Something to answer.", "Write a line.")
        turns = (*self.messages(settings, behind), Message("user", line))
        seed = settings.seed + self.branches.made
        read = chat_window(
            loaded,
            turns,
            settings.generation,
            seed=seed,
            most_tokens=settings.history_tokens,
            most_turns=settings.history_turns,
        )
        is_seq2seq = loaded.model.config.arch == "seq2seq"
        rendered = render_chat(loaded.require_tokenizer(), read.kept, add_generation_prompt=not is_seq2seq)
        return Asked(line, behind, read.request, Read(rendered, read.tokens, read.budget, read.forgotten))

    def begin(self, asked: Asked) -> int:
        """Say the line; the exchange's number."""
        self.branches.go(asked.behind)
        return self.branches.add(asked.exchange).number

    def unread(self) -> int:
        """How many turns of this version the model read no more for the last reply, the system's never among them."""
        return self.exchanges[-1].value.read.forgotten if self.exchanges else 0


async def replied(worker: Worker, asked: Asked) -> AsyncGenerator[Exchange]:
    """The exchange as its reply grows; closing the generator lets go of it. Raises what ``Worker.generate`` raises."""
    mender = SpacingFixer(worker.loaded.require_tokenizer())
    exchange = asked.exchange
    async with aclosing(worker.generate([asked.request])) as pieces:
        async for piece in pieces:
            text = mender.push(piece.text) + (mender.finish() if piece.finish else "")
            if piece.token is not None:
                told = {"tokens": exchange.tokens + 1, "logprob": exchange.logprob + piece.token.logprob}
                exchange = replace(exchange, **told)
            exchange = replace(exchange, reply=exchange.reply + text, finish=piece.finish)
            yield exchange
