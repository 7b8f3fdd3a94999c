"""Warnings about a comparison: conditions that differ between arms, and runs that are unfinished or not evaluated.

Two arms isolate a change only if seeds, text, tokenizer, code, machine and budget are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from penna.config.recipe import flatten
from penna.config.training import BUDGETS
from penna.formatting import plural
from penna.report.experiments.arms import MISSING, Arm, format_value
from penna.report.experiments.results import TRAINING, ComparedRun

_SPLIT = ("data.split", "data.valid_fraction", "data.valid_path", "data.limit", "data.where")
_LOSS = ("task.lm_weight", "task.class_weights", "task.loss_on")
_NEGLIGIBLE = 0.01  # relative difference; a shorter last batch is not a different budget
_SPEED = ("train.device", "train.precision")


@dataclass(frozen=True)
class ComparisonWarning:
    """A reason to read the metrics with care."""

    kind: str  # for programs
    text: str  # for people


def comparison_warnings(arms: Sequence[Arm]) -> list[ComparisonWarning]:
    """All warnings about a set of arms."""
    parts = (
        _unfinished,
        _unmeasured,
        _seeds,
        _data,
        _tokenizers,
        _losses,
        _code,
        _speed,
        _budgets,
        _evaluations,
        _mixed,
    )
    return [ComparisonWarning(kind, text) for part in parts for kind, text in part(arms)]


def tokenizers_differ(arms: Sequence[Arm]) -> bool:
    """Whether the runs have different tokenizers."""
    return len(_by_value(arms, _tokenizer)) > 1


def losses_differ(arms: Sequence[Arm]) -> bool:
    """Whether the loss has different parts in different runs."""
    return any(len(_by_value(arms, _recipe_field(name))) > 1 for name in _LOSS)


def _by_value(arms: Sequence[Arm], read: Callable[[ComparedRun], str | None]) -> dict[str, list[str]]:
    """The arms with each value, or the runs if an arm has several values; runs without a value are left out."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        values = [(value, run) for run in arm.runs if (value := read(run)) is not None]
        if len({value for value, _ in values}) == 1:
            found.setdefault(values[0][0], []).append(arm.name)
        else:
            for value, run in values:
                found.setdefault(value, []).append(run.name)
    return found


