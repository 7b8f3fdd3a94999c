"""Explanations on pages equal those of the terminal, respect the API's limits, and can be stopped."""

import asyncio
from dataclasses import replace

import pytest
from tiny_studio_models import run_async, running_worker, tiny_model

from penna.api.explain import DEFAULT, ExplainSettings, explain, measure_faithfulness
from penna.errors import DataError
from penna.serve.errors import RequestRejected
from penna.serve.settings import ServeSettings
from penna.storage import to_json
from penna.studio.pages.explain import MAX_TEXTS, explain_on_worker, explanation_page, measure_on_worker

TEXTS = ["the rain in spain", "one", "it falls on the plain"]
FAST = ExplainSettings(methods=("gradient-x-input",), lens=False)


def test_pages_explain_and_measure_as_the_terminal_does():
    async def work():
        reports: list[str] = []
        async with running_worker(tiny_model()) as worker:
            explained = await explain_on_worker(worker, TEXTS[0], DEFAULT, ServeSettings())
            return explained, await measure_on_worker(worker, TEXTS, FAST, ServeSettings(), reports.append), reports

    explained, measured, reports = run_async(work())
    assert to_json(explained) == to_json(explain(tiny_model(), TEXTS[0], DEFAULT))
    assert to_json(measured) == to_json(measure_faithfulness(tiny_model(), TEXTS, FAST))
    assert reports == ["0 / 3", "1 / 3", "2 / 3"]


def test_the_page_of_an_explanation_names_the_run_and_no_path():
    explanation = replace(explain(tiny_model(), TEXTS[0], FAST), model="/home/someone/runs/stories/checkpoints/step-1")
    page = explanation_page("stories", explanation)
    assert "stories, seed" in page
    assert "someone" not in page


def test_pages_have_the_limits_of_the_api(monkeypatch: pytest.MonkeyPatch):
    limits = ServeSettings(max_explain_steps=10)
    loaded = tiny_model()
    monkeypatch.setattr(type(loaded.model), "hidden", lambda *_, **__: pytest.fail("the text was read"))

    async def work():
        async with running_worker(loaded) as worker:
            for call in (
                explain_on_worker(worker, TEXTS[0], DEFAULT, limits),
                measure_on_worker(worker, TEXTS, DEFAULT, limits),
            ):
                with pytest.raises(RequestRejected, match="may need .* forward passes"):
                    await call

    run_async(work())


def test_no_text_and_too_many_texts_are_rejected_with_advice():
    async def work():
        async with running_worker(tiny_model()) as worker:
            for texts, message, advice in (
                ([], "no text", "Fill in"),
                (["a b"] * (MAX_TEXTS + 1), "51 texts", "--faithfulness"),
            ):
                with pytest.raises(DataError, match=message) as caught:
                    await measure_on_worker(worker, texts, FAST, ServeSettings())
                assert advice in caught.value.advice

    run_async(work())


def test_cancellation_stops_measuring_and_other_work_runs_between_two_texts():
    loaded = tiny_model()
    reading, reads = asyncio.Event(), 0

    async def work():
        loop = asyncio.get_running_loop()

        def read(*_: object) -> None:
            nonlocal reads
            reads += 1
            loop.call_soon_threadsafe(reading.set)

        async with running_worker(loaded) as worker:
            reports: list[str] = []
            loaded.model.h[0].register_forward_pre_hook(read)
            measuring = asyncio.create_task(
                measure_on_worker(worker, TEXTS * 10, DEFAULT, ServeSettings(), reports.append)
            )
            await reading.wait()
            await worker.call(lambda _: None)  # runs long before all texts are measured
            assert 1 <= len(reports) <= 3
            measuring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await measuring
            until = await worker.call(lambda _: reads)
            assert await worker.call(lambda _: reads) == until
            assert len(reports) <= 3

    run_async(work())
