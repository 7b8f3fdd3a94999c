"""Preparation of token shards: Penna and the `tokenizers` library's own `encode_batch`, speed and peak memory.

    PENNA_DATA=... python benchmarks/prepare.py

Both use the same text, tokenizer (already trained) and cores. The library encodes texts in memory, a million
characters at a time, and discards the result; Penna reads the file, writes, checksums and flushes the shards. Each
side runs in its own process; the sides alternate, and the median of the pairwise ratios is printed. Memory is the peak
of a process that prepares 10 MB and of one that prepares 100 MB, for many documents and for one. The texts are
Python's documentation, repeated, and, if PENNA_DATA is set, Korean Wikipedia.
"""

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

SPEED_TARGET = 0.7
MEMORY_TARGET = 1.25
MEGABYTES = 10
VOCABULARY = 8192
PAIRS = 3
AT_ONCE = 1 << 20  # characters per call of encode_batch


def korean() -> list[str] | None:
    folder = os.environ.get("PENNA_DATA")
    if folder is None:
        return None
    with gzip.open(Path(folder) / "korean-text" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def python() -> list[str]:
    from penna.data.sources.python_text import python_documents

    return list(python_documents())


def repeated(texts: list[str], megabytes: float) -> Iterator[str]:
    """The texts, repeated up to a size; repetitions are numbered, so that no two documents are equal."""
    size = 0
    for number, text in enumerate(cycle(texts)):
        document = text if number < len(texts) else f"{number // len(texts)} {text}"
        yield document
        size += len(document.encode("utf-8"))
        if size >= megabytes * 1e6:
            return


def write_documents(file: Path, texts: list[str], megabytes: float) -> None:
    with open(file, "w", encoding="utf-8") as stream:
        for text in repeated(texts, megabytes):
            stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def write_one(file: Path, texts: list[str], megabytes: float) -> None:
    with open(file, "w", encoding="utf-8") as stream:
        for text in repeated(texts, megabytes):
            stream.write(text + "\n")


def run_penna(path: Path, tokenizer_folder: Path) -> dict[str, float]:
    from penna.config.sections import DataConfig
    from penna.data.prepare import prepare
    from penna.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_folder)
    tokenizer.encode("warm")
    begun = time.perf_counter()
    prepared = prepare(DataConfig(path=[str(path)]), tokenizer)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes": prepared.corpus.counts.bytes}


def run_tokenizers(path: Path, tokenizer_folder: Path) -> dict[str, float]:
    import tokenizers

    inner = tokenizers.Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json"))
    batches: list[list[str]] = [[]]
    held = 0
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            batches[-1].append(text)
            held += len(text)
            if held >= AT_ONCE:
                batches.append([])
                held = 0
    inner.encode("warm")
    begun = time.perf_counter()
    for batch in batches:
        inner.encode_batch(batch, add_special_tokens=False)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes": sum(len(text.encode("utf-8")) for batch in batches for text in batch)}


def measure(side: str, path: Path, tokenizer: Path) -> dict[str, float]:
    """Run one side in its own process with an empty cache."""
    command = [sys.executable, __file__, "--side", side, "--text", str(path), "--tokenizer", str(tokenizer)]
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        environment = {**os.environ, "PENNA_CACHE": cache}
        result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def train(kind: str, texts: list[str], folder: Path) -> Path:
    from penna.config.sections import TokenizerConfig
    from penna.tokenizer.train import train_tokenizer

    train_tokenizer(TokenizerConfig.model_validate({"kind": kind, "vocab_size": VOCABULARY}), texts).save(folder)
    return folder


def compare_speed(name: str, path: Path, tokenizer: Path) -> None:
    pairs = [(measure("penna", path, tokenizer), measure("tokenizers", path, tokenizer)) for _ in range(PAIRS)]
    speeds = [[side["bytes"] / side["seconds"] / 1e6 for side in pair] for pair in pairs]
    ratio = statistics.median(ours / library for ours, library in speeds)
    ours, library = (statistics.median(speed[side] for speed in speeds) for side in (0, 1))
    print(f"{name:<32} penna {ours:>5.2f} MB/s   encode_batch {library:>5.2f} MB/s   ratio {ratio:.2f}")


def compare_memory(name: str, small: Path, large: Path, tokenizer: Path) -> None:
    peaks = [measure("penna", path, tokenizer)["peak_mb"] for path in (small, large)]
    print(
        f"{name:<32} {MEGABYTES} MB: {peaks[0]:,.0f} MB   {10 * MEGABYTES} MB: {peaks[1]:,.0f} MB   "
        f"ratio {peaks[1] / peaks[0]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["penna", "tokenizers"])
    parser.add_argument("--text")
    parser.add_argument("--tokenizer")
    arguments = parser.parse_args()
    if arguments.side:
        run = run_penna if arguments.side == "penna" else run_tokenizers
        metrics = run(Path(arguments.text), Path(arguments.tokenizer))
        metrics["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(metrics))
        return
    sources = {"Python's documentation": python(), "Korean Wikipedia": korean()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"Speed, {MEGABYTES} MB, {os.cpu_count()} cores (target: ratio at least {SPEED_TARGET})")
        for source, texts in sources.items():
            if texts is None:
                print(f"{source}: not measured; PENNA_DATA is not set")
                continue
            write_documents(folder / "text.jsonl", texts, MEGABYTES)
            sample = list(repeated(texts, 2))
            for kind in ("bpe", "unigram"):
                tokenizer = train(kind, sample, folder / source / kind)
                compare_speed(f"{source}, {kind}", folder / "text.jsonl", tokenizer)
        measured = "Korean Wikipedia" if sources["Korean Wikipedia"] else "Python's documentation"
        texts = sources[measured]
        assert texts is not None
        print(f"Peak memory, bpe (target: ratio at most {MEMORY_TARGET})")
        for shape, ending, write in (("many documents", "jsonl", write_documents), ("one document", "txt", write_one)):
            small, large = folder / f"small.{ending}", folder / f"large.{ending}"
            write(small, texts, MEGABYTES)
            write(large, texts, 10 * MEGABYTES)
            compare_memory(shape, small, large, folder / measured / "bpe")


if __name__ == "__main__":
    main()
