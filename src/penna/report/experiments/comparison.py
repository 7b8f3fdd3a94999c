"""A comparison: arms, a baseline, the metrics of each, warnings and samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from penna.errors import RunError
from penna.report.experiments.arms import Arm, RecipeRow, format_value, recipe_rows
from penna.report.experiments.results import BEST, TRAINING, Column, ComparedRun, metric_columns
from penna.report.experiments.statistics import CONFIDENCE, PairedDifference
from penna.report.experiments.warnings import ComparisonWarning, losses_differ, tokenizers_differ
from penna.storage import to_json

_NO_DIFFERENCE = ("parameters", "steps", "step", "tokens", "epochs", "majority")  # lower is not better


@dataclass(frozen=True)
class ArmText:
    """What an arm generates for a prompt."""

    arm: str
    run: str
    text: str | None  # None if it generated nothing
    note: str = ""  # why not, or how the text ended


@dataclass(frozen=True)
class PromptTexts:
    """A prompt and the text that each arm generates for it with the same seed."""

    prompt: str
    seed: int
    texts: tuple[ArmText, ...]


@dataclass(frozen=True)
class Provenance:
    """How a comparison was made, so that it can be repeated."""

    date: str
    command: str
    penna: str  # its version
    texts: str  # generation settings of the samples; "" without samples


@dataclass(frozen=True)
class Comparison:
    """Arms compared with a baseline."""

    title: str
    description: str
    kind: str  # the task
    arms: tuple[Arm, ...]
    baseline: Arm
    columns: tuple[Column, ...]
    recipe: tuple[RecipeRow, ...]
    warnings: tuple[ComparisonWarning, ...]
    identical: tuple[str, ...]  # what is equal in all arms of an experiment, one line each
    texts: tuple[PromptTexts, ...]
    provenance: Provenance

    @property
    def best_is_last(self) -> bool:
        """Whether the best validation of every run is the last one, so that the two columns are equal."""
        runs = [run for arm in self.arms for run in arm.runs if run.valid_rows]
        return all(run.best_row is run.valid_rows[-1] for run in runs)

    @property
    def visible_columns(self) -> tuple[Column, ...]:
        """The columns of tables and plots."""
        return tuple(column for column in self.columns if column.group != BEST or not self.best_is_last)

    @property
    def main_columns(self) -> tuple[Column, ...]:
        """The columns of the main metric."""
        name = main_metric(self.arms, self.columns)
        return tuple(column for column in self.visible_columns if column.name == name)

    def difference(self, arm: Arm, column: Column) -> PairedDifference | None:
        """The difference from the baseline; None if it is meaningless or there is no common seed."""
        per_token = column.is_per_token and tokenizers_differ([arm, self.baseline])
        other_parts = column.name == "loss" and losses_differ([arm, self.baseline])
        if arm is self.baseline or column.name in _NO_DIFFERENCE or per_token or other_parts:
            return None
        return arm.difference(self.baseline, column)

    def to_json(self) -> dict[str, Any]:
        """Every metric of every run, for JSON."""
        return {
            "title": self.title,
            "description": self.description,
            "task": self.kind,
            "baseline": self.baseline.name,
            "confidence": CONFIDENCE,
            "main": [column.key for column in self.main_columns],
            "metrics": {column.key: column.full_title for column in self.columns},
            "arms": [self._arm_to_json(arm) for arm in self.arms],
            "recipe": to_json(self.recipe),
            "warnings": to_json(self.warnings),
            "identical": to_json(self.identical),
            "texts": to_json(self.texts),
            "made": to_json(self.provenance),
        }

    def _arm_to_json(self, arm: Arm) -> dict[str, Any]:
        spreads = {column.key: arm.spread(column) for column in self.columns}
        differences = {column.key: self.difference(arm, column) for column in self.columns}
        return {
            "name": arm.name,
            "seeds": list(arm.seeds),
            "values": {name: format_value(value) for name, value in arm.values.items()},
            "metrics": {key: to_json(spread) for key, spread in spreads.items() if spread is not None},
            "differences": {key: to_json(found) for key, found in differences.items() if found is not None},
            "runs": [
                {
                    "name": run.name,
                    "path": str(run.folder.path),
                    "seed": run.seed,
                    "metrics": {
                        column.key: run.final_metrics[column.group, column.name]
                        for column in self.columns
                        if (column.group, column.name) in run.final_metrics
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
    provenance: Provenance,
) -> Comparison:
    """Compare arms with a baseline, by default the first arm.

    Raises RunError for runs that cannot be compared and for an unknown baseline.
    """
    check_comparable(arms)
    columns = metric_columns(run for arm in arms for run in arm.runs)
    kind = arms[0].first.kind
    return Comparison(
        title=title,
        description=description,
        kind=kind,
        arms=tuple(arms),
        baseline=arms[0] if baseline is None else find_arm(arms, baseline),
        columns=tuple(columns),
        recipe=tuple(recipe_rows(arms)),
        warnings=tuple(warnings),
        identical=tuple(identical),
        texts=tuple(texts),
        provenance=provenance,
    )


def main_metric(arms: Sequence[Arm], columns: Sequence[Column]) -> str:
    """The metric that arms are compared by: a classifier's accuracy, else the loss, or bits per byte if tokenizers
    differ.
    """
    if arms[0].first.kind == "classify":
        return "accuracy"
    measured = {column.name for column in columns if column.group != TRAINING}
    return "bits_per_byte" if tokenizers_differ(arms) and "bits_per_byte" in measured else "loss"


def find_arm(arms: Sequence[Arm], name: str) -> Arm:
    """The arm with a name. Raises RunError that lists the arms."""
    for arm in arms:
        if arm.name == name:
            return arm
    raise RunError(
        f"There is no arm {name!r}.",
        f"The arms are {', '.join(arm.name for arm in arms)}.",
        "Name one of them with --baseline.",
    )


def check_comparable(arms: Sequence[Arm]) -> None:
    """Raise RunError if runs have different tasks or none has been evaluated."""
    runs = [run for arm in arms for run in arm.runs]
    kinds: dict[str, list[ComparedRun]] = {}
    for run in runs:
        kinds.setdefault(run.kind, []).append(run)
    if len(kinds) > 1:
        listed = "; ".join(f"{kind}: {', '.join(run.name for run in own)}" for kind, own in kinds.items())
        raise RunError(
            f"The runs have different tasks ({listed}).",
            "Only runs of the same task can be compared.",
            "Compare the runs of one task at a time.",
        )
    if not any(run.has_metrics for run in runs):
        raise RunError(
            f"No run has been evaluated yet: {', '.join(run.name for run in runs)}.",
            "A comparison needs a validation row in metrics.jsonl or a file in evaluations/.",
            f"Train longer, or run `penna evaluate {runs[0].folder.path}`.",
        )
