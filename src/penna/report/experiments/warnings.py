"""What stands in the way of a comparison: arms in, sentences out.

Two arms show what one change does where all else is the same: seeds, text, tokenizer, code, machine and budget. Every
one of these that differs is told with its values, and so is what is missing or not yet done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from penna.config.recipe import flatten
from penna.config.training import BUDGETS
from penna.formatting import plural
from penna.report.experiments.arms import NOT_THERE, Arm, value_text
from penna.report.experiments.results import TRAINING, ComparedRun

_SPLIT = ("data.split", "data.valid_fraction", "data.valid_path", "data.limit", "data.where")
_LOSS = ("task.lm_weight", "task.class_weights", "task.loss_on")
_NEGLIGIBLE = 0.01  # of what arms trained for: a last batch cut short is no other budget
_SPEED = ("train.device", "train.precision")


@dataclass(frozen=True)
class ComparisonWarning:
    """One thing to know before the figures are believed."""

    kind: str  # a word for programs
    text: str  # sentences for people

    def as_json(self) -> dict[str, str]:
        """A dictionary for JSON."""
        return asdict(self)


def comparison_warnings(arms: Sequence[Arm]) -> list[ComparisonWarning]:
    """All that differs besides what is compared, and all that is not yet done."""
    parts = (_state, _unmeasured, _seeds, _data, _tokenizers, _losses, _code, _speed, _budgets, _evaluations, _mixed)
    return [ComparisonWarning(kind, text) for part in parts for kind, text in part(arms)]


def tokenizers_differ(arms: Sequence[Arm]) -> bool:
    """Whether a token is not the same thing in all runs."""
    return len(_by_value(arms, _tokenizer)) > 1


def losses_differ(arms: Sequence[Arm]) -> bool:
    """Whether the loss is not made of the same parts in all runs."""
    return any(len(_by_value(arms, _field(name))) > 1 for name in _LOSS)


def _by_value(arms: Sequence[Arm], read: Callable[[ComparedRun], str | None]) -> dict[str, list[str]]:
    """Which arms, or which runs where an arm has several, stand under each value; runs that do not say it are left
    out."""
    found: dict[str, list[str]] = {}
    for arm in arms:
        values = [(value, run) for run in arm.runs if (value := read(run)) is not None]
        if len({value for value, _ in values}) == 1:
            found.setdefault(values[0][0], []).append(arm.name)
        else:
            for value, run in values:
                found.setdefault(value, []).append(run.name)
    return found


def _told(found: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in found.items())


def _runs(arms: Sequence[Arm]) -> Iterator[ComparedRun]:
    for arm in arms:
        yield from arm.runs


def _state(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for run in _runs(arms):
        state, ended = run.info.get("state"), str(run.info.get("ended", ""))
        at = f"step {run.rows[-1]['step']:,}" if run.rows else "its start"
        if run.is_being_written:
            yield "being-written", f"{run.name} is still being written: its figures count as they stand, at {at}."
        elif state == "training":
            yield (
                "stopped-early",
                f"{run.name} was cut off at {at}: `penna resume {run.folder.path}` goes on with it.",
            )
        elif state == "stopped":
            yield (
                "stopped-early",
                f"{run.name} was stopped at {at} ({ended}): `penna resume {run.folder.path}` goes on with it.",
            )
        elif ended.startswith("no better"):
            yield "stopped-early", f"{run.name} ended early, at {at}: {ended}."


def _unmeasured(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for run in _runs(arms):
        if not run.is_measured:
            yield (
                "no-evaluation",
                f"{run.name} has no evaluation, and no figures here: let it train, or measure it with "
                f"`penna evaluate {run.folder.path}`.",
            )


def _seeds(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    seeds = {arm.name: ", ".join(map(str, arm.seeds)) for arm in arms}
    if len(set(seeds.values())) > 1:
        listed = "; ".join(f"{name}: {own}" for name, own in seeds.items())
        yield "seeds-differ", f"Seeds differ ({listed}). A difference is taken over the seeds that both arms have."
    single = [arm.name for arm in arms if len(arm.seeds) == 1]
    if single:
        who = "Every arm has" if len(single) == len(arms) else f"{', '.join(single)}:"
        yield "one-seed", f"{who} one seed: nothing says how much of a difference is chance. Three seeds or more do."
    for arm in arms:
        several = sorted({run.seed for run in arm.runs if sum(run.seed == own.seed for own in arm.runs) > 1})
        if several:
            yield (
                "seed-repeated",
                f"{arm.name} has several runs of seed {', '.join(map(str, several))}: their mean counts as one run.",
            )


def _data(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    hashes = _by_value(arms, _content_hash)
    if len(hashes) > 1:
        yield "data-differ", f"The text is not the same, by its hash: {_told(hashes)}. Figures are of different data."
    for name in _SPLIT:
        found = _by_value(arms, _field(name))
        if len(found) > 1:
            yield "split-differ", f"{name} differs, so the validation parts may: {_told(found)}."


def _tokenizers(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    found = _by_value(arms, _tokenizer)
    if len(found) > 1:
        yield (
            "tokenizers-differ",
            f"Tokenizers differ, by their hash: {_told(found)}. Losses, perplexities and accuracies per token cannot "
            "be compared; bits per byte can.",
        )


def _losses(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for name in _LOSS:
        found = _by_value(arms, _field(name))
        if len(found) > 1:
            yield "losses-differ", f"{name} differs, and with it what the loss is made of: {_told(found)}."


def _code(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    parts: tuple[tuple[str, Callable[[ComparedRun], str | None]], ...] = (
        ("penna", _inside("versions", "penna")),
        ("torch", _inside("versions", "torch")),
        ("Python", _inside("versions", "python")),
        ("git commit", lambda run: None if run.info.get("git") is None else str(run.info["git"])[:12]),
    )
    differing = [(name, found) for name, read in parts if len(found := _by_value(arms, read)) > 1]
    if differing:
        listed = "; ".join(f"{name} {_told(found)}" for name, found in differing)
        yield "code-differ", f"The code is not the same: {listed}."


def _speed(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    parts: tuple[tuple[str, Callable[[ComparedRun], str | None]], ...] = (
        ("processor", _inside("machine", "processor")),
        ("device", _inside("machine", "device")),
        ("cores", _inside("machine", "cores")),
        ("threads", _decided("threads")),
        ("matmul", _decided("matmul")),
        ("compiled", _decided("compile")),
        *((name, _field(name)) for name in _SPEED),
    )
    differing = [(name, found) for name, read in parts if len(found := _by_value(arms, read)) > 1]
    if differing:
        listed = "; ".join(f"{name} {_told(found)}" for name, found in differing)
        yield "machine-differ", f"Seconds cannot be compared, and last digits may differ: {listed}."


def _budgets(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    found = _by_value(arms, _budget)
    if len(found) > 1:
        yield "budgets-differ", f"Budgets differ: {_told(found)}."
    for name in ("steps", "tokens"):
        taken = {arm.name: [run.finals[TRAINING, name] for run in arm.runs if run.rows] for arm in arms}
        ranges = {arm: _range(values) for arm, values in taken.items() if values}
        means = [sum(values) / len(values) for values in taken.values() if values]
        if means and max(means) - min(means) > _NEGLIGIBLE * max(means):
            listed = "; ".join(f"{arm} {text}" for arm, text in ranges.items())
            yield f"{name}-differ", f"Arms did not train for the same {name}: {listed}."


def _evaluations(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    names = dict.fromkeys(name for run in _runs(arms) for name in run.evaluations)
    for name in names:
        texts = _by_value(arms, lambda run, name=name: _text_of(run, name))
        if len(texts) > 1:
            yield "evaluated-on-other-text", f"The evaluation {name} is of different texts: {_told(texts)}."
        without = [run.name for run in _runs(arms) if name not in run.evaluations]
        if without:
            yield "evaluation-missing", f"The evaluation {name} is not there of {', '.join(without)}."
        for run in _runs(arms):
            measured, chosen = run.evaluations.get(name, {}).get("checkpoint"), run.folder.default_checkpoint()
            if measured is not None and chosen is not None and measured != chosen.name:
                yield (
                    "evaluated-other-checkpoint",
                    f"The evaluation {name} of {run.name} is of {measured}; the run would use {chosen.name} now.",
                )


def _mixed(arms: Sequence[Arm]) -> Iterator[tuple[str, str]]:
    for arm in arms:
        flat = [flatten(run.recipe) for run in arm.runs]
        names = dict.fromkeys(name for fields in flat for name in fields if name != "train.seed")
        paths = ("train.init_from", "tokenizer.path")
        mixed = [name for name in names if len({value_text(own.get(name)) for own in flat}) > 1 and name not in paths]
        if mixed:
            yield (
                "arm-mixed",
                f"{arm.name} puts {plural(len(arm.runs), 'run', 'runs')} together that differ in {', '.join(mixed)}.",
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


def _inside(section: str, name: str) -> Callable[[ComparedRun], str | None]:
    """Reads a field of run.json."""

    def read(run: ComparedRun) -> str | None:
        found = run.info.get(section, {}).get(name)
        return None if found is None else str(found)

    return read


def _decided(name: str) -> Callable[[ComparedRun], str | None]:
    """Reads what was measured before the first step."""

    def read(run: ComparedRun) -> str | None:
        found = run.folder.decisions().get(name)
        return None if found is None else value_text(found)

    return read


def _field(name: str) -> Callable[[ComparedRun], str | None]:
    """Reads a recipe's field; one that its task does not have is not told."""

    def read(run: ComparedRun) -> str | None:
        fields = flatten(run.recipe)
        return value_text(fields[name]) if name in fields else None

    return read


def _budget(run: ComparedRun) -> str:
    said = [(name, getattr(run.recipe.train, name)) for name in BUDGETS]
    return next((f"{name} = {value_text(value)}" for name, value in said if value is not None), NOT_THERE)


def _text_of(run: ComparedRun, name: str) -> str | None:
    text = run.evaluations.get(name, {}).get("text")
    return None if text is None else value_text(text)
