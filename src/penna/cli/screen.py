"""What a person sees while a run goes on: a progress bar, samples as they get better, and a loss curve at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from penna.config.schema import SECTIONS, Recipe
from penna.formatting import plural
from penna.train.events import Evaluated, Event, EventHandler, Finished, Logged, Notice, Sampled, Started

_CURVE_WIDTH, _CURVE_HEIGHT = 60, 10
_SAMPLE_SHOWN = 240  # characters
_OBEYED = {code: "·" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}  # C0, DEL and C1


@contextmanager
def training_screen() -> Generator[EventHandler]:
    """A listener that shows a run on standard error: live in a terminal, a line per evaluation in a file."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("step {task.fields[step]}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TextColumn("{task.fields[left]} left"),
        console=console,
        transient=True,
        auto_refresh=console.is_terminal,
    )
    screen = _Screen(console, bar)
    with bar:
        yield screen.show


class _Screen:
    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task: TaskID | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._line(event.text)
        elif isinstance(event, Started):
            begins = f"Going on at step {event.step}" if event.step else "Training"
            compiled = ", compiled" if event.compiled else ""
            self._line(
                f"{begins}: {event.parameters:,} parameters on {event.device}, "
                f"{plural(event.threads, 'thread', 'threads')}{compiled}"
            )
            self._task = self._bar.add_task("", total=1.0, step=event.step, loss="-", speed="-", left="-")
        elif isinstance(event, Logged) and self._task is not None:
            self._bar.update(
                self._task,
                completed=event.progress,
                step=event.row["step"],
                loss=f"{event.row['loss']:.3f}",
                speed=f"{event.row['tokens_per_second']:,.0f}",
                left=_time_left(event),
            )
        elif isinstance(event, Evaluated):
            self._line(
                f"step {event.row['step']:>6}: validation {_validation(event.row)}"
                + (" (best so far)" if event.is_best and event.row["step"] else "")
            )
        elif isinstance(event, Sampled):
            text = shorten(event.prompt + event.separator + event.text)
            self._console.print(f"[dim]    {escape(text)}[/dim]", soft_wrap=True)
        elif isinstance(event, Finished):
            self._bar.stop()
            self._line(f"Ended at step {event.step}: {event.reason}.")

    def _line(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)


def _validation(row: dict[str, Any]) -> str:
    """The figures of an evaluation that are watched: of a classifier its accuracy, else bits per byte."""
    loss = f"loss {row['loss']:.4f}"
    if "macro_f1" in row:
        return f"{loss}, accuracy {row['accuracy']:.2%}, macro F1 {row['macro_f1']:.4f}"
    return f"{loss}, {row['bits_per_byte']:.3f} bits per byte" if "bits_per_byte" in row else loss


def _time_left(event: Logged) -> str:
    if event.progress <= 0:
        return "-"
    seconds = event.row["seconds"] * (1 - event.progress) / event.progress
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def shorten(text: str) -> str:
    """A text on one line, at most so long as a screen likes, without control characters."""
    flat = "".join(char if char.isprintable() else "⏎" if char == "\n" else "·" for char in text)
    return flat if len(flat) <= _SAMPLE_SHOWN else flat[:_SAMPLE_SHOWN] + "…"


def print_recipe(recipe: Recipe) -> None:
    """Every field of a recipe, defaults included, a section a paragraph, on standard error."""
    console = Console(stderr=True, highlight=False)
    for section in SECTIONS:
        model = getattr(recipe, section)
        fields = " ".join(
            f"{name}={_brief(getattr(model, name))}"
            for name in type(model).model_fields
            if getattr(model, name) is not None
        )
        console.print(f"[bold]{section}[/bold] {escape(fields)}")


def _brief(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def loss_curve(rows: Sequence[dict[str, Any]], figure: str = "bits_per_byte") -> str:
    """A figure of the metrics log over steps as text: · for training, o for validation."""
    series = {
        split: [(row["step"], row[figure]) for row in rows if row["split"] == split and figure in row]
        for split in ("train", "valid")
    }
    points = [point for line in series.values() for point in line]
    if len(points) < 2:
        return ""
    last = max(step for step, _ in points) or 1
    low, high = min(value for _, value in points), max(value for _, value in points)
    span = high - low or 1.0
    grid = [[" "] * _CURVE_WIDTH for _ in range(_CURVE_HEIGHT)]
    for split, mark in (("train", "·"), ("valid", "o")):
        for step, value in series[split]:
            column = min(_CURVE_WIDTH - 1, math.floor(step / last * _CURVE_WIDTH))
            grid[round((high - value) / span * (_CURVE_HEIGHT - 1))][column] = mark
    lines = []
    for number, line in enumerate(grid):
        label = f"{high - span * number / (_CURVE_HEIGHT - 1):8.2f}"
        lines.append(f"{label} ┤{''.join(line).rstrip()}")
    lines.append(" " * 9 + "└" + "─" * _CURVE_WIDTH)
    lines.append(f"{' ' * 10}0{f'step {last}':>{_CURVE_WIDTH - 1}}")
    lines.append(f"{' ' * 10}{figure.replace('_', ' ')}: · training, o validation")
    return "\n".join(lines)


def printable(text: str) -> str:
    """A text as standard output gets it: without what a terminal would obey where it is one, else as it is."""
    return text.translate(_OBEYED) if sys.stdout.isatty() else text


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr)


def figure_table(rows: Iterable[tuple[str, str, str]]) -> Table:
    """Rows of a name, a figure set right, and a remark."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
