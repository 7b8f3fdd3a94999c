"""Averages per epoch of runs: names or folders in, figures of every epoch out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penna.errors import RunError
from penna.report.epochs import EpochMetrics, epoch_metrics
from penna.runs.folder import RUNS, find_run


def epochs(targets: Sequence[str], *, runs_dir: Path = RUNS) -> dict[str, list[EpochMetrics]]:
    """The epochs of runs under their names, or under their folders where two have one name.

    Raises RunError where there is no such run, or it has not logged a training step.
    """
    found: dict[str, list[EpochMetrics]] = {}
    for target in targets:
        run = find_run(target, runs_dir)
        figures = epoch_metrics(run.metrics())
        if not figures:
            raise RunError(f"The run {run.path} has no metrics yet.", "At least one logged row.", "Train it first.")
        found[run.name if run.name not in found else str(run.path)] = figures
    return found
