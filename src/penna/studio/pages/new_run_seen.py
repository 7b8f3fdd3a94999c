"""What a look at a text tells, drawn: first records, what cannot be read, what repeats or is shared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nicegui import ui

from penna.api.data import Preview
from penna.data.quality.result import DataReport, Lengths, Overlap, Tokenization
from penna.formatting import one_line, percent
from penna.studio.charts import chart
from penna.studio.frame import heading, meaning
from penna.studio.plain_table import plain_table
from penna.studio.words import t

_LABELS = 12  # shown


def show_preview(records: Sequence[Preview]) -> None:
    """The first records, a card each."""
    heading(t("new.records"), 3)
    with ui.element("div").classes("cards"):
        for record in records:
            with ui.element("article").classes("card"):
                kind = t("new.bad-record") if record.shape is None else t(f"new.shape-{record.shape}")
                ui.label(f"{_base(record.location)} · {kind}").classes("name")
                if record.error:
                    ui.label(record.error).classes("badge bad").style("white-space: normal")
                for name, text in record.parts:
                    if len(record.parts) > 1:
                        ui.label(name).classes("name")
                    ui.label(text).classes("written")
    meaning("new.records-mean")


def show_inspection(seen: DataReport) -> None:
    """Everything of it, what it means for training first."""
    heading(t("new.findings"), 3)
    if not seen.findings:
        ui.label(t("new.no-findings"))
    with ui.element("ul").style("margin: 0; padding-left: 1.2em"):
        for finding in seen.findings:
            with ui.element("li"):
                ui.label(f"{finding.topic}: {finding.text}")
    _amount(seen)
    if not seen.amount.documents:
        return
    if seen.amount.documents > 1:
        _lengths(seen.lengths[-1])
    _bad(seen)
    _duplicates(seen)
    if seen.overlap is not None:
        _overlap(seen.overlap)
    if seen.labels is not None:
        heading(t("new.labels"), 3)
        total = sum(seen.labels.counts.values())
        rows = [(label, f"{count:,}", percent(count / total)) for label, count in seen.labels.counts.items()][:_LABELS]
        plain_table(t("new.labels"), (t("new.label"), t("new.documents"), t("new.share")), rows)
    if seen.tokenization is not None:
        _cut(seen.tokenization)


def _amount(seen: DataReport) -> None:
    amount = seen.amount
    figures = [
        ("new.documents", f"{amount.documents:,}"),
        ("new.characters", f"{amount.characters:,}"),
        ("new.bytes", f"{amount.bytes / 1e6:,.2f} MB"),
        ("new.words", f"{amount.words:,}"),
        ("new.bad-records", f"{amount.bad:,}"),
        ("new.duplicates", percent(seen.duplicates.share)),
    ]
    with ui.element("div").classes("figures"):
        for key, value in figures:
            with ui.element("div").classes("card"):
                ui.label(value).classes("value")
                ui.label(t(key)).classes("name")
    meaning("new.amount-mean")


def _lengths(lengths: Lengths) -> None:
    heading(t("new.lengths"), 3)
    edges = lengths.histogram.edges
    names = [f"{low:,}" if end == low + 1 else f"{low:,}–{end - 1:,}" for low, end in pairwise(edges)]
    options = {
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": names, "name": lengths.unit, "nameLocation": "middle", "nameGap": 28},
        "yAxis": {"type": "value", "name": lengths.of},
        "series": [{"type": "bar", "data": list(lengths.histogram.counts)}],
    }
    chart(
        options,
        t("new.lengths-mean", median=f"{lengths.median:,}", long=f"{lengths.percentile_95:,}", unit=lengths.unit),
    )
    meaning("new.lengths-mean", median=f"{lengths.median:,}", long=f"{lengths.percentile_95:,}", unit=lengths.unit)


def _bad(seen: DataReport) -> None:
    if not seen.amount.bad:
        return
    heading(_titled("new.bad-records"), 3)
    for place in seen.amount.bad_examples:
        ui.label(_base(place)).classes("code")
    meaning("new.bad-mean")


def _duplicates(seen: DataReport) -> None:
    if not seen.duplicates.repeats:
        return
    heading(_titled("new.duplicates"), 3)
    rows = [(repeated.text, f"{repeated.count:,}", _base(repeated.location)) for repeated in seen.duplicates.most]
    plain_table(t("new.duplicates"), (t("new.beginning"), t("new.times"), t("new.where")), rows)
    meaning("new.duplicates-mean")


def _overlap(overlap: Overlap) -> None:
    heading(t("new.overlap"), 3)
    grams = f"{overlap.n} {overlap.unit}"
    counted = [
        (t("new.overlap-exact"), overlap.exact, overlap.documents),
        (t("new.overlap-sharing", grams=grams), overlap.sharing, overlap.comparable),
        (t("new.overlap-seen", grams=grams), overlap.ngrams_seen, overlap.ngrams),
    ]
    rows = [(name, f"{count:,}", percent(count / max(of, 1))) for name, count, of in counted]
    rows.insert(0, (t("new.overlap-documents"), f"{overlap.documents:,}", ""))
    plain_table(t("new.overlap"), ("", t("new.count"), t("new.share")), rows)
    meaning("new.overlap-mean")


def _cut(cut: Tokenization) -> None:
    heading(t("new.cut"), 3)
    for sample in cut.samples:
        with ui.element("p").classes("written"):
            for token in sample:
                ui.label(one_line(token)).classes("token")
    meaning(
        "new.cut-mean", tokens=f"{cut.tokens:,}", bytes=f"{cut.bytes_per_token:.2f}", unknown=f"{100 * cut.unknown:.2f}"
    )


def _titled(key: str) -> str:
    """The name of a figure as a heading."""
    words = t(key)
    return words[0].upper() + words[1:]


def _base(where: str) -> str:
    """A place without its folders."""
    place, colon, rest = where.partition(":")
    return f"{Path(place).name}{colon}{rest}"
