"""Serving: `penna serve` against a plain FastAPI wrapper over Hugging Face's `generate`, with the same weights.

    python benchmarks/serve.py [--clients 1 8 32] [--pairs 2] [--new 16] [--small] [--seconds 170]

Each server is a process of its own on a port of this machine alone; the two take turns, and the median of each pair's
ratio is taken. All clients ask at once, each for one streamed text, with prompts of different lengths. Throughput is
tokens over the time from the first question to the last answer; time to first token is from a client's question to its
first event, the median over the clients. The wrapper does what such wrappers do: `generate` in a pool of threads, one
request at a time, streamed with TextIteratorStreamer. Greedy, float32, random weights (speed does not depend on them);
both write the same number of tokens, and the texts are compared. No measurement is begun after --seconds.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import httpx
import torch

NAME = "served"
THROUGHPUT, FIRST_TOKEN = 4.0, 0.25  # wanted at the most clients
LARGE = {"preset": "gpt2"}
SMALL = {"preset": "gpt2", "n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 256}


class Measured(NamedTuple):
    throughput: float  # tokens a second
    first: float  # seconds to the first token, the median
    texts: list[str]


def write_model(folder: Path, fields: dict[str, Any]) -> int:
    """A model and a tokenizer that both servers read; its parameters."""
    from penna.config.sections import ModelConfig, TokenizerConfig
    from penna.interop.hf_folder import write_hf
    from penna.model.gpt import GPT, count_parameters
    from penna.tokenizer.train import train_tokenizer

    text = [file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))]
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=2048), text)
    model = GPT(ModelConfig(**{**fields, "vocab_size": tokenizer.vocab_size}))
    model.init_weights(0)
    with torch.no_grad():
        model.wte.weight *= 10  # so that the likeliest token is clearly so
    write_hf(model.config, model.state_dict(), folder, tokenizer=tokenizer)
    return count_parameters(model)


def serve_penna(folder: Path, port: int) -> None:
    from penna.serve.app import create_app
    from penna.serve.registry import Registry
    from penna.serve.server import listening, server_of
    from penna.serve.settings import ServeSettings

    settings = ServeSettings(port=port, request_timeout=600)
    registry = Registry([f"{NAME}={folder}"], settings, device="cpu")
    with listening(settings) as listener:
        server_of(create_app(registry, settings), settings).run(sockets=[listener])


def serve_hf(folder: Path, port: int) -> None:
    import uvicorn
    from fastapi import Body, FastAPI
    from fastapi.responses import StreamingResponse
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    app = FastAPI()
    turn = asyncio.Semaphore(1)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    async def complete(prompt: str = Body(), max_tokens: int = Body()) -> StreamingResponse:
        async def events() -> Any:
            async with turn:
                streamer: Any = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=600)
                given = tokenizer(prompt, return_tensors="pt")
                count = {"max_new_tokens": max_tokens, "min_new_tokens": max_tokens}
                asked = {**given, **count, "do_sample": False, "pad_token_id": 0, "streamer": streamer}
                writing = Thread(target=quietly, args=(model.generate, asked))
                writing.start()
                pieces = iter(streamer)
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield f"data: {json.dumps({'choices': [{'text': piece}]})}\n\n"
                writing.join()
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def quietly(function: Any, given: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(**given)


async def ask(http: httpx.AsyncClient, prompt: str, new: int, *, is_penna: bool) -> tuple[float, str]:
    """Seconds to the first event, and the text."""
    asked: dict[str, Any] = {"prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True, "model": NAME}
    if is_penna:
        asked["min_new_tokens"] = new
    begun, first, text = time.perf_counter(), 0.0, ""
    async with http.stream("POST", "/v1/completions", json=asked) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"{answer.status_code}: {(await answer.aread()).decode()}")
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                first = first or time.perf_counter() - begun
                text += json.loads(line.removeprefix("data: "))["choices"][0]["text"]
    return first, text


async def measure(url: str, prompts: Sequence[str], new: int, *, is_penna: bool) -> Measured:
    limits = httpx.Limits(max_connections=len(prompts))
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as http:
        begun = time.perf_counter()
        told = await asyncio.gather(*(ask(http, prompt, new, is_penna=is_penna) for prompt in prompts))
        seconds = time.perf_counter() - begun
    firsts, texts = zip(*told, strict=True)
    return Measured(len(prompts) * new / seconds, statistics.median(firsts), list(texts))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(kind: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = free_port()
    server = subprocess.Popen([sys.executable, __file__, "--server", kind, str(folder), str(port)])
    return server, f"http://127.0.0.1:{port}"


def wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"the server at {url} ended with {server.returncode}")
        try:
            httpx.get(url + "/health", trust_env=False)
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"nothing answers at {url}")


def compare(urls: dict[str, str], clients: int, arguments: argparse.Namespace, end: float) -> None:
    words = [
        "the",
        "rain",
        "in",
        "spain",
        "stays",
        "mainly",
        "in",
        "the",
        "plain",
        "and",
        "so",
        "does",
        "all",
        "of",
        "it",
    ]
    prompts = [" ".join((words * 3)[n % 7 : n % 7 + 4 + n % 16]) for n in range(clients)]
    pairs: list[tuple[Measured, Measured]] = []
    while len(pairs) < arguments.pairs and (not pairs or time.perf_counter() < end):
        ours, theirs = (
            asyncio.run(measure(urls[kind], prompts, arguments.new, is_penna=kind == "penna")) for kind in urls
        )
        pairs.append((ours, theirs))
    own, other = pairs[0]
    same = sum(a == b for a, b in zip(own.texts, other.texts, strict=True))
    faster = statistics.median(ours.throughput / theirs.throughput for ours, theirs in pairs)
    sooner = statistics.median(ours.first / theirs.first for ours, theirs in pairs)
    rates = [statistics.median(pair[side].throughput for pair in pairs) for side in (0, 1)]
    firsts = [statistics.median(pair[side].first for pair in pairs) * 1000 for side in (0, 1)]
    verdict = ""
    if clients == max(arguments.clients):
        reached = ["reached" if is_so else "NOT reached" for is_so in (faster >= THROUGHPUT, sooner < FIRST_TOKEN)]
        verdict = f"  {THROUGHPUT:.0f}x {reached[0]}, under {FIRST_TOKEN:.0%} {reached[1]}"
    print(
        f"{clients:>7} {rates[0]:>9.1f} {rates[1]:>9.1f} {faster:>7.2f}x {firsts[0]:>9.0f} ms {firsts[1]:>9.0f} ms "
        f"{sooner:>7.0%}   {same} of {clients} texts the same, {len(pairs)} pairs{verdict}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--new", type=int, default=16, help="tokens of each text")
    parser.add_argument("--small", action="store_true", help="a model of 1 M parameters instead of 88 M")
    parser.add_argument("--seconds", type=float, default=170.0, help="no measurement is begun later than this")
    parser.add_argument("--server", nargs=3, metavar=("KIND", "FOLDER", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server:
        kind, folder, port = arguments.server
        (serve_penna if kind == "penna" else serve_hf)(Path(folder), int(port))
        return
    end = time.perf_counter() + arguments.seconds
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "hf"
        parameters = write_model(folder, SMALL if arguments.small else LARGE)
        servers = {kind: started(kind, folder) for kind in ("penna", "hf")}
        urls = {kind: url for kind, (_, url) in servers.items()}
        try:
            for kind, (server, url) in servers.items():
                wait_for(server, url)
                asyncio.run(measure(url, ["the rain in spain"] * 2, 4, is_penna=kind == "penna"))  # warm
            print(f"{parameters / 1e6:.0f} M parameters, {torch.get_num_threads()} threads, {arguments.new} new tokens")
            print("clients     Penna        HF   ratio   first: Penna           HF  Penna/HF   (tokens a second)")
            for clients in arguments.clients:
                if time.perf_counter() >= end:
                    print(f"{clients:>7} left out: {arguments.seconds:.0f} s are over")
                    continue
                compare(urls, clients, arguments, end)
        finally:
            for server, _ in servers.values():
                server.terminate()
            for server, _ in servers.values():
                server.wait(60)


if __name__ == "__main__":
    main()
