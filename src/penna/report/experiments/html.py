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

_STYLE = """
:root { --warn: #8a4b00; --warn-card: #fff5e6; }
@media (prefers-color-scheme: dark) { :root { --warn: #ffc46b; --warn-card: #2e2413; } }
p { max-width: 48rem; }
.warnings {
  background: var(--warn-card); border-left: 4px solid var(--warn); padding: 0.7rem 1rem; margin: 1rem 0;
}
.warnings h2 { margin: 0; color: var(--warn); font-size: 1rem; }
.warnings ul { margin: 0.3rem 0 0; padding-left: 1.2rem; }
caption { text-align: left; font-weight: 600; padding: 0.3rem 0; }
th, td { vertical-align: top; }
th:first-child, td:first-child {
  text-align: left; white-space: normal; overflow-wrap: break-word; min-width: 8rem; max-width: 18rem;
  position: sticky; left: 0; background: var(--paper);
}
.of-texts th, .of-texts td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
thead button {
  font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer; text-align: inherit; white-space: inherit;
}
thead button::after { content: " \\2195"; color: var(--pale); }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
figure { overflow-x: auto; }
figure svg { width: 100%; min-width: 34rem; height: auto; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 0.8rem; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.8rem; min-width: 0;
}
.card h4 { margin: 0 0 0.3rem; font-size: 0.85rem; color: var(--pale); overflow-wrap: anywhere; }
.card p { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1rem; }
dt { color: var(--pale); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 32rem) {
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 0.4rem; }
}
"""
_SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent.trim();
      const number = (text) => Number.parseFloat(text.replaceAll(",", ""));
      const rows = [...table.tBodies[0].rows];
      const numeric = rows.some((row) => !Number.isNaN(number(value(row))));
      rows.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        if (!numeric) return falling ? b.localeCompare(a) : a.localeCompare(b);
        const [x, y] = [number(a), number(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return falling ? y - x : x - y;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
"""


def comparison_report(comparison: Comparison, plots: Sequence[RenderedPlot], first: str) -> str:
    """The whole page; ``first`` names the plot of curves that is open."""
    body = [part for section in _sections(comparison, plots, first) for part in section]
    return html_page(comparison.title, body, style=_STYLE, script=_SCRIPT, has_inline_styles=True)


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
    return (
        f'<div class="scroll"><table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _paragraph(text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape_html(text)}</p>"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape_html(line)}</li>' for line in lines)}</ul>"
