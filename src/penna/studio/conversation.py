"""A conversation in versions: any message can be edited and any reply requested again.

An exchange is a message and its reply. Editing a message, or requesting another reply, starts a new branch; the older
versions stay. The model reads what ``penna chat`` reads: the oldest exchanges are dropped when the window is full.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from penna.api.chat import ChatSettings, chat_window
from penna.errors import DataError
from penna.generate.request import FinishReason, Request
from penna.generate.text_stream import TextStyle
from penna.loading import LoadedModel
from penna.serve.worker import Worker
from penna.studio.undo_tree import Node, UndoTree
from penna.tasks.chat import Dialogue
from penna.tokenizer.chat import RenderedDialogue, render_chat
from penna.tokenizer.chat_template import Message


@dataclass(frozen=True)
class ReadContext:
    """What the model reads for a reply."""

    rendered: RenderedDialogue  # the turns as the run's template formats them
    tokens: int
    capacity: int  # tokens that fit
    dropped_turns: int  # turns that did not fit


@dataclass(frozen=True)
class Exchange:
    """A message and the reply to it."""

    line: str
    reply: str
    read: ReadContext
    seed: int
    tokens: int = 0  # of the reply
    logprob: float = 0.0  # natural logarithm of the probability of these tokens under the model
    finish: FinishReason | None = None  # None while the reply is generated; "cancelled" if it was stopped


@dataclass(frozen=True)
class PendingReply:
    """A message and the engine's request for the reply."""

    line: str
    after: int | None  # the exchange before it
    request: Request
    read: ReadContext

    @property
    def exchange(self) -> Exchange:
        """The exchange with an empty reply."""
        return Exchange(self.line, "", self.read, self.request.seed)


class ConversationTree:
    """The exchanges of a conversation, in all their versions."""

    def __init__(self) -> None:
        self.tree: UndoTree[Exchange] = UndoTree()

    @property
    def exchanges(self) -> list[Node[Exchange]]:
        """The exchanges of the current version."""
        return self.tree.path()

    @property
    def dropped_turns(self) -> int:
        """How many turns of this version the model did not read for the last reply, not counting the system's."""
        return self.exchanges[-1].value.read.dropped_turns if self.exchanges else 0

    def messages(self, settings: ChatSettings, after: int | None) -> Dialogue:
        """All turns up to an exchange, the system's first if there is one."""
        system = () if settings.system is None else (Message("system", settings.system),)
        turns = (
            turn
            for node in self.tree.path_to(after)
            for turn in (Message("user", node.value.line), Message("assistant", node.value.reply))
        )
        return (*system, *turns)

    def select_version(self, number: int) -> None:
        """Show this version of an exchange and its latest continuation."""
        self.tree.select(self.tree.latest_descendant(number))

    def prepare(self, loaded: LoadedModel, settings: ChatSettings, line: str, after: int | None) -> PendingReply:
        """The request for a reply to ``line`` after an exchange.

        Every exchange has a seed of its own, so the same message gets another reply.

        Raises DataError for a message that is empty or longer than the model can read; TokenizerError, TemplateError or
        RunError if the model cannot chat.
        """
        if not line.strip():
            raise DataError("The message is empty.", "The model needs a text to reply to.", "Write a message.")
        turns = (*self.messages(settings, after), Message("user", line))
        window = chat_window(
            loaded,
            turns,
            settings.generation,
            seed=settings.seed + self.tree.total_added,
            most_tokens=settings.history_tokens,
            most_turns=settings.history_turns,
        )
        is_seq2seq = loaded.model.config.arch == "seq2seq"
        rendered = render_chat(loaded.require_tokenizer(), window.kept, add_generation_prompt=not is_seq2seq)
        return PendingReply(
            line, after, window.request, ReadContext(rendered, window.tokens, window.budget, window.forgotten)
        )

    def start(self, pending: PendingReply) -> int:
        """Add the exchange with an empty reply, make it current, and return its number."""
        self.tree.select(pending.after)
        return self.tree.add(pending.exchange).number


async def stream_reply(worker: Worker, pending: PendingReply) -> AsyncGenerator[Exchange]:
    """The exchange as its reply grows. Closing the generator cancels it. Raises what ``Worker.generate`` raises."""
    exchange = pending.exchange
    async with aclosing(worker.generate([pending.request], TextStyle(fix_spacing=True))) as deltas:
        async for delta in deltas:
            if delta.token is not None:
                exchange = replace(exchange, tokens=exchange.tokens + 1, logprob=exchange.logprob + delta.token.logprob)
            exchange = replace(exchange, reply=exchange.reply + delta.text, finish=delta.finish)
            yield exchange
