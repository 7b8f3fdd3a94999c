"""Work of minutes: a few pieces at once, apart from asyncio's threads, and never in the way of an end."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from tiny_writers import in_time

from penna.api.decoding import DecodingSettings
from penna.errors import RunError
from penna.serve.settings import ServeSettings
from penna.studio.long_work import LongWork
from penna.studio.pages import decoding
from penna.studio.pages.decoding import Lab
from penna.studio.state import Studio


def test_so_many_pieces_are_at_work_at_once_and_the_others_have_their_turn():
    long, gate, begun, at_work = LongWork(2), threading.Semaphore(0), threading.Semaphore(0), set[int]()
    most = 0

    def work(number: int) -> int:
        nonlocal most
        at_work.add(number)
        most = max(most, len(at_work))
        begun.release()
        assert gate.acquire(timeout=60)
        at_work.discard(number)
        return number

    pieces: list[Future[int]] = [long.begin(lambda number=number: work(number)) for number in range(5)]
    for _ in range(2):
        assert begun.acquire(timeout=60)
    assert not any(piece.done() for piece in pieces)
    gate.release(5)
    assert [piece.result(60) for piece in pieces] == list(range(5))
    assert most == 2


def test_what_it_raises_comes_back_and_whoever_leaves_before_its_turn_has_nothing_done():
    long, gate, done = LongWork(1), threading.Event(), list[str]()

    def fail() -> None:
        gate.wait(60)
        raise RunError("No.", "Yes.", "Try.")

    async def left() -> None:
        first = asyncio.create_task(long.done(fail))
        second = asyncio.create_task(long.done(done.append, "second"))
        await asyncio.sleep(0)  # both are asked for
        second.cancel()
        gate.set()
        with pytest.raises(RunError, match="No"):
            await first
        await long.done(done.append, "third")

    in_time(left())
    assert done == ["third"]


def test_a_process_ends_while_work_is_under_way():
    code = (
        "import asyncio, threading\n"
        "from penna.studio.long_work import LongWork\n"
        "async def main():\n"
        "    begun = threading.Event()\n"
        "    work = asyncio.create_task(LongWork().done(lambda: (begun.set(), threading.Event().wait())))\n"
        "    await asyncio.to_thread(begun.wait)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_where_the_studio_ends_a_comparison_stops_and_what_waits_is_not_begun(tmp_path, monkeypatch):
    studio, writing, gate, begun = Studio(tmp_path, None, ServeSettings()), threading.Event(), threading.Event(), []

    def compared(*_, say, **__):
        begun.append(say)
        writing.set()
        gate.wait(60)
        say("writing on")

    monkeypatch.setattr(decoding, "compare_decoding", compared)
    lab = Lab(studio)
    comparison = lab.begin("one", DecodingSettings(), "penna decoding one")
    with pytest.raises(RunError, match="one is being compared already"):
        lab.begin("two", DecodingSettings(), "penna decoding two")
    assert writing.wait(60)
    studio.long.end()
    never = studio.long.begin(lambda: begun.append("never"))
    gate.set()
    for thread in [each for each in threading.enumerate() if each.name.endswith("at long work")]:
        thread.join(60)
    assert comparison.failure is not None
    assert "was stopped" in str(comparison.failure)
    assert len(begun) == 1
    assert not never.done()
