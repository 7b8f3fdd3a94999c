"""The Explain page: which words of a text influenced a prediction, and how faithful each method is.

The explanation is the HTML page of ``penna.report.explanations`` in a sandboxed frame. A model's worker does other work
between two steps of its texts, so faithfulness is measured one text at a time, and can be stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from penna.api.explain import ExplainSettings, explain, save_faithfulness, text_faithfulness
from penna.api.explain_query import ExplainQuery
from penna.config.schema import Recipe
from penna.config.tasks import ClassifyTask
from penna.errors import DataError
from penna.explain.explanation import DEFAULT_METHODS, METHODS, Explanation, Method
from penna.explain.faithfulness import SHARES, FaithfulnessMetrics, Measure, TextFaithfulness
from penna.report.explanations.html import explanation_html
from penna.serve.limits import check_explanation
from penna.serve.settings import ServeSettings
from penna.serve.worker import Worker
from penna.studio.background import StoppableTask
from penna.studio.charts import show_chart
from penna.studio.i18n import t
from penna.studio.layout import busy, errors_shown_in, heading, note, page_layout, run_select, show_command
from penna.studio.tables import add_table_style, show_table
from penna.studio.training_processes import shell_command
from penna.studio.workspace import Studio

MAX_TEXTS = 50  # that methods are measured on
_VIEW_FLAGS = {"attention": "--maps", "lens": "--lens", "heads": "--heads"}
_FIELD = "outlined dense"
# The frame has an origin of its own, so it reports its height in a message.
_RESIZE = """
<script>
addEventListener('message', (event) => {
  for (const frame of document.querySelectorAll('iframe.explanation'))
    if (event.source === frame.contentWindow && Number.isFinite(event.data?.height))
      frame.style.height = `${Math.min(event.data.height, 20000) + 2}px`;
});
</script>
"""


def add(studio: Studio) -> None:
    """Register the page."""

    @ui.page("/explain")
    def explain_page(run: str = "", text: str = "", label: str = "") -> None:
        with page_layout(studio, "explain"):
            add_table_style()
            add_explanation_frame()
            note("explain.about")
            _Page(studio, run, text, label)


def add_explanation_frame() -> None:
    """Let the explanations of a page be as high as their content."""
    ui.add_head_html(_RESIZE)


def explanation_page(run: str, explanation: Explanation) -> str:
    """The explanation's HTML page, which names the run and not its path."""
    return explanation_html(replace(explanation, model=run))


def show_explanation(run: str, explanation: Explanation) -> None:
    """The explanation's HTML page in a frame, and a button that downloads it."""
    page = explanation_page(run, explanation)
    frame = ui.element("iframe").classes("explanation").props("sandbox=allow-scripts")
    frame.props["title"] = t("explain.result")
    frame.props["srcdoc"] = page
    download = partial(ui.download.content, page, "explanation.html", "text/html")
    ui.button(t("explain.download"), icon="download", on_click=lambda _: download()).props("flat")


async def explain_on_worker(worker: Worker, text: str, settings: ExplainSettings, limits: ServeSettings) -> Explanation:
    """Explain on a worker. Raises an error beyond a limit, and what ``explain`` and the worker raise."""
    await asyncio.to_thread(check_explanation, worker.loaded, text, settings, limits)
    return await worker.call(lambda loaded: explain(loaded, text, settings))


