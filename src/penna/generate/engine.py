"""The engine: prompt ids in, new ids out, many requests at once.

Requests of different prompts, lengths, settings and seeds run together in a number of slots; where one is finished, the
next that waits takes its slot at once. Texts that grow token by token share a lane (`penna.generate.batch`); a search
over several partial texts (`beam_search`, `contrastive_search`) keeps them as a tree of its own. What
a request gets depends on nothing but itself: a draw depends on (seed, position) alone. One that can never run is
refused when it is submitted; one that fails on the way ends alone, and is told of as such.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from penna.errors import DataError, DeviceError
from penna.generate.batch import DecodingBatch, Row
from penna.generate.beam_search import BeamSearch
from penna.generate.contrastive_search import ContrastiveSearch
from penna.generate.memory import max_rows, row_bytes
from penna.generate.prompt_lookup import PromptLookup
from penna.generate.request import (
    Event,
    Failed,
    Finish,
    GeneratedToken,
    Request,
    check_request,
    continuation,
    cut_prompt,
)
from penna.generate.sampling import choose, likelihoods
from penna.generate.token_tree import tree_capacity
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
            model.freeze_for_inference()
        capacity = min(capacity or model.config.block_size, model.config.block_size)
        self._slots = max_rows(model, slots, capacity)
        self._capacity = capacity
        self._lane: DecodingBatch | None = None
        self._searches: list[BeamSearch | ContrastiveSearch] = []
        self._waiting: deque[tuple[int, Request]] = deque()
        self._untold: list[Event | Failed] = []
        self._count = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self.running or self._untold)

    @property
    def slots(self) -> int:
        """How many requests run at once."""
        return self._slots

    @property
    def running(self) -> int:
        """How many requests hold a slot."""
        return len(self._searches) + (len(self._lane.rows) if self._lane else 0)

    def check(self, request: Request) -> None:
        """Raise what ``submit`` would: DataError where the request has no prompt, or holds what the model does not
        read, or more than ``capacity``; DeviceError where its search would not fit the memory, even alone."""
        check_request(self._model, request)
        config, block = request.config, self._model.config.block_size
        if config.max_new_tokens == 0:
            return
        if config.strategy in ("greedy", "sample"):
            prompt = min(len(request.ids), block)
            longest = min(prompt + config.max_new_tokens - 1, block)  # the last token is never read
            if longest > self._capacity:
                raise DataError(
                    f"The prompt's {prompt:,} tokens and {config.max_new_tokens:,} new ones do not fit here.",
                    f"At most {self._capacity:,} tokens of a text are kept.",
                    "Shorten the prompt, or write fewer tokens (max_new_tokens).",
                )
        else:
            search = _search_of(request)
            capacity = tree_capacity(block, request, search.width(self._model, request))
            max_rows(self._model, 1, capacity, held=self._held_bytes())

    def submit(self, request: Request) -> int:
        """Let a request wait for a slot; its number, by which events tell of it. Raises what ``check`` raises."""
        self.check(request)
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
            self._lane.remove(rows)
        elif searches:
            self._searches.pop(searches[0])
        else:
            return
        self._untold.append(Finish(number, "cancelled"))

    def abandon(self) -> None:
        """Forget all requests, and give back what they hold; nothing is told of them."""
        self._lane = None
        self._searches, self._untold = [], []
        self._waiting.clear()

    @torch.inference_mode()
    def step(self) -> list[Event | Failed]:
        """Fill free slots and bring each request that runs forward: by a token at least, or by a step of its search.

        Where the reading of all rows together fails, that is raised, and no request is forgotten: another step tries it
        again, ``abandon`` gives all of them up.
        """
        self._admit()
        if self._lane is not None and self._lane.rows:
            self._untold += self._step_lane(self._lane)
        for search in self._searches:
            try:
                self._untold += search.step()
            except Exception as error:
                search.is_done = True
                self._untold.append(Failed(search.number, error))
        self._searches = [search for search in self._searches if not search.is_done]
        told, self._untold = self._untold, []
        return told

    def _admit(self) -> None:
        rows: list[Row] = []
        while self._waiting and self.running + len(rows) < self._slots:
            number, request = self._waiting.popleft()
            if request.config.max_new_tokens == 0:
                self._untold.append(Finish(number, "length"))
            elif request.config.strategy in ("greedy", "sample"):
                rows.append(self._row(number, request))
            elif not self._begins_search(number, request, is_alone=not rows):
                break
        if rows:
            self._enter(rows)

    def _enter(self, rows: Sequence[Row]) -> None:
        """Let texts into the lane. Where they cannot be read together each is tried alone; where there is no memory for
        a lane they wait until searches have given theirs back."""
        try:
            if self._lane is None:
                self._slots = max_rows(self._model, self._slots, self._capacity)
                self._lane = DecodingBatch(self._model, self._slots, self._capacity)
            held = len(self._lane.rows)
            try:
                self._lane.admit(rows)
            except Exception:
                del self._lane.rows[held:]
                raise
        except Exception as error:
            if isinstance(error, DeviceError) and self._searches:
                self._waiting.extendleft((row.number, row.request) for row in reversed(rows))
            elif len(rows) == 1:
                self._untold.append(Failed(rows[0].number, error))
            else:
                for row in rows:
                    self._enter([row])

    def _begins_search(self, number: int, request: Request, *, is_alone: bool) -> bool:
        """Begin a search, or let it wait until others have given back the memory they hold; whether the next in line
        may be looked at. Where there are no others it fails."""
        try:
            self._searches.append(_search_of(request)(self._model, number, request))
        except DeviceError as error:
            is_alone = is_alone and not self.running
            if is_alone and self._lane is None:
                self._untold.append(Failed(number, error))
                return True
            if is_alone:
                self._lane = None  # rows that nobody uses
            self._waiting.appendleft((number, request))
            return is_alone
        except Exception as error:
            self._untold.append(Failed(number, error))
        return True

    def _held_bytes(self) -> int:
        """What lane and searches take of the memory."""
        lane = row_bytes(self._model, self._capacity) * self._slots if self._lane else 0
        return lane + sum(row_bytes(self._model, search.capacity) for search in self._searches)

    def _row(self, number: int, request: Request) -> Row:
        guessed = request.config.prompt_lookup_num_tokens
        lookup = None if guessed is None else PromptLookup(guessed)
        if lookup is not None:
            lookup.extend(request.source)
            lookup.extend(request.ids)
        return Row(
            number, request, cut_prompt(request.ids, self._model.config.block_size), continuation(request), lookup
        )

    def _step_lane(self, lane: DecodingBatch) -> list[Event]:
        """A token for every row, and further ones where they were guessed rightly."""
        room = lane.trim_contexts()
        guesses = [self._guess(row, room) for row in lane.rows]
        logits = lane.read(guesses).float()  # (B, T, vocab_size)
        # Behind every guess a token is chosen as if it were right, and dropped where it was not.
        places = [(at, seen) for at, guess in enumerate(guesses) for seen in range(len(guess) + 1)]
        if len(places) == len(guesses):
            behind, texts = logits[:, 0], [row.sequence for row in lane.rows]
        else:
            rows, seen = torch.tensor(places, device=logits.device).T
            behind = logits[rows, seen]
            texts = [
                replace(lane.rows[at].sequence, generated=[*lane.rows[at].sequence.generated, *guesses[at][:seen]])
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
                    agreeing = (
                        self._take(row, GeneratedToken(row.number, index, *likelihood), events) and index == guessed
                    )
        lane.advance(counts)
        lane.remove([at for at, row in enumerate(lane.rows) if row.is_done])
        return events

    def _guess(self, row: Row, room: int) -> list[int]:
        """What might follow, where that is worth looking up."""
        if row.lookup is None or self.running > _GUESSING_ROWS:
            return []
        return row.lookup.propose()[: room - 1]

    def _take(self, row: Row, token: GeneratedToken, events: list[Event]) -> bool:
        """Let a token be the next of a text and tell of it; whether the text goes on."""
        request, text = row.request, row.sequence
        if token.id in request.stop_ids:
            events.append(Finish(row.number, "stop"))
            row.is_done = True
            return False
        events.append(token)
        text.generated.append(token.id)
        row.context.append(token.id)
        if row.lookup is not None:
            row.lookup.extend((token.id,))
        if (
            text.choices is not None and not text.choices.after(text.generated).allowed
        ):  # a whole choice, and no longer one
            events.append(Finish(row.number, "stop"))
            row.is_done = True
        elif len(text.generated) == request.config.max_new_tokens:
            events.append(Finish(row.number, "length"))
            row.is_done = True
        return not row.is_done


def _search_of(request: Request) -> type[BeamSearch] | type[ContrastiveSearch]:
    return BeamSearch if request.config.strategy == "beam" else ContrastiveSearch


def generate(model: GPT, requests: Sequence[Request], *, slots: int = SLOTS) -> Iterator[Event]:
    """Continue every request, step by step; the model is in evaluation mode. Raises what ``engine_for`` raises, and
    what goes wrong with any of them on the way."""
    engine = engine_for(model, requests, slots=slots)
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, Failed):
                raise event.error
            yield event


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
            raise DataError(place, error.expected, error.advice) from None
    return engine
