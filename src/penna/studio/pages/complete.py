"""The Complete page: completions of a source, such as summaries, with what they copy from it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from html import escape
from typing import Any

from nicegui import ui

from penna.api.complete import RankedSentence, completer, completion_settings
from penna.api.evaluation_data import evaluation_data, read_evaluation_data
from penna.api.generation_defaults import override_settings
from penna.data.sources.fields import Completion
from penna.errors import DataError
from penna.evaluate.copying import ORDERS, CopiedSpan, CopyMetrics, CopyReport, Support, copy_report
from penna.evaluate.rouge import rouge_fmeasures
from penna.evaluate.sentences import sentences
from penna.generate.request import Request
from penna.generate.text_stream import TextDelta
from penna.loading import LoadedModel
from penna.serve.limits import check_generation
from penna.serve.settings import ServeSettings
from penna.studio.background import StoppableTask
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, heading, note, page_layout, run_select, show_command
from penna.studio.tables import Cell, add_table_style, score_cell, show_marked_text, show_table
from penna.studio.training_processes import relative_path, shell_command
from penna.studio.workspace import Studio

_FIELD = "outlined dense"
_MAX_SENTENCES = 200  # of a source that is ranked
_MAX_TYPED = 200  # characters of a source that the command contains; a longer one is in a file
_MIN_MARKED = 2  # words of a marked span
_ROUGE = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
_Span = tuple[int, int, int]  # start, end, and a number that selects the color


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/complete")
    def complete_page(run: str = "") -> None:
        with page_layout(studio, "complete"):
            add_table_style()
            note("complete.about")
            _Page(studio, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        tasks = ("complete", "pretrain")
        runs = run_select(studio, tasks=tasks, remember="completer", preselected=run, on_change=self._change_run)
        if runs is None:
            return
        self._runs = runs
        with ui.element("div").classes("line") as self._own_items:
            self._number = ui.number(t("complete.item"), value=1, min=1, precision=0).props(_FIELD)
            ui.button(t("complete.take"), on_click=self._use_item).props("outline")
        self._item = ui.element("div").props("role=status")
        self._source = ui.textarea(t("complete.source")).props(_FIELD).classes("wide")
        self._reference = ui.textarea(t("complete.reference")).props(f"{_FIELD} autogrow").classes("wide")
        with ui.element("div").classes("line"):
            self._fields = {
                "max_new_tokens": ui.number(t("complete.max_new_tokens"), min=1, precision=0),
                "temperature": ui.number(t("complete.temperature"), min=0, step=0.1),
                "num_beams": ui.number(t("complete.num_beams"), min=1, precision=0),
            }
            self._seed = ui.number(t("complete.seed"), value=0, min=0, precision=0).props(_FIELD)
            for field in self._fields.values():
                field.props(f"{_FIELD} clearable")
        with ui.element("div").classes("line"):
            start = ui.button(t("complete.go"), on_click=self._complete).props("unelevated")
            stop = ui.button(t("complete.stop"), icon="stop").props("outline")
            rank = ui.button(t("complete.rank"), on_click=self._rank).props("outline")
        self._task = StoppableTask((start, rank), stop)
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        self._items: list[tuple[Completion, str]] | None = None
        self._change_run(runs.value)

    def _change_run(self, name: str) -> None:
        self._items = None
        with errors_shown_in(self._result):
            self._own_items.set_visibility(self._studio.run(name).recipe().task.kind == "complete")

    async def _use_item(self) -> None:
        """Fill in an item of the run's validation text."""
        name = self._runs.value
        with errors_shown_in(self._item):
            if self._items is None:
                with self._item, busy():
                    worker = await self._studio.models.worker(name)
                    self._items = await self._studio.background.run(validation_items, worker.loaded)
            number, count = int(self._number.value or 1), len(self._items)
            if not 1 <= number <= count:
                raise DataError(
                    f"There is no item {number:,}.", f"The number must be 1 to {count:,}.", "Choose another number."
                )
            item, location = self._items[number - 1]
            self._source.value, self._reference.value = item.prompt, item.completion
            with self._item:
                note("complete.taken", place=relative_path(location), number=f"{number:,}", count=f"{count:,}")

    def _changed_settings(self) -> dict[str, Any]:
        """The settings that are filled in."""
        filled = {name: field.value for name, field in self._fields.items() if field.value is not None}
        return {name: float(value) if name == "temperature" else int(value) for name, value in filled.items()}

    async def _complete(self) -> None:
        if self._task.is_running:
            return
        name, source, reference = self._runs.value, self._source.value or "", self._reference.value or ""
        with self._result, errors_shown_in(self._result):
            changed, seed, output = self._changed_settings(), int(self._seed.value or 0), _Output()
            with self._task.running(), busy():
                text = ui.label().classes("generated").props("dir=auto")
                worker = await self._studio.models.worker(name)
                request, output.cut = await worker.call(
                    lambda loaded: _request(loaded, source, changed, seed, self._studio.settings)
                )
                async with aclosing(worker.generate([request])) as deltas:
                    async for delta in deltas:
                        output.push(delta)
                        text.set_text(output.text)
            if self._result.is_deleted:
                return
            text.delete()
            if output.cut is not None:
                note("complete.cut", part=output.cut)
            end = {"stop": "ended", "length": "length"}.get(output.finish, "stopped")
            note(f"complete.{end}", tokens=output.tokens)
            show_completion(source, output.text.strip(), reference)
            show_command(t("complete.command"), shell_command(self._command(name, source, changed, seed)))

    async def _rank(self) -> None:
        if self._task.is_running:
            return
        name, source = self._runs.value, self._source.value or ""
        with self._result, errors_shown_in(self._result), self._task.running():
            with busy():
                worker = await self._studio.models.worker(name)
                ranked = await worker.call(lambda loaded: _ranked_sentences(loaded, source))
            heading(t("complete.rank"))
            _show_ranked(ranked)
            run = str(self._studio.runs_dir / name)
            words = ["penna", "complete", run, *_source_words(source), "--extract", "3"]
            show_command(t("complete.command"), shell_command(words))

    def _command(self, name: str, source: str, changed: dict[str, Any], seed: int) -> list[str]:
        """The terminal command for the same completion."""
        words = ["penna", "complete", str(self._studio.runs_dir / name), *_source_words(source)]
        for setting, value in changed.items():
            words += [f"--{setting.replace('_', '-')}", str(value)]
        return [*words, "--seed", str(seed)] if seed else words


