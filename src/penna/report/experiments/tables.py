"""The tables of a comparison: a comparison in, headers and rows of cells as people read them out.

The same tables stand on the terminal, in Markdown, in LaTeX and in the report. A cell is the mean over seeds, with the
standard deviation behind ± where seeds differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from penna.report.experiments.arms import Arm
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.results import Column
from penna.report.experiments.statistics import PairedDifference

NONE = "–"


@dataclass(frozen=True)
class ComparisonTable:
    """A table of texts; its first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_of_figures: bool = True  # set right; else texts


def all_tables(comparison: Comparison) -> list[ComparisonTable]:
    """Every table, the main ones first."""
    return [*main_tables(comparison), *group_tables(comparison), *difference_tables(comparison), *_rest(comparison)]


def _rest(comparison: Comparison) -> list[ComparisonTable]:
    table = recipe_table(comparison)
    return [] if table is None else [table]


def main_tables(comparison: Comparison) -> list[ComparisonTable]:
    """For the figure that arms are compared by, a table for each place where it was measured."""
    return [_main_table(comparison, column) for column in comparison.main]


def _main_table(comparison: Comparison, column: Column) -> ComparisonTable:
    rows: list[tuple[str, ...]] = []
    for arm in comparison.arms:
        if arm is comparison.baseline:
            against = ("baseline", "")
        else:
            difference = comparison.difference(arm, column)
            against = (difference_cell(column, difference), interval_cell(column, difference))
        rows.append((arm.name, str(len(arm.by_seed(column))), spread_cell(arm, column), *against))
    header = ("arm", "seeds", f"{column.title}, mean ± sd", f"minus {comparison.baseline.name}", "95 % interval")
    return ComparisonTable(_titled(column.full_title), header, tuple(rows))


def group_tables(comparison: Comparison) -> list[ComparisonTable]:
    """Means and standard deviations of all figures, a table for each place where they were measured."""
    tables: list[ComparisonTable] = []
    for group in dict.fromkeys(column.group for column in comparison.shown):
        columns = [column for column in comparison.shown if column.group == group]
        rows = [(arm.name, *(spread_cell(arm, column) for column in columns)) for arm in comparison.arms]
        tables.append(ComparisonTable(_titled(group), ("arm", *(column.title for column in columns)), tuple(rows)))
    return tables


def difference_tables(comparison: Comparison) -> list[ComparisonTable]:
    """Differences from the baseline of all figures; none where there is no other arm."""
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    tables: list[ComparisonTable] = []
    for arm in others:
        rows: list[tuple[str, ...]] = []
        for column in comparison.shown:
            found = comparison.difference(arm, column)
            if found is not None:
                cells = (difference_cell(column, found), interval_cell(column, found), str(found.n))
                rows.append((column.full_title, *cells))
        if rows:
            title = f"{arm.name} minus {comparison.baseline.name}"
            tables.append(ComparisonTable(title, ("figure", "difference", "95 % interval", "seeds"), tuple(rows)))
    return tables


def run_table(comparison: Comparison) -> ComparisonTable:
    """Every figure of every run."""
    columns = comparison.shown
    rows = [
        (run.name, arm.name, str(run.seed), *(c.cell(run.finals.get((c.group, c.name))) for c in columns))
        for arm in comparison.arms
        for run in arm.runs
    ]
    return ComparisonTable("Runs", ("run", "arm", "seed", *(c.full_title for c in columns)), tuple(rows))


def recipe_table(comparison: Comparison) -> ComparisonTable | None:
    """Where recipes differ; None where they do not."""
    if not comparison.recipe:
        return None
    header = ("field", *(arm.name for arm in comparison.arms))
    rows = tuple((row.field, *row.values) for row in comparison.recipe)
    return ComparisonTable("Where the recipes differ", header, rows, is_of_figures=False)


def legend(comparison: Comparison) -> str:
    """How the figures are to be read, in a few sentences."""
    others = len(comparison.arms) - 1
    text = "± is the standard deviation over seeds."
    if others:
        text += (
            f" Differences are from {comparison.baseline.name}, seed by seed, with Student's 95 % interval of their "
            "mean; one seed has none. An interval with zero in it says that these seeds do not tell the two apart."
        )
    if others > 1:
        text += f" Each of {others} intervals holds by itself: that all of them do is less sure than 95 %."
    if comparison.best_is_last:
        text += " In every run the last validation is the best one, so it stands here once."
    if comparison.made.texts:
        text += f" Texts: {comparison.made.texts}."
    return text


def spread_cell(arm: Arm, column: Column) -> str:
    """A mean, with its standard deviation where seeds differ."""
    spread = arm.spread(column)
    if spread is None:
        return NONE
    mean = column.cell(spread.mean)
    return mean if spread.sd is None or spread.low == spread.high else f"{mean} ± {column.cell(spread.sd)}"


def difference_cell(column: Column, difference: PairedDifference | None) -> str:
    """A difference with its sign."""
    return NONE if difference is None else column.cell(difference.mean, signed=True)


def interval_cell(column: Column, difference: PairedDifference | None) -> str:
    """An interval, or why there is none."""
    if difference is None:
        return NONE
    if difference.low is None or difference.high is None:
        return "one seed: none"
    return f"{column.cell(difference.low, signed=True)} to {column.cell(difference.high, signed=True)}"


def _titled(text: str) -> str:
    return text[0].upper() + text[1:]
