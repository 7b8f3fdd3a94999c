"""Classification speed on NSMC reviews: Penna and Hugging Face's GPT2ForSequenceClassification, training and inference.

    PENNA_DATA=... python benchmarks/classify_throughput.py [--seconds 20] [--pairs 3]

Both use the same shape (4 layers × 256, 4 heads, 8,000 tokens) and ids, 32 reviews per step, float32, no dropout, only
the label loss. Hugging Face reads shuffled batches padded to their longest review, its trainer's default; Penna reads
its own batches of reviews of similar length. A training step is batch, forward, backward, clipping and AdamW (fused in
both). Each side runs in its own process; the sides alternate, and the median of the pairwise ratios is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256}
BLOCK, VOCABULARY, BATCH, REVIEWS = 256, 8000, 32, 12_000
TARGETS = {"training": 2.5, "inference": 3.0}
WARM_UP = 5  # uncounted steps


def reviews() -> Any:
    """The NSMC reviews as Penna prepares them; the first call trains the tokenizer."""
    from penna.config.sections import DataConfig, TokenizerConfig
    from penna.data.examples.prepare import prepare_examples
    from penna.tasks.classify import ClassifyFormat

    data = DataConfig(path=["$PENNA_DATA/nsmc/train.tsv.gz"], text_column="document", limit=REVIEWS)
    tokenizer = TokenizerConfig(kind="unigram", vocab_size=VOCABULARY)
    return prepare_examples(data, tokenizer, ClassifyFormat(BLOCK, "tail"), report=lambda _: None)


def per_second(step: Callable[[int], int], seconds: float) -> float:
    """Examples per second of ``step(number)``, which returns how many it processed, over ``seconds``."""
    for number in range(WARM_UP):
        step(number)
    number, examples, begun = WARM_UP, 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        examples += step(number)
        number += 1
    return examples / spent


def run_penna(seconds: float) -> dict[str, float]:
    import torch

    from penna.config.sections import ModelConfig
    from penna.config.training import AdamWConfig
    from penna.data.examples.batches import TrainingExamples
    from penna.model.gpt import GPT
    from penna.model.linear import fastest_matmul
    from penna.tasks.classify import label_probabilities
    from penna.train.classification import ClassificationObjective
    from penna.train.device import keep_freed_memory
    from penna.train.objective import weighted_loss
    from penna.train.optimizers import Optimizers

    keep_freed_memory()
    prepared = reviews()
    model = GPT(ModelConfig(**SHAPE, block_size=BLOCK, vocab_size=prepared.tokenizer.vocab_size, n_class=2))
    model.init_weights(0)
    model.use_matmul(fastest_matmul(torch.device("cpu")))
    model.train()
    optimizers = Optimizers(model, AdamWConfig(learning_rate=1e-4))
    objective = ClassificationObjective("last", 0.0, None, torch.zeros(prepared.tokenizer.vocab_size))
    batches = TrainingExamples(prepared.train, BATCH, seed=0)
    full = batches.rows // BATCH

    def train(number: int) -> int:
        epoch, place = divmod(number, full)
        batch = batches.batch(epoch, range(place * BATCH, (place + 1) * BATCH))
        weighted_loss(objective, objective.sums(model, batch), objective.counts(batch)).backward()
        optimizers.step()
        return BATCH

    training = per_second(train, seconds)
    model.eval()
    texts = [prepared.train.ids[start : start + length].tolist() for start, length in spans(prepared)]
    at_once = 2048  # texts per call, such as the lines of a file

    def read(number: int) -> int:
        start = number * at_once % (len(texts) - at_once)
        return len(label_probabilities(model, texts[start : start + at_once], "last"))

    return {"training": training, "inference": per_second(read, seconds)}


def run_hf(seconds: float) -> dict[str, float]:
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification

    prepared = reviews()
    padding = prepared.tokenizer.vocab_size  # a separate id, so that the model finds the last token
    config = GPT2Config(
        **{**SHAPE, "num_labels": 2}, n_positions=BLOCK, vocab_size=padding + 1, pad_token_id=padding, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2ForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    texts = [
        torch.from_numpy(prepared.train.ids[start : start + length].astype(np.int64))
        for start, length in spans(prepared)
    ]
    labels = torch.from_numpy(prepared.train.labels.astype(np.int64))
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0)).tolist()

    def batch(number: int) -> dict[str, torch.Tensor]:
        start = number * BATCH % (len(order) - BATCH)
        rows = order[start : start + BATCH]
        ids = torch.nn.utils.rnn.pad_sequence([texts[row] for row in rows], batch_first=True, padding_value=padding)
        return {"input_ids": ids, "attention_mask": (ids != padding).long(), "labels": labels[rows]}

    def train(number: int) -> int:
        model(**batch(number)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return BATCH

    training = per_second(train, seconds)
    model.eval()

    def read(number: int) -> int:
        with torch.inference_mode():
            inputs = batch(number)
            model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.softmax(-1).numpy()
        return BATCH

    return {"training": training, "inference": per_second(read, seconds)}


def spans(prepared: Any) -> list[tuple[int, int]]:
    """The start and length of each training review among the ids."""
    return list(zip(prepared.train.starts.tolist(), prepared.train.lengths.tolist(), strict=True))


def measure(side: str, seconds: float, cache: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", side, "--seconds", str(seconds)]
    environment = {**os.environ, "PENNA_CACHE": cache, "TOKENIZERS_PARALLELISM": "false"}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", choices=["penna", "hf"])
    parser.add_argument("--seconds", type=float, default=20.0, help="per measurement")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run_hf(arguments.seconds) if arguments.side == "hf" else run_penna(arguments.seconds)))
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PENNA_CACHE"] = cache
        lengths = reviews().train.lengths
        print(f"NSMC reviews of {lengths.mean():.1f} tokens on average, at most {lengths.max()}; {BATCH} per step")
        pairs = [
            (measure("penna", arguments.seconds, cache), measure("hf", arguments.seconds, cache))
            for _ in range(arguments.pairs)
        ]
    for what, target in TARGETS.items():
        ratio = statistics.median(ours[what] / theirs[what] for ours, theirs in pairs)
        ours, theirs = (statistics.median(pair[side][what] for pair in pairs) for side in (0, 1))
        print(f"{what:>10}  penna {ours:>7,.0f}/s   HF {theirs:>7,.0f}/s   ratio {ratio:.2f} (target {target})")


if __name__ == "__main__":
    main()
