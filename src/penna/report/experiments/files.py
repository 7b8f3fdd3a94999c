"""A comparison as Markdown, CSV, LaTeX (booktabs) and JSON.

The CSV has unrounded values (shares, not percent): a row for each run, then rows for the arm's mean, standard
deviation, difference from the baseline and the ends of its interval, named in the column ``what``.
"""

from __future__ import annotations

import json
from typing import Any

from penna.report.experiments.comparison import Comparison
from penna.report.experiments.tables import all_tables, legend
from penna.report.tables import code_block, code_span, escape_markdown, latex_table, markdown_table, on_one_line


def markdown(comparison: Comparison) -> str:
    """All tables, warnings and samples."""
    lines = [f"# {escape_markdown(comparison.title)}", ""]
    if comparison.description:
        lines += [escape_markdown(comparison.description), ""]
    if comparison.warnings:
        lines += ["## Warnings", "", *(f"- {escape_markdown(warning.text)}" for warning in comparison.warnings), ""]
    for table in all_tables(comparison):
        lines += [f"## {escape_markdown(table.title)}", "", *markdown_table(table), ""]
    lines += [escape_markdown(legend(comparison)), ""]
    if comparison.identical:
        lines += [
            "## What is equal in all arms",
            "",
            *(f"- {escape_markdown(line)}" for line in comparison.identical),
            "",
        ]
    if comparison.texts:
        lines += ["## Samples", ""]
    for texts in comparison.texts:
        lines += [f"### {escape_markdown(texts.prompt) or '(start of a document)'}", ""]
        for text in texts.texts:
            note = f" ({escape_markdown(text.note)})" if text.note else ""
            lines += [f"**{escape_markdown(text.arm)}**{note}", ""]
            lines += [] if text.text is None else [*code_block(text.text), ""]
    made = comparison.provenance
    lines += ["## How this was made", "", f"- {made.date}, Penna {made.penna}", f"- {code_span(made.command)}"]
    return "\n".join(lines) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """All metrics of runs and arms."""
    import pandas as pd  # slow to import

    columns = comparison.columns
    rows: list[list[Any]] = []
    for arm in comparison.arms:
        for run in arm.runs:
            values = [run.final_metrics.get((column.group, column.name)) for column in columns]
            rows.append([arm.name, "run", run.name, run.seed, *values])
        spreads = [arm.spread(column) for column in columns]
        for what in ("mean", "sd"):
            rows.append([arm.name, what, None, None, *(getattr(spread, what, None) for spread in spreads)])
        if arm is not comparison.baseline:
            differences = [comparison.difference(arm, column) for column in columns]
            for what, name in (("difference", "mean"), ("low", "low"), ("high", "high")):
                rows.append([arm.name, what, None, None, *(getattr(found, name, None) for found in differences)])
    header = ["arm", "what", "run", "seed", *(column.key for column in columns)]
    return pd.DataFrame(rows, columns=header, dtype=object).to_csv(index=False, lineterminator="\n")


def latex(comparison: Comparison) -> str:
    """All tables as ``table`` environments."""
    parts = [
        f"% {on_one_line(comparison.title)}; made by: {on_one_line(comparison.provenance.command)}",
        r"% \usepackage{booktabs}",
    ]
    for table in all_tables(comparison):
        parts += ["", *latex_table(table)]
    parts += ["", f"% {on_one_line(legend(comparison))}"]
    return "\n".join(parts) + "\n"


def comparison_json(comparison: Comparison) -> str:
    """Everything, as JSON."""
    return json.dumps(comparison.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"