async def measure_on_worker(
    worker: Worker,
    texts: Sequence[str],
    settings: ExplainSettings,
    limits: ServeSettings,
    report: Callable[[str], object] = lambda _: None,
) -> FaithfulnessMetrics:
    """Measure faithfulness on a worker; ``report`` receives the progress.

    Raises DataError for no text or too many, and what ``explain_on_worker`` raises.
    """
    if not texts:
        raise DataError("There is no text to measure on.", "Write one text per line.", "Fill in the field.")
    if len(texts) > MAX_TEXTS:
        raise DataError(
            f"There are {len(texts):,} texts to measure on.",
            f"A page measures at most {MAX_TEXTS}.",
            "Use fewer texts, or a terminal, which has no limit: `penna explain RUN --faithfulness FILE`.",
        )
    for text in texts:
        await asyncio.to_thread(check_explanation, worker.loaded, text, settings, limits)
    measured: list[TextFaithfulness] = []
    for done, text in enumerate(texts):
        report(f"{done} / {len(texts)}")
        measured += await worker.call(partial(text_faithfulness, text=text, settings=settings, number=len(measured)))
    return await worker.call(lambda loaded: save_faithfulness(loaded, measured, len(texts), settings))


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, run: str, text: str, label: str) -> None:
        self._studio = studio
        runs = run_select(studio, preselected=run, on_change=self._change_run)
        if runs is None:
            return
        self._runs = runs
        self._text = ui.textarea(t("explain.text"), value=text).props(f"{_FIELD} autogrow").classes("wide")
        self._query_fields(studio.run(runs.value).recipe(), label)
        with ui.element("div").classes("line").props(f'role=group aria-label="{t("explain.methods")}"'):
            ui.label(t("explain.methods")).classes("name")
            self._methods: dict[Method, ui.checkbox] = {
                method: ui.checkbox(t(f"method.{method}"), value=method in DEFAULT_METHODS) for method in METHODS
            }
        with ui.element("div").classes("line").props(f'role=group aria-label="{t("explain.views")}"'):
            ui.label(t("explain.views")).classes("name")
            self._views = {
                view: ui.checkbox(t(f"explain.{view}"), value=view != "heads").props(f"data-view={view}")
                for view in _VIEW_FLAGS
            }
        _show_legend()
        with ui.element("div").classes("line"):
            start = ui.button(t("explain.go"), on_click=self._explain).props("unelevated")
            self._task = StoppableTask((start,), ui.button(t("explain.stop"), icon="stop").props("outline"))
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        with ui.expansion(t("explain.faithful")):
            note("explain.faithful-about")
            self._texts = ui.textarea(t("explain.faithful-texts")).props(_FIELD).classes("wide")
            with ui.element("div").classes("line"):
                start = ui.button(t("explain.faithful-go"), on_click=self._measure).props("outline")
                self._measuring = StoppableTask((start,), ui.button(t("explain.stop"), icon="stop").props("outline"))
            self._faithfulness = ui.element("div").classes("results").props("aria-live=polite")

    def _change_run(self, name: str) -> None:
        with errors_shown_in(self._result):
            self._query_fields.refresh(self._studio.run(name).recipe(), "")

    @ui.refreshable_method
    def _query_fields(self, recipe: Recipe, label: str) -> None:
        """The fields that say what to explain; they depend on the run's task."""
        task = recipe.task
        is_classifier = isinstance(task, ClassifyTask)
        kinds = ["label"] if is_classifier else ["next", "continuation", "generate"]
        with ui.element("div").classes("line"):
            options = {kind: t(f"explain.target-{kind}") for kind in kinds}
            self._kind = ui.select(options, value=kinds[0], label=t("explain.target"))
            self._kind.props(_FIELD).classes("run-select")
            self._continuation = ui.input(t("explain.continuation")).props(_FIELD)
            self._continuation.bind_visibility_from(self._kind, "value", value="continuation")
            self._count = ui.number(t("explain.generate"), value=10, min=1, max=64, precision=0).props(_FIELD)
            self._count.bind_visibility_from(self._kind, "value", value="generate")
            labels = list(task.labels) if isinstance(task, ClassifyTask) else []
            classes = {"": t("explain.likeliest-class"), **{name: name for name in labels}}
            self._label = ui.select(classes, value=label if label in classes else "", label=t("explain.label"))
            self._label.props(_FIELD).classes("run-select").set_visibility(is_classifier)
            self._against = ui.input(t("explain.against")).props(_FIELD).classes("grow")
            self._against.bind_visibility_from(self._kind, "value", backward=lambda kind: kind != "generate")
        self._pair = ui.textarea(t("explain.pair")).props(f"{_FIELD} autogrow").classes("wide")
        self._pair.set_visibility(is_classifier and recipe.data.pair_column is not None)

    def _settings(self) -> ExplainSettings:
        kind = self._kind.value
        return ExplainSettings(
            query=ExplainQuery(
                continuation=self._continuation.value or "" if kind == "continuation" else None,
                generate=int(self._count.value or 0) if kind == "generate" else 0,
                label=(self._label.value or None) if kind == "label" else None,
                against=(self._against.value or None) if kind != "generate" else None,
                pair=self._pair.value if self._pair.visible else None,
            ),
            methods=tuple(method for method, box in self._methods.items() if box.value),
            attention=bool(self._views["attention"].value),
            lens=bool(self._views["lens"].value),
            heads=bool(self._views["heads"].value),
        )

    async def _explain(self) -> None:
        name, text = self._runs.value, self._text.value or ""
        if self._task.is_running:
            return
        with self._result, errors_shown_in(self._result), self._task.running():
            with busy():
                settings = self._settings()
                worker = await self._studio.models.worker(name)
                explanation = await explain_on_worker(worker, text, settings, self._studio.settings)
            show_explanation(name, explanation)
            run = self._studio.runs_dir.joinpath(name).as_posix()
            show_command(t("explain.command"), shell_command(explain_command(run, explanation.prompt, settings)))

    async def _measure(self) -> None:
        name = self._runs.value
        texts = [line for line in (self._texts.value or "").splitlines() if line.strip()]
        if self._measuring.is_running:
            return
        with self._faithfulness, errors_shown_in(self._faithfulness), self._measuring.running():
            with busy() as indicator:
                with indicator:
                    progress = ui.label()
                settings = ExplainSettings(methods=self._settings().methods)
                worker = await self._studio.models.worker(name)
                metrics = await measure_on_worker(worker, texts, settings, self._studio.settings, progress.set_text)
            _show_faithfulness(metrics)


