"""Cache memory is known before it is allocated, and requests use the slots that fit."""

import weakref

import pytest
import torch
from reference_decoding import MODELS, PROMPTS, for_model

from penna.config.generation import GenerationConfig
from penna.errors import DeviceError
from penna.generate import engine as engines
from penna.generate import memory as room
from penna.generate import token_tree as tree
from penna.generate.engine import Engine
from penna.generate.request import Finish, Request
from penna.model.cache import KVCache


def requests(count: int = 9) -> list[Request]:
    return [
        Request(PROMPTS[n % 5], GenerationConfig(max_new_tokens=5 + n, temperature=0.8), seed=n) for n in range(count)
    ]


def bytes_of(model, rows: int, capacity: int) -> int:
    """What a lane of so many rows takes, measured."""
    batch = engines.DecodingBatch(model, rows, capacity)
    held = [batch._cache.keys, batch._cache.values]
    if batch._memory is not None:
        held += [batch._memory.states, *batch._memory.keys, *batch._memory.values]
    return sum(each.numel() * each.element_size() for each in held)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_rows_take_at_most_four_fifths_of_the_free_memory(name, dtype, build, monkeypatch):
    model = build(**MODELS[name]).to(dtype)
    for rows in (1, 2, 7):
        free = bytes_of(model, rows, 24) * 5 / 4
        monkeypatch.setattr(room, "free_bytes", lambda _, free=free: int(free) + 2)
        assert room.max_rows(model, 32, 24) == rows
        assert room.max_rows(model, rows, 24) == rows
        monkeypatch.setattr(room, "free_bytes", lambda _, free=free: int(free) - 100)
        if rows > 1:
            assert room.max_rows(model, 32, 24) == rows - 1
        else:
            with pytest.raises(DeviceError):
                room.max_rows(model, 32, 24)


@pytest.mark.parametrize("name", ["modern", "seq2seq"])
def test_fewer_slots_give_the_same_texts(name, build, run, monkeypatch):
    model = build(**MODELS[name])
    asked = for_model(model, requests())
    whole, rows = run(model, asked), []
    free = int(bytes_of(model, 2, 24) * 5 / 4) + 2
    monkeypatch.setattr(room, "free_bytes", lambda _: free)
    taken = engines.DecodingBatch
    monkeypatch.setattr(
        engines, "DecodingBatch", lambda model, slots, capacity: rows.append(slots) or taken(model, slots, capacity)
    )
    assert [result.text for result in run(model, asked)] == [result.text for result in whole]
    assert rows == [2]


@pytest.mark.parametrize("fields", [{}, {"num_beams": 8}, {"penalty_alpha": 0.5, "top_k": 8}], ids=str)
def test_missing_memory_is_reported_before_any_is_allocated(fields, build, monkeypatch):
    model = build()
    monkeypatch.setattr(room, "free_bytes", lambda _: 0)
    monkeypatch.setattr(KVCache, "__init__", lambda *_: pytest.fail("the cache was taken"))
    with pytest.raises(DeviceError) as caught:
        list(engines.generate(model, [Request([1], GenerationConfig(max_new_tokens=9, **fields))]))
    assert "0.0 GiB are free" in caught.value.happened
    assert caught.value.expected
    assert "num_beams" in caught.value.advice


def test_beams_count_toward_memory(build, monkeypatch):
    """A search takes as much as its tree, which is more than a row."""
    model = build()
    wanted = []
    whole = tree.KVCache
    monkeypatch.setattr(tree, "KVCache", lambda *args: wanted.append(args[2]) or whole(*args))
    config = GenerationConfig(max_new_tokens=9, num_beams=6)
    list(engines.generate(model, [Request([1], config)]))
    (capacity,) = wanted
    assert 6 * 9 <= capacity <= 6 * 9 + 6 + 1
    fitting = room.cache_bytes(model.config, capacity, torch.float32) * 5 / 4
    monkeypatch.setattr(room, "free_bytes", lambda _: int(fitting) + 2)
    list(engines.generate(model, [Request([1], config)]))
    monkeypatch.setattr(room, "free_bytes", lambda _: int(fitting) - 100)
    with pytest.raises(DeviceError, match="all its beams counted"):
        list(engines.generate(model, [Request([1], config)]))


def test_a_search_waits_for_memory(build, run, monkeypatch):
    """What others hold is given back when they are done, so that one is no fault."""
    model = build()
    config = GenerationConfig(max_new_tokens=9, num_beams=6)
    asked = [Request(prompt, config) for prompt in PROMPTS]
    whole = run(model, asked)
    each = room.cache_bytes(model.config, 9 + 6 * 10, torch.float32)
    caches = weakref.WeakSet()
    taken = KVCache.__init__
    monkeypatch.setattr(KVCache, "__init__", lambda self, *rest: taken(self, *rest) or caches.add(self))

    def free(_) -> int:
        held = sum(cache.keys.numel() + cache.values.numel() for cache in caches)
        return int(each * 2.5) - 4 * held

    monkeypatch.setattr(room, "free_bytes", free)
    engine = Engine(model, slots=6)
    for request in asked:
        engine.submit(request)
    most, found = 0, {}
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, Finish):
                found[event.request] = [each.ids for each in event.hypotheses]
        most = max(most, len(engine._searches))
    assert most == 2
    assert [found[number] for number in range(5)] == [[each.ids for each in result.hypotheses] for result in whole]


def test_unused_rows_are_freed_for_a_search(build, monkeypatch):
    model = build()
    config = GenerationConfig(max_new_tokens=9, num_beams=9)
    engine = Engine(model, slots=2)
    monkeypatch.setattr(room, "free_bytes", lambda _: 0 if engine._batch else 10**9)
    engine.submit(Request([1], GenerationConfig(max_new_tokens=3)))
    engine.submit(Request([2], config))
    engine.submit(Request([3], config))
    result = []
    while not engine.is_idle:
        result += engine.step()
    assert [event.request for event in result if isinstance(event, Finish)] == [0, 1, 2]
    monkeypatch.setattr(room, "free_bytes", lambda _: 0)
    with pytest.raises(DeviceError):
        engine.submit(Request([2], config))
    assert engine.is_idle


def test_free_memory_is_a_number_of_bytes_if_the_system_reports_it():
    free = room.free_bytes(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
