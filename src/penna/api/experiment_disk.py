"""How much of a disk an experiment's checkpoints take: recipes in, bytes out, before any model is made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from penna.config.schema import Recipe
from penna.errors import DeviceError

_BYTES = 12  # of a checkpoint, for each parameter: its weight and two moments of four bytes
_LEAST_VOCAB = 64  # rows of a vocabulary that its text alone knows, where it is asked what is surely needed


def check_disk(recipes: Sequence[Recipe], runs_dir: Path) -> None:
    """Refuse to begin runs whose checkpoints do not fit, by the matrices of their models."""
    needed = sum(kept_bytes(recipe, least_parameters(recipe)) for recipe in recipes)
    free = free_disk(runs_dir)
    if free < needed:
        raise DeviceError(
            f"The disk of {runs_dir} has {free / 1e6:,.0f} MB free; the checkpoints of {len(recipes)} runs need "
            f"{needed / 1e6:,.0f} MB.",
            "Room for the checkpoints that each run keeps (train.keep_checkpoints, and its best).",
            'Free some space, choose another --runs-dir, or keep fewer: "train.keep_checkpoints" = 1 in [set].',
        )


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def kept_bytes(recipe: Recipe, parameters: int) -> int:
    """Bytes of the checkpoints a run keeps: the newest ones, and the best."""
    return (recipe.train.keep_checkpoints + 1) * _BYTES * parameters


def least_parameters(recipe: Recipe) -> int:
    """How many parameters the matrices of a recipe's model have; its vocabulary may be known to its text alone."""
    model = recipe.model
    learned = recipe.tokenizer.vocab_size if recipe.tokenizer.kind in ("bpe", "unigram") else _LEAST_VOCAB
    attention = 2 * model.n_embd * model.head_width * (model.n_head + model.kv_heads)
    mlp = (3 if model.mlp == "swiglu" else 2) * model.n_embd * model.inner_width
    matrices = model.n_layer * (attention + mlp)
    if model.arch == "seq2seq":  # an encoder, and cross-attention in each block of the decoder
        matrices += model.encoder_layers * (attention + mlp) + model.n_layer * attention
    if model.ngram_rows is not None and model.ngram_width is not None:
        matrices += model.ngram_width * (model.ngram_rows + model.n_embd)
    return matrices + (model.vocab_size or learned) * model.n_embd * (1 if model.tie else 2)
