"""The thread pool for requests: few threads and a bounded queue."""

import asyncio
import threading

import pytest
from tiny_served import in_time, until

from penna.serve.thread_pool import RequestThreadPool
from penna.serve.worker import Busy


class Held:
    """Work that is begun and does not end until it may."""

    def __init__(self) -> None:
        self.begun, self.may_end = 0, threading.Event()

    def __call__(self) -> int:
        self.begun += 1
        assert self.may_end.wait(20)
        return 7


def test_waiting_calls_are_limited_and_cancelled_ones_never_start():
    held, reading = Held(), RequestThreadPool(max_waiting=2)

    async def run():
        tasks = [asyncio.create_task(reading.run(held)) for _ in range(4)]
        await until(lambda: held.begun == 2)
        with pytest.raises(Busy, match="2 requests are already waiting to be read"):
            await reading.run(held)
        tasks[3].cancel()
        await asyncio.wait([tasks[3]])
        tasks.append(asyncio.create_task(reading.run(held)))  # in its place
        await asyncio.sleep(0)
        held.may_end.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == [7] * 4
        assert held.begun == 4
        assert await reading.run(held) == 7

    in_time(run())


def test_cancelled_running_calls_hold_their_thread_until_they_end():
    held, reading = Held(), RequestThreadPool(max_waiting=0)

    async def run():
        tasks = [asyncio.create_task(reading.run(held)) for _ in range(2)]
        await until(lambda: held.begun == 2)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with pytest.raises(Busy):
            await reading.run(held)
        assert await asyncio.to_thread(lambda: 7) == 7  # others' threads are free
        held.may_end.set()

        def is_free() -> bool:
            return reading._slots._value == 2

        await until(is_free)
        assert await reading.run(held) == 7

    in_time(run())


def test_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        in_time(RequestThreadPool(max_waiting=0).run(lambda: 1 // 0))
