"""A completion beside its source and reference: copied spans marked in all of them, and figures of what was added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from nicegui import ui

from penna.api.complete import RankedSentence
from penna.evaluate.copying import ORDERS, CopiedSpan, CopyMetrics, CopyReport, Support, copy_report
from penna.evaluate.rouge import rouge_fmeasures
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import cell, shaded, shaded_cell, table
from penna.studio.words import t

_MARKED = 2  # words from which a span is marked
_ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}


def show_completion(source: str, output: str, reference: str) -> None:
    """Source, reference and output with what is copied, and the figures."""
    ours, theirs = copy_report(source, output), copy_report(source, reference) if reference else None
    with ui.element("div").classes("cards"):
        _text(t("complete.output"), marked(output, _places(ours)))
        if theirs is not None:
            _text(t("complete.reference-shown"), marked(reference, _places(theirs)))
    _text(t("complete.source"), marked(source, source_spans(_marked(ours))))
    meaning("complete.marked")
    heading(t("complete.figures"))
    scores = rouge_fmeasures(reference, output) if reference else {}
    shaded(_figures(ours, theirs, scores))
    meaning("complete.figures-meaning")


def show_ranked(sentences: Sequence[RankedSentence]) -> None:
    """The sentences of a text, coloured by what the text makes of them."""
    most = max((sentence.gain for sentence in sentences), default=0.0)
    head = ["", t("complete.sentence"), t("complete.gain"), t("complete.logprob")]
    rows = [
        [
            str(sentence.place + 1),
            cell(sentence.text, "wrap"),
            shaded_cell(f"{sentence.gain:+.2f}", max(sentence.gain, 0.0), most, signed=False),
            cell(f"{sentence.logprob:.2f}"),
        ]
        for sentence in sentences
    ]
    shaded(table(head, rows))
    meaning("complete.rank-meaning")


def marked(text: str, spans: Sequence[tuple[int, int, int]]) -> str:
    """A text as HTML with spans marked; each is a start, an end and a number, by which colours take turns."""
    parts: list[str] = []
    at = 0
    for start, end, number in spans:
        kind = "even" if number % 2 else "odd"
        parts.append(escape(text[at:start]))
        parts.append(f'<mark class="{kind}" title="{number + 1}">{escape(text[start:end])}</mark>')
        at = end
    return "".join([*parts, escape(text[at:])])


def source_spans(spans: Sequence[CopiedSpan]) -> list[tuple[int, int, int]]:
    """The spans where they stand in the source; of those that overlap there, the longer one."""
    placed = sorted((span.source_start, span.source_end, number) for number, span in enumerate(spans))
    found: list[tuple[int, int, int]] = []
    for start, end, number in placed:
        if not found or start >= found[-1][1]:
            found.append((start, end, number))
        elif spans[number].words > spans[found[-1][2]].words:
            found[-1] = (start, end, number)
    return found


def _text(title: str, content: str) -> None:
    with ui.element("section").classes("card"):
        heading(title, 3)
        shaded(f'<p class="text" dir="auto" tabindex="0">{content}</p>')


def _marked(found: CopyReport) -> list[CopiedSpan]:
    return [span for span in found.spans if span.words >= _MARKED]


def _places(found: CopyReport) -> list[tuple[int, int, int]]:
    return [(span.start, span.end, number) for number, span in enumerate(_marked(found))]


def _figures(ours: CopyReport, theirs: CopyReport | None, scores: Mapping[str, float]) -> str:
    """A column for the output, and one for the reference where there is one."""
    columns = [_copying(each.metrics) for each in (ours, theirs) if each is not None]
    rows = [[name, *(cell(column[place][1]) for column in columns)] for place, (name, _) in enumerate(columns[0])]
    rows += [[_ROUGE[kind], cell(f"{score:.3f}"), cell("–")] for kind, score in scores.items()]
    names = [t("complete.output"), t("complete.reference-shown")][: len(columns)]
    return table([t("complete.figure"), *names], rows)


def _copying(found: CopyMetrics) -> list[tuple[str, str]]:
    return [
        (t("complete.coverage"), _percent(found.coverage)),
        (t("complete.density"), "–" if found.density is None else f"{found.density:.1f}"),
        *((t("complete.novel", order=order), _percent(found.novel[f"{order}-grams"])) for order in ORDERS[:2]),
        (t("complete.numbers"), _absent(found.numbers)),
        (t("complete.names"), _absent(found.names)),
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _absent(support: Support) -> str:
    return t("complete.of", absent=support.absent, count=support.count) if support.count else "–"
