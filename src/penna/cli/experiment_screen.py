"""What a person sees of an experiment: what it would take, and how it goes.

While it goes on, a terminal shows a live table; elsewhere a line is printed for each change and each evaluation.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penna.api.estimate import Estimate
from penna.api.experiment import ExperimentPlan
from penna.api.experiment_runner import RunStatus, StatusHandler
from penna.cli.page import Page
from penna.formatting import plural

_STYLES = {"finished": "green", "failed": "red", "skipped": "red", "waiting": "dim", "interrupted": "dim"}
_AT_WORK = ("training", "evaluating", "training elsewhere")
_BESIDE = 4  # lines of a screen that are not rows


@contextmanager
def experiment_screen(workers: int) -> Generator[StatusHandler]:
    """A watcher that shows an experiment on standard error."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, refresh_per_second=2) as live:
        yield lambda statuses: live.update(status_table(statuses, workers, console.height - _BESIDE))


class _Lines:
    """Prints what is new since it last looked."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, tuple[str, str]] = {}

    def show(self, statuses: list[RunStatus]) -> None:
        """A line for each run that is in another state, or was evaluated."""
        for status in statuses:
            now = (status.activity, validation(status))
            before = self._told.setdefault(status.run.name, ("waiting", ""))
            if now != before:
                self._told[status.run.name] = now
                self._console.print(_line(status), soft_wrap=True)


def _line(status: RunStatus) -> str:
    line = f"{status.run.name}: {status.activity}"
    if status.run.message:
        return f"{line}: {status.run.message}"
    if status.valid is None:
        return line
    return f"{line}, step {status.step} ({status.share:.0%}), validation {validation(status)}, {clock(status.seconds)}"


def status_table(statuses: list[RunStatus], workers: int, rows: int) -> Table:
    """The runs as a table, at most ``rows`` of them: those at work, then as many of the others as find room."""
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_row("run", "state", "step", "done", "validation", "time", "left", style="dim")
    for status in _shown(statuses, max(rows, 1)):
        left = status.seconds_left if status.activity == "training" else None
        begun = status.valid is not None
        table.add_row(
            Text(status.run.name),
            Text(status.activity, style=_STYLES.get(status.activity, "")),
            f"{status.step:,}" if begun else "",
            f"{status.share:.0%}" if begun else "",
            validation(status),
            clock(status.seconds) if begun else "",
            "" if left is None else clock(left),
        )
    done = sum(status.activity == "finished" for status in statuses)
    table.add_row(Text(f"{done} of {len(statuses)} finished", style="dim"), style="dim")
    left = seconds_left(statuses, workers)
    if left is not None:
        table.add_row(Text(f"about {clock(left)} left", style="dim"))
    return table


def _shown(statuses: list[RunStatus], rows: int) -> list[RunStatus]:
    if len(statuses) <= rows:
        return statuses
    first = [status for status in statuses if status.activity in _AT_WORK]
    others = [status for status in reversed(statuses) if status.activity not in (*_AT_WORK, "waiting")]
    others += [status for status in statuses if status.activity == "waiting"]
    kept = {id(status) for status in [*first, *others][:rows]}
    return [status for status in statuses if id(status) in kept]


def seconds_left(statuses: list[RunStatus], workers: int) -> float | None:
    """How long the rest takes if each run still waiting takes as long as those begun; None before any has begun."""
    whole = [status.seconds / status.share for status in statuses if status.share > 0 and status.seconds > 0]
    if not whole:
        return None
    usual = sum(whole) / len(whole)
    left = [status.seconds_left for status in statuses if status.activity in (*_AT_WORK, "interrupted")]
    begun = [usual if seconds is None else seconds for seconds in left]
    waiting = sum(status.activity == "waiting" for status in statuses) * usual
    return max((sum(begun) + waiting) / workers, max(begun, default=0.0))


def validation(status: RunStatus) -> str:
    """The figures of the last evaluation: of a classifier its accuracy, too."""
    if status.valid is None:
        return ""
    loss = f"loss {status.valid['loss']:.4f}"
    return f"{loss}, accuracy {status.valid['accuracy']:.2%}" if "macro_f1" in status.valid else loss


def clock(seconds: float) -> str:
    """A length of time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_estimate(plan: ExperimentPlan, estimate: Estimate, free: int) -> None:
    """What an experiment would take, on standard output: a row for each start and arm, and the whole."""
    page = Page()
    page.title(f"{plan.name}: {plural(len(plan.runs), 'run', 'runs')}, nothing trained yet")
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "right"):
        table.add_column(justify=justify)
    table.add_row("arm", "seeds", "steps", "time each", "disk each", style="dim")
    by_name = {run.name: run for run in estimate.runs}
    for arm in dict.fromkeys(run.arm for run in plan.runs):
        runs = [run for run in plan.runs if run.arm == arm]
        first = by_name[runs[0].name]
        name = f"{arm} (start)" if runs[0].is_start else arm
        seeds = ", ".join(str(run.seed) for run in runs)
        row = (name, seeds, f"{first.steps:,}", clock(first.seconds), size(first.disk))
        table.add_row(*map(Text, row))
    page.show(table)
    page.gap()
    at_once = "one run at a time" if estimate.workers == 1 else f"{estimate.workers} runs at a time"
    page.wrapped(f"In all about {clock(estimate.seconds)} with {at_once}, and {size(estimate.disk)} of disk.")
    page.wrapped(f"Free on that disk: {size(free)}.")
    if plan.experiment.evaluate:
        page.wrapped("What [evaluate] takes is not among it.")


def size(amount: int) -> str:
    """Bytes for people."""
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e9 else f"{amount / 1e6:,.1f} MB"
