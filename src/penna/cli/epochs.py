"""``penna epochs``: the metrics of runs in each epoch, as a table or JSON.

Training metrics are averages over an epoch; validation metrics are those measured at its last step. If the last epoch
is incomplete, its share is shown beside its number.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.console import Page, grid, print_json
from penna.cli.parser import Verbs

if TYPE_CHECKING:
    from penna.report.epochs import EpochMetrics

_MISSING = "–"
_COLUMNS = (  # split, title, metric, format
    ("train", "loss", "loss", ".4f"),
    ("train", "label", "label_loss", ".4f"),
    ("train", "LM", "lm_loss", ".4f"),
    ("train", "ppl", "perplexity", ",.2f"),
    ("train", "acc", "accuracy", ".2%"),
    ("valid", "loss", "loss", ".4f"),
    ("valid", "acc", "accuracy", ".2%"),
    ("valid", "macro F1", "macro_f1", ".4f"),
)


def add(verbs: Verbs) -> None:
    """Add the verb."""
    verbs.add("epochs", "show the metrics of each epoch of runs", "RUN [RUN ...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="+", metavar="RUN", help="a run; several share one table")
    parser.add_argument("--json", action="store_true", help="print JSON, with all metrics")


def run(arguments: argparse.Namespace) -> int:
    """Print the epochs of runs."""
    from penna.api.epochs import epochs

    found = epochs(arguments.run, runs_dir=Path(arguments.runs_dir))
    if arguments.json:
        print_json([{"run": name, "epochs": of_run} for name, of_run in found.items()])
    else:
        print_epochs(Page(), found)
    return 0


def print_epochs(page: Page, runs: Mapping[str, Sequence[EpochMetrics]]) -> None:
    """Print a row for every epoch of every run, and notes about them."""
    epochs = [epoch for of_run in runs.values() for epoch in of_run]
    columns = [
        (split, title, metric, form)
        for split, title, metric, form in _COLUMNS
        if any(_value(epoch, split, metric) is not None for epoch in epochs)
    ]
    several = len(runs) > 1
    header = [*(["\nrun"] if several else []), "\nepoch"]
    header += [f"{split}\n{title}" for split, title, _, _ in columns]
    table = grid("l" * (1 + several) + "r" * (len(columns) + 1), *header, "\nminutes")
    for name, of_run in runs.items():
        for number, epoch in enumerate(of_run):
            cells = [name if number == 0 else ""] if several else []
            cells.append(str(epoch.number) if epoch.whole else f"{epoch.number} ({epoch.share:.0%})")
            cells += [_cell(epoch, split, metric, form) for split, _, metric, form in columns]
            table.add_row(*cells, f"{epoch.minutes:,.2f}")
    page.wide_table(table)
    if any(not epoch.whole for epoch in epochs):
        page.paragraph("(…): the share of the epoch that was trained.")
    if any(epoch.valid is None for epoch in epochs):
        page.paragraph(f"valid {_MISSING}: not evaluated at the epoch's last step.")
    if any(not epoch.exact for epoch in epochs):
        page.paragraph(
            "≈: some rows of the log are missing or, in runs of an older Penna, do not say how many targets they "
            "average. Rows are weighted by their tokens, and a row across the end of an epoch counts for both epochs."
        )


def _value(epoch: EpochMetrics, split: str, metric: str) -> float | None:
    means = epoch.train if split == "train" else epoch.valid
    if means is None or (metric == "perplexity" and means.label_loss is not None):  # of little use for a classifier
        return None
    return getattr(means, metric)


def _cell(epoch: EpochMetrics, split: str, metric: str, form: str) -> str:
    value = _value(epoch, split, metric)
    if value is None:
        return _MISSING
    return format(value, form) if epoch.exact or split == "valid" else f"≈{value:{form}}"
