"""Explanations on pages: what the terminal says, within the API's limits, and stopped where nobody waits for them."""

import asyncio

import pytest
from tiny_writers import in_time, tiny, working

from penna.api.explain import DEFAULT, ExplainSettings, explain, measure_faithfulness
from penna.errors import DataError
from penna.serve.errors import RequestRejected
from penna.serve.settings import ServeSettings
from penna.storage import to_json
from penna.studio.explaining import MOST_TEXTS, explanation, faithfulness

TEXTS = ["the rain in spain", "one", "it falls on the plain"]
LIGHT = ExplainSettings(methods=("gradient-x-input",), lens=False)


def test_what_a_page_says_is_what_the_terminal_says():
    async def asked():
        said: list[str] = []
        async with working(tiny()) as worker:
            explained = await explanation(worker, TEXTS[0], DEFAULT, ServeSettings())
            return explained, await faithfulness(worker, TEXTS, LIGHT, ServeSettings(), said.append), said

    explained, measured, said = in_time(asked())
    assert to_json(explained) == to_json(explain(tiny(), TEXTS[0], DEFAULT))
    assert to_json(measured) == to_json(measure_faithfulness(tiny(), TEXTS, LIGHT))
    assert said == ["0 / 3", "1 / 3", "2 / 3"]


def test_what_is_too_much_for_the_api_is_too_much_for_a_page(monkeypatch: pytest.MonkeyPatch):
    limits = ServeSettings(max_explain_steps=10)
    loaded = tiny()
    monkeypatch.setattr(type(loaded.model), "hidden", lambda *_, **__: pytest.fail("it was read"))

    async def refused():
        async with working(loaded) as worker:
            for asked in (explanation(worker, TEXTS[0], DEFAULT, limits), faithfulness(worker, TEXTS, DEFAULT, limits)):
                with pytest.raises(RequestRejected, match="might have to read the text .* times"):
                    await asked

    in_time(refused())


def test_no_text_and_more_than_a_page_measures_are_refused_and_the_terminal_is_named():
    async def refused():
        async with working(tiny()) as worker:
            for texts, said, todo in (
                ([], "no text", "field"),
                (["a b"] * (MOST_TEXTS + 1), "51 texts", "--faithfulness"),
            ):
                with pytest.raises(DataError, match=said) as told:
                    await faithfulness(worker, texts, LIGHT, ServeSettings())
                assert todo in told.value.advice

    in_time(refused())


def test_whoever_leaves_stops_what_is_measured_and_others_are_served_between_two_texts():
    loaded = tiny()
    reading, reads = asyncio.Event(), 0

    async def left():
        loop = asyncio.get_running_loop()

        def read(*_: object) -> None:
            nonlocal reads
            reads += 1
            loop.call_soon_threadsafe(reading.set)

        async with working(loaded) as worker:
            said: list[str] = []
            loaded.model.h[0].register_forward_pre_hook(read)
            measuring = asyncio.create_task(faithfulness(worker, TEXTS * 10, DEFAULT, ServeSettings(), said.append))
            await reading.wait()
            await worker.call(lambda _: None)  # another one's turn, long before all is measured
            assert 1 <= len(said) <= 3
            measuring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await measuring
            until = await worker.call(lambda _: reads)
            assert await worker.call(lambda _: reads) == until
            assert len(said) <= 3

    in_time(left())
