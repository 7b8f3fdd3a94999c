"""The HTML report of a comparison: warnings, tables, plots, samples, and how it was made, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penna.report.experiments.comparison import Comparison, PromptTexts
from penna.report.experiments.plots import INK, RenderedPlot
from penna.report.experiments.tables import (
    difference_tables,
    group_tables,
    legend,
    main_tables,
    recipe_table,
    run_table,
)
from penna.report.html_page import escape_html, html_page, inline_svg
from penna.report.tables import TextTable


def comparison_report(comparison: Comparison, plots: Sequence[RenderedPlot], first: str) -> str:
    """The whole page; ``first`` names the plot of curves that is open."""
    return html_page(comparison.title, [part for section in _sections(comparison, plots, first) for part in section])


def _sections(comparison: Comparison, plots: Sequence[RenderedPlot], first: str) -> Iterator[list[str]]:
    yield _heading(comparison)
    yield _warnings(comparison)
    yield ["<h2>Results</h2>", *map(_table, main_tables(comparison)), _paragraph(legend(comparison), "pale")]
    yield _plots(plots, first)
    yield ["<h2>All metrics</h2>", *map(_table, group_tables(comparison))]
    differences = difference_tables(comparison)
    if differences:
        yield [f"<h2>Differences from {escape_html(comparison.baseline.name)}</h2>", *map(_table, differences)]
    recipe = recipe_table(comparison)
    yield ["<h2>Recipe differences</h2>"]
    yield [_paragraph("None.") if recipe is None else _table(recipe, titled=False)]
    if comparison.identical:
        yield ["<h2>What is equal in all arms</h2>", _list(comparison.identical)]
    if comparison.texts:
        yield ["<h2>Samples</h2>", *(part for texts in comparison.texts for part in _texts(texts))]
    yield ["<h2>Runs</h2>", _table(run_table(comparison), titled=False)]
    yield _provenance(comparison)


def _heading(comparison: Comparison) -> list[str]:
    seeds = sorted({seed for arm in comparison.arms for seed in arm.seeds})
    runs = sum(len(arm.runs) for arm in comparison.arms)
    about = (
        f"{len(comparison.arms)} arms, {runs} runs, task {comparison.kind}, seeds {', '.join(map(str, seeds))}; "
        f"the baseline is {comparison.baseline.name}."
    )
    described = [_paragraph(comparison.description)] if comparison.description else []
    return [f"<h1>{escape_html(comparison.title)}</h1>", *described, _paragraph(about, "pale")]


def _warnings(comparison: Comparison) -> list[str]:
    if not comparison.warnings:
        return []
    listed = _list([warning.text for warning in comparison.warnings])
    return ['<section class="warnings" aria-label="Warnings">', "<h2>Warnings</h2>", listed, "</section>"]


def _plots(plots: Sequence[RenderedPlot], first: str) -> list[str]:
    """The final metrics and the first curves open, the other curves closed."""
    if not plots:
        return []
    parts = ["<h2>Plots</h2>"]
    for plot in sorted(plots, key=lambda plot: (plot.name != "finals", plot.name != first)):
        svg = inline_svg(plot.svg, plot.name, plot.title, INK)
        opened = " open" if plot.name in ("finals", first) else ""
        parts += [f"<details{opened}><summary>{escape_html(plot.title)}</summary><figure>{svg}</figure></details>"]
    return parts


def _texts(texts: PromptTexts) -> list[str]:
    prompt = escape_html(texts.prompt) if texts.prompt else "(start of a document)"
    parts = [f"<h3>{prompt}</h3>", '<div class="side">']
    for text in texts.texts:
        note = f", {text.note}" if text.note else ""
        body = "" if text.text is None else f"<p>{escape_html(text.text)}</p>"
        parts.append(f'<article class="card"><h4>{escape_html(text.arm + note)}</h4>{body}</article>')
    return [*parts, "</div>"]


def _provenance(comparison: Comparison) -> list[str]:
    made, runs = comparison.provenance, [run for arm in comparison.arms for run in arm.runs]
    trained = sorted({str(run.info.get("created", ""))[:10] for run in runs} - {""})
    versions = sorted(
        {f"{name} {value}" for run in runs for name, value in run.info.get("versions", {}).items() if value}
    )
    machines = sorted({str(run.info.get("machine", {}).get("processor", "")) for run in runs} - {""})
    rows = [
        ("Created", f"{made.date} by Penna {made.penna}"),
        ("Command", made.command),
        ("Samples", made.texts or "none"),
        ("Runs trained", ", ".join(trained)),
        ("Versions", ", ".join(versions)),
        ("Machines", ", ".join(machines)),
        ("Run folders", ", ".join(str(run.folder.path) for run in runs)),
    ]
    listed = "".join(f"<dt>{name}</dt><dd>{escape_html(value)}</dd>" for name, value in rows if value)
    return ["<h2>How this was made</h2>", f"<dl>{listed}</dl>"]


def _table(table: TextTable, *, titled: bool = True) -> str:
    head = "".join(f'<th scope="col">{escape_html(cell)}</th>' for cell in table.header)
    body = "".join("<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    caption = f"<caption>{escape_html(table.title)}</caption>" if titled else ""
    kind = "" if table.is_numeric else ' class="of-texts"'
    return f'<div class="wide"><table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape_html(text)}</p>"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape_html(line)}</li>' for line in lines)}</ul>"
