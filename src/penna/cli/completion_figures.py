"""What ``penna evaluate`` prints about completions: typed figures in, tables on the terminal out."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penna.api.completion_metrics import CompletionMetrics
from penna.cli.screen import figure_table
from penna.evaluate.copying import CopyMetrics
from penna.evaluate.rouge import ROUGE_KINDS, Interval, RougeKind
from penna.evaluate.summaries import SystemMetrics
from penna.formatting import plural

_MEASURES = (
    "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum", "BLEU", "chrF", "length ratio", "copied words", "copied span",
    "new words", "new 2-grams", "absent numbers", "absent names",
)  # fmt: skip


def print_completion_figures(figures: CompletionMetrics) -> None:
    """Print how well the model predicts, writes and picks, beside what needs no model."""
    console = Console(highlight=False)
    console.print(figure_table(_prediction_rows(figures)))
    console.print()
    console.print(_systems_table(figures))
    console.print()
    console.print("ROUGE-2 above another's, with 95 % intervals over the items:")
    console.print(figure_table(_lead_rows(figures)))


def _prediction_rows(figures: CompletionMetrics) -> list[tuple[str, str, str]]:
    rows = [
        ("pairs", f"{figures.pairs:,}", f"{len(figures.refused):,} more cannot be scored" if figures.refused else ""),
        *([("bad records", f"{figures.bad_records:,}", "left out")] if figures.bad_records else []),
        ("loss", f"{figures.loss:.4f}", f"nats per token of {figures.tokens:,} due"),
        ("perplexity", f"{figures.perplexity:,.2f}", ""),
        ("bits per byte", f"{figures.bits_per_byte:.4f}", ""),
        ("token accuracy", f"{figures.accuracy:.1%}", ""),
    ]
    use = figures.source_use
    if use is not None:
        rows += [
            ("perplexity, own prompt", f"{use.perplexity:,.2f}", f"of {plural(use.items, 'item', 'items')}"),
            ("perplexity, another's", f"{use.shuffled_perplexity:,.2f}", ""),
            (
                "worth of the prompt",
                f"{use.rise.mean:.4f}",
                f"nats per token [{use.rise.low:.4f}, {use.rise.high:.4f}]: "
                + ("it is read" if use.rise.low > 0 else "these items cannot tell"),
            ),
        ]
    rows += [
        (
            "written",
            f"{figures.items:,}",
            f"{plural(figures.max_new_tokens, 'token', 'tokens')} at most; {figures.ended:,} ended of themselves"
            + (f"; {plural(figures.cut, 'prompt', 'prompts')} cut" if figures.cut else ""),
        )
    ]
    return rows


def _systems_table(figures: CompletionMetrics) -> Table:
    """Measures by systems, narrow enough for 80 columns; "shuffled" is what the model writes for another's prompt."""
    summaries = figures.summaries
    systems = {"model": summaries.system, figures.extract.name: figures.extract}
    systems |= {baseline.name: baseline for baseline in summaries.baselines}
    if figures.shuffled is not None:
        systems["shuffled"] = figures.shuffled
    columns = [[*_overlap(system), *_copying(system.copying)] for system in systems.values()]
    columns.append([*[""] * 6, "1.00", *_copying(summaries.references)])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in (*systems, "reference"):
        table.add_column(Text(name), justify="right")
    for name, *values in zip(_MEASURES, *columns, strict=True):
        table.add_row(name, *values)
    return table


def _overlap(system: SystemMetrics) -> list[str]:
    rouge = [f"{100 * system.rouge[kind].fmeasure.mean:.2f}" for kind in ROUGE_KINDS]
    ratio = "-" if system.length_ratio is None else f"{system.length_ratio:.2f}"
    return [*rouge, f"{system.overlap.bleu:.2f}", f"{system.overlap.chrf:.2f}", ratio]


def _copying(copying: CopyMetrics) -> list[str]:
    length = "-" if copying.density is None else f"{copying.density:.1f}"
    shares = [copying.novel["1-grams"], copying.novel["2-grams"], copying.numbers.share, copying.names.share]
    return [_percent(copying.coverage), length, *map(_percent, shares)]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _lead_rows(figures: CompletionMetrics) -> list[tuple[str, str, str]]:
    """Leads in ROUGE-2, each with what 95 % of the resamples of the items give."""
    rows = [(f"model over {name}", lead) for name, lead in _rouge2(figures.summaries.leads)]
    rows += [(f"{figures.extract.name} over {name}", lead) for name, lead in _rouge2(figures.extract_leads)]
    if figures.shuffled_lead is not None:
        rows.append(("model over shuffled", figures.shuffled_lead["rouge2"]))
    return [
        (
            name,
            _spanned(lead, "+.2f", 100),
            "" if lead.low > 0 or lead.high < 0 else "these items cannot tell",
        )
        for name, lead in rows
    ]


def _rouge2(leads: Mapping[str, Mapping[RougeKind, Interval]]) -> list[tuple[str, Interval]]:
    return [(name, lead["rouge2"]) for name, lead in leads.items()]


def _spanned(interval: Interval, form: str, scale: float = 1.0) -> str:
    mean, low, high = (format(scale * value, form) for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"
