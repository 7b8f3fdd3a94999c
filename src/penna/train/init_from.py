"""Initialize a new model from a pretrained one.

Weights are copied by name. They are only valid in the same architecture and with the same tokenizer, so both are
checked. Some things may differ: token ids and added control tokens (rows are matched by token), the block size, the
kind of positions, and parts that only the new model has (a seq2seq's encoder and cross-attention around a GPT as its
decoder, a head for other classes). If a recipe has no tokenizer or [model] fields, they are taken from the source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from penna.config.sections import ModelConfig
from penna.config.tasks import ClassifyTask, PretrainTask, TaskConfig
from penna.errors import RecipeError
from penna.interop.hf_config import config_from_json
from penna.interop.hf_files import format_json, read_json_object
from penna.interop.hf_folder import has_tokenizer
from penna.loading import LoadedModel, find_run_and_checkpoint, hf_folder
from penna.model.gpt import GPT, sinusoidal_table
from penna.tokenizer.tokenizer import Tokenizer
from penna.tokenizer.vocabulary_map import VocabularyMap, map_vocabulary

# Fields of the [model] section that may differ: they concern training only, or are handled below.
_TRAINING_FIELDS = frozenset({"preset", "dropout", "ngram_dropout", "residual_init", "n_class"})
_ADAPTED_FIELDS = frozenset({"vocab_size", "block_size", "source_size", "positions", "position_scale", "rope_theta"})
_ENCODER_FIELDS = frozenset({"arch", "n_encoder_layer"})  # may differ if a seq2seq starts from a GPT

_TOKEN_WEIGHTS = ("wte.weight", "encoder.wte.weight", "lm_head.weight")  # a row per token
_CLASS_HEAD = "score.weight"  # a row per label
_POSITION_WEIGHTS = ("wpe.weight", "encoder.wpe.weight")
_MAX_NAMES = 8  # names in one line of a message


@dataclass(frozen=True)
class WeightRows:
    """A weight, or some of its rows."""

    name: str
    parameters: int
    rows: str = ""  # a description of the rows; "" for the whole weight


@dataclass(frozen=True)
class InitReport:
    """Which weights were loaded from the source, which are new, and which of the source were left out."""

    json_properties: ClassVar = ("parameters",)

    source: str
    loaded: tuple[WeightRows, ...]
    new: tuple[WeightRows, ...]
    left_out: tuple[WeightRows, ...]
    messages: tuple[str, ...]  # new tokens, changed positions, a new classification head

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters that were loaded, are new and were left out."""
        return {"loaded": _count(self.loaded), "new": _count(self.new), "left_out": _count(self.left_out)}

    def lines(self) -> tuple[str, ...]:
        """The report for the terminal, with weights grouped by module (``h.*.crossattention`` for all blocks)."""
        counts = self.parameters
        total = counts["loaded"] + counts["new"]
        lines = [f"Initialized {counts['loaded']:,} of {total:,} parameters from {self.source}."]
        for title, weights in (("New", self.new), ("Not used from the source", self.left_out)):
            if weights:
                lines.append(f"{title}: {_count(weights):,} parameters: {_group_by_module(weights)}")
        return (*lines, *self.messages)


def init_model_fields(source: str, runs_dir: Path) -> dict[str, Any]:
    """The [model] fields of a run or Hugging Face folder, without reading weights.

    Excludes ``vocab_size`` and ``n_class``, which depend on the data, and ``preset``.
    """
    folder = hf_folder(source)
    if folder is None:
        config = find_run_and_checkpoint(source, runs_dir)[0].recipe().model
    else:
        _, config, _ = config_from_json(read_json_object(folder / "config.json"), folder / "config.json")
    return config.model_dump(exclude={"vocab_size", "n_class", "preset"}, exclude_none=True)


def init_tokenizer_path(source: str, runs_dir: Path) -> Path:
    """The folder of the tokenizer of a run or Hugging Face folder. Raises RecipeError if it has none."""
    folder = hf_folder(source)
    if folder is None:
        run, _ = find_run_and_checkpoint(source, runs_dir)
        path, exists = run.path, run.tokenizer.exists()
    else:
        path, exists = folder, has_tokenizer(folder)
    if not exists:
        raise RecipeError(
            f"{path} has no tokenizer.",
            "Weights are only useful with the tokenizer that they were trained with.",
            "Put it into that folder, or name it: --tokenizer.kind file --tokenizer.path FOLDER.",
        )
    return path


