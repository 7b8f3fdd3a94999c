"""Inspect a model: its parts and size, the neighbors of words in its embeddings, and what its heads do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from penna.errors import DataError, RecipeError, RunError
from penna.explain.head_statistics import HeadStatistics, head_statistics, induction_scores
from penna.explain.model_summary import ModelSummary, model_summary
from penna.explain.neighbors import Neighbors, neighbors
from penna.loading import LoadedModel

TOKENS_READ = 8192  # of all texts together, at most
_CHUNK = 512  # tokens that are read together, at most


@dataclass(frozen=True)
class HeadsInspection:
    """The statistics of all heads on some texts."""

    statistics: HeadStatistics = field(metadata={"json": "inline"})
    induction: Tensor | None  # (L, H); None if the block cannot hold a sequence twice
    texts: int
    cut: bool  # whether the texts are longer than TOKENS_READ


@dataclass(frozen=True)
class ModelInspection:
    """The result of inspecting a model."""

    model: str  # the run, checkpoint or folder
    task: str
    arch: str
    summary: ModelSummary = field(metadata={"json": "inline"})
    near: tuple[Neighbors, ...]
    heads: HeadsInspection | None


def inspect_model(
    loaded: LoadedModel,
    *,
    near: Sequence[str] = (),
    top: int = 10,
    length: int | None = None,
    heads_on: Sequence[str] | None = None,
) -> ModelInspection:
    """Inspect a model: its parts, the neighbors of the words ``near``, and its heads on the texts ``heads_on``.

    ``length`` is the number of tokens for which attention is counted, by default a block. Raises RecipeError for a
    length that does not fit the block, DataError for a word or texts without enough tokens, RunError if the heads of a
    model with an encoder are requested, TokenizerError if words are given and there is no tokenizer.
    """
    config = loaded.model.config
    longest = max(config.block_size, config.source_size or 0)
    if length is not None and not 1 <= length <= longest:
        raise RecipeError(
            f"--length is {length:,}, but the block holds {longest:,} tokens.",
            f"It must be from 1 to {longest:,}.",
            f"For example: --length {longest}.",
        )
    optimizer = "adamw" if loaded.run is None else loaded.run.recipe().optim.kind
    return ModelInspection(
        model=str(loaded.source),
        task=loaded.task.kind,
        arch=config.arch,
        summary=model_summary(loaded.model, length, optimizer=optimizer),
        near=tuple(_neighbors(loaded, word, top) for word in near),
        heads=None if heads_on is None else inspect_heads(loaded, heads_on),
    )


def sample_texts(loaded: LoadedModel) -> list[str]:
    """A run's last samples with their prompts; prompt and sample are two texts if something was put between them.

    Raises RunError if the model is not a run's or the run has no samples.
    """
    rows = [] if loaded.run is None else loaded.run.samples()
    texts: list[str] = []
    for row in (row for row in rows if row["step"] == rows[-1]["step"]):
        is_one_text = row.get("between", "") == ""
        samples = [] if loaded.labels else [row["text"]]
        texts += [row["prompt"] + row["text"]] if is_one_text else [row["prompt"], *samples]
    if not texts:
        raise RunError(
            f"{loaded.source} has no samples on which its heads could be measured.",
            "The samples of a run or a text are needed.",
            "Name a text: --text FILE.",
        )
    return texts


def inspect_heads(loaded: LoadedModel, texts: Sequence[str]) -> HeadsInspection:
    """The statistics of every head on the first 8,192 tokens of the texts, in chunks that fit the block.

    Each chunk starts with the document separator if all training windows did. The random sequence that measures
    induction is drawn from the tokens of the texts. Raises the errors of `inspect_model`.
    """
    if loaded.model.config.arch == "seq2seq":
        raise RunError(
            f"The heads of {loaded.source} cannot be inspected: it has an encoder.",
            'This needs a model without one (arch = "gpt").',
            "Leave out --heads; parts and neighbors work for every model.",
        )
    tokenizer = loaded.require_tokenizer()
    start = [tokenizer.separator_id] if loaded.starts_documents and tokenizer.separator_id is not None else []
    chunk_size = max(min(_CHUNK, loaded.model.config.block_size) - len(start), 1)
    chunks: list[list[int]] = []
    left = TOKENS_READ
    cut = False
    for whole in map(tokenizer.encode, texts):
        ids = whole[:left]
        left -= len(ids)
        cut = cut or len(ids) < len(whole)
        chunks += [[*start, *ids[at : at + chunk_size]] for at in range(0, len(ids), chunk_size)]
    distinct = sorted({index for chunk in chunks for index in chunk[len(start) :]})
    if not any(len(chunk) >= 3 for chunk in chunks):
        raise DataError(
            f"None of the {len(texts)} texts has three tokens."
            if len(texts) > 1
            else "The text has fewer than three tokens.",
            "At least three are needed to measure where a token attends.",
            "Use a longer text, or a file: --text FILE.",
        )
    statistics = head_statistics(loaded.model, chunks)
    can_repeat = loaded.model.config.block_size - len(start) >= 4 and len(distinct) >= 2
    induction = induction_scores(loaded.model, distinct, start) if can_repeat else None
    return HeadsInspection(statistics, induction, len(texts), cut)


def _neighbors(loaded: LoadedModel, word: str, top: int) -> Neighbors:
    tokenizer = loaded.require_tokenizer()
    if not word or not tokenizer.encode(word):
        raise DataError(
            "A word is empty." if not word else f"The word {word!r} has no token: the tokenizer drops all of it.",
            "A word needs at least one token.",
            "For example: --near cat.",
        )
    return neighbors(loaded.model, tokenizer, word, top)
