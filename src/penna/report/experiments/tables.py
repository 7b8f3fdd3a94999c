"""The tables of a comparison, shared by the terminal, Markdown, LaTeX and the HTML report.

A cell is the mean over seeds, with the standard deviation after ±.
"""

from __future__ import annotations

from penna.report.experiments.arms import Arm
from penna.report.experiments.comparison import Comparison
from penna.report.experiments.results import Column
from penna.report.experiments.statistics import PairedDifference
from penna.report.tables import TextTable

NONE = "–"


def all_tables(comparison: Comparison) -> list[TextTable]:
    """Every table, the main ones first."""
    return [
        *main_tables(comparison),
        *group_tables(comparison),
        *difference_tables(comparison),
        *_recipe_tables(comparison),
    ]


def _recipe_tables(comparison: Comparison) -> list[TextTable]:
    table = recipe_table(comparison)
    return [] if table is None else [table]


def main_tables(comparison: Comparison) -> list[TextTable]:
    """A table for each evaluation of the main metric."""
    return [_main_table(comparison, column) for column in comparison.main_columns]


def _main_table(comparison: Comparison, column: Column) -> TextTable:
    rows: list[tuple[str, ...]] = []
    for arm in comparison.arms:
        if arm is comparison.baseline:
            comparison_cells = ("baseline", "")
        else:
            difference = comparison.difference(arm, column)
            comparison_cells = (difference_cell(column, difference), interval_cell(column, difference))
        rows.append((arm.name, str(len(arm.by_seed(column))), spread_cell(arm, column), *comparison_cells))
    header = ("arm", "seeds", f"{column.title}, mean ± sd", f"minus {comparison.baseline.name}", "95 % interval")
    return TextTable(_capitalized(column.full_title), header, tuple(rows))


def group_tables(comparison: Comparison) -> list[TextTable]:
    """Means and standard deviations of all metrics, a table for each evaluation."""
    tables: list[TextTable] = []
    for group in dict.fromkeys(column.group for column in comparison.visible_columns):
        columns = [column for column in comparison.visible_columns if column.group == group]
        rows = [(arm.name, *(spread_cell(arm, column) for column in columns)) for arm in comparison.arms]
        tables.append(TextTable(_capitalized(group), ("arm", *(column.title for column in columns)), tuple(rows)))
    return tables


def difference_tables(comparison: Comparison) -> list[TextTable]:
    """Differences of all metrics from the baseline, a table for each other arm."""
    others = [arm for arm in comparison.arms if arm is not comparison.baseline]
    tables: list[TextTable] = []
    for arm in others:
        rows: list[tuple[str, ...]] = []
        for column in comparison.visible_columns:
            found = comparison.difference(arm, column)
            if found is not None:
                cells = (difference_cell(column, found), interval_cell(column, found), str(found.n))
                rows.append((column.full_title, *cells))
        if rows:
            title = f"{arm.name} minus {comparison.baseline.name}"
            tables.append(TextTable(title, ("metric", "difference", "95 % interval", "seeds"), tuple(rows)))
    return tables


def run_table(comparison: Comparison) -> TextTable:
    """Every metric of every run."""
    columns = comparison.visible_columns
    rows = [
        (run.name, arm.name, str(run.seed), *(c.cell(run.final_metrics.get((c.group, c.name))) for c in columns))
        for arm in comparison.arms
        for run in arm.runs
    ]
    return TextTable("Runs", ("run", "arm", "seed", *(c.full_title for c in columns)), tuple(rows))


def recipe_table(comparison: Comparison) -> TextTable | None:
    """The recipe fields that differ; None if none does."""
    if not comparison.recipe:
        return None
    header = ("field", *(arm.name for arm in comparison.arms))
    rows = tuple((row.field, *row.values) for row in comparison.recipe)
    return TextTable("Recipe differences", header, rows, is_numeric=False)


def legend(comparison: Comparison) -> str:
    """How to read the tables, in a few sentences."""
    others = len(comparison.arms) - 1
    text = "± is the standard deviation over seeds."
    if others:
        text += (
            f" Differences are from {comparison.baseline.name}, seed by seed, with Student's 95 % interval of their "
            "mean; a single seed has none. If an interval contains zero, these seeds do not separate the two arms."
        )
    if others > 1:
        text += f" Each of the {others} intervals holds with 95 % confidence; all of them together hold with less."
    if comparison.best_is_last:
        text += " In every run the last validation is also the best, so it is shown once."
    if comparison.provenance.texts:
        text += f" Samples: {comparison.provenance.texts}."
    return text


def spread_cell(arm: Arm, column: Column) -> str:
    """A mean, with its standard deviation if seeds differ."""
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
        return "single seed"
    return f"{column.cell(difference.low, signed=True)} to {column.cell(difference.high, signed=True)}"


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
