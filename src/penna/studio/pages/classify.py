"""The page of classifiers: a run and a text in; its classes, the words that spoke for one, and its figures, out."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from penna.api.classify import Classification, classify, evaluate_classification
from penna.api.explain import ExplainSettings
from penna.api.explain_query import ExplainQuery
from penna.explain.explanation import Explanation
from penna.studio.charts import chart
from penna.studio.explaining import explanation
from penna.studio.frame import busy, frame, heading, meaning, run_select, told_problems
from penna.studio.jobs import as_typed
from penna.studio.pages.classify_figures import evaluations_of, show_figures
from penna.studio.pages.classify_labels import WORDS as WORDS
from penna.studio.pages.explain_labels import WORDS as EXPLAIN_WORDS
from penna.studio.pages.explain_words import show_words
from penna.studio.pages.flow import Flow
from penna.studio.pages.shading import add_shading
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_SHOWN = 20  # classes in the chart
_BAR = 30  # pixels of a class
_FIELD = "outlined dense"


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(EXPLAIN_WORDS)
    add_words(WORDS)

    @ui.page("/classify")
    def classify_page(run: str = "") -> None:
        with frame(studio, "classify"):
            add_shading()
            meaning("classify.about")
            _Page(studio, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        runs = run_select(studio, tasks=("classify",), remember="classifier", wanted=run, on_change=self._changed)
        if runs is None:
            return
        self._runs = runs
        self._text = ui.textarea(t("classify.text")).props(f"{_FIELD} autogrow").classes("wide")
        self._pair = ui.textarea(t("classify.pair")).props(f"{_FIELD} autogrow").classes("wide")
        with ui.element("div").classes("line"):
            go = ui.button(t("classify.go"), on_click=self._try).props("unelevated")
            self._flow = Flow((go,), ui.button(t("explain.stop"), icon="stop").props("outline"))
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        heading(t("classify.measure"))
        with ui.element("div").classes("line"):
            self._measured = ui.select([], label=t("classify.evaluation"), on_change=self._show_measured)
            self._measured.props(_FIELD).classes("run-select")
            self._measure_go = ui.button(t("classify.measure-go"), on_click=self._measure).props("outline")
        self._measuring = ui.element("div").props("role=status")
        self._figures = ui.element("div").classes("results")
        self._evaluations: dict[str, Any] = {}
        self._changed(runs.value)

    def _changed(self, name: str) -> None:
        """Another run is chosen."""
        self._result.clear()
        self._measuring.clear()
        with told_problems(self._result):
            recipe = self._studio.run(name).recipe()
            self._pair.set_visibility(recipe.data.pair_column is not None)
            self._read_evaluations()

    def _read_evaluations(self, chosen: str | None = None) -> None:
        with told_problems(self._figures):
            self._evaluations = evaluations_of(self._studio.run(self._runs.value))
            names = list(self._evaluations)
            self._measured.set_options(names, value=chosen or next(iter(names), None))
            self._measured.set_visibility(bool(names))
            self._show_measured()

    def _show_measured(self) -> None:
        found = self._evaluations.get(self._measured.value)
        with told_problems(self._figures), self._figures:
            if found is None:
                meaning("classify.none")
            else:
                show_figures(found, self._look)

    async def _look(self, text: str) -> None:
        """Try the text of a mistake; the two of a pair stand with a bar between."""
        first, bar, second = text.partition(" | ")
        is_pair = self._pair.visible and bool(bar)
        self._text.value = first if is_pair else text
        self._pair.value = second if is_pair else ""
        await self._try()
        self._text.run_method("focus")

    async def _try(self) -> None:
        name, text = self._runs.value, self._text.value or ""
        pair = self._pair.value or "" if self._pair.visible else None
        if self._flow.is_running:
            return
        with self._result, told_problems(self._result), self._flow.running():
            with busy():
                worker = await self._studio.models.worker(name)
                pairs = None if pair is None else [pair]
                found = await worker.call(lambda loaded: classify(loaded, [text], pairs))
                explained = await self._explained(name, text, pair, found.predictions[0][0])
            self._show(found, explained, text, pair)

    async def _explained(self, name: str, text: str, pair: str | None, label: str) -> Explanation:
        worker = await self._studio.models.worker(name)
        settings = ExplainSettings(query=ExplainQuery(label=label, pair=pair))
        return await explanation(worker, text, settings, self._studio.settings)

    def _show(self, found: Classification, explained: Explanation, text: str, pair: str | None) -> None:
        name = self._runs.value
        heading(t("classify.probabilities"))
        options, count = probability_options(found)
        chart(options, t("classify.probabilities")).style(f"height: {_BAR * count + 50}px")
        meaning("classify.probabilities-meaning")
        heading(t("classify.evidence"))
        label = found.predictions[0][0]

        async def show_other(event: Any) -> None:
            chosen.disable()
            with words, told_problems(words), self._flow.running():
                with busy():
                    other = await self._explained(name, text, pair, event.value)
                show_words(other)
            chosen.enable()

        chosen = ui.select(list(found.labels), value=label, label=t("classify.evidence-for"), on_change=show_other)
        chosen.props(_FIELD).classes("run-select")
        words = ui.element("div").classes("results")
        with words:
            for notice in explained.notices:
                ui.label(notice).classes("meaning")
            show_words(explained)
        ui.label(t("classify.command")).classes("name")
        run, second = str(self._studio.runs_dir / name), [] if pair is None else ["--pair", pair]
        lines = [["penna", "classify", run, text, *second], ["penna", "explain", run, text, "--label", label, *second]]
        ui.label("\n".join(map(as_typed, lines))).classes("code")

    async def _measure(self) -> None:
        name = self._runs.value
        said: list[str] = []
        with told_problems(self._measuring):
            with self._measuring, busy():
                self._measure_go.disable()
                try:
                    target = str(self._studio.runs_dir / name)
                    await self._studio.long.done(
                        evaluate_classification,
                        target,
                        runs_dir=self._studio.runs_dir,
                        device=self._studio.device,
                        report=said.append,
                    )
                finally:
                    self._measure_go.enable()
            with self._measuring:
                for line in said:
                    ui.label(line).classes("meaning")
            if name == self._runs.value:
                self._read_evaluations("validation-part")


def probability_options(found: Classification) -> tuple[dict[str, Any], int]:
    """A bar for each class of the first text, the likeliest on top, and how many bars there are."""
    row = found.probabilities[0]
    order = sorted(range(len(found.labels)), key=lambda place: -row[place])[:_SHOWN][::-1]
    values = [round(float(row[place]), 4) for place in order]
    return {
        "grid": {"left": 8, "right": 56, "top": 4, "bottom": 24, "containLabel": True},
        "tooltip": {"formatter": "{b}: {c}"},
        "xAxis": {"type": "value", "min": 0, "max": 1},
        "yAxis": {"type": "category", "data": [found.labels[place] for place in order]},
        "series": [
            {
                "type": "bar",
                "data": values,
                "barMaxWidth": 18,
                "label": {"show": True, "position": "right", "color": "inherit"},
            }
        ],
    }, len(order)
