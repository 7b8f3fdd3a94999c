"""What a model reads of a conversation for its next reply: turns in, the engine's request out.

The terminal, the API and the studio all ask here. What is read is limited by the block, by tokens and by turns; whole
exchanges fall out from the oldest, the system's turn and the last one never.
"""

from __future__ import annotations

from dataclasses import dataclass

from penna.api.abilities import check_writes, need_chat_tokenizer
from penna.config.generation import GenerationConfig
from penna.errors import DataError
from penna.exchange.load import LoadedModel
from penna.generate.request import Request
from penna.tasks.chat import Dialogue, prompt_room, read_length, reply_request, without_oldest


class LongLineError(DataError):
    """The last turn alone is longer than may be read."""


@dataclass(frozen=True)
class Window:
    """What is read for one reply."""

    kept: Dialogue  # the turns that are read, the system's first where there is one
    request: Request  # what the engine is asked
    room: int  # tokens that could be read
    forgotten: int  # turns that fell out

    @property
    def tokens(self) -> int:
        """How many are read."""
        return len(self.request.source) or len(self.request.ids)


def window_of(
    loaded: LoadedModel,
    turns: Dialogue,
    config: GenerationConfig,
    *,
    seed: int,
    most_tokens: int | None = None,
    most_turns: int | None = None,
) -> Window:
    """What is read of ``turns``, the last of them the user's: ``most_tokens``, and ``most_turns`` before it, at most.

    Raises LongLineError where not even the last turn fits; TokenizerError or RunError where the model cannot chat.
    """
    check_writes(loaded)
    tokenizer, model = need_chat_tokenizer(loaded), loaded.model.config
    room = prompt_room(model, config.max_new_tokens)
    room = min(room, most_tokens or room)
    system = tuple(turns[:1]) if turns[0].role == "system" else ()

    def fits(kept: Dialogue) -> bool:
        earlier = len(kept) - 1 - len(system)
        if most_turns is not None and earlier > most_turns:
            return False
        if sum(len(turn.content) for turn in kept) > tokenizer.most_characters(room):
            return False  # which is told sooner than its tokens are counted
        return read_length(tokenizer, model, kept) <= room

    kept = without_oldest(turns, fits)
    if kept is None:
        raise LongLineError(
            f"The line takes {read_length(tokenizer, model, (*system, turns[-1])):,} tokens"
            + (", with the system turn." if system else "."),
            f"At most {room:,} can be read here; the rest of the block is kept for the reply.",
            "Say it in fewer words, or "
            + ("ask for a shorter reply (max_new_tokens)." if most_tokens is None else "allow more (history_tokens)."),
        )
    request = reply_request(tokenizer, model, kept, config, seed=seed)
    return Window(kept, request, room, len(turns) - len(kept))