def initialize_from(
    model: GPT,
    tokenizer: Tokenizer,
    source: LoadedModel,
    *,
    task: TaskConfig | None = None,
    report: Callable[[str], None],
) -> InitReport:
    """Copy the weights of ``source`` into ``model``, which is initialized and uses ``tokenizer``.

    Rows of new control tokens start at the mean of the source's rows (Hewitt 2021, "Initializing New Word Embeddings
    for Pretrained Language Models"): the logits of trained rows may all be far below the zero of a random row, which
    would then take their probability; a mean row takes at most an average token's share, because exp is convex. Rows
    without a token (``model.vocab_size`` above the tokenizer's) are copied if the source has them, and otherwise the
    mean as well. Learned positions are cut or extended (`extend_positions`). A classification head is copied if
    ``task`` has the labels (in any order) and pooling of the source's task.

    ``report`` receives the lines of the report. Raises RecipeError, before anything is copied, if the tokenizer
    differs or if the models differ in a field that changes what the weights compute; all these fields are named.
    """
    name, source_config = str(source.source), source.model.config
    _check_fields(model.config, source)
    order = _head_order(task or PretrainTask(), source.task)
    vocabulary = _match_vocabularies(tokenizer, source)
    source_weights, weights = source.model.state_dict(), model.state_dict()
    copies: dict[str, _Copy] = {}
    seen: set[int] = set()
    for weight in sorted(weights, key=lambda weight: weight not in source_weights):
        tensor = weights[weight]
        if tensor.data_ptr() in seen:
            continue  # one weight with two names, for example a tied encoder embedding
        seen.add(tensor.data_ptr())
        if weight in _POSITION_WEIGHTS and _has_sinusoids(weight, source_config):
            table = sinusoidal_table(tensor.shape[0], tensor.shape[1], source_config.position_scale)
            copies[weight] = _Copy(table, loaded=WeightRows(weight, tensor.numel(), "the source's sinusoids"))
        elif weight not in source_weights:
            copies[weight] = _Copy(tensor, new=WeightRows(weight, tensor.numel()))
        elif weight == _CLASS_HEAD:
            copies[weight] = _copy_head(tensor, source_weights[weight], order)
        elif weight in _POSITION_WEIGHTS:
            copies[weight] = _copy_positions(weight, len(tensor), source_weights[weight])
        elif weight in _TOKEN_WEIGHTS:
            copies[weight] = _copy_tokens(weight, len(tensor), source_weights[weight], vocabulary)
        else:
            _check_shape(weight, tensor, source_weights[weight], name)
            copies[weight] = _Copy(source_weights[weight], loaded=WeightRows(weight, tensor.numel()))
    with torch.no_grad():
        for weight, part in copies.items():
            weights[weight].copy_(part.values)
    parts = copies.values()
    head = copies.get(_CLASS_HEAD)
    is_head_replaced = head is not None and head.new is not None and _CLASS_HEAD in source_weights
    unused = [WeightRows(weight, tensor.numel()) for weight, tensor in source_weights.items() if weight not in weights]
    messages = [*_token_messages(vocabulary, source), *_position_messages(model.config, source_config, name)]
    if is_head_replaced:
        messages.append(
            f"The classification head is new: it has {_describe_labels(task)}, and the head of {name} has "
            f"{_describe_labels(source.task)}."
        )
    result = InitReport(
        source=name,
        loaded=tuple(part.loaded for part in parts if part.loaded is not None),
        new=tuple(part.new for part in parts if part.new is not None),
        left_out=(*(part.left_out for part in parts if part.left_out is not None), *unused),
        messages=tuple(messages),
    )
    for line in result.lines():
        report(line)
    return result


@dataclass(frozen=True)
class _Copy:
    """The values of one weight of the new model, and which of its rows were loaded, are new or were left out."""

    values: Tensor
    loaded: WeightRows | None = None
    new: WeightRows | None = None
    left_out: WeightRows | None = None


