"""The engine: continues many requests at once.

Requests with different prompts, lengths, settings and seeds run together in a fixed number of slots; when one ends, the
next waiting request takes its slot. Sequences that grow token by token share a batch (``penna.generate.batch``); a
search over several partial texts (``beam_search``, ``contrastive_search``) keeps its own tree. The result of a request
does not depend on the others: sampling depends on (seed, position) alone. A request that can never run is rejected when
it is submitted; one that fails later ends alone with a ``Failed`` event.
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
    cut_prompt,
    new_sequence,
)
from penna.generate.sampling import choose, likelihoods
from penna.generate.token_tree import tree_capacity
from penna.model.gpt import GPT

SLOTS = 32
_MAX_DRAFTING_ROWS = 4  # with more running requests, drafts cost more than they save


class Engine:
    """Accepts requests at any time and advances all of them step by step. The model must be in evaluation mode."""

    def __init__(self, model: GPT, *, slots: int = SLOTS, capacity: int | None = None) -> None:
        """``slots`` requests run at once, fewer if there is not enough memory; each reads and generates at most
        ``capacity`` tokens, by default a whole block. Raises DeviceError if there is no memory for one."""
        self._model = model
        if not model.wte.weight.requires_grad:  # the weights will not change
            model.freeze_for_inference()
        capacity = min(capacity or model.config.block_size, model.config.block_size)
        self._slots = max_rows(model, slots, capacity)
        self._capacity = capacity
        self._batch: DecodingBatch | None = None
        self._searches: list[BeamSearch | ContrastiveSearch] = []
        self._waiting: deque[tuple[int, Request]] = deque()
        self._events: list[Event | Failed] = []
        self._count = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not (self._waiting or self.running or self._events)

    @property
    def slots(self) -> int:
        """How many requests can run at once."""
        return self._slots

    @property
    def running(self) -> int:
        """How many requests hold a slot."""
        return len(self._searches) + (len(self._batch.rows) if self._batch else 0)

    def check(self, request: Request) -> None:
        """Raise the errors of ``submit``: DataError if the request is invalid or longer than ``capacity``; DeviceError
        if its search would not fit into memory even alone."""
        check_request(self._model, request)
        config, block = request.config, self._model.config.block_size
        if config.max_new_tokens == 0:
            return
        if config.strategy in ("greedy", "sample"):
            prompt = min(len(request.ids), block)
            longest = min(prompt + config.max_new_tokens - 1, block)  # the last token is not read
            if longest > self._capacity:
                raise DataError(
                    f"The prompt's {prompt:,} tokens and {config.max_new_tokens:,} new ones do not fit.",
                    f"At most {self._capacity:,} tokens fit.",
                    "Shorten the prompt, or generate fewer tokens (max_new_tokens).",
                )
        else:
            search = _search_of(request)
            capacity = tree_capacity(block, request, search.width(self._model, request))
            max_rows(self._model, 1, capacity, held=self._held_bytes())

    def submit(self, request: Request) -> int:
        """Queue a request and return its number, by which events refer to it. Raises the errors of ``check``."""
        self.check(request)
        self._count += 1
        self._waiting.append((self._count - 1, request))
        return self._count - 1

    @torch.inference_mode()
    def cancel(self, number: int) -> None:
        """Cancel a waiting or running request; the next step reports it. Finished requests are not affected."""
        waiting = [at for at, (waits, _) in enumerate(self._waiting) if waits == number]
        rows = [] if self._batch is None else [at for at, row in enumerate(self._batch.rows) if row.number == number]
        searches = [at for at, search in enumerate(self._searches) if search.number == number]
        if waiting:
            del self._waiting[waiting[0]]
        elif rows and self._batch is not None:
            self._batch.remove(rows)
        elif searches:
            self._searches.pop(searches[0])
        else:
            return
        self._events.append(Finish(number, "cancelled"))

    def abandon(self) -> None:
        """Drop all requests and free their memory; no events follow."""
        self._batch = None
        self._searches, self._events = [], []
        self._waiting.clear()

    @torch.inference_mode()
    def step(self) -> list[Event | Failed]:
        """Fill free slots and advance each running request by at least a token, or a step of its search.

        If the forward pass of the batch fails, the error is raised and no request is lost: the next step tries again,
        and ``abandon`` drops all requests.
        """
        self._admit()
        if self._batch is not None and self._batch.rows:
            self._events += self._step_batch(self._batch)
        for search in self._searches:
            try:
                self._events += search.step()
            except Exception as error:
                search.is_done = True
                self._events.append(Failed(search.number, error))
        self._searches = [search for search in self._searches if not search.is_done]
        events, self._events = self._events, []
        return events

    def _admit(self) -> None:
        rows: list[Row] = []
        while self._waiting and self.running + len(rows) < self._slots:
            number, request = self._waiting.popleft()
            if request.config.max_new_tokens == 0:
                self._events.append(Finish(number, "length"))
            elif request.config.strategy in ("greedy", "sample"):
                rows.append(self._row(number, request))
            elif not self._start_search(number, request, is_only=not rows):
                break
        if rows:
            self._add_to_batch(rows)

    def _add_to_batch(self, rows: Sequence[Row]) -> None:
        """Add sequences to the batch. If they cannot be read together, each is tried alone; if there is no memory for a
        batch, they wait until searches have freed theirs."""
        try:
            if self._batch is None:
                self._slots = max_rows(self._model, self._slots, self._capacity)
                self._batch = DecodingBatch(self._model, self._slots, self._capacity)
            held = len(self._batch.rows)
            try:
                self._batch.admit(rows)
            except Exception:
                del self._batch.rows[held:]
                raise
        except Exception as error:
            if isinstance(error, DeviceError) and self._searches:
                self._waiting.extendleft((row.number, row.request) for row in reversed(rows))
            elif len(rows) == 1:
                self._events.append(Failed(rows[0].number, error))
            else:
                for row in rows:
                    self._add_to_batch([row])

    def _start_search(self, number: int, request: Request, *, is_only: bool) -> bool:
        """Start a search, or let it wait until others have freed memory; whether the next waiting request may be tried.
        If nothing else runs, it fails."""
        try:
            self._searches.append(_search_of(request)(self._model, number, request))
        except DeviceError as error:
            is_only = is_only and not self.running
            if is_only and self._batch is None:
                self._events.append(Failed(number, error))
                return True
            if is_only:
                self._batch = None  # its rows are unused
            self._waiting.appendleft((number, request))
            return is_only
        except Exception as error:
            self._events.append(Failed(number, error))
        return True

    def _held_bytes(self) -> int:
        """The memory of the batch and the searches."""
        batch = row_bytes(self._model, self._capacity) * self._slots if self._batch else 0
        return batch + sum(row_bytes(self._model, search.capacity) for search in self._searches)

    def _row(self, number: int, request: Request) -> Row:
        count = request.config.prompt_lookup_num_tokens
        lookup = None if count is None else PromptLookup(count)
        if lookup is not None:
            lookup.extend(request.source)
            lookup.extend(request.ids)
        return Row(
            number, request, cut_prompt(request.ids, self._model.config.block_size), new_sequence(request), lookup
        )

    def _step_batch(self, batch: DecodingBatch) -> list[Event]:
        """A token for every row, and more if draft tokens were right."""
        max_tokens = batch.trim_contexts()
        drafts = [self._draft(row, max_tokens) for row in batch.rows]
        logits = batch.read(drafts).float()  # (B, T, vocab_size)
        # After every draft token a token is chosen as if the draft were right, and dropped if it was wrong.
        places = [(at, seen) for at, draft in enumerate(drafts) for seen in range(len(draft) + 1)]
        if len(places) == len(drafts):
            next_logits, texts = logits[:, 0], [row.sequence for row in batch.rows]
        else:
            rows, seen = torch.tensor(places, device=logits.device).T
            next_logits = logits[rows, seen]
            texts = [
                replace(batch.rows[at].sequence, generated=[*batch.rows[at].sequence.generated, *drafts[at][:seen]])
                for at, seen in places
            ]
        chosen = choose(next_logits, texts)
        results = iter(
            zip(
                chosen,
                likelihoods(next_logits, chosen, [batch.rows[at].request.top_n for at, _ in places]),
                strict=True,
            )
        )
        events: list[Event] = []
        counts: list[int] = []
        for row, draft in zip(batch.rows, drafts, strict=True):
            agrees = True
            counts.append(0)
            for expected in (*draft, None):
                index, likelihood = next(results)
                if agrees:
                    counts[-1] += 1
                    agrees = (
                        self._append(row, GeneratedToken(row.number, index, *likelihood), events) and index == expected
                    )
        batch.advance(counts)
        batch.remove([at for at, row in enumerate(batch.rows) if row.is_done])
        return events

    def _draft(self, row: Row, max_tokens: int) -> list[int]:
        """Draft tokens of prompt lookup, if they pay."""
        if row.lookup is None or self.running > _MAX_DRAFTING_ROWS:
            return []
        return row.lookup.propose()[: max_tokens - 1]

    def _append(self, row: Row, token: GeneratedToken, events: list[Event]) -> bool:
        """Append a token to a row and report it; whether the text continues."""
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
        if text.choices is not None and not text.choices.after(text.generated).allowed:  # a whole choice
            events.append(Finish(row.number, "stop"))
            row.is_done = True
        elif len(text.generated) == request.config.max_new_tokens:
            events.append(Finish(row.number, "length"))
            row.is_done = True
        return not row.is_done


def _search_of(request: Request) -> type[BeamSearch] | type[ContrastiveSearch]:
    return BeamSearch if request.config.strategy == "beam" else ContrastiveSearch


def generate(model: GPT, requests: Sequence[Request], *, slots: int = SLOTS) -> Iterator[Event]:
    """Continue every request and yield the events. The model must be in evaluation mode. Raises the errors of
    ``engine_for`` and of every request."""
    engine = engine_for(model, requests, slots=slots)
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, Failed):
                raise event.error
            yield event


def engine_for(model: GPT, requests: Sequence[Request], *, slots: int = SLOTS) -> Engine:
    """An engine with the memory that these requests need, all of them queued; its events refer to them by index.

    Prompts longer than the block are truncated on the left (``cut_prompt``). Raises DataError for an invalid request,
    and DeviceError if there is not enough memory for even one of them.
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
