"""64 clients at once, a third of which disconnect: the others get the same texts as alone."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tiny_served import ask, in_time, tiny_loaded, tiny_run, until, working

from penna.generate.request import Request
from penna.generate.text_stream import generate_texts
from penna.serve.worker import Worker

CLIENTS = 64
FIELDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.7, "top_k": 9},
    {"num_beams": 3},
    {"presence_penalty": 0.5, "top_p": 0.9},
]
LEAVES = {n: 1 + n % 7 for n in range(0, CLIENTS, 3)}  # client -> pieces it takes


def test_64_clients_of_one_worker_get_the_texts_they_get_alone():
    loaded = tiny_loaded()
    requests = [
        ask(loaded, "abcdef"[: 1 + n % 6], count=8 + n % 5, seed=n % 9, **FIELDS[n % 5]) for n in range(CLIENTS)
    ]
    alone = [generate_texts(loaded.model, loaded.tokenizer, [request])[0] for request in requests]

    async def client(worker: Worker, number: int, request: Request) -> tuple[str, list[int]]:
        text, ids = "", list[int]()
        pieces = worker.generate([request])
        async for piece in pieces:
            text += piece.text
            ids += [piece.token.id] if piece.token else []
            if len(ids) == LEAVES.get(number):
                await pieces.aclose()
        return text, ids

    async def run():
        async with working(loaded, slots=8, max_waiting=64) as worker:
            texts = await asyncio.gather(*(client(worker, *each) for each in enumerate(requests)))
            await until(lambda: worker.is_idle)
            return texts, worker.gauges()

    texts, gauges = in_time(run())
    for number, (text, ids) in enumerate(texts):
        if number not in LEAVES:
            assert (text, tuple(ids)) == (alone[number].text, alone[number].ids)
        else:
            assert tuple(ids) == alone[number].ids[: len(ids)]
            assert len(ids) <= LEAVES[number]
    assert len({text for text, _ in texts}) > CLIENTS // 2
    assert (gauges.texts, gauges.failures) == (CLIENTS, 0)


@pytest.mark.slow
def test_64_clients_over_http_get_the_texts_they_get_alone(tmp_path: Path):
    from served import events, running

    tiny_run(tmp_path, "one")
    body = [
        {"model": "one", "prompt": "abcdef"[: 1 + n % 6], "max_tokens": 24 + n % 17, "seed": n % 9}
        | ({} if n % 5 == 3 else FIELDS[n % 5])
        for n in range(CLIENTS)
    ]
    together = threading.Barrier(CLIENTS)
    with running(tmp_path, ("one",), slots=16, max_waiting=CLIENTS, max_streams=CLIENTS) as served:

        def client(number: int, *, leaves: bool) -> str:
            text, taken = "", 0
            with served.client() as http:
                if leaves:
                    together.wait(60)
                with http.stream("POST", "/v1/completions", json={**body[number], "stream": True}) as answer:
                    assert answer.status_code == 200, answer.read()
                    for data in events(answer.iter_lines()):
                        if data == "[DONE]":
                            return text
                        text += json.loads(data)["choices"][0]["text"]
                        taken += 1
                        if leaves and taken == LEAVES.get(number):
                            return text
            pytest.fail("the stream did not end")

        alone = [client(number, leaves=False) for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            texts = list(pool.map(lambda number: client(number, leaves=True), range(CLIENTS)))
        for number, text in enumerate(texts):
            assert text == alone[number] if number not in LEAVES else alone[number].startswith(text)
        assert len(set(alone)) > CLIENTS // 2
        (worker,) = served.registry.workers().values()
        assert worker.gauges().failures == 0
        deadline = threading.Event()
        for _ in range(200):
            if worker.is_idle:
                break
            deadline.wait(0.05)
        assert worker.is_idle
