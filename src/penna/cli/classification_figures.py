"""What ``penna evaluate`` prints of a classifier: figures, classes, the confusion matrix and the worst mistakes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penna.cli.screen import figure_table, shorten
from penna.evaluate.classification import ClassificationMetrics
from penna.formatting import plural

_CLASSES = 20  # shown in the table of classes, those with the most texts
_MATRIX = 10  # classes up to which the matrix is printed
_MISTAKES = 8
_LABEL = 16  # cells
_WIDTH = 100


def print_classification(figures: ClassificationMetrics) -> None:
    """Print everything on standard output."""
    console = Console(highlight=False, markup=False)
    console = Console(highlight=False, markup=False, width=min(console.width, _WIDTH))
    rows = [
        ("texts", f"{figures.count:,}", ""),
        ("accuracy", f"{figures.accuracy:.4f}", f"{figures.majority:.4f} by always saying the commonest class"),
        ("macro F1", f"{figures.macro_f1:.4f}", "mean over the classes"),
        ("log loss", f"{figures.log_loss:.4f}", "nats per text"),
        ("calibration error", f"{figures.calibration_error:.4f}", "mean gap of confidence and accuracy (ECE)"),
    ]
    for part in figures.parts:
        accuracy = "-" if part.accuracy is None else f"{part.accuracy:.4f}"
        remark = f"accuracy on {plural(part.count, 'text', 'texts')}" + (
            "" if part.macro_f1 is None else f", macro F1 {part.macro_f1:.4f}"
        )
        rows.append((part.name, accuracy, remark))
    if figures.bad_records:
        rows.append(("bad records", f"{figures.bad_records:,}", "left out"))
    console.print(figure_table(rows))
    _print_classes(console, figures)
    if len(figures.classes) <= _MATRIX:
        _print_matrix(console, figures)
    if figures.worst:
        console.print(Text("\nThe surest mistakes", style="bold"))
        for mistake in figures.worst[:_MISTAKES]:
            place = f"{mistake.place}: " if mistake.place else ""
            said = f"{mistake.predicted!r} {mistake.confidence:.3f}, labelled {mistake.true!r}"
            console.print(Text(f"  {place}{said}"), soft_wrap=True)
            if mistake.text is not None:
                console.print(Text(f"    {shorten(mistake.text) or '(an empty text)'}", style="dim"), soft_wrap=True)


def _print_classes(console: Console, figures: ClassificationMetrics) -> None:
    table = _table("class", "precision", "recall", "F1", "texts", "predicted")
    shown = sorted(figures.classes, key=lambda each: -each.support)[:_CLASSES]
    for each in figures.classes:
        if each in shown:
            shares = ("-" if share is None else f"{share:.4f}" for share in (each.precision, each.recall, each.f1))
            table.add_row(_label(each.name), *shares, f"{each.support:,}", f"{each.predicted:,}")
    console.print()
    console.print(table)
    if len(figures.classes) > _CLASSES:
        console.print(f"and {len(figures.classes) - _CLASSES} more; --json prints all")


def _print_matrix(console: Console, figures: ClassificationMetrics) -> None:
    names = [_label(each.name) for each in figures.classes]
    table = _table("true \\ predicted", *(name.plain for name in names))
    for name, row in zip(names, figures.confusion, strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    console.print()
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column(Text(first), no_wrap=True)
    for name in others:
        table.add_column(Text(name), justify="right")
    return table


def _label(name: str) -> Text:
    shown = Text(shorten(name))
    shown.truncate(_LABEL, overflow="ellipsis")
    return shown
