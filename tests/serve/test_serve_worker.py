"""A worker: texts match those without a server, errors and disconnects stay isolated, and queues are bounded."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from tiny_served import ask, in_time, tiny_loaded, until, whole, working

from penna.config.generation import GenerationConfig
from penna.errors import DataError, DeviceError, RunError
from penna.generate.batch import DecodingBatch
from penna.generate.engine import Engine
from penna.generate.request import Request
from penna.generate.text_stream import TextStyle, generate_texts, stream_texts
from penna.loading import LoadedModel
from penna.serve.generation_job import InternalError, ModelClosing
from penna.serve.settings import ServeSettings
from penna.serve.worker import Busy, Worker

FOREVER = 10**6


def several(loaded) -> list[Request]:
    free = generate_texts(loaded.model, loaded.tokenizer, [ask(loaded, "ab", seed=4, count=30)])[0].text
    fields = [
        {},
        {"temperature": 0},
        {"num_beams": 3},
        {"penalty_alpha": 0.6, "top_k": 3},
        {"stop": (free[9:11], "nowhere"), "count": 30},
        {"temperature": 0.5, "presence_penalty": 1.0},
        {"count": 0},
        {"count": 90},  # past the block
    ]
    return [ask(loaded, "ab."[: 1 + n % 3], seed=n, **each) for n, each in enumerate(fields)]


async def written_beside(worker: Worker, request: Request) -> list:
    return (await whole(worker, [request]))[0]


def test_texts_match_those_without_a_server_together_and_one_by_one():
    loaded = tiny_loaded()
    requests = several(loaded)
    expected = [list(stream_texts(loaded.model, loaded.tokenizer, [request])) for request in requests]

    async def run():
        async with working(loaded, slots=3) as worker:
            together = await whole(worker, requests)
            apart = await asyncio.gather(*(written_beside(worker, request) for request in requests))
            assert worker.is_idle
            return together, apart, worker.gauges()

    together, apart, gauges = in_time(run())
    assert _texts(together) == _texts(expected) == _texts(apart)
    assert len({text for text, *_ in _texts(together)}) > 5
    assert {piece.finish for piece in together[4]} == {None, "stop"}
    for place, pieces in enumerate(together):
        assert all(piece.request == place for piece in pieces)
        assert all(piece.token is None or piece.token.request == place for piece in pieces)
        assert all(token.request == place for piece in pieces for each in piece.hypotheses for token in each.tokens)
    assert len(together[2][-1].hypotheses) == 3
    assert (gauges.running, gauges.waiting, gauges.calls, gauges.failures) == (0, 0, 0, 0)
    assert gauges.texts == 2 * len(requests)
    assert gauges.tokens == 2 * sum(piece.token is not None for pieces in expected for piece in pieces)


def _texts(of_all: list) -> list[tuple]:
    return [
        (
            "".join(piece.text for piece in pieces),
            [piece.token.id for piece in pieces if piece.token],
            [piece.finish for piece in pieces if piece.finish],
        )
        for pieces in of_all
    ]


def test_special_tokens_are_shown_only_on_request():
    loaded = tiny_loaded()
    (separator,) = loaded.tokenizer.special_tokens.values()
    request = Request([separator], GenerationConfig(max_new_tokens=3), choice_ids=((separator, 3, separator),))

    async def run():
        async with working(loaded) as worker:
            return [
                "".join([p.text async for p in worker.generate([request], TextStyle(shown))]) for shown in (False, True)
            ]

    plain, shown = in_time(run())
    assert shown == loaded.tokenizer.decode([separator, 3, separator]) != plain == loaded.tokenizer.decode([3])


def test_no_requests_give_no_texts():
    async def run():
        async with working() as worker:
            assert await whole(worker, []) == []
            assert worker.is_idle

    in_time(run())


# --- Clients that leave


@pytest.mark.parametrize("how", ["close", "cancel", "forget", "timeout"])
def test_a_disconnect_frees_its_slots_and_the_others_continue(how: str):
    loaded = tiny_loaded()
    stays = ask(loaded, count=80, seed=1)
    expected = _texts([list(stream_texts(loaded.model, loaded.tokenizer, [stays]))])

    async def run():
        async with working(loaded, slots=3, max_waiting=2) as worker:
            staying = asyncio.create_task(written_beside(worker, stays))
            leaving = [ask(loaded, count=FOREVER, seed=n, **each) for n, each in enumerate(({}, {"num_beams": 1}, {}))]
            stream = worker.generate(leaving)
            await anext(stream)
            assert worker.gauges().waiting == 1
            if how == "close":
                await stream.aclose()
            elif how == "forget":
                stream = None
            elif how == "cancel":
                waiting = asyncio.create_task(_to_the_end(stream))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await _to_the_end(stream)
            pieces = await staying
            await until(lambda: worker.is_idle)
            if stream is not None:
                assert [piece async for piece in stream] == []
            return pieces, worker.gauges()

    pieces, gauges = in_time(run())
    assert _texts([pieces]) == expected
    assert (gauges.running, gauges.waiting, gauges.failures) == (0, 0, 0)


async def _to_the_end(stream) -> None:
    async for _ in stream:
        pass


def test_a_slot_is_free_at_the_engines_next_step(monkeypatch):
    """The steps after a leaving is known of are counted: none of them has the text still."""
    loaded, rows = tiny_loaded(), []
    whole_step = Engine.step

    def counting(self):
        result = whole_step(self)
        rows.append(self.running)
        return result

    monkeypatch.setattr(Engine, "step", counting)

    async def run():
        async with working(loaded) as worker:
            stays, leaves = (worker.generate([ask(loaded, count=FOREVER, seed=n)]) for n in (1, 2))
            await anext(stays)
            await anext(leaves)
            held = threading.Event()
            blocked = asyncio.create_task(worker.call(lambda _: held.wait(20)))  # no step from here on
            await until(lambda: worker.gauges().calls == 1)
            while rows and rows[-1] != 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            await leaves.aclose()
            before = len(rows)
            held.set()
            await blocked
            await until(lambda: len(rows) > before + 3)
            await stays.aclose()
            return rows[before : before + 3]

    # The step that shares its turn with the call may have begun before the leaving was looked at.
    assert in_time(run())[1:] == [1, 1]


def test_a_cancelled_waiting_request_never_starts():
    loaded = tiny_loaded()
    called = []

    async def run():
        async with working(loaded) as worker:
            held = threading.Event()
            blocked = asyncio.create_task(worker.call(lambda _: held.wait(20)))
            await until(lambda: worker.gauges().calls == 1)
            stream = worker.generate([ask(loaded, count=FOREVER)] * 3)
            assert worker.gauges().running == 3
            await stream.aclose()
            other = asyncio.create_task(worker.call(lambda _: called.append(1)))
            await until(lambda: worker.gauges().calls == 2)
            other.cancel()
            await asyncio.wait([other])
            held.set()
            await blocked
            await until(lambda: worker.is_idle)
            return worker.gauges().tokens

    assert in_time(run()) == 0
    assert not called


# --- Refusals


def test_impossible_requests_are_rejected_before_they_wait():
    loaded = tiny_loaded()

    async def run():
        async with working(loaded, slots=2, max_waiting=3) as worker:
            with pytest.raises(DataError, match="not a token of this model"):
                worker.generate([ask(loaded), Request([10**6])])
            with pytest.raises(DataError, match="6 texts at once") as caught:
                worker.generate([ask(loaded)] * 6)
            assert "At most 5" in caught.value.expected
            assert worker.is_idle
            assert len(await whole(worker, [ask(loaded)] * 5)) == 5
        async with working(replace(loaded, tokenizer=None)) as worker:
            with pytest.raises(RunError, match="no tokenizer"):
                worker.generate([Request([1])])

    in_time(run())


def test_a_search_beyond_memory_is_rejected_at_once(monkeypatch):
    loaded = tiny_loaded()

    async def run():
        async with working(loaded) as worker:
            monkeypatch.setattr("penna.generate.memory.free_bytes", lambda _: 1000)
            with pytest.raises(DeviceError, match="all its beams counted"):
                worker.generate([ask(loaded, num_beams=8)])

    in_time(run())


def test_a_full_queue_raises_busy_and_accepts_again_later():
    loaded = tiny_loaded()

    async def run():
        async with working(loaded, slots=2, max_waiting=2) as worker:
            streams = [worker.generate([ask(loaded, count=FOREVER)]) for _ in range(4)]
            with pytest.raises(Busy) as caught:
                worker.generate([ask(loaded)])
            assert caught.value.happened == "2 texts are already waiting for this model."
            assert 1 <= caught.value.retry_after <= 60
            assert (worker.gauges().running, worker.gauges().waiting) == (2, 2)
            await streams[3].aclose()
            await until(lambda: worker.gauges().waiting == 1)
            with pytest.raises(Busy):
                worker.generate([ask(loaded)] * 2)
            last = worker.generate([ask(loaded, count=3)])
            for stream in streams:
                await stream.aclose()
            return [piece async for piece in last]

    assert in_time(run())[-1].finish == "length"


# --- Faults


def test_a_text_that_fails_ends_alone(monkeypatch, caplog):
    from penna.generate.beam_search import BeamSearch

    loaded = tiny_loaded()
    good = [ask(loaded, seed=1), ask(loaded, seed=2, temperature=0)]
    expected = [written.text for written in generate_texts(loaded.model, loaded.tokenizer, good)]
    monkeypatch.setattr(BeamSearch, "step", _raising)

    async def run():
        async with working(loaded) as worker:
            both = worker.generate(good)
            bad = worker.generate([ask(loaded, num_beams=2), ask(loaded, count=FOREVER)])
            with pytest.raises(InternalError, match="Generation failed") as caught:
                await _to_the_end(bad)
            assert "planted" not in str(caught.value)
            assert [piece async for piece in bad] == []
            pieces = [piece async for piece in both]
            await until(lambda: worker.is_idle)
            return ["".join(p.text for p in pieces if p.request == n) for n in (0, 1)], worker.gauges()

    texts, gauges = in_time(run())
    assert texts == expected
    assert gauges.failures == 2
    assert "RuntimeError: planted" in caplog.text


def _raising(*_: object) -> None:
    raise RuntimeError("planted")


def test_a_failing_step_ends_running_texts_and_the_next_request_works(monkeypatch):
    loaded = tiny_loaded()
    expected = [written.text for written in generate_texts(loaded.model, loaded.tokenizer, [ask(loaded, seed=5)])]
    whole_read, faults = DecodingBatch.read, []

    def once(self, drafts):
        if len(self.rows) == 2 and not faults:
            faults.append(1)
            raise RuntimeError("planted")
        return whole_read(self, drafts)

    monkeypatch.setattr(DecodingBatch, "read", once)

    async def run():
        async with working(loaded) as worker:
            streams = [worker.generate([ask(loaded, count=FOREVER, seed=n)]) for n in range(2)]
            ends = await asyncio.gather(*map(_to_the_end, streams), return_exceptions=True)
            assert [type(end) for end in ends] == [InternalError, InternalError]
            assert worker.gauges().failures == 2
            assert worker.is_idle
            return await whole(worker, [ask(loaded, seed=5)])

    assert [text for text, *_ in _texts(in_time(run()))] == expected


# --- Other work


def test_calls_run_on_the_models_thread_between_steps_one_at_a_time(monkeypatch):
    loaded, order = tiny_loaded(), []
    whole_step = Engine.step
    monkeypatch.setattr(Engine, "step", lambda self: order.append("step") or whole_step(self))

    def note(model):
        order.append("call")
        return model, threading.current_thread()

    async def run():
        async with working(loaded) as worker:
            stream = worker.generate([ask(loaded, count=FOREVER)])
            await anext(stream)
            found = await asyncio.gather(*(worker.call(note) for _ in range(9)))
            await stream.aclose()
            return found

    found = in_time(run())
    assert all(model is loaded for model, _ in found)
    assert {thread for _, thread in found} == {found[0][1]} != {threading.current_thread()}
    calls = [at for at, what in enumerate(order) if what == "call"]
    assert len(calls) == 9
    assert all("step" in order[first:last] for first, last in pairwise(calls))


def test_errors_of_calls_reach_only_their_caller():
    async def run():
        async with working() as worker:
            with pytest.raises(ZeroDivisionError):
                await worker.call(lambda _: 1 // 0)
            assert await worker.call(lambda _: 7) == 7
            assert worker.is_idle

    in_time(run())


@dataclass
class Endless:
    """Work that reads through a model for ever, and stands still for a moment before its second layer."""

    loaded: LoadedModel
    layers: list[int] = field(default_factory=list)
    stands: threading.Event = field(default_factory=threading.Event)
    goes_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, loaded: LoadedModel) -> None:
        while True:
            loaded.model.hidden(torch.zeros(1, 4, dtype=torch.long))

    @contextmanager
    def watched(self) -> Generator[None]:
        hooks = [block.register_forward_pre_hook(partial(self._note, n)) for n, block in enumerate(self.loaded.model.h)]
        yield
        for hook in hooks:
            hook.remove()

    def _note(self, layer: int, *_: object) -> None:
        self.layers.append(layer)
        if len(self.layers) == 2:
            self.stands.set()
            self.goes_on.wait(20)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_an_abandoned_call_stops_before_the_next_layer(how: str):
    loaded = tiny_loaded()
    expected = generate_texts(loaded.model, loaded.tokenizer, [ask(loaded)])[0].text
    endless = Endless(loaded)

    async def run():
        async with working(loaded) as worker:
            with endless.watched():
                calling = asyncio.create_task(asyncio.wait_for(worker.call(endless), 0.2 if how == "timeout" else None))
                await until(endless.stands.is_set)
                if how == "cancel":
                    calling.cancel()
                await asyncio.wait([calling])
                endless.goes_on.set()
                await until(lambda: worker.is_idle)
            (pieces,) = await whole(worker, [ask(loaded)])
            return calling, "".join(piece.text for piece in pieces), await worker.call(lambda _: 7)

    calling, text, seven = in_time(run())
    assert calling.cancelled() if how == "cancel" else isinstance(calling.exception(), TimeoutError)
    assert endless.layers == [0, 1]
    assert (text, seven) == (expected, 7)
    assert not any(block._forward_pre_hooks for block in loaded.model.h)


def test_waiting_calls_are_limited():
    async def run():
        async with working(max_waiting=2) as worker:
            held = threading.Event()
            calls = [asyncio.create_task(worker.call(lambda _: held.wait(20))) for _ in range(3)]
            await until(lambda: worker.gauges().calls == 3)
            with pytest.raises(Busy, match="2 requests are already waiting"):
                await worker.call(lambda _: 1)
            held.set()
            await asyncio.gather(*calls)
            assert await worker.call(lambda _: 1) == 1

    in_time(run())


# --- Closing


def test_closing_lets_running_texts_end_and_accepts_nothing_new():
    loaded = tiny_loaded()

    async def run():
        worker = Worker(loaded, ServeSettings(slots=1))
        streams = [worker.generate([ask(loaded, count=30, seed=n)]) for n in range(3)]
        closing = asyncio.create_task(worker.close(30))
        await asyncio.sleep(0)
        with pytest.raises(ModelClosing):
            worker.generate([ask(loaded)])
        with pytest.raises(ModelClosing):
            await worker.call(lambda _: 1)
        await closing
        return [[piece async for piece in stream][-1].finish for stream in streams]

    assert set(in_time(run())) <= {"length", "stop"}


def test_closing_aborts_texts_that_do_not_end():
    loaded = tiny_loaded()

    async def run():
        worker = Worker(loaded, ServeSettings(slots=1))
        streams = [worker.generate([ask(loaded, count=FOREVER, seed=n)]) for n in range(3)]
        await anext(streams[0])
        await worker.close(0)
        ends = await asyncio.gather(*map(_to_the_end, streams), return_exceptions=True)
        assert [type(end) for end in ends] == [ModelClosing] * 3
        assert worker.is_idle
        await worker.close(0)  # twice is once

    in_time(run())


def test_closing_aborts_calls_that_do_not_end():
    endless = Endless(tiny_loaded())

    async def run():
        worker = Worker(endless.loaded, ServeSettings())
        with endless.watched():
            calls = [asyncio.create_task(worker.call(each)) for each in (endless, lambda _: 7)]
            await until(endless.stands.is_set)
            closing = asyncio.create_task(worker.close(0))
            await until(lambda: worker._thread._is_aborted)
            endless.goes_on.set()
            await closing
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [ModelClosing] * 2
        assert worker.is_idle

    in_time(run())
    assert endless.layers == [0, 1]


def test_a_closed_event_loop_leaves_nothing_running():
    loaded = tiny_loaded()
    worker = Worker(loaded, ServeSettings())
    streams = []

    async def begin():
        streams.append(worker.generate([ask(loaded, count=FOREVER)]))
        await anext(streams[0])

    async def end():
        await until(lambda: worker.is_idle)
        await worker.close(5)

    in_time(begin())
    in_time(end())


def test_default_settings_survive_the_deletion_of_their_file(tmp_path):
    from tiny_served import tiny_run

    from penna import api

    run = tiny_run(tmp_path, "one")
    (run.path / "generation_config.json").write_text('{"temperature": 0.3, "do_sample": true}')
    loaded = api.load("one", runs_dir=tmp_path, device="cpu")
    otherwise = GenerationConfig(temperature=0.9)

    async def defaults():
        async with working(loaded) as worker:
            (run.path / "generation_config.json").unlink()
            return worker.defaults(otherwise).temperature

    assert in_time(defaults()) == 0.3

    async def none():
        async with working(loaded) as worker:
            return worker.defaults(otherwise)

    assert in_time(none()) is otherwise
