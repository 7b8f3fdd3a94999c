"""The verb ``penna compare``: runs, or an experiment, side by side: tables on the terminal, and everything in files."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penna.cli.page import Page
    from penna.report.experiments.comparison import Comparison
    from penna.report.experiments.tables import ComparisonTable

Overrides = Sequence[tuple[str, str]]

_SHOWN = 400  # characters of a text
_RECIPE_ROWS = 20  # that are shown


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of ``penna compare``."""
    parser.add_argument(
        "target", nargs="+", metavar="RUN|EXPERIMENT", help="runs, of which those alike but for train.seed are one arm"
    )
    parser.add_argument("--baseline", metavar="ARM", help="the arm that others are held against (the first one)")
    parser.add_argument(
        "--group", metavar="REGEX", help="runs are one arm where this finds the same in their names: '^(.*)-run'"
    )
    parser.add_argument(
        "--by",
        choices=["step", "tokens", "seconds", "epoch"],
        default="step",
        help="the curves that are open in the report (step); all are drawn",
    )
    parser.add_argument(
        "--format",
        choices=["terminal", "markdown", "csv", "latex", "json"],
        default="terminal",
        help="what is printed (terminal); files of all formats are written",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="where to write (comparison/ of the experiment, or beside the first run)"
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="let each arm write behind this; repeatable (the experiment's prompts, or those of the first run)",
    )
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="tokens of each text, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the first text; another seed, other texts (0)")
    parser.add_argument("--no-texts", action="store_true", help="load no model, and write no texts")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def run(arguments: argparse.Namespace, overrides: Overrides) -> int:
    """Compare, write the files, and print what was asked for."""
    from penna.api.compare import compare, comparison_folder, write_comparison
    from penna.cli.screen import say
    from penna.errors import RecipeError
    from penna.report.experiments.files import comparison_csv, comparison_json, latex, markdown

    if arguments.max_new_tokens is not None and arguments.max_new_tokens < 1:
        raise RecipeError(
            f"--max-new-tokens {arguments.max_new_tokens} leaves nothing to write.",
            "A token or more.",
            "Such as --max-new-tokens 80; --no-texts writes none.",
        )
    if arguments.no_texts and arguments.prompt:
        raise RecipeError(
            "--prompt and --no-texts were both given.", "Prompts, or no texts at all.", "Leave one of them out."
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
        report=say,
    )
    folder = Path(arguments.output) if arguments.output else comparison_folder(arguments.target, runs_dir=runs_dir)
    files = write_comparison(comparison, folder, by=arguments.by)
    printed = {"markdown": markdown, "csv": comparison_csv, "latex": latex, "json": comparison_json}
    if arguments.format in printed:
        print(printed[arguments.format](comparison), end="")
        say(f"Wrote {len(files)} files into {folder}; the report is {files[0]}.")
    else:
        from penna.cli.page import Page

        print_comparison(Page(), comparison)
        print(f"\nReport: {files[0]}\nTables and figures: {folder}")
    return 0


def print_comparison(page: Page, comparison: Comparison) -> None:
    """Warnings, what differs, what came out, and texts."""
    from penna.report.experiments.tables import legend, main_tables, recipe_table

    page.title(f"{comparison.title}: {comparison.kind}, {len(comparison.arms)} arms")
    if comparison.description:
        page.wrapped(comparison.description)
    if comparison.warnings:
        page.title("Warnings")
        for warning in comparison.warnings:
            page.wrapped(f"! {warning.text}")
    recipe = recipe_table(comparison)
    if recipe is not None:
        _print_table(page, recipe, shown=_RECIPE_ROWS)
    for table in main_tables(comparison):
        _print_table(page, table)
    for table in _figures(comparison, page.inside):
        _print_table(page, table)
    page.gap()
    page.wrapped(legend(comparison))
    if comparison.identical:
        page.title("What is the same in all arms")
        for line in comparison.identical:
            page.wrapped(line)
    _print_texts(page, comparison)


def _figures(comparison: Comparison, width: int) -> Iterator[ComparisonTable]:
    """All figures, a row each, as many arms beside each other as fit."""
    from rich.cells import cell_len

    from penna.report.experiments.tables import ComparisonTable, spread_cell

    titles = [column.full_title for column in comparison.shown]
    columns = [
        (arm.name, *(spread_cell(arm, column) for column in comparison.shown)) for arm in comparison.arms
    ]  # fmt: skip
    widths = [max(map(cell_len, column)) + 2 for column in columns]
    room = width - max(map(cell_len, titles)) - 2
    at_once: list[list[int]] = [[]]
    for number, own in enumerate(widths):
        if at_once[-1] and sum(widths[other] for other in at_once[-1]) + own > room:
            at_once.append([])
        at_once[-1].append(number)
    for numbers in at_once:
        chosen = [columns[number] for number in numbers]
        rows = tuple((title, *cells) for title, *cells in zip(titles, *(own[1:] for own in chosen), strict=True))
        yield ComparisonTable("All figures, mean ± sd", ("", *(own[0] for own in chosen)), rows)


def _print_table(page: Page, table: ComparisonTable, shown: int | None = None) -> None:
    """A table whose lines are never cut off."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from penna.formatting import one_line, truncate_end

    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    made.add_column(Text(table.header[0]))
    for title in table.header[1:]:
        made.add_column(Text(one_line(title)), justify="right" if table.is_of_figures else "left")
    for row in table.rows[:shown]:
        made.add_row(
            *(Text(one_line(cell) if table.is_of_figures else truncate_end(one_line(cell), 40)) for cell in row)
        )
    wide = Console(width=2000, color_system=None)
    with wide.capture() as capture:
        wide.print(made)
    page.title(table.title)
    page.lines(line.rstrip() for line in capture.get().splitlines())
    if shown is not None and len(table.rows) > shown:
        page.wrapped(f"and {len(table.rows) - shown} more; the report has all")


def _print_texts(page: Page, comparison: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    from penna.formatting import one_line, truncate_end

    for texts in comparison.texts:
        page.title(f"Behind {one_line(texts.prompt)!r}" if texts.prompt else "From the start of a document")
        table = Table.grid(padding=(0, 2))
        table.add_column(max_width=24, style="bold")
        table.add_column(overflow="fold")
        for text in texts.texts:
            said = text.note if text.text is None else truncate_end(one_line(text.text), _SHOWN)
            table.add_row(Text(one_line(text.arm)), Text(said, style="dim" if text.text is None else ""))
        page.show(table)