def _check_fields(new: ModelConfig, source: LoadedModel) -> None:
    """Raise RecipeError if the source's weights would compute something else in the new model."""
    old = source.model.config
    ignored = _TRAINING_FIELDS | _ADAPTED_FIELDS
    if (old.arch, new.arch) == ("gpt", "seq2seq"):
        ignored |= _ENCODER_FIELDS
    fields = [field for field in type(new).model_fields if field not in ignored]
    different = [field for field in fields if getattr(new, field) != getattr(old, field)]
    if different:
        lines = [
            f"{field} = {format_json(getattr(new, field))}, but the source has {format_json(getattr(old, field))}"
            for field in different
        ]
        settings = ", ".join(f"{field} = {format_json(getattr(old, field))}" for field in different)
        where = "" if source.run is None else f" (see {source.run.path / 'recipe.toml'})"
        raise RecipeError(
            f"The model has another shape than {source.source}:\n  " + "\n  ".join(lines),
            "All fields of [model] must equal the source's, except "
            f"{', '.join(sorted(_TRAINING_FIELDS | _ADAPTED_FIELDS))}.",
            f"Use the source's [model] settings: {settings}{where}.",
        )


def _check_shape(weight: str, tensor: Tensor, source_tensor: Tensor, source: str) -> None:
    if tensor.shape != source_tensor.shape:
        raise RecipeError(
            f"The model has another shape than {source}: {weight} is {list(tensor.shape)}, but the source has "
            f"{list(source_tensor.shape)}.",
            "Weights with the same name must have the same shape.",
            "Start from a model with this shape.",
        )


def _match_vocabularies(tokenizer: Tokenizer, source: LoadedModel) -> VocabularyMap:
    """The source's id of each token. If the source has no tokenizer, ids are assumed to be the same."""
    rows, name = source.model.config.rows, source.source
    if source.tokenizer is None:
        added = {token: index for token, index in tokenizer.special_tokens.items() if index >= rows}
        same = {index: index for index in range(min(rows, tokenizer.vocab_size))}
        if len(same) + len(added) < tokenizer.vocab_size:
            raise RecipeError(
                f"The tokenizer has {tokenizer.vocab_size:,} tokens, but {name} has embeddings for {rows:,} and no "
                "tokenizer.",
                "The tokenizer must be the one that the weights were trained with.",
                f"Put the source's tokenizer into its folder and use it: --tokenizer.kind file --tokenizer.path {name}",
            )
        return VocabularyMap(same, added, ())
    vocabulary = map_vocabulary(tokenizer, source.tokenizer)
    if vocabulary.differences:
        path = name if source.run is None else source.run.path
        raise RecipeError(
            f"The tokenizer of {name} differs from this run's:\n  " + "\n  ".join(vocabulary.differences[:_MAX_NAMES]),
            "Weights are only useful with their own tokenizer; only control tokens may be added.",
            f"Use its tokenizer: --tokenizer.kind file --tokenizer.path {path}",
        )
    return vocabulary


def _copy_tokens(weight: str, size: int, source: Tensor, vocabulary: VocabularyMap) -> _Copy:
    """Token rows (size, C): the source's rows of the same tokens; all others are their mean."""
    tokens = torch.tensor(sorted(vocabulary.old_ids.values()), device=source.device)
    used = {*vocabulary.old_ids, *vocabulary.added.values()}
    spare = set(range(len(source))).difference(vocabulary.old_ids.values())  # rows of the source without a token
    rows = {**vocabulary.old_ids, **{row: row for row in range(size) if row not in used and row in spare}}
    target_rows = torch.tensor(list(rows), device=source.device)
    source_rows = torch.tensor(list(rows.values()), device=source.device)
    values = source[tokens].mean(dim=0, dtype=torch.float64).to(source.dtype).repeat(size, 1)
    values[target_rows] = source[source_rows]
    width = source.shape[1]
    new = size - len(rows)
    return _Copy(
        values,
        loaded=WeightRows(weight, len(rows) * width, f"{len(rows):,} of {size:,} rows" if new else ""),
        new=WeightRows(weight, new * width, f"{new:,} rows, initialized to the mean") if new else None,
        left_out=_unused_rows(weight, source, len(source) - len(rows)),
    )


def _head_order(new: TaskConfig, old: TaskConfig) -> list[int]:
    """The row of each label in the source's head; empty if labels or pooling differ."""
    if not (isinstance(new, ClassifyTask) and isinstance(old, ClassifyTask) and new.pooling == old.pooling):
        return []
    return [old.labels.index(label) for label in new.labels] if sorted(new.labels) == sorted(old.labels) else []


def _copy_head(tensor: Tensor, source: Tensor, order: list[int]) -> _Copy:
    """The classification head (n_class, C): the source's rows in the order of the labels, or the new head."""
    if len(order) == len(tensor) == len(source):
        return _Copy(source[order], loaded=WeightRows(_CLASS_HEAD, tensor.numel()))
    return _Copy(tensor, new=WeightRows(_CLASS_HEAD, tensor.numel()), left_out=WeightRows(_CLASS_HEAD, source.numel()))


