"""The verb ``penna epochs``: what runs came to in each of their epochs, as a table or JSON.

Training figures are averages over an epoch, validation figures those measured at its last step. A run's last epoch may
be cut short; how much of it was trained stands beside its number then.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penna.cli.page import Page
    from penna.report.epochs import EpochMetrics

Overrides = Sequence[tuple[str, str]]

_NOT_THERE = "–"
_COLUMNS = (  # of which figures, how it is called, the figure, how it is written
    ("train", "loss", "loss", ".4f"),
    ("train", "label", "label_loss", ".4f"),
    ("train", "LM", "lm_loss", ".4f"),
    ("train", "ppl", "perplexity", ",.2f"),
    ("train", "acc", "accuracy", ".2%"),
    ("valid", "loss", "loss", ".4f"),
    ("valid", "acc", "accuracy", ".2%"),
    ("valid", "macro F1", "macro_f1", ".4f"),
)


def add_epochs_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna epochs``."""
    parser.add_argument("run", nargs="+", metavar="RUN", help="a run; several stand in one table")
    parser.add_argument("--json", action="store_true", help="print JSON, with every figure")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Print the epochs of runs."""
    from penna.api.epochs import epochs

    found = epochs(arguments.run, runs_dir=Path(arguments.runs_dir))
    if arguments.json:
        listed = [{"run": name, "epochs": [epoch.as_json() for epoch in of_run]} for name, of_run in found.items()]
        print(json.dumps(listed, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        from penna.cli.page import Page

        print_epochs(Page(), found)
    return 0


def print_epochs(page: Page, found: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """A row for every epoch of every run, and what there is to know of the figures below them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    epochs = [epoch for of_run in found.values() for epoch in of_run]
    columns = [column for column in _COLUMNS if any(_value(epoch, *column[::2]) is not None for epoch in epochs)]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    if len(found) > 1:
        table.add_column("\nrun")
    table.add_column("\nepoch")
    for part, title, _, _ in columns:
        table.add_column(f"{part}\n{title}", justify="right")
    table.add_column("\nminutes", justify="right")
    for name, of_run in found.items():
        for place, epoch in enumerate(of_run):
            cells = [Text(name if place == 0 else "")] if len(found) > 1 else []
            cells.append(Text(str(epoch.number) if epoch.whole else f"{epoch.number} ({epoch.share:.0%})"))
            cells += [Text(_cell(epoch, *column)) for column in columns]
            table.add_row(*cells, Text(f"{epoch.minutes:,.2f}"))
    wide = Console(width=1000, color_system=None)  # a figure that is cut off is none
    with wide.capture() as capture:
        wide.print(table)
    page.lines(line.rstrip() for line in capture.get().splitlines())
    notes = [
        (any(not epoch.whole for epoch in epochs), "(…): so much of the epoch was trained."),
        (any(epoch.valid is None for epoch in epochs), f"valid {_NOT_THERE}: not evaluated at the epoch's last step."),
        (
            any(not epoch.exact for epoch in epochs),
            "≈: rows of the log are missing, or do not say how many targets they average, as an older Penna wrote "
            "them. They are weighed by their tokens, and one across an epoch's end counts to both.",
        ),
    ]
    for is_so, note in notes:
        if is_so:
            page.wrapped(note)


def _value(epoch: EpochMetrics, part: str, figure: str) -> float | None:
    means = epoch.train if part == "train" else epoch.valid
    if means is None or (figure == "perplexity" and means.label_loss is not None):  # of a classifier it says little
        return None
    return getattr(means, figure)


def _cell(epoch: EpochMetrics, part: str, _: str, figure: str, form: str) -> str:
    value = _value(epoch, part, figure)
    if value is None:
        return _NOT_THERE
    return format(value, form) if epoch.exact or part == "valid" else f"≈{value:{form}}"
