"""A completion beside its source and reference: copied spans marked in all of them, and figures of what was added."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from nicegui import ui

from penna.api.completing import RankedSentence
from penna.evaluate.copied_spans import CopiedSpan, copied_spans
from penna.evaluate.copying import ORDERS, CopyFigures, Source, Support, copy_figures
from penna.evaluate.rouge import KINDS, rouge_scores
from penna.studio.frame import heading, meaning
from penna.studio.pages.shading import cell, shaded, shaded_cell, table
from penna.studio.words import t

_MARKED = 2  # words from which a span is marked
_ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
_FMEASURE = 2  # column of `rouge_scores`


def show_completion(source: str, output: str, reference: str) -> None:
    """Source, reference and output with what is copied, and the figures."""
    spans = [span for span in copied_spans(source, output) if span.words >= _MARKED]
    with ui.element("div").classes("cards"):
        _text(t("complete.output"), marked(output, [(each.start, each.end, n) for n, each in enumerate(spans)]))
        if reference:
            theirs = [span for span in copied_spans(source, reference) if span.words >= _MARKED]
            places = [(each.start, each.end, n) for n, each in enumerate(theirs)]
            _text(t("complete.reference-shown"), marked(reference, places))
    _text(t("complete.source"), marked(source, source_spans(spans)))
    meaning("complete.marked")
    heading(t("complete.figures"))
    shaded(_figures(source, output, reference))
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


def _figures(source: str, output: str, reference: str) -> str:
    """A column for the output, and one for the reference where there is one."""
    read = Source(source)
    texts = [output, reference] if reference else [output]
    columns = [_copying(copy_figures([(read, text)])) for text in texts]
    rows = [[name, *(cell(column[place][1]) for column in columns)] for place, (name, _) in enumerate(columns[0])]
    if reference:
        scores = rouge_scores(reference, output)
        rows += [[_ROUGE[kind], cell(f"{scores[place, _FMEASURE]:.3f}"), cell("–")] for place, kind in enumerate(KINDS)]
    names = [t("complete.output"), t("complete.reference-shown")][: len(texts)]
    return table([t("complete.figure"), *names], rows)


def _copying(found: CopyFigures) -> list[tuple[str, str]]:
    return [
        (t("complete.coverage"), _percent(found.coverage)),
        (t("complete.density"), "–" if found.density is None else f"{found.density:.1f}"),
        *((t("complete.novel", order=order), _percent(found.novel[order - 1])) for order in ORDERS[:2]),
        (t("complete.numbers"), _absent(found.numbers)),
        (t("complete.names"), _absent(found.names)),
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _absent(support: Support) -> str:
    return t("complete.of", absent=support.absent, count=support.count) if support.count else "–"
