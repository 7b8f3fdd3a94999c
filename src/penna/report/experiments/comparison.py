"""A comparison: arms and their baseline, what they came to, and everything that is told beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from penna.errors import RunError
from penna.report.experiments.arms import Arm, RecipeRow, recipe_rows, value_text
from penna.report.experiments.results import BEST, TRAINING, Column, ComparedRun, columns_of
from penna.report.experiments.statistics import CONFIDENCE, PairedDifference
from penna.report.experiments.warnings import ComparisonWarning, losses_differ, tokenizers_differ

_NO_DIFFERENCE = ("parameters", "steps", "step", "tokens", "epochs", "majority")  # nobody wants them to be lower


@dataclass(frozen=True)
class ArmText:
    """What an arm makes of a prompt."""

    arm: str
    run: str
    text: str | None  # None where it made nothing of it
    note: str = ""  # why, or how the text ended

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PromptTexts:
    """A prompt, and what each arm makes of it with the same seed."""

    prompt: str
    seed: int
    texts: tuple[ArmText, ...]

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON."""
        return {"prompt": self.prompt, "seed": self.seed, "texts": [text.as_json() for text in self.texts]}


@dataclass(frozen=True)
class HowMade:
    """How a comparison was made, so that it can be made again."""

    date: str
    command: str
    penna: str  # its version
    texts: str  # with which settings texts were written; "" where none were


@dataclass(frozen=True)
class Comparison:
    """Arms side by side."""

    title: str
    description: str
    kind: str  # the task
    arms: tuple[Arm, ...]
    baseline: Arm
    columns: tuple[Column, ...]
    recipe: tuple[RecipeRow, ...]
    warnings: tuple[ComparisonWarning, ...]
    identical: tuple[str, ...]  # what was found to be the same in all arms of an experiment, a line each
    texts: tuple[PromptTexts, ...]
    made: HowMade

    @property
    def best_is_last(self) -> bool:
        """Whether in every run the best validation is the last one, so that its figures need not be said twice."""
        runs = [run for arm in self.arms for run in arm.runs if run.valid_rows]
        return all(run.best_row is run.valid_rows[-1] for run in runs)

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns of tables and figures."""
        return tuple(column for column in self.columns if column.group != BEST or not self.best_is_last)

    @property
    def main(self) -> tuple[Column, ...]:
        """Of them, those of the figure that arms are compared by first."""
        name = main_figure(self.arms, self.columns)
        return tuple(column for column in self.shown if column.name == name)

    def difference(self, arm: Arm, column: Column) -> PairedDifference | None:
        """How far an arm lies from the baseline; None where that says nothing, or they share no seed."""
        per_token = column.is_per_token and tokenizers_differ([arm, self.baseline])
        other_parts = column.name == "loss" and losses_differ([arm, self.baseline])
        if arm is self.baseline or column.name in _NO_DIFFERENCE or per_token or other_parts:
            return None
        return arm.difference(self.baseline, column)

    def as_json(self) -> dict[str, Any]:
        """A dictionary for JSON, with every figure of every run."""
        return {
            "title": self.title,
            "description": self.description,
            "task": self.kind,
            "baseline": self.baseline.name,
            "confidence": CONFIDENCE,
            "main": [column.key for column in self.main],
            "figures": {column.key: column.full_title for column in self.columns},
            "arms": [self._arm_as_json(arm) for arm in self.arms],
            "recipe": [row.as_json() for row in self.recipe],
            "warnings": [warning.as_json() for warning in self.warnings],
            "identical": list(self.identical),
            "texts": [texts.as_json() for texts in self.texts],
            "made": asdict(self.made),
        }

    def _arm_as_json(self, arm: Arm) -> dict[str, Any]:
        spreads = {column.key: arm.spread(column) for column in self.columns}
        differences = {column.key: self.difference(arm, column) for column in self.columns}
        return {
            "name": arm.name,
            "seeds": list(arm.seeds),
            "values": {name: value_text(value) for name, value in arm.values.items()},
            "figures": {key: spread.as_json() for key, spread in spreads.items() if spread is not None},
            "differences": {key: found.as_json() for key, found in differences.items() if found is not None},
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.folder.path),
                    "seed": run.seed,
                    "figures": {
                        column.key: run.finals[column.group, column.name]
                        for column in self.columns
                        if (column.group, column.name) in run.finals
                    },
                }
                for run in arm.runs
            ],
        }


def compare_arms(
    arms: Sequence[Arm],
    *,
    title: str,
    description: str = "",
    baseline: str | None = None,
    warnings: Sequence[ComparisonWarning] = (),
    identical: Sequence[str] = (),
    texts: Sequence[PromptTexts] = (),
    made: HowMade,
) -> Comparison:
    """Arms as a comparison; the baseline is the first arm unless another is named.

    Raises RunError as ``check_comparable`` and ``named_arm`` do.
    """
    check_comparable(arms)
    columns = columns_of(run for arm in arms for run in arm.runs)
    kind = arms[0].first.kind
    return Comparison(
        title=title,
        description=description,
        kind=kind,
        arms=tuple(arms),
        baseline=arms[0] if baseline is None else named_arm(arms, baseline),
        columns=tuple(columns),
        recipe=tuple(recipe_rows(arms)),
        warnings=tuple(warnings),
        identical=tuple(identical),
        texts=tuple(texts),
        made=made,
    )


def main_figure(arms: Sequence[Arm], columns: Sequence[Column]) -> str:
    """What arms are compared by first: a classifier's accuracy; else the loss, or bits per byte where a token is not
    the same thing in all of them."""
    if arms[0].first.kind == "classify":
        return "accuracy"
    measured = {column.name for column in columns if column.group != TRAINING}
    return "bits_per_byte" if tokenizers_differ(arms) and "bits_per_byte" in measured else "loss"


def named_arm(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of a name. Raises RunError naming the arms there are."""
    for arm in arms:
        if arm.name == name:
            return arm
    raise RunError(
        f"There is no arm {name!r} to be the baseline.",
        f"Arms of this comparison: {', '.join(arm.name for arm in arms)}.",
        "Name one of them: --baseline ARM.",
    )


def check_comparable(arms: Sequence[Arm]) -> None:
    """Raise RunError where runs learned different tasks, or none of them has been measured."""
    runs = [run for arm in arms for run in arm.runs]
    kinds: dict[str, list[ComparedRun]] = {}
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    if len(kinds) > 1:
        listed = "; ".join(f"{kind}: {', '.join(run.name for run in own)}" for kind, own in kinds.items())
        raise RunError(
            f"Runs of different tasks cannot be compared ({listed}).",
            "Runs that learned the same task, so that their figures mean the same.",
            "Compare the runs of one task at a time.",
        )
    if not any(run.is_measured for run in runs):
        raise RunError(
            f"There is nothing to compare: {', '.join(run.name for run in runs)} "
            f"{'has' if len(runs) == 1 else 'have'} no evaluation yet.",
            "Runs with a validation row in metrics.jsonl, or a file in evaluations/.",
            f"Let them train, or measure them: `penna evaluate {runs[0].folder.path}`.",
        )
