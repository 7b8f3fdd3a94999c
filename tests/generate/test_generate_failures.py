"""Invalid requests are rejected, failing ones end alone, and none is lost."""

from collections import defaultdict

import pytest
import torch
from reference_decoding import PROMPTS, token_by_token

from penna.config.generation import GenerationConfig
from penna.errors import DataError, DeviceError
from penna.generate import engine as engines
from penna.generate import memory as room
from penna.generate import token_tree as tree
from penna.generate.batch import DecodingBatch
from penna.generate.beam_search import BeamSearch
from penna.generate.engine import Engine, generate
from penna.generate.request import Event, Failed, Finish, GeneratedToken, Request
from penna.model.cache import KVCache

BEAMS = {"num_beams": 4}
WEIGHING = {"penalty_alpha": 0.5, "top_k": 4}


def asked(number: int, count: int = 8, **fields) -> Request:
    return Request(PROMPTS[number % 5], GenerationConfig(max_new_tokens=count, **fields), seed=number)


def drained(engine: Engine, result: dict[int, list] | None = None) -> dict[int, list[Event | Failed]]:
    result = defaultdict(list) if result is None else result
    for _ in range(300):
        if engine.is_idle:
            return result
        for event in engine.step():
            result[event.request].append(event)
    pytest.fail("the engine never comes to an end")


def text_of(events: list) -> tuple[list[int], str]:
    assert isinstance(events[-1], Finish)
    return [event.id for event in events if isinstance(event, GeneratedToken)], events[-1].reason


# --- Refused at once


@pytest.mark.parametrize(("prompt", "count"), [(1, 10), (5, 6), (10, 1), (9, 2)])
def test_a_text_that_fills_the_capacity_is_generated_and_one_token_more_is_rejected(prompt: int, count: int, build):
    model = build()
    engine = Engine(model, slots=2, capacity=10)
    fits = Request(list(range(prompt)), GenerationConfig(max_new_tokens=count))
    for request in (
        Request(fits.ids, GenerationConfig(max_new_tokens=count + 1)),
        Request([*fits.ids, 60], fits.config),
    ):
        with pytest.raises(DataError, match=r"do not fit\.") as caught:
            engine.submit(request)
        assert "10" in caught.value.expected
    assert engine.is_idle
    number = engine.submit(fits)
    assert text_of(drained(engine)[number]) == token_by_token(model, fits)[:2]


def test_a_capacity_of_the_whole_block_takes_any_text(build):
    model = build(block_size=6)
    engine = Engine(model)
    long = Request(list(range(30)), GenerationConfig(max_new_tokens=20))
    number = engine.submit(long)
    assert text_of(drained(engine)[number]) == token_by_token(model, long)[:2]


@pytest.mark.parametrize("wrong", [61, -1, 10**12])
@pytest.mark.parametrize("field", ["ids", "bad_ids", "choice_ids", "source"])
def test_unknown_ids_are_rejected_by_name(field: str, wrong: int, build):
    is_seq2seq = field == "source"
    model = build(arch="seq2seq", n_encoder_layer=1, source_size=9) if is_seq2seq else build()
    values = {"ids": [1], "source": [1] if is_seq2seq else []}
    values[field] = ((3, wrong),) if field in ("bad_ids", "choice_ids") else [3, wrong]
    engine = Engine(model)
    with pytest.raises(DataError, match=f"The id {wrong} is not a token"):
        engine.submit(Request(**values))
    assert engine.is_idle
    with pytest.raises(DataError, match="has no tokens"):
        engine.submit(Request([1], source=values["source"] and [1], choice_ids=((1,), ())))


@pytest.mark.parametrize("fields", [BEAMS, WEIGHING], ids=str)
def test_a_search_that_can_never_fit_is_rejected_and_one_that_must_wait_is_not(fields, build, monkeypatch):
    model = build()
    wanted = []
    whole = tree.KVCache
    monkeypatch.setattr(tree, "KVCache", lambda *args: wanted.append(args[2]) or whole(*args))
    list(generate(model, [asked(0, 9, **fields)]))
    needed = room.cache_bytes(model.config, wanted[0], torch.float32) * 5 / 4
    engine = Engine(model, slots=3)
    engine.submit(asked(1))
    engine.step()  # the lane takes three rows of a block
    held = 3 * room.cache_bytes(model.config, 24, torch.float32)
    for free, is_refused in ((needed - held - 100, True), (needed - held + 2, False)):
        monkeypatch.setattr(room, "free_bytes", lambda _, free=free: int(free) + (0 if engine._batch else held))
        if is_refused:
            with pytest.raises(DeviceError, match="all its beams counted"):
                engine.submit(asked(0, 9, **fields))
        else:
            engine.submit(asked(0, 9, **fields))
    result = drained(engine)
    assert [isinstance(result[number][-1], Finish) for number in (0, 1)] == [True, True]


# --- Ended alone


