"""The inspection of a text on the New run page: first records, findings, counts, duplicates and overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nicegui import ui

from penna.api.data import Preview
from penna.data.quality.result import DataReport, Lengths, Overlap, Tokenization
from penna.formatting import one_line, percent
from penna.studio.charts import show_chart, show_metrics
from penna.studio.i18n import t
from penna.studio.layout import heading, note
from penna.studio.tables import show_table

_MAX_LABELS = 12


def show_preview(records: Sequence[Preview]) -> None:
    """A card for each of the first records."""
    heading(t("new.records"), 3)
    with ui.element("div").classes("cards"):
        for record in records:
            with ui.element("article").classes("card"):
                kind = t("new.bad-record") if record.shape is None else t(f"new.shape-{record.shape}")
                ui.label(f"{_without_folder(record.location)} · {kind}").classes("name")
                if record.error:
                    ui.label(record.error).classes("badge bad").style("white-space: normal")
                for name, text in record.parts:
                    if len(record.parts) > 1:
                        ui.label(name).classes("name")
                    ui.label(text).classes("generated")
    note("new.records-note")


def show_data_report(report: DataReport) -> None:
    """The report on a text, its findings first."""
    heading(t("new.findings"), 3)
    if not report.findings:
        ui.label(t("new.no-findings"))
    with ui.element("ul").style("margin: 0; padding-left: 1.2em"):
        for finding in report.findings:
            with ui.element("li"):
                ui.label(f"{finding.topic}: {finding.text}")
    _show_counts(report)
    if not report.amount.documents:
        return
    if report.amount.documents > 1:
        _show_lengths(report.lengths[-1])
    _show_bad_records(report)
    _show_duplicates(report)
    if report.overlap is not None:
        _show_overlap(report.overlap)
    if report.labels is not None:
        _show_labels(report.labels.counts)
    if report.tokenization is not None:
        _show_tokenization(report.tokenization)


def _show_counts(report: DataReport) -> None:
    amount = report.amount
    show_metrics(
        [
            (t("new.documents"), f"{amount.documents:,}", ""),
            (t("new.characters"), f"{amount.characters:,}", ""),
            (t("new.bytes"), f"{amount.bytes / 1e6:,.2f} MB", ""),
            (t("new.words"), f"{amount.words:,}", ""),
            (t("new.bad-records"), f"{amount.bad:,}", ""),
            (t("new.duplicates"), percent(report.duplicates.share), ""),
        ]
    )
    note("new.amount-note")


def _show_lengths(lengths: Lengths) -> None:
    heading(t("new.lengths"), 3)
    edges = lengths.histogram.edges
    names = [f"{low:,}" if end == low + 1 else f"{low:,}–{end - 1:,}" for low, end in pairwise(edges)]
    options = {
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": names, "name": lengths.unit, "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "name": lengths.of},
        "series": [{"type": "bar", "data": list(lengths.histogram.counts)}],
    }
    summary = t("new.lengths-note", median=f"{lengths.median:,}", long=f"{lengths.percentile_95:,}", unit=lengths.unit)
    show_chart(options, summary)
    ui.label(summary).classes("note")


def _show_bad_records(report: DataReport) -> None:
    if not report.amount.bad:
        return
    heading(_capitalized(t("new.bad-records")), 3)
    for example in report.amount.bad_examples:
        ui.label(_without_folder(example)).classes("code")
    note("new.bad-note")


def _show_duplicates(report: DataReport) -> None:
    if not report.duplicates.repeats:
        return
    heading(_capitalized(t("new.duplicates")), 3)
    rows = [
        (repeated.text, f"{repeated.count:,}", _without_folder(repeated.location))
        for repeated in report.duplicates.most
    ]
    show_table(t("new.duplicates"), (t("new.beginning"), t("new.times"), t("new.where")), rows)
    note("new.duplicates-note")


def _show_labels(counts: dict[str, int]) -> None:
    heading(t("new.labels"), 3)
    total = sum(counts.values())
    rows = [(label, f"{count:,}", percent(count / total)) for label, count in counts.items()][:_MAX_LABELS]
    show_table(t("new.labels"), (t("new.label"), t("new.documents"), t("new.share")), rows)


def _show_overlap(overlap: Overlap) -> None:
    heading(t("new.overlap"), 3)
    grams = f"{overlap.n} {overlap.unit}"
    counts = [
        (t("new.overlap-exact"), overlap.exact, overlap.documents),
        (t("new.overlap-sharing", grams=grams), overlap.sharing, overlap.comparable),
        (t("new.overlap-seen", grams=grams), overlap.ngrams_seen, overlap.ngrams),
    ]
    rows = [(name, f"{count:,}", percent(count / max(total, 1))) for name, count, total in counts]
    rows.insert(0, (t("new.overlap-documents"), f"{overlap.documents:,}", ""))
    show_table(t("new.overlap"), ("", t("new.count"), t("new.share")), rows)
    note("new.overlap-note")


def _show_tokenization(tokenization: Tokenization) -> None:
    heading(t("new.boundaries"), 3)
    for sample in tokenization.samples:
        with ui.element("p").classes("generated"):
            for token in sample:
                ui.label(one_line(token)).classes("token")
    note(
        "new.boundaries-note",
        tokens=f"{tokenization.tokens:,}",
        bytes=f"{tokenization.bytes_per_token:.2f}",
        unknown=f"{100 * tokenization.unknown:.2f}",
    )


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]


def _without_folder(location: str) -> str:
    """A location without its folders."""
    place, colon, rest = location.partition(":")
    return f"{Path(place).name}{colon}{rest}"
