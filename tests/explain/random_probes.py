"""Helpers: small models with large random weights, probes of them, and transformers models with the same weights."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from penna.config.sections import ModelConfig
from penna.explain.probe import NextTokens, Probe, Question, Target
from penna.interop.hf_folder import read_hf
from penna.model.gpt import GPT

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

SHAPE = {"n_layer": 3, "n_head": 4, "n_embd": 32, "block_size": 24, "vocab_size": 61}
IDS = (7, 3, 59, 3, 20, 41, 0, 15, 33)
NEXT = NextTokens((11,))
EAGER = {"attn_implementation": "eager"}  # returns attention maps


@torch.no_grad()
def randomized(model: nn.Module) -> Any:
    """Randomize every parameter: norm weights around one, all others around zero."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.copy_(noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise)
    return model.eval().requires_grad_(False)


def random_model(**fields: Any) -> GPT:
    """A GPT with these settings and random weights."""
    return randomized(GPT(ModelConfig(**{**SHAPE, **fields})))


def probe(model: GPT, ids: tuple[int, ...] = IDS, first: int = 0, target: Target = NEXT) -> Probe:
    """A probe that explains all tokens from ``first``."""
    return Probe(model, Question(ids, first, len(ids), target))


def gpt2_and_ours(folder: Path) -> tuple[Any, GPT]:
    """GPT-2 in transformers, and our model with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=61,
        n_positions=24,
        n_embd=32,
        n_layer=3,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
        **EAGER,
    )
    return _both(GPT2LMHeadModel(config), folder)


def qwen3_and_ours(folder: Path) -> tuple[Any, GPT]:
    """Qwen3 with two heads per key in transformers, and our model with the same weights."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=61,
        max_position_embeddings=24,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        **EAGER,
    )
    return _both(Qwen3ForCausalLM(config), folder)


def _both(theirs: Any, folder: Path) -> tuple[Any, GPT]:
    randomized(theirs).save_pretrained(folder)
    foreign = read_hf(folder)
    ours = GPT(foreign.config).eval()
    ours.load_state_dict(foreign.weights)
    return theirs, ours
