"""Training speed and peak memory: Penna's trainer and a plain PyTorch loop over Hugging Face's GPT2LMHeadModel.

    python benchmarks/train_throughput.py

Both use the same shape, text, batches, AdamW and clipping, in float32 without dropout. Each side runs in its own
process; the sides alternate, and the median of the pairwise ratios is printed. The share of the matmul peak counts 6
operations per matrix parameter and token plus attention, divided by the speed of a large float32 product in the faster
of torch's two libraries, measured in the same run. A last line reports bfloat16 on this processor, outside the
comparison.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {
    "4 x 128, block 64, batch 12": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block": 64, "batch": 12, "steps": 300},
    "6 x 384, block 256, batch 8": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block": 256, "batch": 8, "steps": 15},
}
TARGETS = (1.5, 1.25)
WARMUP_SHARE = 0.2
PAIRS = 3


def text() -> str:
    """Part of the built-in text."""
    from penna.data.sources.python_text import python_documents

    return "\n".join(python_documents())[:300_000]


def run_hf(shape: dict[str, int], path: Path) -> dict[str, float]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    characters = path.read_text(encoding="utf-8")
    vocabulary = {char: number for number, char in enumerate(sorted(set(characters)))}
    ids = torch.tensor([vocabulary[char] for char in characters])
    config = GPT2Config(
        vocab_size=shape["rows"],
        n_positions=shape["block"],
        n_embd=shape["n_embd"],
        n_layer=shape["n_layer"],
        n_head=shape["n_head"],
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    begun, counted = 0.0, 0
    for step in range(shape["steps"]):
        if step == int(shape["steps"] * WARMUP_SHARE):
            begun, counted = time.perf_counter(), 0
        starts = torch.randint(len(ids) - shape["block"], (shape["batch"],), generator=generator)
        rows = torch.stack([ids[start : start + shape["block"]] for start in starts.tolist()])
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        counted += rows.numel()
    return {"tokens_per_second": counted / (time.perf_counter() - begun)}


def run_penna(shape: dict[str, int], path: Path, precision: str) -> dict[str, float]:
    from penna import api
    from penna.train.events import Event, Logged

    logged: list[dict[str, float]] = []

    def on_event(event: Event) -> None:
        if isinstance(event, Logged):
            logged.append(event.row)

    overrides = {
        "data.path": [str(path)],
        "tokenizer.kind": "char",
        "model.preset": "gpt2",
        "model.n_layer": shape["n_layer"],
        "model.n_head": shape["n_head"],
        "model.n_embd": shape["n_embd"],
        "model.block_size": shape["block"],
        "model.vocab_size": shape["rows"],
        "optim.kind": "adamw",
        "schedule.kind": "constant",
        "train.steps": shape["steps"],
        "train.batch_size": shape["batch"],
        "train.log_every": max(1, int(shape["steps"] * WARMUP_SHARE)),
        "train.evaluate_every": 10**6,
        "train.checkpoint_every": 10**6,
        "train.sample_tokens": 0,
        "train.device": "cpu",
        "train.compile": "off",
        "train.precision": precision,
        "train.threads": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory() as folder:
        api.train(["default"], overrides, runs_dir=Path(folder), on_event=on_event)
    first, last = logged[0], logged[-1]
    return {"tokens_per_second": (last["tokens"] - first["tokens"]) / (last["seconds"] - first["seconds"])}


def matmul_peak() -> float:
    """Operations per second of a large float32 matrix product, in the faster of torch's libraries."""
    import torch

    from penna.model.linear import linear

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = float("inf")
    for matmul in ("blas", "onednn") * 8:
        begun = time.perf_counter()
        linear(a, b, None, matmul)
        best = min(best, time.perf_counter() - begun)
    return 2 * 2048**3 / best


def operations_per_token(shape: dict[str, int]) -> float:
    matrices = shape["n_layer"] * 12 * shape["n_embd"] ** 2 + shape["rows"] * shape["n_embd"]
    # Causal attention covers half of the context on average: 2 products, once forward and twice backward.
    attention = shape["n_layer"] * 12 * shape["n_embd"] * shape["block"] / 2
    return 6 * matrices + attention


def measure(side: str, shape: dict[str, int], path: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--shape", json.dumps(shape), "--text", str(path)]
    environment = {**os.environ, "PENNA_CACHE": str(path.parent / "cache"), "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def compare(name: str, shape: dict[str, int], target: float, path: Path) -> None:
    measured = [(measure("penna", shape, path), measure("hf", shape, path)) for _ in range(PAIRS)]
    ratio = statistics.median(ours["tokens_per_second"] / hf["tokens_per_second"] for ours, hf in measured)
    speeds = [statistics.median(pair[side]["tokens_per_second"] for pair in measured) for side in (0, 1)]
    memory = [statistics.median(pair[side]["peak_mb"] for pair in measured) for side in (0, 1)]
    share = speeds[0] * operations_per_token(shape) / matmul_peak()
    print(f"{name}")
    print(f"  tokens/s     penna {speeds[0]:>8,.0f}   HF {speeds[1]:>8,.0f}   ratio {ratio:.2f} (target {target})")
    print(f"  peak memory  penna {memory[0]:>5,.0f} MB   HF {memory[1]:>5,.0f} MB   ratio {memory[0] / memory[1]:.2f}")
    print(f"  share of this machine's float32 matmul peak: {share:.0%}")
    rounded = measure("penna-bfloat16", shape, path)["tokens_per_second"]
    print(f"  penna in bfloat16: {rounded:,.0f} tokens/s, {rounded / speeds[1]:.2f} times HF in float32")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["penna", "penna-bfloat16", "hf"])
    parser.add_argument("--shape")
    parser.add_argument("--text")
    arguments = parser.parse_args()
    if arguments.side:
        shape, path = json.loads(arguments.shape), Path(arguments.text)
        precision = "bfloat16" if arguments.side == "penna-bfloat16" else "float32"
        metrics = run_hf(shape, path) if arguments.side == "hf" else run_penna(shape, path, precision)
        metrics["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(metrics))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text(), encoding="utf-8")
        # Penna's character vocabulary also has byte tokens; both sides get the same number of embedding rows.
        from penna.config.sections import TokenizerConfig
        from penna.tokenizer.train import train_tokenizer

        rows = train_tokenizer(TokenizerConfig(kind="char"), [path.read_text(encoding="utf-8")]).vocab_size
        for (name, shape), target in zip(SHAPES.items(), TARGETS, strict=True):
            compare(name, {**shape, "rows": rows}, target, path)


if __name__ == "__main__":
    main()