def _source_words(source: str) -> list[str]:
    """A source on the command line: the text itself, or a file if it is long."""
    return [source] if len(source) <= _MAX_TYPED else ["--file", "source.txt"]


def validation_items(loaded: LoadedModel) -> list[tuple[Completion, str]]:
    """The items of a run's validation text, each with its location. Raises what ``read_evaluation_data`` raises."""
    example_format = completer(loaded).format
    read = read_evaluation_data(evaluation_data(loaded, example_format.task, {}), example_format)
    return list(zip(read.items, read.locations, strict=True))


def _request(
    loaded: LoadedModel, source: str, changed: dict[str, Any], seed: int, limits: ServeSettings
) -> tuple[Request, str | None]:
    """The engine's request, and which part of the source was left out. Raises an error beyond a limit."""
    model, config = completer(loaded), override_settings(completion_settings(loaded), changed)
    check_generation(config, limits)
    requests, is_cut = model.requests([source], config, seed=seed)
    return requests[0], model.format.task.cut if is_cut[0] else None


def _ranked_sentences(loaded: LoadedModel, source: str) -> list[RankedSentence]:
    """The result of `Completer.rank`. Raises DataError for too many sentences."""
    count = len(sentences(source))
    if count > _MAX_SENTENCES:
        raise DataError(
            f"The source has {count:,} sentences.",
            f"A page ranks at most {_MAX_SENTENCES}.",
            "Use a part of it, or a terminal, which has no limit: `penna complete RUN --file FILE --extract 3`.",
        )
    return completer(loaded).rank(source)


@dataclass
class _Output:
    """A completion as it grows."""

    text: str = ""
    finish: str = "stopped"
    tokens: int = 0
    cut: str | None = None  # the part of the source that was left out

    def push(self, delta: TextDelta) -> None:
        self.text = (self.text + delta.text) if self.text else delta.text.lstrip()
        self.tokens += delta.token is not None
        self.finish = delta.finish or self.finish


