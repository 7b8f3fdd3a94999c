"""A look into a model: what it is made of, what is near a word in its embeddings, and what its heads do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from penna.errors import DataError, RecipeError, RunError
from penna.explain.head_statistics import HeadStatistics, head_statistics, induction_scores
from penna.explain.model_summary import ModelSummary, model_summary
from penna.explain.neighbors import Neighbors, neighbors
from penna.loading import LoadedModel
from penna.tokenizer.tokenizer import Tokenizer

TOKENS_READ = 8192  # of all texts, at most
_PIECE = 512  # that are read together, at most


@dataclass(frozen=True)
class HeadsInspection:
    """What the heads do, and what in."""

    statistics: HeadStatistics
    induction: Tensor | None  # (L, H); None where the block holds no sequence twice
    texts: int
    cut: bool  # whether the texts are longer than what was read of them


@dataclass(frozen=True)
class ModelInspection:
    """Everything that was looked at in a model."""

    model: str  # the run, checkpoint or folder
    task: str
    arch: str
    summary: ModelSummary
    near: tuple[Neighbors, ...]
    heads: HeadsInspection | None

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON; figures of heads are lists of layers."""
        flops = self.summary.flops
        return {
            "model": self.model,
            "task": self.task,
            "arch": self.arch,
            **asdict(self.summary),
            "flops": {**asdict(flops), "forward": flops.forward, "training": flops.training},
            "near": [
                {
                    **asdict(word),
                    "near": {name: [near._asdict() for near in found] for name, found in word.near.items()},
                }
                for word in self.near
            ],
            "heads": None if self.heads is None else _heads_as_json(self.heads),
        }


def inspect_model(
    loaded: LoadedModel,
    *,
    near: Sequence[str] = (),
    top: int = 10,
    length: int | None = None,
    heads_on: Sequence[str] | None = None,
) -> ModelInspection:
    """Look at a model: always at its parts, at the neighbours of words, and with texts at its heads.

    ``length`` is how many tokens attention is counted for, the block's length unless given. Raises RecipeError for a
    length that does not fit the block, DataError for a word or texts without enough tokens, RunError where heads of a
    model with an encoder are asked for, TokenizerError where words cannot be read.
    """
    config = loaded.model.config
    longest = max(config.block_size, config.source_size or 0)
    if length is not None and not 1 <= length <= longest:
        raise RecipeError(
            f"Attention cannot be counted for {length:,} tokens: the block holds {longest:,}.",
            f"From 1 to {longest:,} tokens.",
            f"Such as --length {longest}.",
        )
    optimizer = "adamw" if loaded.run is None else loaded.run.recipe().optim.kind
    return ModelInspection(
        model=str(loaded.source),
        task=loaded.task.kind,
        arch=config.arch,
        summary=model_summary(loaded.model, length, optimizer=optimizer),
        near=tuple(_near(loaded, word, top) for word in near),
        heads=None if heads_on is None else inspect_heads(loaded, heads_on),
    )


def sample_texts(loaded: LoadedModel) -> list[str]:
    """The texts a run wrote last, with their prompts; what was not written as one text counts as two.

    Raises RunError where the model is not a run's, or the run wrote none.
    """
    rows = [] if loaded.run is None else loaded.run.samples()
    texts: list[str] = []
    for row in (row for row in rows if row["step"] == rows[-1]["step"]):
        goes_on = row.get("between", "") == ""
        written = [] if loaded.labels else [row["text"]]
        texts += [row["prompt"] + row["text"]] if goes_on else [row["prompt"], *written]
    if not texts:
        raise RunError(
            f"{loaded.source} has no samples for its heads to be seen on.",
            "The samples of a run, or a text.",
            "Name a text: --text FILE.",
        )
    return texts


def inspect_heads(loaded: LoadedModel, texts: Sequence[str]) -> HeadsInspection:
    """Figures of every head on texts, cut to the block, of which the first 8,192 tokens are read.

    Each piece begins with the document separator where all that the model read did. The random sequence that shows
    induction is drawn from the tokens of the texts. Raises what `inspect_model` does.
    """
    if loaded.model.config.arch == "seq2seq":
        raise RunError(
            f"The heads of {loaded.source} cannot be looked at: it reads a source and writes from that.",
            'A model without an encoder (arch = "gpt").',
            "Leave out --heads: parts and neighbours are shown of every model.",
        )
    tokenizer = loaded.require_tokenizer()
    start = [tokenizer.separator_id] if loaded.starts_documents and tokenizer.separator_id is not None else []
    room = max(min(_PIECE, loaded.model.config.block_size) - len(start), 1)
    pieces: list[list[int]] = []
    left = TOKENS_READ
    cut = False
    for whole in map(tokenizer.encode, texts):
        ids = whole[:left]
        left -= len(ids)
        cut = cut or len(ids) < len(whole)
        pieces += [[*start, *ids[at : at + room]] for at in range(0, len(ids), room)]
    distinct = sorted({index for piece in pieces for index in piece[len(start) :]})
    if not any(len(piece) >= 3 for piece in pieces):
        raise DataError(
            f"Of the {len(texts)} texts none has three tokens." if len(texts) > 1 else "The text has not three tokens.",
            "At least three: heads are seen by where a token looks among those before it.",
            "Give a longer text, or a file: --text FILE.",
        )
    statistics = head_statistics(loaded.model, pieces)
    fits = loaded.model.config.block_size - len(start) >= 4 and len(distinct) >= 2
    induction = induction_scores(loaded.model, distinct, start) if fits else None
    return HeadsInspection(statistics, induction, len(texts), cut)


def _near(loaded: LoadedModel, word: str, top: int) -> Neighbors:
    tokenizer: Tokenizer = loaded.require_tokenizer()
    if not word or not tokenizer.encode(word):
        raise DataError(
            "A word is empty." if not word else f"The word {word!r} has no token: the tokenizer leaves all of it out.",
            "A word of at least one token.",
            "Such as --near cat.",
        )
    return neighbors(loaded.model, tokenizer, word, top)


def _heads_as_json(seen: HeadsInspection) -> dict[str, Any]:
    figures = {each.name: getattr(seen.statistics, each.name) for each in fields(seen.statistics)}
    return {
        "texts": seen.texts,
        "cut": seen.cut,
        **{name: value.tolist() if isinstance(value, Tensor) else value for name, value in figures.items()},
        "induction": None if seen.induction is None else seen.induction.tolist(),
    }
