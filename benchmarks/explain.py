"""Time of each explanation method: 6 layers of width 256 with random weights, and a text of 30 tokens.

    python benchmarks/explain.py [--tokens 30] [--preset gpt2]

Each method runs once before it is timed once. The time is that of the complete answer, after loading.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from penna.config.sections import ModelConfig
from penna.explain.attention import attention_maps, attention_scores, rollout
from penna.explain.gradients import gradient_x_input, integrated_gradients
from penna.explain.head_ablation import head_changes
from penna.explain.information import information
from penna.explain.logit_lens import logit_lens
from penna.explain.occlusion import occlusion
from penna.explain.probe import NextTokens, Probe, Question
from penna.explain.value_zeroing import value_zeroing
from penna.model.gpt import GPT
from penna.model.linear import fastest_matmul

TARGET, INFORMATION_TARGET = 3.0, 20.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=30)
    parser.add_argument("--preset", default="gpt2", choices=["gpt2", "gpt1", "modern"])
    arguments = parser.parse_args()
    model = GPT(ModelConfig(preset=arguments.preset, n_layer=6, n_head=4, n_embd=256, block_size=512, vocab_size=8000))
    model.init_weights(0)
    model.use_matmul(fastest_matmul(torch.device("cpu")))
    ids = torch.randint(8000, (arguments.tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    probe = Probe(model, Question(tuple(ids), 0, len(ids), NextTokens((17,))))
    methods: dict[str, Callable[[Probe], object]] = {
        "occlusion": occlusion,
        "gradient × input": gradient_x_input,
        "integrated gradients": integrated_gradients,
        "attention": attention_scores,
        "attention maps": attention_maps,
        "rollout": rollout,
        "value zeroing": value_zeroing,
        "logit lens": logit_lens,
        "each head off": head_changes,
        "information": information,
    }
    print(f"{arguments.preset}, 6 x 256, {arguments.tokens} tokens, {torch.get_num_threads()} threads")
    for name, method in methods.items():
        if method is not information:
            method(probe)
        start = time.perf_counter()
        method(probe)
        seconds = time.perf_counter() - start
        target = INFORMATION_TARGET if method is information else TARGET
        print(f"{name:22} {seconds:7.2f} s   target {target:g} s   {'met' if seconds < target else 'MISSED'}")


if __name__ == "__main__":
    main()