def show_completion(source: str, output: str, reference: str) -> None:
    """Output, reference and source with the copied spans marked, and the copy metrics."""
    report = copy_report(source, output)
    reference_report = copy_report(source, reference) if reference else None
    with ui.element("div").classes("cards"):
        _show_text(t("complete.output"), marked_html(output, _output_spans(report)))
        if reference_report is not None:
            _show_text(t("complete.reference-shown"), marked_html(reference, _output_spans(reference_report)))
    _show_text(t("complete.source"), marked_html(source, source_spans(_marked_spans(report))))
    note("complete.marked")
    heading(t("complete.metrics"))
    _show_copy_metrics(report, reference_report, rouge_fmeasures(reference, output) if reference else {})
    note("complete.metrics-note")


def _show_ranked(ranked: Sequence[RankedSentence]) -> None:
    largest = max((sentence.gain for sentence in ranked), default=0.0)
    header = ["", t("complete.sentence"), t("complete.gain"), t("complete.logprob")]
    rows = [
        [
            str(sentence.place + 1),
            Cell(sentence.text, "wrap"),
            score_cell(f"{sentence.gain:+.2f}", max(sentence.gain, 0.0), largest, signed=False),
            f"{sentence.logprob:.2f}",
        ]
        for sentence in ranked
    ]
    show_table(t("complete.rank"), header, rows)
    note("complete.rank-note")


def marked_html(text: str, spans: Sequence[_Span]) -> str:
    """A text as HTML with marked spans, in alternating colors."""
    parts: list[str] = []
    position = 0
    for start, end, number in spans:
        color = "even" if number % 2 else "odd"
        parts.append(escape(text[position:start]))
        parts.append(f'<mark class="{color}" title="{number + 1}">{escape(text[start:end])}</mark>')
        position = end
    return "".join([*parts, escape(text[position:])])


def source_spans(spans: Sequence[CopiedSpan]) -> list[_Span]:
    """The positions of copied spans in the source. Of overlapping spans, the longest stays."""
    positions = sorted((span.source_start, span.source_end, number) for number, span in enumerate(spans))
    kept: list[_Span] = []
    for start, end, number in positions:
        if not kept or start >= kept[-1][1]:
            kept.append((start, end, number))
        elif spans[number].words > spans[kept[-1][2]].words:
            kept[-1] = (start, end, number)
    return kept


def _show_text(title: str, content: str) -> None:
    with ui.element("section").classes("card"):
        heading(title, 3)
        show_marked_text(content)


def _marked_spans(report: CopyReport) -> list[CopiedSpan]:
    return [span for span in report.spans if span.words >= _MIN_MARKED]


def _output_spans(report: CopyReport) -> list[_Span]:
    return [(span.start, span.end, number) for number, span in enumerate(_marked_spans(report))]


def _show_copy_metrics(report: CopyReport, reference: CopyReport | None, rouge: dict[str, float]) -> None:
    """A column for the output, and one for the reference if there is one."""
    columns = [_copy_rows(each.metrics) for each in (report, reference) if each is not None]
    rows = [[name, *(column[place][1] for column in columns)] for place, (name, _) in enumerate(columns[0])]
    rows += [[_ROUGE[kind], f"{score:.3f}", "–"] for kind, score in rouge.items()]
    names = [t("complete.output"), t("complete.reference-shown")][: len(columns)]
    show_table(t("complete.metrics"), [t("complete.metric"), *names], rows)


def _copy_rows(metrics: CopyMetrics) -> list[tuple[str, str]]:
    return [
        (t("complete.coverage"), _percent(metrics.coverage)),
        (t("complete.density"), "–" if metrics.density is None else f"{metrics.density:.1f}"),
        *((t("complete.novel", order=order), _percent(metrics.novel[f"{order}-grams"])) for order in ORDERS[:2]),
        (t("complete.numbers"), _absent(metrics.numbers)),
        (t("complete.names"), _absent(metrics.names)),
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _absent(support: Support) -> str:
    return t("complete.of", absent=support.absent, count=support.count) if support.count else "–"
