"""Generation speed: Penna's engine and Hugging Face's `generate`, with the same weights, in one process.

    python benchmarks/generate.py [--pairs 3] [--only NAME] [--summaries RUN]

The two alternate, and the median of the pairwise ratios is printed. Greedy, float32 unless stated, random weights
(they do not affect speed); both generate the same number of tokens, and the texts are compared. The bandwidth row
reads the same weights once, as a sum: the lower bound for a token. With --summaries RUN, a completion run that can be
evaluated (`penna train summaries-base; penna train summaries-small`), prompt lookup is measured on its validation
articles, and the perplexity of int8 weights on its text.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch

from penna.config.generation import GenerationConfig
from penna.config.sections import ModelConfig
from penna.generate.engine import generate
from penna.generate.request import GeneratedToken, Request
from penna.interop.hf_folder import write_hf
from penna.model.fast.cuda_graphs import CUDAGraphDecoder
from penna.model.gpt import GPT
from penna.model.linear import fastest_matmul
from penna.model.precision import Dtype, convert_weights

GPT2 = {"preset": "gpt2"}  # 124 M parameters
CHARACTERS = {"preset": "gpt2", "n_layer": 6, "n_head": 4, "n_embd": 128, "block_size": 256, "vocab_size": 96}

Generate = Callable[[], list[list[int]]]


def model_of(fields: dict[str, Any]) -> GPT:
    model = GPT(ModelConfig(**{"vocab_size": 50257, **fields}))
    model.init_weights(0)
    with torch.no_grad():
        model.wte.weight *= 10  # so that the most likely token is clear
    return model.eval()


def load(model: GPT, dtype: Dtype = "float32") -> GPT:
    """A model as `penna generate` loads it."""
    loaded = deepcopy(model).requires_grad_(False)
    loaded.use_matmul(fastest_matmul(torch.device("cpu")))
    convert_weights(loaded, dtype)
    return loaded


def penna(model: GPT, prompts: Sequence[Sequence[int]], new: Sequence[int], **settings: Any) -> Generate:
    requests = [
        Request(prompt, GenerationConfig(**{"max_new_tokens": count, "temperature": 0, **settings}))
        for prompt, count in zip(prompts, new, strict=True)
    ]

    def run() -> list[list[int]]:
        texts: list[list[int]] = [[] for _ in requests]
        for event in generate(model, requests):
            if isinstance(event, GeneratedToken):
                texts[event.request].append(event.id)
        return texts

    return run


def transformers_of(model: GPT) -> Any:
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        write_hf(model.config, model.state_dict(), Path(folder) / "hf", tokenizer=None)
        return AutoModelForCausalLM.from_pretrained(Path(folder) / "hf").eval()


def hf(
    model: Any, prompts: Sequence[Sequence[int]], new: Sequence[int], *, batch: bool = True, **settings: Any
) -> Generate:
    """All prompts in one left-padded batch, up to the largest number of new tokens; or one after another."""

    def one(prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0, **settings}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.generate(ids, attention_mask=mask, **options)[:, longest:].tolist()

    if batch:
        return lambda: [ids[:count] for ids, count in zip(one(prompts, max(new)), new, strict=True)]
    return lambda: [one([prompt], count)[0] for prompt, count in zip(prompts, new, strict=True)]


def seconds(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def compare(
    name: str, ours: Callable[[], Any], theirs: Callable[[], Any], *, pairs: int, target: float, tokens: int
) -> None:
    first, second = ours(), theirs()
    same = "equal texts" if first == second else "DIFFERENT texts"
    taken = [(seconds(ours), seconds(theirs)) for _ in range(pairs)]
    ratio = statistics.median(theirs_took / ours_took for ours_took, theirs_took in taken)
    own, other = (statistics.median(side) / tokens * 1000 for side in zip(*taken, strict=True))
    verdict = "met" if ratio >= target else "MISSED"
    print(f"{name:<44}{own:9.2f} ms {other:9.2f} ms {ratio:7.2f}x   {target:.1f}x {verdict}  ({same})", flush=True)


def ramp(count: int, least: int, most: int) -> list[list[int]]:
    """Prompts of different lengths."""
    lengths = torch.linspace(least, most, count).int().tolist()
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, 90, (length,), generator=generator).tolist() for length in lengths]


def large(pairs: int, only: str) -> None:
    model = model_of(GPT2)
    float32, int8, theirs = load(model), load(model, "int8"), transformers_of(model)
    prompt, new = ramp(1, 16, 16), [64]
    if only in "bandwidth":
        weights = [parameter for name, parameter in model.named_parameters() if not name.startswith("wpe")]
        numbers = torch.cat([parameter.detach().flatten() for parameter in weights])
        penna(float32, prompt, [2])()
        shares, tokens, sums = [], [], []
        for _ in range(pairs):  # alternate: the machine's speed drifts
            sums.append(statistics.median(seconds(numbers.sum) for _ in range(9)))
            short, long = seconds(penna(float32, prompt, [4])), seconds(penna(float32, prompt, [36]))
            tokens.append((long - short) / 32)
            shares.append(sums[-1] / tokens[-1])
        share, token, least = map(statistics.median, (shares, tokens, sums))
        verdict = "met" if share >= 0.8 else "MISSED"
        print(
            f"{'124M, a token and reading its weights once':<44}{token * 1e3:9.2f} ms {least * 1e3:9.2f} ms "
            f"{share:7.0%}    80% {verdict}  ({4 * numbers.numel() / least / 1e9:.0f} GB/s)"
        )
    if only in "one":
        compare(
            "124M, one text", penna(float32, prompt, new), hf(theirs, prompt, new), pairs=pairs, target=1.2, tokens=64
        )
    if only in "int8":
        compare(
            "124M, one text, int8",
            penna(int8, prompt, new),
            hf(theirs, prompt, new),
            pairs=pairs,
            target=2.5,
            tokens=64,
        )
    if only in "eight":
        prompts, counts = ramp(8, 8, 120), [32] * 8
        compare(
            "124M, 8 prompts of 8 to 120 tokens",
            penna(float32, prompts, counts),
            hf(theirs, prompts, counts),
            pairs=pairs,
            target=2.0,
            tokens=256,
        )
    if only in "mixed":
        prompts, counts = ramp(32, 4, 100), [8 + number % 4 * 8 for number in range(32)]
        compare(
            "124M, 32 mixed requests, one at a time in HF",
            penna(float32, prompts, counts),
            hf(theirs, prompts, counts, batch=False),
            pairs=pairs,
            target=4.0,
            tokens=sum(counts),
        )
    if only in "beams":
        compare(
            "124M, 8 beams",
            penna(float32, prompt, [32], num_beams=8),
            hf(theirs, prompt, [32], num_beams=8),
            pairs=pairs,
            target=1.0,
            tokens=32,
        )


def small(pairs: int, only: str) -> None:
    model = model_of(CHARACTERS)
    ours, theirs = load(model), transformers_of(model)
    if only in "characters":
        prompt, new = ramp(1, 16, 16), [200]
        compare(
            "1M characters, one text",
            penna(ours, prompt, new),
            hf(theirs, prompt, new),
            pairs=pairs,
            target=3.0,
            tokens=200,
        )


def flat(only: str) -> None:
    """The cost of a token by the number of preceding tokens."""
    if only not in "flat":
        return
    model = load(model_of(GPT2))
    costs: dict[int, list[float]] = {64: [], 256: [], 512: [], 960: []}
    for _ in range(3):
        for before, found in costs.items():
            prompt = ramp(1, before, before)
            short, long = seconds(penna(model, prompt, [2])), seconds(penna(model, prompt, [34]))
            found.append((long - short) / 32 * 1000)
    row = ", ".join(f"{before}: {statistics.median(found):.2f} ms" for before, found in costs.items())
    print(f"124M, a token after N others                    {row}")


def gpu(pairs: int) -> None:
    """Decoding with and without CUDA graphs."""
    model = model_of(GPT2).cuda().requires_grad_(False)
    convert_weights(model, "bfloat16")
    with_graphs = penna(model, ramp(1, 16, 16), [512])

    def without() -> list[list[int]]:
        with mock.patch.object(CUDAGraphDecoder, "supports", return_value=False):
            return with_graphs()

    with_graphs(), without()
    taken = [(seconds(with_graphs), seconds(without)) for _ in range(pairs)]
    own, other = (statistics.median(512 / side for side in sides) for sides in zip(*taken, strict=True))
    verdict = "met" if own >= 1000 else "MISSED"
    print(
        f"{'124M, bfloat16, one text, CUDA graphs':<44}{own:9.0f} /s {other:9.0f} /s {own / other:7.2f}x   "
        f"1,000 tokens per second {verdict}  ({torch.cuda.get_device_name()})"
    )


def summaries(run: str, pairs: int) -> None:
    """Prompt lookup, and the perplexity of int8 weights, on a trained run."""
    from penna import api
    from penna.api.complete import GREEDY, completer
    from penna.config.tasks import CompleteTask
    from penna.data.examples.prepare import read_validation_items

    loaded = api.load(run, device="cpu")
    at_hand = completer(loaded)
    assert isinstance(loaded.task, CompleteTask)
    items = read_validation_items(loaded.require_run().recipe().data, at_hand.format, None).items[:20]
    articles = [item.prompt for item in items]

    def lookup(guessed: int | None) -> Callable[[], list[str]]:
        config = GREEDY.model_copy(update={"prompt_lookup_num_tokens": guessed})
        requests = at_hand.requests(articles, config)[0]
        return lambda: [at_hand.generate([request])[0].text for request in requests]

    compare(
        "summaries with and without prompt lookup",
        lookup(10),
        lookup(None),
        pairs=pairs,
        target=1.5,
        tokens=len(articles),
    )
    plain = api.evaluate_text(run, device="cpu").loss
    rounded = api.evaluate_text(run, device="cpu", dtype="int8").loss
    print(f"int8 perplexity relative to float32: {torch.tensor(rounded - plain).exp().item() - 1:+.3%} (within 0.5%)")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--only", default="", help="bandwidth, one, int8, eight, mixed, beams, characters, flat or gpu")
    parser.add_argument("--summaries", metavar="RUN")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; per new token:{'':20}Penna      other  other/Penna  target")
    small(arguments.pairs, arguments.only)
    if arguments.only != "characters":
        large(arguments.pairs, arguments.only)
        flat(arguments.only)
    if torch.cuda.is_available() and arguments.only in "gpu":
        gpu(arguments.pairs)
    if arguments.summaries:
        summaries(arguments.summaries, arguments.pairs)


if __name__ == "__main__":
    main()
