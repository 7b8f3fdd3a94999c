"""``penna experiment``: train the arms of an experiment, and show the progress and the results.

A terminal shows a live table; otherwise a line is printed for each change of a run and each evaluation.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.console import Page, duration, grid, make_console, note, size
from penna.cli.parser import Verbs, at_least
from penna.errors import RunError
from penna.formatting import plural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from penna.api.estimate import Estimate
    from penna.api.experiment import ExperimentPlan
    from penna.api.experiment_runner import ExperimentResult, RunStatus, StatusHandler
    from penna.runs.experiment import ExperimentFolder

_STYLES = {"finished": "green", "failed": "red", "skipped": "red", "waiting": "dim", "interrupted": "dim"}
_ACTIVE = ("training", "evaluating", "training elsewhere")
_OTHER_LINES = 4  # lines of the screen that are not rows of the table


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("experiment", "train all arms and seeds of an experiment", "[EXPERIMENT] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="EXPERIMENT",
        help="a shipped experiment, a .toml file, or a started experiment (default: list the shipped ones)",
    )
    parser.add_argument(
        "--workers", type=at_least(1), default=1, metavar="N", help="train N runs at a time (default: 1)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="do not train; print the plan, the time and the disk space it needs"
    )
    parser.add_argument("--name", help="name of the experiment (default: the file's name)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing experiment of that name")


def run(arguments: argparse.Namespace) -> int:
    """Run or resume an experiment."""
    from penna.api.experiment_runner import run_experiment

    if arguments.target is None:
        return _list_shipped()
    folder = _open_folder(arguments)
    if folder is None:
        return 0
    with experiment_progress(arguments.workers) as on_status:
        end = run_experiment(folder, workers=arguments.workers, on_status=on_status)
    return _print_results(folder, end)


def _list_shipped() -> int:
    from penna.config.experiment import read_experiment, shipped_experiments

    files = shipped_experiments()
    width = max((len(name) for name in files), default=0)
    for name, file in files.items():
        print(f"{name:<{width}}  {read_experiment(file).get('description', '')}")
    note("\n`penna experiment NAME --dry-run` estimates an experiment; `penna experiment NAME` runs it.")
    return 0


def _open_folder(arguments: argparse.Namespace) -> ExperimentFolder | None:
    """The folder of a new or started experiment; None after a dry run."""
    from penna.api.estimate import estimate_experiment
    from penna.api.experiment import open_experiment, plan_experiment
    from penna.config.experiment import shipped_experiments
    from penna.runs.experiment import find_experiment
    from penna.storage import free_disk

    runs_dir, target = Path(arguments.runs_dir), arguments.target
    if not target.endswith(".toml") and target not in shipped_experiments():
        started = find_experiment(target, runs_dir)
        if started is not None:
            _check_resumable(started, arguments)
            return started
    plan = plan_experiment(target, name=arguments.name, runs_dir=runs_dir)
    if arguments.dry_run:
        estimate = estimate_experiment(plan, workers=arguments.workers, report=note)
        print_estimate(plan, estimate, free=free_disk(runs_dir))
        return None
    return open_experiment(plan, runs_dir=runs_dir, overwrite=arguments.overwrite)


def _check_resumable(started: ExperimentFolder, arguments: argparse.Namespace) -> None:
    """Raise RunError for options that only apply to a new experiment."""
    given = [name for name in ("dry_run", "name", "overwrite") if getattr(arguments, name)]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise RunError(
            f"{option} only applies to a new experiment, but {started.path} has already started.",
            "The name or the file of a new experiment is needed.",
            f"Leave out {option} to resume it, or name its file: {started.path}/experiment.toml.",
        )


def _print_results(folder: ExperimentFolder, end: ExperimentResult) -> int:
    """Print the results; return the exit code."""
    finished = sum(run.state == "finished" for run in end.runs)
    if end.signal is not None:
        note(f"Stopped by a signal. {finished} of {len(end.runs)} runs are finished; the active ones were saved.")
        note(f"To continue: penna experiment {folder.path}")
        return 128 + end.signal
    print(f"{finished} of {len(end.runs)} runs are finished in {folder.path}")
    for run in end.failed:
        print(f"  {run.name} {run.state}: {run.message}")
    if end.failed:
        print(f"Their output is in {folder.path}/logs. Run the same command to try them again.")
    if end.identical:
        print("Arms that turned out identical:")
        for finding in end.identical:
            print(f"  {finding.name.replace('_', ' ')}: {finding.text}")
    print(f"Compare them: penna compare {folder.path}")
    return 1 if end.failed else 0


def print_estimate(plan: ExperimentPlan, estimate: Estimate, free: int) -> None:
    """Print the time and disk space of each arm and of the whole experiment."""
    page = Page()
    page.title(f"{plan.name}: {plural(len(plan.runs), 'run', 'runs')}. Nothing was trained.")
    table = grid("wwrrr", "arm", "seeds", "steps", "time each", "disk each")
    by_name = {run.name: run for run in estimate.runs}
    for arm in dict.fromkeys(run.arm for run in plan.runs):
        runs = [run for run in plan.runs if run.arm == arm]
        first = by_name[runs[0].name]
        name = f"{arm} (start)" if runs[0].is_start else arm
        seeds = ", ".join(str(run.seed) for run in runs)
        table.add_row(name, seeds, f"{first.steps:,}", duration(first.seconds), size(first.disk))
    page.show(table)
    page.gap()
    workers = "one run at a time" if estimate.workers == 1 else f"{estimate.workers} runs at a time"
    page.paragraph(f"Total: about {duration(estimate.seconds)} with {workers}, and {size(estimate.disk)} of disk.")
    page.paragraph(f"Free disk space: {size(free)}.")
    if plan.experiment.evaluate:
        page.paragraph("The time of [evaluate] is not included.")


@contextmanager
def experiment_progress(workers: int) -> Generator[StatusHandler]:
    """Show the progress of an experiment on standard error."""
    from rich.live import Live

    console = make_console(stderr=True)
    if not console.is_terminal:
        yield _LinePrinter(console).show
        return
    with Live(console=console, refresh_per_second=2) as live:
        yield lambda statuses: live.update(status_table(statuses, workers, console.height - _OTHER_LINES))


class _LinePrinter:
    """Prints a line for each run that changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: dict[str, tuple[str, str]] = {}

    def show(self, statuses: list[RunStatus]) -> None:
        for status in statuses:
            now = (status.activity, validation_metrics(status))
            if now != self._printed.setdefault(status.run.name, ("waiting", "")):
                self._printed[status.run.name] = now
                self._console.print(_status_line(status), soft_wrap=True)


