"""The Classify page: class probabilities of a text, the words that influenced them, and the model's evaluation."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from penna.api.classify import Classification, classify, evaluate_classification
from penna.api.explain import ExplainSettings
from penna.api.explain_query import ExplainQuery
from penna.explain.explanation import Explanation
from penna.studio.background import StoppableTask
from penna.studio.charts import show_chart
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, heading, note, page_layout, run_select, show_command
from penna.studio.pages.classify_metrics import Evaluation, classification_evaluations, show_evaluation
from penna.studio.pages.explain import add_explanation_frame, explain_on_worker, show_explanation
from penna.studio.tables import add_table_style
from penna.studio.training_processes import shell_command
from penna.studio.workspace import Studio

_MAX_CLASSES = 20  # in the chart
_BAR_HEIGHT = 30  # pixels
_FIELD = "outlined dense"


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/classify")
    def classify_page(run: str = "") -> None:
        with page_layout(studio, "classify"):
            add_table_style()
            add_explanation_frame()
            note("classify.about")
            _Page(studio, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str) -> None:
        self._studio = studio
        runs = run_select(
            studio, tasks=("classify",), remember="classifier", preselected=run, on_change=self._change_run
        )
        if runs is None:
            return
        self._runs = runs
        self._text = ui.textarea(t("classify.text")).props(f"{_FIELD} autogrow").classes("wide")
        self._pair = ui.textarea(t("classify.pair")).props(f"{_FIELD} autogrow").classes("wide")
        with ui.element("div").classes("line"):
            start = ui.button(t("classify.go"), on_click=self._classify).props("unelevated")
            self._task = StoppableTask((start,), ui.button(t("explain.stop"), icon="stop").props("outline"))
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        heading(t("classify.measure"))
        with ui.element("div").classes("line"):
            self._chosen = ui.select([], label=t("classify.evaluation"), on_change=self._show_evaluation)
            self._chosen.props(_FIELD).classes("run-select")
            self._evaluate_button = ui.button(t("classify.measure-go"), on_click=self._evaluate).props("outline")
        self._progress = ui.element("div").props("role=status")
        self._metrics = ui.element("div").classes("results")
        self._evaluations: dict[str, Evaluation] = {}
        self._change_run(runs.value)

    def _change_run(self, name: str) -> None:
        self._result.clear()
        self._progress.clear()
        with errors_shown_in(self._result):
            recipe = self._studio.run(name).recipe()
            self._pair.set_visibility(recipe.data.pair_column is not None)
            self._read_evaluations()

    def _read_evaluations(self, chosen: str | None = None) -> None:
        with errors_shown_in(self._metrics):
            self._evaluations = classification_evaluations(self._studio.run(self._runs.value))
            names = list(self._evaluations)
            self._chosen.set_options(names, value=chosen or next(iter(names), None))
            self._chosen.set_visibility(bool(names))
            self._show_evaluation()

    def _show_evaluation(self) -> None:
        evaluation = self._evaluations.get(self._chosen.value)
        with errors_shown_in(self._metrics), self._metrics:
            if evaluation is None:
                note("classify.none")
            else:
                show_evaluation(evaluation, self._try)

    async def _try(self, text: str) -> None:
        """Classify the text of an error; the texts of a pair are separated by a bar."""
        first, bar, second = text.partition(" | ")
        is_pair = self._pair.visible and bool(bar)
        self._text.value = first if is_pair else text
        self._pair.value = second if is_pair else ""
        await self._classify()
        self._text.run_method("focus")

    async def _classify(self) -> None:
        name, text = self._runs.value, self._text.value or ""
        pair = self._pair.value or "" if self._pair.visible else None
        if self._task.is_running:
            return
        with self._result, errors_shown_in(self._result), self._task.running():
            with busy():
                worker = await self._studio.models.worker(name)
                pairs = None if pair is None else [pair]
                classification = await worker.call(lambda loaded: classify(loaded, [text], pairs))
                explanation = await self._explain(name, text, pair, classification.predictions[0][0])
            self._show(classification, explanation, text, pair)

    async def _explain(self, name: str, text: str, pair: str | None, label: str) -> Explanation:
        worker = await self._studio.models.worker(name)
        settings = ExplainSettings(query=ExplainQuery(label=label, pair=pair))
        return await explain_on_worker(worker, text, settings, self._studio.settings)

    def _show(self, classification: Classification, explanation: Explanation, text: str, pair: str | None) -> None:
        name = self._runs.value
        heading(t("classify.probabilities"))
        options, count = probability_options(classification)
        show_chart(options, t("classify.probabilities")).style(f"height: {_BAR_HEIGHT * count + 50}px")
        note("classify.probabilities-note")
        heading(t("classify.evidence"))
        label = classification.predictions[0][0]

        async def explain_other(event: Any) -> None:
            chosen.disable()
            with words, errors_shown_in(words), self._task.running():
                with busy():
                    other = await self._explain(name, text, pair, event.value)
                show_explanation(name, other)
            chosen.enable()

        labels = list(classification.labels)
        chosen = ui.select(labels, value=label, label=t("classify.evidence-for"), on_change=explain_other)
        chosen.props(_FIELD).classes("run-select")
        words = ui.element("div").classes("results")
        with words:
            show_explanation(name, explanation)
        run, second = str(self._studio.runs_dir / name), [] if pair is None else ["--pair", pair]
        commands = [
            ["penna", "classify", run, text, *second],
            ["penna", "explain", run, text, "--label", label, *second],
        ]
        show_command(t("classify.command"), "\n".join(map(shell_command, commands)))

    async def _evaluate(self) -> None:
        name = self._runs.value
        messages: list[str] = []
        with errors_shown_in(self._progress):
            with self._progress, busy():
                self._evaluate_button.disable()
                try:
                    await self._studio.background.run(
                        evaluate_classification,
                        str(self._studio.runs_dir / name),
                        runs_dir=self._studio.runs_dir,
                        device=self._studio.device,
                        report=messages.append,
                    )
                finally:
                    self._evaluate_button.enable()
            with self._progress:
                for message in messages:
                    ui.label(message).classes("note")
            if name == self._runs.value:
                self._read_evaluations("validation-part")


def probability_options(classification: Classification) -> tuple[dict[str, Any], int]:
    """Chart options with a bar for each class of the first text, the most likely on top, and the number of bars."""
    row = classification.probabilities[0]
    order = sorted(range(len(classification.labels)), key=lambda place: -row[place])[:_MAX_CLASSES][::-1]
    values = [round(float(row[place]), 4) for place in order]
    return {
        "grid": {"left": 8, "right": 56, "top": 4, "bottom": 24, "containLabel": True},
        "tooltip": {"formatter": "{b}: {c}"},
        "xAxis": {"type": "value", "min": 0, "max": 1},
        "yAxis": {"type": "category", "data": [classification.labels[place] for place in order]},
        "series": [
            {
                "type": "bar",
                "data": values,
                "barMaxWidth": 18,
                "label": {"show": True, "position": "right", "color": "inherit"},
            }
        ],
    }, len(order)
