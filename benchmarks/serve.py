"""Serving: `penna serve` and a plain FastAPI wrapper over Hugging Face's `generate`, with the same weights.

    python benchmarks/serve.py [--clients 1 8 32] [--pairs 2] [--new 16] [--small] [--seconds 170]

Each server is a process that listens on this machine only; the two alternate, and the median of the pairwise ratios is
printed. All clients send one streamed request at once, with prompts of different lengths. Throughput is tokens over
the time from the first request to the last response; time to first token is the median over clients. The wrapper does
what such wrappers do: `generate` in a thread pool, one request at a time, streamed with TextIteratorStreamer. Greedy,
float32, random weights (they do not affect speed); both generate the same number of tokens, and the texts are
compared. No measurement starts after --seconds.
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
THROUGHPUT, FIRST_TOKEN = 4.0, 0.25  # targets for the largest number of clients
LARGE = {"preset": "gpt2"}
SMALL = {"preset": "gpt2", "n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 256}


class Measured(NamedTuple):
    throughput: float  # tokens per second
    first: float  # median seconds to the first token
    texts: list[str]


def write_model(folder: Path, fields: dict[str, Any]) -> int:
    """Write a model and a tokenizer for both servers; return the number of parameters."""
    from penna.config.sections import ModelConfig, TokenizerConfig
    from penna.interop.hf_folder import write_hf
    from penna.model.gpt import GPT, count_parameters
    from penna.tokenizer.train import train_tokenizer

    text = [file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))]
    tokenizer = train_tokenizer(TokenizerConfig(kind="bpe", vocab_size=2048), text)
    model = GPT(ModelConfig(**{**fields, "vocab_size": tokenizer.vocab_size}))
    model.init_weights(0)
    with torch.no_grad():
        model.wte.weight *= 10  # so that the most likely token is clear
    write_hf(model.config, model.state_dict(), folder, tokenizer=tokenizer)
    return count_parameters(model)


def serve_penna(folder: Path, port: int) -> None:
    from penna.serve.app import create_app
    from penna.serve.registry import Registry
    from penna.serve.server import create_server, open_socket
    from penna.serve.settings import ServeSettings

    settings = ServeSettings(port=port, request_timeout=600)
    registry = Registry([f"{NAME}={folder}"], settings, device="cpu")
    with open_socket(settings) as listener:
        create_server(create_app(registry, settings), settings).run(sockets=[listener])


def serve_hf(folder: Path, port: int) -> None:
    import uvicorn
    from fastapi import Body, FastAPI
    from fastapi.responses import StreamingResponse
    from transformers import AutoModelForCausalLM, AutoTokenizer, TextIteratorStreamer

    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    app = FastAPI()
    one_at_a_time = asyncio.Semaphore(1)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/completions")
    async def complete(prompt: str = Body(), max_tokens: int = Body()) -> StreamingResponse:
        async def events() -> Any:
            async with one_at_a_time:
                streamer: Any = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=600)
                inputs = tokenizer(prompt, return_tensors="pt")
                count = {"max_new_tokens": max_tokens, "min_new_tokens": max_tokens}
                arguments = {**inputs, **count, "do_sample": False, "pad_token_id": 0, "streamer": streamer}
                thread = Thread(target=quietly, args=(model.generate, arguments))
                thread.start()
                pieces = iter(streamer)
                while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                    yield f"data: {json.dumps({'choices': [{'text': piece}]})}\n\n"
                thread.join()
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


def quietly(function: Any, arguments: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(**arguments)


async def request(http: httpx.AsyncClient, prompt: str, new: int, *, is_penna: bool) -> tuple[float, str]:
    """Seconds to the first event, and the text."""
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": new, "temperature": 0, "stream": True, "model": NAME}
    if is_penna:
        body["min_new_tokens"] = new
    begun, first, text = time.perf_counter(), 0.0, ""
    async with http.stream("POST", "/v1/completions", json=body) as answer:
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
        responses = await asyncio.gather(*(request(http, prompt, new, is_penna=is_penna) for prompt in prompts))
        seconds = time.perf_counter() - begun
    firsts, texts = zip(*responses, strict=True)
    return Measured(len(prompts) * new / seconds, statistics.median(firsts), list(texts))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(kind: str, folder: Path) -> tuple[subprocess.Popen[bytes], str]:
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
    raise SystemExit(f"no server responds at {url}")


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
        verdicts = ["met" if met else "MISSED" for met in (faster >= THROUGHPUT, sooner < FIRST_TOKEN)]
        verdict = f"  {THROUGHPUT:.0f}x {verdicts[0]}, under {FIRST_TOKEN:.0%} {verdicts[1]}"
    print(
        f"{clients:>7} {rates[0]:>9.1f} {rates[1]:>9.1f} {faster:>7.2f}x {firsts[0]:>9.0f} ms {firsts[1]:>9.0f} ms "
        f"{sooner:>7.0%}   {same} of {clients} equal texts, {len(pairs)} pairs{verdict}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--new", type=int, default=16, help="tokens per text")
    parser.add_argument("--small", action="store_true", help="a model of 1 M parameters instead of 88 M")
    parser.add_argument("--seconds", type=float, default=170.0, help="no measurement starts later than this")
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
        servers = {kind: start(kind, folder) for kind in ("penna", "hf")}
        urls = {kind: url for kind, (_, url) in servers.items()}
        try:
            for kind, (server, url) in servers.items():
                wait_for(server, url)
                asyncio.run(measure(url, ["the rain in spain"] * 2, 4, is_penna=kind == "penna"))  # warm-up
            print(f"{parameters / 1e6:.0f} M parameters, {torch.get_num_threads()} threads, {arguments.new} new tokens")
            print("clients     Penna        HF   ratio   first: Penna           HF  Penna/HF   (tokens per second)")
            for clients in arguments.clients:
                if time.perf_counter() >= end:
                    print(f"{clients:>7} skipped: {arguments.seconds:.0f} s are over")
                    continue
                compare(urls, clients, arguments, end)
        finally:
            for server, _ in servers.values():
                server.terminate()
            for server, _ in servers.values():
                server.wait(60)


if __name__ == "__main__":
    main()