def _show_legend() -> None:
    """What each method and view shows, in the reader's language."""
    entries = [(t(f"method.{method}"), t(f"method.{method}-note")) for method in METHODS]
    entries += [(t(f"explain.{view}"), t(f"explain.{view}-note")) for view in _VIEW_FLAGS]
    with ui.expansion(t("explain.legend")).classes("fold"), ui.element("dl").classes("terms"):
        for name, sentence in entries:
            with ui.element("div"):
                TextElement(tag="dt", text=name)
                TextElement(tag="dd", text=sentence)


def explain_command(run: str, text: str, settings: ExplainSettings) -> list[str]:
    """The terminal command for the same explanation."""
    words, query = ["penna", "explain", run, text], settings.query
    for option, value in (("continuation", query.continuation), ("label", query.label), ("against", query.against)):
        if value is not None:
            words.append(f"--{option}={value}")
    if query.generate:
        words += ["--generate", str(query.generate)]
    if query.pair is not None:
        words.append(f"--pair={query.pair}")
    if settings.methods != DEFAULT_METHODS:
        words += [word for method in settings.methods for word in ("--method", cast("str", method))]
    return words + [flag for view, flag in _VIEW_FLAGS.items() if getattr(settings, view)]


def _show_faithfulness(metrics: FaithfulnessMetrics) -> None:
    """Both measures: a curve for each method over the share of words, and a table with intervals."""
    found = t(
        "explain.faithful-found",
        texts=f"{metrics.texts:,}",
        words=f"{metrics.words:.1f}",
        probability=f"{metrics.probability:.4f}",
    )
    ui.label(found)
    with ui.element("div").classes("cards"):
        for name in ("comprehensiveness", "sufficiency"):
            measures: dict[Method, Measure] = {
                method: getattr(values, name) for method, values in metrics.methods.items()
            }
            title = t(f"explain.{name}")
            with ui.element("section").classes("card"):
                heading(title, 3)
                show_chart(_faithfulness_curves(measures), title)
                note(f"explain.{name}-note")
                _show_measures(title, measures)


def _faithfulness_curves(measures: dict[Method, Measure]) -> dict[str, Any]:
    """A line for each method over the shares of words; the random baseline is dashed."""
    return {
        "grid": {"left": 8, "right": 16, "top": 12, "bottom": 64, "containLabel": True},
        "legend": {"bottom": 0},
        "tooltip": {"trigger": "axis"},
        "xAxis": {
            "type": "category",
            "data": [f"{share} %" for share in SHARES],
            "name": t("explain.share-of-words"),
            "nameLocation": "middle",
            "nameGap": 24,
        },
        "yAxis": {"type": "value"},
        "series": [
            {
                "type": "line",
                "name": t(f"method.{method}"),
                "data": [round(value, 4) for value in measure.shares],
                "lineStyle": {"type": "dashed" if method == "random" else "solid"},
            }
            for method, measure in measures.items()
        ],
    }


def _show_measures(title: str, measures: dict[Method, Measure]) -> None:
    interval = t("explain.interval")
    rows: list[list[str]] = []
    for method, measure in measures.items():
        aopc, lead = measure.aopc, measure.lead
        row = [t(f"method.{method}"), f"{aopc.mean:.3f}", f"{aopc.low:.3f} – {aopc.high:.3f}"]
        row += ["", ""] if method == "random" else [f"{lead.mean:+.3f}", f"{lead.low:+.3f} – {lead.high:+.3f}"]
        rows.append(row)
    show_table(title, [t("explain.method"), "AOPC", interval, t("explain.lead"), interval], rows)