def _describe_labels(task: TaskConfig | None) -> str:
    if not isinstance(task, ClassifyTask):
        return "unnamed classes"
    return f"the labels {_join_names(list(map(repr, task.labels)))} with pooling {task.pooling}"


def _has_sinusoids(weight: str, source: ModelConfig) -> bool:
    """Whether the source has sinusoidal positions in place of this table of learned ones."""
    return source.positions == "sinusoidal" and (source.arch == "seq2seq" or not weight.startswith("encoder."))


def _copy_positions(weight: str, size: int, source: Tensor) -> _Copy:
    """Learned positions (size, C)."""
    kept, width = min(size, len(source)), source.shape[1]
    new = size - kept
    return _Copy(
        extend_positions(source, size),
        loaded=WeightRows(weight, kept * width, f"rows 0 to {kept - 1:,}" if new else ""),
        new=WeightRows(weight, new * width, f"rows {kept:,} to {size - 1:,}") if new else None,
        left_out=_unused_rows(weight, source, len(source) - kept),
    )


def extend_positions(table: Tensor, size: int) -> Tensor:
    """The first ``size`` rows of learned positions (n, C); further rows repeat the last one.

    Late positions of a trained table are similar, and the last row means "far from the start", which holds for all
    later positions. Training then separates the rows. Random rows would carry no information, and repeating or
    stretching the table would claim wrong positions.
    """
    further = table[-1:].expand(max(size - len(table), 0), -1)
    return torch.cat((table[:size], further))


def _unused_rows(weight: str, source: Tensor, rows: int) -> WeightRows | None:
    return WeightRows(weight, rows * source.shape[1], f"{rows:,} rows") if rows else None


def _token_messages(vocabulary: VocabularyMap, source: LoadedModel) -> list[str]:
    messages: list[str] = []
    if source.tokenizer is None:
        messages.append(f"{source.source} has no tokenizer: its token ids are assumed to be those of this run.")
    moved = sum(new != old for new, old in vocabulary.old_ids.items())
    if moved:
        messages.append(f"{moved:,} tokens have another id than in the source; their rows were moved.")
    if vocabulary.added:
        messages.append(f"New control tokens, initialized to the mean: {_join_names(list(vocabulary.added))}")
    return messages


def _position_messages(new: ModelConfig, old: ModelConfig, source: str) -> list[str]:
    if new.positions != old.positions:
        text = f"The model has {new.positions} positions, and {source} has {old.positions} ones: "
        if (old.positions, new.positions) == ("sinusoidal", "learned"):
            return [text + "they are initialized to its sinusoids."]
        return [text + "positions must be learned again."]
    messages: list[str] = []
    field = {"rotary": "rope_theta", "sinusoidal": "position_scale"}.get(new.positions)
    if field is not None and getattr(new, field) != getattr(old, field):
        messages.append(
            f"{field} = {getattr(new, field):g}, but {source} has {getattr(old, field):g}: the model must adapt to it."
        )
    spans = [("Positions", old.block_size, new.block_size)]
    if old.arch == "seq2seq":
        spans.append(("Encoder positions", old.source_span, new.source_span))
    is_learned = new.positions == "learned"
    for title, old_span, new_span in spans:
        if new_span < old_span and is_learned:
            messages.append(f"{title} {new_span:,} to {old_span - 1:,} of {source} are not used.")
        if new_span > old_span:
            start = ", and are initialized to its last" if is_learned else ""
            messages.append(f"{title} {old_span:,} to {new_span - 1:,} are new{start}.")
    return messages


def _count(weights: tuple[WeightRows, ...]) -> int:
    return sum(weight.parameters for weight in weights)


def _group_by_module(weights: tuple[WeightRows, ...]) -> str:
    """Names and parameter counts, grouped by module and over all blocks."""
    counts: Counter[tuple[str, str]] = Counter()
    for weight in weights:
        block = re.match(r"h\.\d+\.(\w+)", weight.name)
        module = f"h.*.{block[1]}" if block else weight.name.partition(".")[0]
        counts[weight.name if weight.rows else module, weight.rows] += weight.parameters
    return _join_names([f"{name} {count:,}" + (f" ({rows})" if rows else "") for (name, rows), count in counts.items()])


def _join_names(names: list[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more:,} more" if more > 0 else "")
