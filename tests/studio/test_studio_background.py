"""Background threads: a limited number at a time, separate from asyncio's, and never blocking the end."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from tiny_studio_models import run_async

from penna.api.decoding import DecodingSettings
from penna.errors import RunError
from penna.serve.settings import ServeSettings
from penna.studio.background import BackgroundThreads
from penna.studio.pages import decoding
from penna.studio.pages.decoding import ComparisonRegistry
from penna.studio.workspace import Studio


def test_at_most_the_limit_runs_at_once_and_the_others_follow():
    threads, gate, started, running = BackgroundThreads(2), threading.Semaphore(0), threading.Semaphore(0), set[int]()
    most = 0

    def work(number: int) -> int:
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        started.release()
        assert gate.acquire(timeout=60)
        running.discard(number)
        return number

    pieces: list[Future[int]] = [threads.start(lambda number=number: work(number)) for number in range(5)]
    for _ in range(2):
        assert started.acquire(timeout=60)
    assert not any(piece.done() for piece in pieces)
    gate.release(5)
    assert [piece.result(60) for piece in pieces] == list(range(5))
    assert most == 2


def test_errors_are_returned_and_work_canceled_before_its_turn_never_starts():
    threads, gate, done = BackgroundThreads(1), threading.Event(), list[str]()

    def fail() -> None:
        gate.wait(60)
        raise RunError("No.", "Yes.", "Try.")

    async def work() -> None:
        first = asyncio.create_task(threads.run(fail))
        second = asyncio.create_task(threads.run(done.append, "second"))
        await asyncio.sleep(0)  # both are requested
        second.cancel()
        gate.set()
        with pytest.raises(RunError, match="No"):
            await first
        await threads.run(done.append, "third")

    run_async(work())
    assert done == ["third"]


def test_a_process_ends_while_work_is_running():
    code = (
        "import asyncio, threading\n"
        "from penna.studio.background import BackgroundThreads\n"
        "async def main():\n"
        "    started = threading.Event()\n"
        "    work = asyncio.create_task(BackgroundThreads().run(lambda: (started.set(), threading.Event().wait())))\n"
        "    await asyncio.to_thread(started.wait)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_when_the_studio_ends_a_comparison_stops_and_waiting_work_never_starts(tmp_path, monkeypatch):
    studio, writing, gate, started = Studio(tmp_path, None, ServeSettings()), threading.Event(), threading.Event(), []

    def compare(*_, report, **__):
        started.append(report)
        writing.set()
        gate.wait(60)
        report("continuing")

    monkeypatch.setattr(decoding, "compare_decoding", compare)
    registry = ComparisonRegistry(studio)
    comparison = registry.start("one", DecodingSettings(), "penna decoding one")
    with pytest.raises(RunError, match="A comparison of one is already running"):
        registry.start("two", DecodingSettings(), "penna decoding two")
    assert writing.wait(60)
    studio.background.stop()
    never = studio.background.start(lambda: started.append("never"))
    gate.set()
    for thread in [each for each in threading.enumerate() if each.name.endswith(" background")]:
        thread.join(60)
    assert comparison.failure is not None
    assert "was stopped" in str(comparison.failure)
    assert len(started) == 1
    assert not never.done()