def _status_line(status: RunStatus) -> str:
    line = f"{status.run.name}: {status.activity}"
    if status.run.message:
        return f"{line}: {status.run.message}"
    if status.valid is None:
        return line
    progress = f"step {status.step} ({status.share:.0%})"
    return f"{line}, {progress}, validation {validation_metrics(status)}, {duration(status.seconds)}"


def status_table(statuses: list[RunStatus], workers: int, rows: int) -> Table:
    """At most ``rows`` runs as a table: the active ones, then others."""
    from rich.text import Text

    table = grid("llrrlrr", "run", "state", "step", "done", "validation", "time", "left")
    for status in _chosen(statuses, max(rows, 1)):
        left = status.seconds_left if status.activity == "training" else None
        started = status.valid is not None
        table.add_row(
            status.run.name,
            Text(status.activity, style=_STYLES.get(status.activity, "")),
            f"{status.step:,}" if started else "",
            f"{status.share:.0%}" if started else "",
            validation_metrics(status),
            duration(status.seconds) if started else "",
            "" if left is None else duration(left),
        )
    finished = sum(status.activity == "finished" for status in statuses)
    table.add_row(f"{finished} of {len(statuses)} finished", style="dim")
    left = seconds_left(statuses, workers)
    if left is not None:
        table.add_row(f"about {duration(left)} left")
    return table


def _chosen(statuses: list[RunStatus], rows: int) -> list[RunStatus]:
    """Active runs, then the last ones that ended, then waiting ones, in their original order."""
    if len(statuses) <= rows:
        return statuses
    by_priority = [status for status in statuses if status.activity in _ACTIVE]
    by_priority += [status for status in reversed(statuses) if status.activity not in (*_ACTIVE, "waiting")]
    by_priority += [status for status in statuses if status.activity == "waiting"]
    chosen = {id(status) for status in by_priority[:rows]}
    return [status for status in statuses if id(status) in chosen]


def seconds_left(statuses: list[RunStatus], workers: int) -> float | None:
    """The remaining time if each waiting run takes as long as the started ones; None before any has started."""
    totals = [status.seconds / status.share for status in statuses if status.share > 0 and status.seconds > 0]
    if not totals:
        return None
    mean = sum(totals) / len(totals)
    left = [status.seconds_left for status in statuses if status.activity in (*_ACTIVE, "interrupted")]
    started = [mean if seconds is None else seconds for seconds in left]
    waiting = sum(status.activity == "waiting" for status in statuses) * mean
    return max((sum(started) + waiting) / workers, max(started, default=0.0))


def validation_metrics(status: RunStatus) -> str:
    """The loss of the last evaluation; for a classifier also its accuracy."""
    if status.valid is None:
        return ""
    loss = f"loss {status.valid['loss']:.4f}"
    return f"{loss}, accuracy {status.valid['accuracy']:.2%}" if "macro_f1" in status.valid else loss
