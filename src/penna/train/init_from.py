"""A pretrained start: the weights of a model at hand, put into a new one before it learns.

In comes a new model with its tokenizer and a loaded model; its weights are copied by name, and out comes a report of
what was loaded, what is new and what of the source was left out. Weights mean something only in the model and with the
tokenizer they learned with, so the shape must be the same, field by field, and the tokenizer must do the same to text.
Three things may differ that leave that meaning whole: the numbers of the tokens, and further control tokens
(rows are mapped by the tokens' spelling); the block size (``wpe`` is cut or extended); and parts that the new model has
beside the source's (around a GPT as its decoder, a seq2seq's encoder and cross-attention; a head for other classes),
which stay as they were initialised. How a token's place is told may differ too, and is said: the rest of the weights is
still worth having. What a recipe leaves out is the source's: its tokenizer and its [model] fields (see below).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

# What may differ: how training goes, what a field was filled from, and what `start_from` sees to below. Any other field
# of the [model] section says what the weights compute.
_FREE = frozenset({"preset", "dropout", "ngram_dropout", "residual_init", "n_class"})
_SEEN_TO = frozenset({"vocab_size", "block_size", "source_size", "positions", "position_scale", "rope_theta"})
_OF_AN_ENCODER = frozenset({"arch", "n_encoder_layer"})  # may be there where the source has none

_OF_TOKENS = ("wte.weight", "encoder.wte.weight", "lm_head.weight")  # a row per token
_OF_CLASSES = "score.weight"  # a row per label
_OF_POSITIONS = ("wpe.weight", "encoder.wpe.weight")
_SHOWN = 8  # how many tokens or weights a line names


@dataclass(frozen=True)
class WeightRows:
    """One weight, or some rows of it."""

    name: str
    parameters: int
    rows: str = ""  # which, in words; "" for the whole weight


@dataclass(frozen=True)
class InitReport:
    """What became of every weight of the source and of the new model."""

    source: str
    loaded: tuple[WeightRows, ...]
    new: tuple[WeightRows, ...]
    left_out: tuple[WeightRows, ...]
    messages: tuple[str, ...]
    """What a person should know: new tokens, cut or extended positions, another way of telling positions."""

    def lines(self) -> tuple[str, ...]:
        """The report for the terminal: weights by module, those of all blocks as one (``h.*.crossattention``)."""
        loaded, new = _sum(self.loaded), _sum(self.new)
        lines = [f"Start: {loaded:,} of {loaded + new:,} parameters are from {self.source}"]
        for what, shares in (("New", self.new), ("Left out of the source", self.left_out)):
            if shares:
                lines.append(f"{what}: {_sum(shares):,} parameters: {_in_words(shares)}")
        return (*lines, *self.messages)

    def as_json(self) -> dict[str, Any]:
        """The report for ``run.json``: every weight by name, with how many of its numbers, and which rows."""

        def listed(shares: tuple[WeightRows, ...]) -> list[dict[str, Any]]:
            return [
                {"name": share.name, "parameters": share.parameters, **({"rows": share.rows} if share.rows else {})}
                for share in shares
            ]

        kinds = {"loaded": self.loaded, "new": self.new, "left_out": self.left_out}
        return {
            "source": self.source,
            "parameters": {kind: _sum(shares) for kind, shares in kinds.items()},
            **{kind: listed(shares) for kind, shares in kinds.items()},
            "messages": list(self.messages),
        }


def init_model_fields(source: str, runs_dir: Path) -> dict[str, Any]:
    """The [model] fields of a run or a Hugging Face folder, for a recipe that leaves them out; no weights are read.

    ``vocab_size`` and ``n_class`` are not among them, which the data tell, nor ``preset``, which they were filled from.
    """
    folder = hf_folder(source)
    if folder is None:
        config = find_run_and_checkpoint(source, runs_dir)[0].recipe().model
    else:
        _, config, _ = config_from_json(read_json_object(folder / "config.json"), folder / "config.json")
    return config.model_dump(exclude={"vocab_size", "n_class", "preset"}, exclude_none=True)


def init_tokenizer_path(source: str, runs_dir: Path) -> Path:
    """Where the tokenizer of a run or a Hugging Face folder is. Raises RecipeError where it has none."""
    folder = hf_folder(source)
    if folder is None:
        run, _ = find_run_and_checkpoint(source, runs_dir)
        path, there = run.path, run.tokenizer.exists()
    else:
        path, there = folder, has_tokenizer(folder)
    if not there:
        raise RecipeError(
            f"{path} has no tokenizer.",
            "Weights mean something only with the tokenizer they learned with.",
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
    """Put the weights of ``source`` into ``model``, an initialised one whose tokenizer is ``tokenizer``.

    Rows of new control tokens start at the mean of the source's rows (Hewitt 2021, "Initializing New Word Embeddings
    for Pretrained Language Models"): the logits of trained rows may all be far below the zero of a random row, which
    would then take their probability; exp being convex, a mean row takes an average token's share at most. Rows that
    no token has (``model.vocab_size`` above the tokenizer's) are the source's own where it has such rows too, else the
    mean as well. Learned positions keep the source's first rows; for those behind them see `extended`. A head for
    classes is the source's where ``task`` has the source's labels, in any order, and pooling; else it is new.

    ``say`` is given the lines of the report. Raises RecipeError, before anything is copied, where the tokenizer does
    something else to text, or where the models differ in a field that says what the weights compute; all fields are
    named, with both values.
    """
    name, old = str(source.source), source.model.config
    _check_fields(model.config, source)
    order = _head_order(task or PretrainTask(), source.task)
    match = _match(tokenizer, source)
    given, target = source.model.state_dict(), model.state_dict()
    placed: dict[str, _Placed] = {}
    seen: set[int] = set()
    for weight in sorted(target, key=lambda weight: weight not in given):
        tensor = target[weight]
        if tensor.data_ptr() in seen:
            continue  # one weight under two names, such as an encoder's embedding that is the decoder's
        seen.add(tensor.data_ptr())
        if weight in _OF_POSITIONS and _had_sines(weight, old):
            table = sinusoidal_table(tensor.shape[0], tensor.shape[1], old.position_scale)
            placed[weight] = _Placed(table, loaded=WeightRows(weight, tensor.numel(), "the source's sines"))
        elif weight not in given:
            placed[weight] = _Placed(tensor, new=WeightRows(weight, tensor.numel()))
        elif weight == _OF_CLASSES:
            placed[weight] = _head(tensor, given[weight], order)
        elif weight in _OF_POSITIONS:
            placed[weight] = _positions(weight, len(tensor), given[weight])
        elif weight in _OF_TOKENS:
            placed[weight] = _vocabulary(weight, len(tensor), given[weight], match)
        else:
            _check_shape(weight, tensor, given[weight], name)
            placed[weight] = _Placed(given[weight], loaded=WeightRows(weight, tensor.numel()))
    with torch.no_grad():
        for weight, part in placed.items():
            target[weight].copy_(part.values)
    parts = placed.values()
    head = placed.get(_OF_CLASSES)
    other_head = head is not None and head.new is not None and _OF_CLASSES in given
    left_out = [WeightRows(weight, tensor.numel()) for weight, tensor in given.items() if weight not in target]
    messages = [f"The head tells {_told(task)} here, {_told(source.task)} in {name}: it is new."] if other_head else []
    start = InitReport(
        source=name,
        loaded=tuple(part.loaded for part in parts if part.loaded is not None),
        new=tuple(part.new for part in parts if part.new is not None),
        left_out=(*(part.left_out for part in parts if part.left_out is not None), *left_out),
        messages=(*_token_messages(match, source), *_position_messages(model.config, old, name), *messages),
    )
    for line in start.lines():
        report(line)
    return start


@dataclass(frozen=True)
class _Placed:
    """What one weight of the new model is to hold, and where that is from."""

    values: Tensor
    loaded: WeightRows | None = None
    new: WeightRows | None = None
    left_out: WeightRows | None = None


def _check_fields(new: ModelConfig, source: LoadedModel) -> None:
    """Refuse a model in which the source's weights would compute something else."""
    old = source.model.config
    free = _FREE | _SEEN_TO | (_OF_AN_ENCODER if (old.arch, new.arch) == ("gpt", "seq2seq") else frozenset())
    fields = [field for field in type(new).model_fields if field not in free]
    different = [field for field in fields if getattr(new, field) != getattr(old, field)]
    if different:
        lines = [
            f"{field} is {format_json(getattr(old, field))} there and {format_json(getattr(new, field))} here"
            for field in different
        ]
        wanted = ", ".join(f"{field} = {format_json(getattr(old, field))}" for field in different)
        where = "" if source.run is None else f" (all of it is in {source.run.path / 'recipe.toml'})"
        raise RecipeError(
            f"The model of {source.source} has another shape:\n  " + "\n  ".join(lines),
            f"Expected the source's [model] section in all but {', '.join(sorted(_FREE | _SEEN_TO))}.",
            f"Copy its [model] section: {wanted}{where}.",
        )


def _check_shape(weight: str, tensor: Tensor, given: Tensor, source: str) -> None:
    if tensor.shape != given.shape:
        raise RecipeError(
            f"The model of {source} has another shape: {weight} is {list(given.shape)} there and "
            f"{list(tensor.shape)} here.",
            "Expected weights of one name to have one shape.",
            "Start from a model of this kind.",
        )


def _match(tokenizer: Tokenizer, source: LoadedModel) -> VocabularyMap:
    """Which id of the source each id of this run is; without a tokenizer the source's are taken to be the same."""
    rows, name = source.model.config.rows, source.source
    if source.tokenizer is None:
        beyond = {token: index for token, index in tokenizer.special_tokens.items() if index >= rows}
        same = {index: index for index in range(min(rows, tokenizer.vocab_size))}
        if len(same) + len(beyond) < tokenizer.vocab_size:
            raise RecipeError(
                f"The tokenizer has {tokenizer.vocab_size:,} tokens, the model of {name} embeds {rows:,}.",
                "Expected the tokenizer the weights learned with; the source has none to compare.",
                "Put the source's tokenizer into its folder, and take it: "
                f"--tokenizer.kind file --tokenizer.path {name}",
            )
        return VocabularyMap(same, beyond, ())
    match = map_vocabulary(tokenizer, source.tokenizer)
    if match.differences:
        path = name if source.run is None else source.run.path
        raise RecipeError(
            f"The tokenizer of {name} is not this run's tokenizer:\n  " + "\n  ".join(match.differences[:_SHOWN]),
            "Weights mean something only with the tokenizer they learned with, but for further control tokens.",
            f"Take its tokenizer: --tokenizer.kind file --tokenizer.path {path}",
        )
    return match


def _vocabulary(weight: str, size: int, given: Tensor, match: VocabularyMap) -> _Placed:
    """The rows (size, C) of this run's tokens: the source's by their ids there, all others the mean of these."""
    tokens = torch.tensor(sorted(match.old_ids.values()), device=given.device)
    taken = {*match.old_ids, *match.added.values()}
    unused = set(range(len(given))).difference(match.old_ids.values())
    rows = {**match.old_ids, **{row: row for row in range(size) if row not in taken and row in unused}}
    here = torch.tensor(list(rows), device=given.device)
    there = torch.tensor(list(rows.values()), device=given.device)
    values = given[tokens].mean(dim=0, dtype=torch.float64).to(given.dtype).repeat(size, 1)
    values[here] = given[there]
    width = given.shape[1]
    whole = len(rows) == size
    return _Placed(
        values,
        loaded=WeightRows(weight, len(rows) * width, "" if whole else f"{len(rows):,} of {size:,} rows"),
        new=None
        if whole
        else WeightRows(weight, (size - len(rows)) * width, f"{size - len(rows):,} rows, at the mean"),
        left_out=_rest(weight, given, len(given) - len(rows)),
    )


def _head_order(new: TaskConfig, old: TaskConfig) -> list[int]:
    """For each label of this run its row in the source's head; none where the two do not tell the same classes."""
    if not (isinstance(new, ClassifyTask) and isinstance(old, ClassifyTask) and new.pooling == old.pooling):
        return []
    return [old.labels.index(label) for label in new.labels] if sorted(new.labels) == sorted(old.labels) else []


def _head(tensor: Tensor, given: Tensor, order: list[int]) -> _Placed:
    """The head (n_class, C) whose rows are labels: the source's in this run's order, or the new one as it is."""
    if len(order) == len(tensor) == len(given):
        return _Placed(given[order], loaded=WeightRows(_OF_CLASSES, tensor.numel()))
    return _Placed(tensor, new=WeightRows(_OF_CLASSES, tensor.numel()), left_out=WeightRows(_OF_CLASSES, given.numel()))


def _told(task: TaskConfig | None) -> str:
    """What a task's head tells, for a message."""
    if not isinstance(task, ClassifyTask):
        return "unnamed classes"
    return f"{_few(list(map(repr, task.labels)))} (pooling {task.pooling})"


def _had_sines(weight: str, old: ModelConfig) -> bool:
    """Whether the source told by sines what this table of positions is to tell."""
    return old.positions == "sinusoidal" and (old.arch == "seq2seq" or not weight.startswith("encoder."))


def _positions(weight: str, size: int, given: Tensor) -> _Placed:
    """The table (size, C) of learned positions, from the source's."""
    kept, width = min(size, len(given)), given.shape[1]
    new = size - kept
    return _Placed(
        extend_positions(given, size),
        loaded=WeightRows(weight, kept * width, f"rows 0 to {kept - 1:,}" if new else ""),
        new=WeightRows(weight, new * width, f"rows {kept:,} to {size - 1:,}") if new else None,
        left_out=_rest(weight, given, len(given) - kept),
    )


def extend_positions(table: Tensor, size: int) -> Tensor:
    """The first ``size`` rows of learned positions (n, C); those behind the last one repeat it.

    Late positions of a trained table are much alike, and the last row says "far behind the start", which is true of
    all that come after it; the text before a token tells the rest, and the rows part as they learn. Rows as they are
    initialised say nothing, and the table again from its start, or stretched over the new rows, says that a token
    stands where it does not.
    """
    behind = table[-1:].expand(max(size - len(table), 0), -1)
    return torch.cat((table[:size], behind))


def _rest(weight: str, given: Tensor, rows: int) -> WeightRows | None:
    return WeightRows(weight, rows * given.shape[1], f"{rows:,} rows") if rows else None


def _token_messages(match: VocabularyMap, source: LoadedModel) -> list[str]:
    messages: list[str] = []
    if source.tokenizer is None:
        messages.append(
            f"{source.source} has no tokenizer: its rows are taken to be this tokenizer's tokens, by number."
        )
    moved = sum(here != there for here, there in match.old_ids.items())
    if moved:
        messages.append(f"{moved:,} tokens have another id than in the source; their rows went with them.")
    if match.added:
        messages.append(f"New control tokens, at the mean of the others: {_few(list(match.added))}")
    return messages


def _position_messages(new: ModelConfig, old: ModelConfig, source: str) -> list[str]:
    if new.positions != old.positions:
        said = f"Positions are {new.positions} here and {old.positions} in {source}: "
        if (old.positions, new.positions) == ("sinusoidal", "learned"):
            return [said + "they start as its sines."]
        return [said + "where a token stands must be learned anew."]
    messages: list[str] = []
    field = {"rotary": "rope_theta", "sinusoidal": "position_scale"}.get(new.positions)
    if field is not None and getattr(new, field) != getattr(old, field):
        messages.append(
            f"{field} is {getattr(new, field):g} here and {getattr(old, field):g} in {source}: the model must get used "
            "to other ones."
        )
    spans = [("Positions", old.block_size, new.block_size)]
    if old.arch == "seq2seq":
        spans.append(("The encoder's positions", old.source_span, new.source_span))
    learned = new.positions == "learned"
    for what, before, now in spans:
        if now < before and learned:
            messages.append(f"{what} {now:,} to {before - 1:,} of {source} are cut off.")
        if now > before:
            start = ", and start as its last" if learned else ""
            messages.append(f"{what} {before:,} to {now - 1:,} are new to the model of {source}{start}.")
    return messages


def _sum(shares: tuple[WeightRows, ...]) -> int:
    return sum(share.parameters for share in shares)


def _in_words(shares: tuple[WeightRows, ...]) -> str:
    """The weights' names and counts; those of one module together, and those of all blocks."""
    counts: Counter[tuple[str, str]] = Counter()
    for share in shares:
        block = re.match(r"h\.\d+\.(\w+)", share.name)
        module = f"h.*.{block[1]}" if block else share.name.partition(".")[0]
        counts[share.name if share.rows else module, share.rows] += share.parameters
    return _few([f"{name} {count:,}" + (f" ({rows})" if rows else "") for (name, rows), count in counts.items()])


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