def _list_groups(found: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def _runs(arms: Sequence[Arm]) -> Iterator[ComparedRun]:
    for arm in arms:
        yield from arm.runs


def _unfinished(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for run in _runs(arms):
        state, ended = run.info.get("state"), str(run.info.get("ended", ""))
        at = f"step {run.rows[-1]['step']:,}" if run.rows else "its start"
        if run.is_being_written:
            yield "being-written", f"{run.name} is still training: its metrics are those at {at}."
        elif state == "training":
            yield (
                "stopped-early",
                f"{run.name} was interrupted at {at}; `penna resume {run.folder.path}` continues it.",
            )
        elif state == "stopped":
            yield (
                "stopped-early",
                f"{run.name} was stopped at {at} ({ended}); `penna resume {run.folder.path}` continues it.",
            )
        elif ended.startswith("no better"):
            yield "stopped-early", f"{run.name} stopped early at {at}: {ended}."


def _unmeasured(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for run in _runs(arms):
        if not run.has_metrics:
            yield (
                "no-evaluation",
                f"{run.name} has no evaluation and no metrics here. Train it further, or run "
                f"`penna evaluate {run.folder.path}`.",
            )


def _seeds(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    seeds = {arm.name: ", ".join(map(str, arm.seeds)) for arm in arms}
    if len(set(seeds.values())) > 1:
        listed = "; ".join(f"{name}: {own}" for name, own in seeds.items())
        yield "seeds-differ", f"The seeds differ ({listed}). Differences are over the seeds that both arms have."
    single = [arm.name for arm in arms if len(arm.seeds) == 1]
    if single:
        who = "Every arm has" if len(single) == len(arms) else f"{', '.join(single)}:"
        yield "one-seed", f"{who} a single seed, so a difference may be chance. Use three seeds or more."
    for arm in arms:
        several = sorted({run.seed for run in arm.runs if sum(run.seed == own.seed for own in arm.runs) > 1})
        if several:
            yield (
                "seed-repeated",
                f"{arm.name} has several runs with seed {', '.join(map(str, several))}; they are averaged.",
            )


def _data(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    hashes = _by_value(arms, _content_hash)
    if len(hashes) > 1:
        yield "data-differ", f"The texts differ (by hash): {_list_groups(hashes)}. The metrics are of different data."
    for name in _SPLIT:
        found = _by_value(arms, _recipe_field(name))
        if len(found) > 1:
            yield "split-differ", f"{name} differs, so the validation parts may differ: {_list_groups(found)}."


def _tokenizers(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    found = _by_value(arms, _tokenizer)
    if len(found) > 1:
        yield (
            "tokenizers-differ",
            f"The tokenizers differ (by hash): {_list_groups(found)}. Losses, perplexities and accuracies per token "
            "cannot be compared; bits per byte can.",
        )


def _losses(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for name in _LOSS:
        found = _by_value(arms, _recipe_field(name))
        if len(found) > 1:
            yield "losses-differ", f"{name} differs, so the losses are not comparable: {_list_groups(found)}."


def _code(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    parts: tuple[tuple[str, Callable[[ComparedRun], str | None]], ...] = (
        ("penna", _info_field("versions", "penna")),
        ("torch", _info_field("versions", "torch")),
        ("Python", _info_field("versions", "python")),
        ("git commit", lambda run: None if run.info.get("git") is None else str(run.info["git"])[:12]),
    )
    differing = [(name, found) for name, read in parts if len(found := _by_value(arms, read)) > 1]
    if differing:
        listed = "; ".join(f"{name} {_list_groups(found)}" for name, found in differing)
        yield "code-differ", f"The code differs: {listed}."


def _speed(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    parts: tuple[tuple[str, Callable[[ComparedRun], str | None]], ...] = (
        ("processor", _info_field("machine", "processor")),
        ("device", _info_field("machine", "device")),
        ("cores", _info_field("machine", "cores")),
        ("threads", _decision("threads")),
        ("matmul", _decision("matmul")),
        ("compiled", _decision("compile")),
        *((name, _recipe_field(name)) for name in _SPEED),
    )
    differing = [(name, found) for name, read in parts if len(found := _by_value(arms, read)) > 1]
    if differing:
        listed = "; ".join(f"{name} {_list_groups(found)}" for name, found in differing)
        yield "machine-differ", f"Seconds cannot be compared, and the last digits may differ: {listed}."


def _budgets(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    found = _by_value(arms, _budget)
    if len(found) > 1:
        yield "budgets-differ", f"The budgets differ: {_list_groups(found)}."
    for name in ("steps", "tokens"):
        taken = {arm.name: [run.final_metrics[TRAINING, name] for run in arm.runs if run.rows] for arm in arms}
        ranges = {arm: _range(values) for arm, values in taken.items() if values}
        means = [sum(values) / len(values) for values in taken.values() if values]
        if means and max(means) - min(means) > _NEGLIGIBLE * max(means):
            listed = "; ".join(f"{arm} {text}" for arm, text in ranges.items())
            yield f"{name}-differ", f"The arms trained for different numbers of {name}: {listed}."


def _evaluations(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    names = dict.fromkeys(name for run in _runs(arms) for name in run.evaluations)
    for name in names:
        texts = _by_value(arms, lambda run, name=name: _text_of(run, name))
        if len(texts) > 1:
            yield "evaluated-on-other-text", f"The evaluation {name} used different texts: {_list_groups(texts)}."
        without = [run.name for run in _runs(arms) if name not in run.evaluations]
        if without:
            yield "evaluation-missing", f"The evaluation {name} is missing for {', '.join(without)}."
        for run in _runs(arms):
            measured, chosen = run.evaluations.get(name, {}).get("checkpoint"), run.folder.default_checkpoint()
            if measured is not None and chosen is not None and measured != chosen.name:
                yield (
                    "evaluated-other-checkpoint",
                    f"The evaluation {name} of {run.name} used {measured}; the run now uses {chosen.name}.",
                )


def _mixed(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for arm in arms:
        flat = [flatten(run.recipe) for run in arm.runs]
        names = dict.fromkeys(name for fields in flat for name in fields if name != "train.seed")
        paths = ("train.init_from", "tokenizer.path")
        mixed = [name for name in names if len({format_value(own.get(name)) for own in flat}) > 1 and name not in paths]
        if mixed:
            yield (
                "arm-mixed",
                f"{arm.name} combines {plural(len(arm.runs), 'run', 'runs')} that differ in {', '.join(mixed)}.",
            )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _tokenizer(run: ComparedRun) -> str | None:
    found = run.info.get("data", {}).get("tokenizer_hash")
    return None if found is None else str(found)[:12]


def _content_hash(run: ComparedRun) -> str | None:
    found = run.info.get("data", {}).get("content_hash")
    return None if found is None else str(found)[:12]


def _info_field(section: str, name: str) -> Callable[[ComparedRun], str | None]:
    """A function that reads a field of run.json."""

    def read(run: ComparedRun) -> str | None:
        found = run.info.get(section, {}).get(name)
        return None if found is None else str(found)

    return read


def _decision(name: str) -> Callable[[ComparedRun], str | None]:
    """A function that reads a field of decisions.json."""

    def read(run: ComparedRun) -> str | None:
        found = run.folder.decisions().get(name)
        return None if found is None else format_value(found)

    return read


def _recipe_field(name: str) -> Callable[[ComparedRun], str | None]:
    """A function that reads a recipe field; None if the task does not have it."""

    def read(run: ComparedRun) -> str | None:
        fields = flatten(run.recipe)
        return format_value(fields[name]) if name in fields else None

    return read


def _budget(run: ComparedRun) -> str:
    budgets = [(name, getattr(run.recipe.train, name)) for name in BUDGETS]
    return next((f"{name} = {format_value(value)}" for name, value in budgets if value is not None), MISSING)


def _text_of(run: ComparedRun, name: str) -> str | None:
    text = run.evaluations.get(name, {}).get("text")
    return None if text is None else format_value(text)
