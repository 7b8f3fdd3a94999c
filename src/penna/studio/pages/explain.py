"""The page that explains: a run and a text in; words coloured by each method, views, and the methods' faithfulness out.

All of it is `penna.api.explain` and `penna.api.explain` on the studio's models; the line of the terminal that
does the same stands below each result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nicegui import ui

from penna.api.explain import ExplainSettings
from penna.api.explain_query import ExplainQuery
from penna.config.schema import Recipe
from penna.config.tasks import ClassifyTask
from penna.explain.explanation import DEFAULT_METHODS, METHODS, Explanation, Method
from penna.report.explanations.html import explanation_html
from penna.report.explanations.wording import heading as about
from penna.studio.explaining import explanation, faithfulness
from penna.studio.frame import busy, frame, heading, meaning, run_select, told_problems
from penna.studio.jobs import as_typed
from penna.studio.pages.explain_faithful import show_faithfulness
from penna.studio.pages.explain_labels import WORDS as WORDS
from penna.studio.pages.explain_views import show_views
from penna.studio.pages.explain_words import show_words
from penna.studio.pages.flow import Flow
from penna.studio.pages.shading import add_shading
from penna.studio.state import Studio
from penna.studio.words import add as add_words
from penna.studio.words import t

_VIEWS = ("attention", "lens", "heads")
_OPTIONS = {"attention": "--maps", "lens": "--lens", "heads": "--heads"}
_FIELD = "outlined dense"


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)

    @ui.page("/explain")
    def explain_page(run: str = "", text: str = "", label: str = "") -> None:
        with frame(studio, "explain"):
            add_shading()
            meaning("explain.about")
            _Page(studio, run, text, label)


class _Page:
    """One visit: what is asked, and where the result stands."""

    def __init__(self, studio: Studio, run: str, text: str, label: str) -> None:
        self._studio = studio
        runs = run_select(studio, wanted=run, on_change=self._changed)
        if runs is None:
            return
        self._runs = runs
        self._text = ui.textarea(t("explain.text"), value=text).props(f"{_FIELD} autogrow").classes("wide")
        self._ask(studio.run(runs.value).recipe(), label)
        with ui.element("div").classes("line").props(f'role=group aria-label="{t("explain.methods")}"'):
            ui.label(t("explain.methods")).classes("name")
            self._methods: dict[Method, ui.checkbox] = {
                method: ui.checkbox(t(f"method.{method}"), value=method in DEFAULT_METHODS) for method in METHODS
            }
        with ui.element("div").classes("line").props(f'role=group aria-label="{t("explain.views")}"'):
            ui.label(t("explain.views")).classes("name")
            self._views = {
                view: ui.checkbox(t(f"explain.{view}"), value=view != "heads").props(f"data-view={view}")
                for view in _VIEWS
            }
        with ui.element("div").classes("line"):
            go = ui.button(t("explain.go"), on_click=self._explain).props("unelevated")
            self._flow = Flow((go,), ui.button(t("explain.stop"), icon="stop").props("outline"))
        self._result = ui.element("div").classes("results").props("aria-live=polite")
        with ui.expansion(t("explain.faithful")):
            meaning("explain.faithful-about")
            self._texts = ui.textarea(t("explain.faithful-texts")).props(_FIELD).classes("wide")
            with ui.element("div").classes("line"):
                go = ui.button(t("explain.faithful-go"), on_click=self._measure).props("outline")
                self._measuring = Flow((go,), ui.button(t("explain.stop"), icon="stop").props("outline"))
            self._measured = ui.element("div").classes("results").props("aria-live=polite")

    def _changed(self, name: str) -> None:
        """Another run is chosen."""
        with told_problems(self._result):
            self._ask.refresh(self._studio.run(name).recipe(), "")

    @ui.refreshable_method
    def _ask(self, recipe: Recipe, label: str) -> None:
        """What is asked of the run that is chosen."""
        task = recipe.task
        is_classifier = isinstance(task, ClassifyTask)
        kinds = ["label"] if is_classifier else ["next", "continuation", "generate"]
        with ui.element("div").classes("line"):
            named_kinds = {kind: t(f"explain.asked.{kind}") for kind in kinds}
            self._kind = ui.select(named_kinds, value=kinds[0], label=t("explain.asked"))
            self._kind.props(_FIELD).classes("run-select")
            self._continuation = ui.input(t("explain.continuation")).props(_FIELD)
            self._continuation.bind_visibility_from(self._kind, "value", value="continuation")
            self._count = ui.number(t("explain.generate"), value=10, min=1, max=64, precision=0).props(_FIELD)
            self._count.bind_visibility_from(self._kind, "value", value="generate")
            labels = list(task.labels) if isinstance(task, ClassifyTask) else []
            named = {"": t("explain.likeliest-class"), **{name: name for name in labels}}
            self._label = ui.select(named, value=label if label in named else "", label=t("explain.label"))
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
        if self._flow.is_running:
            return
        with self._result, told_problems(self._result), self._flow.running():
            with busy():
                settings = self._settings()
                worker = await self._studio.models.worker(name)
                found = await explanation(worker, text, settings, self._studio.settings)
            _show(found, self._studio.runs_dir.joinpath(name).as_posix(), settings)

    async def _measure(self) -> None:
        name = self._runs.value
        texts = [line for line in (self._texts.value or "").splitlines() if line.strip()]
        if self._measuring.is_running:
            return
        with self._measured, told_problems(self._measured), self._measuring.running():
            with busy() as shown:
                with shown:
                    told = ui.label()
                settings = ExplainSettings(methods=self._settings().methods)
                worker = await self._studio.models.worker(name)
                found = await faithfulness(worker, texts, settings, self._studio.settings, told.set_text)
            show_faithfulness(found)


def _show(found: Explanation, run: str, settings: ExplainSettings) -> None:
    """The whole result."""
    heading(about(found))
    for notice in found.notices:
        ui.label(notice).classes("meaning")
    show_words(found)
    show_views(found)
    with ui.element("div").classes("line"):
        ui.button(
            t("explain.download"),
            icon="download",
            on_click=lambda: ui.download.content(explanation_html(found), "explanation.html", "text/html"),
        ).props("flat")
    ui.label(t("explain.command")).classes("name")
    ui.label(as_typed(command(run, found.prompt, settings))).classes("code")


def command(run: str, text: str, settings: ExplainSettings) -> list[str]:
    """The line of the terminal that says the same."""
    words, asked = ["penna", "explain", run, text], settings.query
    for option, value in (("continuation", asked.continuation), ("label", asked.label), ("against", asked.against)):
        if value is not None:
            words.append(f"--{option}={value}")
    if asked.generate:
        words += ["--generate", str(asked.generate)]
    if asked.pair is not None:
        words.append(f"--pair={asked.pair}")
    words += _methods(settings.methods)
    return words + [option for view, option in _OPTIONS.items() if getattr(settings, view)]


def _methods(methods: Sequence[Method]) -> list[str]:
    if tuple(methods) == DEFAULT_METHODS:
        return []
    return [word for method in methods for word in ("--method", cast("str", method))]
