"""The metrics of each epoch of one or several runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penna.errors import RunError
from penna.report.epochs import EpochMetrics, epoch_metrics
from penna.runs.folder import RUNS, find_run


def epochs(targets: Sequence[str], *, runs_dir: Path = RUNS) -> dict[str, list[EpochMetrics]]:
    """The metrics of each epoch by run name, or by folder if two runs have the same name.

    Raises RunError if a run does not exist or has no metrics.
    """
    by_run: dict[str, list[EpochMetrics]] = {}
    for target in targets:
        run = find_run(target, runs_dir)
        metrics = epoch_metrics(run.metrics())
        if not metrics:
            raise RunError(
                f"The run {run.path} has no metrics yet.", "At least one logged row is needed.", "Train it first."
            )
        by_run[run.name if run.name not in by_run else str(run.path)] = metrics
    return by_run
