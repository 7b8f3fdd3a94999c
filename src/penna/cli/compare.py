"""``penna compare``: compare runs, or the arms of an experiment: tables in the terminal, and a report in files."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from penna.cli.arguments import add_device_argument
from penna.cli.console import Page, grid, note
from penna.cli.parser import Verbs, at_least
from penna.errors import RecipeError
from penna.formatting import one_line, truncate_end

if TYPE_CHECKING:
    from penna.report.experiments.comparison import Comparison
    from penna.report.tables import TextTable

_TEXT = 400  # cells of a text
_RECIPE_ROWS = 20  # shown


def add(verbs: Verbs) -> None:
    """Add the verb."""
    summary = "compare runs, or the arms of an experiment"
    verbs.add("compare", summary, "RUN|EXPERIMENT [...] [options]", _add_arguments, run)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", nargs="+", metavar="RUN|EXPERIMENT", help="runs; those that differ only in train.seed form one arm"
    )
    parser.add_argument("--baseline", metavar="ARM", help="compare the other arms with this one (default: the first)")
    parser.add_argument(
        "--group", metavar="REGEX", help="runs in whose names REGEX matches the same text form one arm: '^(.*)-run'"
    )
    parser.add_argument(
        "--by",
        choices=["step", "tokens", "seconds", "epoch"],
        default="step",
        help="x-axis of the curves that the report shows first (default: step)",
    )
    parser.add_argument(
        "--format",
        choices=["terminal", "markdown", "csv", "latex", "json"],
        default="terminal",
        help="what to print (default: terminal); files of all formats are written in any case",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        help="where to write (default: comparison/ in the experiment, or beside the first run)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="generate a text from this prompt with each arm; repeatable (default: the prompts of the experiment or "
        "of the first run)",
    )
    parser.add_argument("--max-new-tokens", type=at_least(1), metavar="N", help="generate at most N tokens per text")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the first text (default: 0)")
    parser.add_argument("--no-texts", action="store_true", help="load no models and generate no texts")
    add_device_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compare, write the files and print the tables."""
    from penna.api.compare import compare, comparison_folder, write_comparison
    from penna.report.experiments.files import comparison_csv, comparison_json, latex, markdown

    if arguments.no_texts and arguments.prompt:
        raise RecipeError(
            "--prompt and --no-texts were both given.", "Only one of them is allowed.", "Leave out one of them."
        )
    runs_dir = Path(arguments.runs_dir)
    comparison = compare(
        arguments.target,
        runs_dir=runs_dir,
        baseline=arguments.baseline,
        group=arguments.group,
        prompts=[] if arguments.no_texts else arguments.prompt,
        max_new_tokens=arguments.max_new_tokens,
        seed=arguments.seed,
        device=arguments.device,
        command=shlex.join(["penna", *sys.argv[1:]]),
        report=note,
    )
    folder = Path(arguments.output) if arguments.output else comparison_folder(arguments.target, runs_dir=runs_dir)
    files = write_comparison(comparison, folder, by=arguments.by)
    formats = {"markdown": markdown, "csv": comparison_csv, "latex": latex, "json": comparison_json}
    if arguments.format in formats:
        print(formats[arguments.format](comparison), end="")
        note(f"Wrote {len(files)} files to {folder}. The report is {files[0]}.")
    else:
        print_comparison(Page(), comparison)
        print(f"\nReport: {files[0]}\nTables and figures: {folder}")
    return 0


def print_comparison(page: Page, comparison: Comparison) -> None:
    """Print warnings, differences, metrics and texts."""
    from penna.report.experiments.tables import legend, main_tables, recipe_table

    page.title(f"{comparison.title}: {comparison.kind}, {len(comparison.arms)} arms")
    if comparison.description:
        page.paragraph(comparison.description)
    if comparison.warnings:
        page.title("Warnings")
        for warning in comparison.warnings:
            page.paragraph(f"! {warning.text}")
    recipe = recipe_table(comparison)
    if recipe is not None:
        _print_table(page, recipe, shown=_RECIPE_ROWS)
    for table in main_tables(comparison):
        _print_table(page, table)
    for table in _metric_tables(comparison, page.width):
        _print_table(page, table)
    page.gap()
    page.paragraph(legend(comparison))
    if comparison.identical:
        page.title("Identical in all arms")
        for line in comparison.identical:
            page.paragraph(line)
    _print_texts(page, comparison)


def _metric_tables(comparison: Comparison, width: int) -> Iterator[TextTable]:
    """All metrics, one per row, with as many arms side by side as fit."""
    from rich.cells import cell_len

    from penna.report.experiments.tables import spread_cell
    from penna.report.tables import TextTable

    titles = [column.full_title for column in comparison.visible_columns]
    columns = [
        (arm.name, *(spread_cell(arm, column) for column in comparison.visible_columns)) for arm in comparison.arms
    ]  # fmt: skip
    widths = [max(map(cell_len, column)) + 2 for column in columns]
    available = width - max(map(cell_len, titles)) - 2
    groups: list[list[int]] = [[]]
    for number, own in enumerate(widths):
        if groups[-1] and sum(widths[other] for other in groups[-1]) + own > available:
            groups.append([])
        groups[-1].append(number)
    for numbers in groups:
        chosen = [columns[number] for number in numbers]
        rows = tuple((title, *cells) for title, *cells in zip(titles, *(own[1:] for own in chosen), strict=True))
        yield TextTable("All metrics, mean ± sd", ("", *(own[0] for own in chosen)), rows)


def _print_table(page: Page, comparison_table: TextTable, shown: int | None = None) -> None:
    numeric = comparison_table.is_numeric
    header = comparison_table.header
    table = grid("l" + ("r" if numeric else "l") * (len(header) - 1), *map(one_line, header))
    for row in comparison_table.rows[:shown]:
        table.add_row(*(one_line(cell) if numeric else truncate_end(one_line(cell), 40) for cell in row))
    page.title(comparison_table.title)
    page.wide_table(table)
    if shown is not None and len(comparison_table.rows) > shown:
        page.paragraph(f"and {len(comparison_table.rows) - shown} more; the report lists all")


def _print_texts(page: Page, comparison: Comparison) -> None:
    from rich.text import Text

    for texts in comparison.texts:
        page.title(f"After {one_line(texts.prompt)!r}" if texts.prompt else "From the start of a document")
        table = grid("ww")
        table.columns[0].max_width, table.columns[0].style = 24, "bold"
        for text in texts.texts:
            shown = text.note if text.text is None else truncate_end(one_line(text.text), _TEXT)
            table.add_row(one_line(text.arm), Text(shown, style="dim" if text.text is None else ""))
        page.show(table)
