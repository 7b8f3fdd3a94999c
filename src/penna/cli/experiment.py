"""The verb ``penna experiment``: many runs of one recipe, trained side by side, as they go and what came of them.

In a terminal a table is kept up to date; elsewhere a line is printed for each change of a run and each evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penna.errors import RecipeError, RunError

if TYPE_CHECKING:
    from penna.api.experiment_runner import ExperimentResult
    from penna.runs.experiment import ExperimentFolder

Overrides = Sequence[tuple[str, str]]


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna experiment``."""
    parser.add_argument(
        "target",
        nargs="?",
        metavar="EXPERIMENT",
        help="a shipped experiment, a .toml file, or one that was begun; without it, the shipped ones are listed",
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="runs trained at a time (1)")
    parser.add_argument(
        "--dry-run", action="store_true", help="train nothing: say what would be, how long and on how much disk"
    )
    parser.add_argument("--name", help="name of the experiment (the file's own)")
    parser.add_argument("--overwrite", action="store_true", help="replace an experiment of that name")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Run an experiment, or go on with it."""
    if arguments.target is None:
        return _list_shipped()
    if arguments.workers < 1:
        raise RecipeError(f"--workers {arguments.workers} trains nothing.", "1 or more.", "Such as --workers 2.")
    from penna.api.experiment_runner import run_experiment
    from penna.cli.experiment_screen import experiment_screen

    folder = _folder(arguments)
    if folder is None:
        return 0
    with experiment_screen(arguments.workers) as watch:
        end = run_experiment(folder, workers=arguments.workers, on_status=watch)
    return _print_end(folder, end, arguments)


def _list_shipped() -> int:
    from penna.cli.screen import say
    from penna.config.experiment import read_experiment, shipped_experiments

    files = shipped_experiments()
    width = max((len(name) for name in files), default=0)
    for name, file in files.items():
        print(f"{name:<{width}}  {read_experiment(file).get('description', '')}")
    say("\n`penna experiment NAME --dry-run` says what one would take; `penna experiment NAME` runs it.")
    return 0


def _folder(arguments: argparse.Namespace) -> ExperimentFolder | None:
    """The experiment to be run, made where it is new; None where it was only to be described."""
    from penna.api.estimate import estimate_experiment
    from penna.api.experiment import open_experiment, plan_experiment
    from penna.cli.experiment_screen import print_estimate
    from penna.cli.screen import say
    from penna.config.experiment import shipped_experiments
    from penna.runs.experiment import find_experiment
    from penna.storage import free_disk

    runs_dir, target = Path(arguments.runs_dir), arguments.target
    if not target.endswith(".toml") and target not in shipped_experiments():
        begun = find_experiment(target, runs_dir)
        if begun is not None:
            _check_nothing_new(begun, arguments)
            return begun
    plan = plan_experiment(target, name=arguments.name, runs_dir=runs_dir)
    if arguments.dry_run:
        estimate = estimate_experiment(plan, workers=arguments.workers, report=say)
        print_estimate(plan, estimate, free=free_disk(runs_dir))
        return None
    return open_experiment(plan, runs_dir=runs_dir, overwrite=arguments.overwrite)


def _check_nothing_new(begun: ExperimentFolder, arguments: argparse.Namespace) -> None:
    """Refuse what is said of an experiment that is to begin, for one that has begun."""
    given = [word for word in ("dry_run", "name", "overwrite") if getattr(arguments, word)]
    if given:
        raise RunError(
            f"{begun.path} has begun: --{given[0].replace('_', '-')} is for an experiment that has not.",
            "The name or the file of an experiment.",
            f"Leave it out to go on, or name the file: {begun.path}/experiment.toml is a copy of it.",
        )


def _print_end(folder: ExperimentFolder, end: ExperimentResult, arguments: argparse.Namespace) -> int:
    """What came of it; the exit status of the command."""
    from penna.cli.screen import say

    done = sum(run.state == "finished" for run in end.runs)
    if end.signal is not None:
        say(f"Stopped by a signal; {done} of {len(end.runs)} runs are finished, and those at work were saved.")
        say(f"Go on with: penna experiment {folder.path}")
        return 128 + end.signal
    print(f"{done} of {len(end.runs)} runs are finished in {folder.path}")
    for run in end.failed:
        print(f"  {run.name} {run.state}: {run.message}")
    if end.failed:
        print(f"What they said is in {folder.path}/logs; the same command tries them again.")
    if end.identical:
        print("What no arm names:")
    for finding in end.identical:
        print(f"  {finding.name.replace('_', ' ')}: {finding.text}")
    print(f"Compare them: penna compare {folder.path}")
    return 1 if end.failed else 0
