"""The engine: prompt ids in, new ids out, many requests at once.

Requests of different prompts, lengths, settings and seeds run together in a number of slots; where one is finished, the
next that waits takes its slot at once. Texts that grow token by token share a lane (`penna.generate.lane`); a search
over several partial texts (`penna.generate.beams`, `penna.generate.contrastive`) keeps them as a tree of its own. What
a request gets depends on nothing but itself: a draw depends on (seed, position) alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from penna.errors import DataError, DeviceError
from penna.generate.beams import BeamSearch
from penna.generate.contrastive import ContrastiveSearch
from penna.generate.drawing import choose
from penna.generate.lane import Lane, Row
from penna.generate.likelihood import likelihoods
from penna.generate.lookup import Lookup
from penna.generate.request import Event, Finish, NewToken, Request, check_request, continuation, cut_prompt
from penna.generate.room import rows_that_fit
from penna.model.gpt import GPT

SLOTS = 32
_GUESSING_ROWS = 4  # side by side, above which reading guesses costs more than it saves


class Engine:
    """Takes requests at any time and brings all of them forward, step by step. The model is in evaluation mode."""

    def __init__(self, model: GPT, *, slots: int = SLOTS, capacity: int | None = None) -> None:
        """``slots`` requests run at once, fewer where the memory does not suffice; each of them reads and writes
        ``capacity`` tokens at most, a whole block unless said. Raises DeviceError where there is no room for one."""
        self._model = model
        if not model.wte.weight.requires_grad:  # its weights stay as they are
            model.pack()
        capacity = min(capacity or model.config.block_size, model.config.block_size)
        self._slots = rows_that_fit(model, slots, capacity)
        self._capacity = capacity
        self._lane: Lane | None = None
        self._searches: list[BeamSearch | ContrastiveSearch] = []
        self._waiting: deque[tuple[int, Request]] = deque()
        self._cancelled: list[int] = []
        self._count = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self._running or self._cancelled)

    @property
    def _running(self) -> int:
        return len(self._searches) + (len(self._lane.rows) if self._lane else 0)

    def submit(self, request: Request) -> int:
        """Let a request wait for a slot; its number, by which events tell of it. Raises DataError where it has no
        prompt, or its source is not what the model reads."""
        check_request(self._model, request)
        self._count += 1
        self._waiting.append((self._count - 1, request))
        return self._count - 1

    @torch.inference_mode()
    def cancel(self, number: int) -> None:
        """End a request, whether it waits or runs; the next step tells so. One that is done stays as it is."""
        waiting = [at for at, (waits, _) in enumerate(self._waiting) if waits == number]
        rows = [] if self._lane is None else [at for at, row in enumerate(self._lane.rows) if row.number == number]
        searches = [at for at, search in enumerate(self._searches) if search.number == number]
        if waiting:
            del self._waiting[waiting[0]]
        elif rows and self._lane is not None:
            self._lane.leave(rows)
        elif searches:
            self._searches.pop(searches[0])
        else:
            return
        self._cancelled.append(number)

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Fill free slots and bring each request that runs forward: by a token at least, or by a step of its search."""
        events: list[Event] = [Finish(number, "cancelled") for number in self._cancelled]
        self._cancelled.clear()
        self._admit(events)
        if self._lane is not None and self._lane.rows:
            events += self._step_lane(self._lane)
        for search in self._searches:
            events += search.step()
        self._searches = [search for search in self._searches if not search.is_done]
        return events

    def _admit(self, events: list[Event]) -> None:
        rows: list[Row] = []
        while self._waiting and self._running + len(rows) < self._slots:
            number, request = self._waiting.popleft()
            if request.config.max_new_tokens == 0:
                events.append(Finish(number, "length"))
            elif request.config.strategy in ("greedy", "sample"):
                rows.append(self._row(number, request))
            elif not self._begins_search(number, request, is_alone=not rows):
                break
        if rows:
            if self._lane is None:
                self._lane = Lane(self._model, self._slots, self._capacity)
            self._lane.admit(rows)

    def _begins_search(self, number: int, request: Request, *, is_alone: bool) -> bool:
        """Begin a search, or let it wait until others have given back the memory they hold. Raises DeviceError where
        there are none."""
        kind = BeamSearch if request.config.strategy == "beam" else ContrastiveSearch
        try:
            self._searches.append(kind(self._model, number, request))
        except DeviceError:
            is_alone = is_alone and not self._running
            if is_alone and self._lane is None:
                raise
            if is_alone:
                self._lane = None  # rows that nobody uses
            self._waiting.appendleft((number, request))
            return is_alone
        return True

    def _row(self, number: int, request: Request) -> Row:
        guessed = request.config.prompt_lookup_num_tokens
        lookup = None if guessed is None else Lookup(guessed)
        if lookup is not None:
            lookup.extend(request.source)
            lookup.extend(request.ids)
        return Row(
            number, request, cut_prompt(request.ids, self._model.config.block_size), continuation(request), lookup
        )

    def _step_lane(self, lane: Lane) -> list[Event]:
        """A token for every row, and further ones where they were guessed rightly."""
        room = lane.make_room()
        guesses = [self._guess(row, room) for row in lane.rows]
        logits = lane.read(guesses).float()  # (B, T, vocab_size)
        # Behind every guess a token is chosen as if it were right, and dropped where it was not.
        places = [(at, seen) for at, guess in enumerate(guesses) for seen in range(len(guess) + 1)]
        if len(places) == len(guesses):
            behind, texts = logits[:, 0], [row.text for row in lane.rows]
        else:
            rows, seen = torch.tensor(places, device=logits.device).T
            behind = logits[rows, seen]
            texts = [
                replace(lane.rows[at].text, written=[*lane.rows[at].text.written, *guesses[at][:seen]])
                for at, seen in places
            ]
        drawn = choose(behind, texts)
        told = iter(
            zip(drawn, likelihoods(behind, drawn, [lane.rows[at].request.top_n for at, _ in places]), strict=True)
        )
        events: list[Event] = []
        counts: list[int] = []
        for row, guess in zip(lane.rows, guesses, strict=True):
            agreeing = True
            counts.append(0)
            for guessed in (*guess, None):
                index, likelihood = next(told)
                if agreeing:
                    counts[-1] += 1
                    agreeing = self._take(row, NewToken(row.number, index, *likelihood), events) and index == guessed
        lane.accept(counts)
        lane.leave([at for at, row in enumerate(lane.rows) if row.is_done])
        return events

    def _guess(self, row: Row, room: int) -> list[int]:
        """What might follow, where that is worth looking up."""
        if row.lookup is None or self._running > _GUESSING_ROWS:
            return []
        return row.lookup.guess()[: room - 1]

    def _take(self, row: Row, token: NewToken, events: list[Event]) -> bool:
        """Let a token be the next of a text and tell of it; whether the text goes on."""
        request, text = row.request, row.text
        if token.id in request.stop_ids:
            events.append(Finish(row.number, "stop"))
            row.is_done = True
            return False
        events.append(token)
        text.written.append(token.id)
        row.context.append(token.id)
        if row.lookup is not None:
            row.lookup.extend((token.id,))
        if (
            text.choices is not None and not text.choices.after(text.written).allowed
        ):  # a whole choice, and no longer one
            events.append(Finish(row.number, "stop"))
            row.is_done = True
        elif len(text.written) == request.config.max_new_tokens:
            events.append(Finish(row.number, "length"))
            row.is_done = True
        return not row.is_done


def generate(model: GPT, requests: Sequence[Request], *, slots: int = SLOTS) -> Iterator[Event]:
    """Continue every request, step by step; the model is in evaluation mode. Raises what ``engine_for`` raises."""
    engine = engine_for(model, requests, slots=slots)
    while not engine.is_idle:
        yield from engine.step()


def engine_for(model: GPT, requests: Sequence[Request], *, slots: int = SLOTS) -> Engine:
    """An engine with just the room these requests take, all of them waiting; its events name them by their place.

    Prompts longer than the block are cut from the left (``cut_prompt``). Raises DataError where a request has no
    prompt, or its source is not what the model reads, and DeviceError where there is no memory for even one of them.
    """
    block = model.config.block_size
    longest = max((len(cut_prompt(each.ids, block)) + each.config.max_new_tokens for each in requests), default=1)
    engine = Engine(model, slots=max(1, min(slots, len(requests))), capacity=longest)
    for number, request in enumerate(requests):
        try:
            engine.submit(request)
        except DataError as error:
            place = f"Request {number + 1} of {len(requests)}: {error.happened}"
            raise DataError(place, error.expected, error.todo) from None
    return engine