def test_a_search_that_no_longer_fits_fails_alone(build, monkeypatch):
    model = build()
    engine = Engine(model)
    numbers = [engine.submit(asked(0, **fields)) for fields in (BEAMS, {})]
    monkeypatch.setattr(tree, "max_rows", lambda *_: room.max_rows(model, 1, 10**15))
    result = drained(engine)
    failed = result[numbers[0]][-1]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, DeviceError)
    assert text_of(result[numbers[1]]) == token_by_token(model, asked(0))[:2]
    with pytest.raises(DeviceError):
        list(generate(model, [asked(0, **BEAMS)]))


@pytest.mark.parametrize("at", ["__init__", "step"])
def test_a_failing_search_ends_alone(at: str, build, monkeypatch):
    model = build()
    requests = [asked(0), asked(1, **BEAMS), asked(2), asked(3, **BEAMS), asked(4)]
    alone = [drained_alone(model, each) for each in requests]
    _fails_for(monkeypatch, at, number=1)
    engine = Engine(model, slots=2)
    for each in requests:
        engine.submit(each)
    result = drained(engine)
    assert result[1] == [Failed(1, FAULT)]
    assert [text_of(result[number]) for number in (0, 2, 3, 4)] == [alone[number] for number in (0, 2, 3, 4)]


FAULT = RuntimeError("planted")


def _fails_for(monkeypatch: pytest.MonkeyPatch, at: str, number: int) -> None:
    whole = getattr(BeamSearch, at)

    def failing(self, *arguments):
        if (arguments[1] if arguments else self.number) == number:
            raise FAULT
        return whole(self, *arguments)

    monkeypatch.setattr(BeamSearch, at, failing)


def drained_alone(model, request: Request) -> tuple[list[int], str]:
    engine = Engine(model)
    engine.submit(request)
    return text_of(drained(engine)[0])


def test_a_failing_prompt_ends_only_its_own_text(build, monkeypatch):
    model = build()
    whole = DecodingBatch._refill

    def failing(self, start, rows):
        whole(self, start, rows)
        if any(59 in row.context for row in rows):
            raise FAULT

    monkeypatch.setattr(DecodingBatch, "_refill", failing)
    engine = Engine(model, slots=4)
    first = engine.submit(asked(0, 12))
    result = defaultdict(list)
    for _ in range(3):
        for event in engine.step():
            result[event.request].append(event)
    bad = Request([59, 3], GenerationConfig(max_new_tokens=4))
    requests = [asked(1), bad, asked(2), bad, asked(3), asked(4)]
    numbers = [engine.submit(each) for each in requests]
    drained(engine, result)
    for number, request in zip([first, *numbers], [asked(0, 12), *requests], strict=True):
        if request is bad:
            assert result[number] == [Failed(number, FAULT)]
        else:
            assert text_of(result[number]) == token_by_token(model, request)[:2]


# --- Never forgotten


def test_no_request_is_lost_when_a_step_fails(build, monkeypatch):
    model = build()
    requests = [*(asked(number) for number in range(5)), asked(1, **BEAMS)]
    alone = [drained_alone(model, each) for each in requests]
    engine, result = Engine(model, slots=3), defaultdict(list)
    for each in requests:
        engine.submit(each)
    gone = engine.submit(asked(3))
    whole, calls = DecodingBatch.read, []

    def failing(self, drafts):
        calls.append(1)
        if len(calls) % 3 == 1:
            raise FAULT
        return whole(self, drafts)

    monkeypatch.setattr(DecodingBatch, "read", failing)
    engine.cancel(gone)
    failures = 0
    while not engine.is_idle:
        try:
            events = engine.step()
        except RuntimeError as error:
            assert error is FAULT
            failures += 1
        else:
            for event in events:
                result[event.request].append(event)
    assert failures > 3
    assert result[gone] == [Finish(gone, "cancelled")]
    assert [text_of(result[number]) for number in range(6)] == alone


def test_rows_wait_for_memory_held_by_searches(build, monkeypatch):
    model = build()
    engine = Engine(model, slots=2)
    search, row = engine.submit(asked(0, **BEAMS)), engine.submit(asked(1))
    caches = []
    taken = KVCache.__init__
    monkeypatch.setattr(KVCache, "__init__", lambda self, *rest: taken(self, *rest) or caches.append(rest[1]))
    monkeypatch.setattr(engines, "max_rows", _none_while(lambda: engine._searches))
    result, order = defaultdict(list), []
    while not engine.is_idle:
        for event in engine.step():
            result[event.request].append(event)
            order.append(event.request)
    assert order.index(row) > max(at for at, number in enumerate(order) if number == search)
    assert text_of(result[row]) == token_by_token(model, asked(1))[:2]
    assert caches == [1, 2]  # the tree, and then the lane


def _none_while(condition):
    def fitting(model, rows, capacity, **_):
        if condition():
            raise DeviceError("planted")
        return rows

    return fitting


def test_abandoned_requests_report_nothing_and_free_their_memory(build):
    model = build()
    engine = Engine(model, slots=2)
    for each in (asked(0), asked(1, **BEAMS), asked(2)):
        engine.submit(each)
    engine.step()
    engine.cancel(2)
    engine.abandon()
    assert engine.is_idle
    assert (engine.running, engine._held_bytes(), engine.step()) == (0, 0, [])
    number = engine.submit(asked(3))
    assert text_of(drained(engine)[number]) == token_by_token(model, asked(3))[:2]
    assert number == 3
