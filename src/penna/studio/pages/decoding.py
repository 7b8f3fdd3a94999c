"""The Decoding lab: compares decoding strategies with human text, and recommends one.

A comparison takes minutes, so it belongs to the studio, not to a visit: it continues when the page is left, and every
tab shows its progress. Finished texts stay in the run's evaluations and are reused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from nicegui import ui

from penna.api.decoding import DecodingProgress, DecodingResult, DecodingSettings, compare_decoding
from penna.api.strategies import named_strategies
from penna.config.generation import parse_strategy
from penna.errors import PennaError, RecipeError, RunError
from penna.studio.i18n import t
from penna.studio.layout import errors_shown_in, note, page_layout, run_select, show_command, show_error, usable_runs
from penna.studio.pages.decoding_result import show_decoding
from penna.studio.pages.run_panels import clock
from penna.studio.tables import add_table_style
from penna.studio.text_files import list_texts, resolve_texts, text_options
from penna.studio.training_processes import shell_command
from penna.studio.workspace import Studio

_FIELD = "outlined dense"
_TASKS = ("pretrain", "chat", "complete")
_MAX_PREFIXES = 5000
_REFRESH_SECONDS = 0.5


class _Stopped(PennaError):  # noqa: N818 - a person stopped it
    """A comparison was stopped from the page."""


@dataclass(eq=False)
class Comparison:
    """One comparison of a run, running or finished."""

    studio: Studio
    run: str
    command: str
    progress: DecodingProgress | None = None
    message: str = ""  # what it does besides generating
    result: DecodingResult | None = None
    failure: BaseException | None = None
    is_stop_requested: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has finished or failed."""
        return self.result is not None or self.failure is not None

    def run_comparison(self, settings: DecodingSettings) -> None:
        """Compare; this takes minutes."""
        try:
            self.result = compare_decoding(
                str(self.studio.runs_dir / self.run),
                settings,
                runs_dir=self.studio.runs_dir,
                device=self.studio.device,
                report=self._set_message,
                on_event=self._set_progress,
            )
        except Exception as error:  # shown on the page
            self.failure = error

    def _set_message(self, message: str) -> None:
        self.message, self.progress = message, None
        self._check_stop()

    def _set_progress(self, progress: DecodingProgress) -> None:
        self.progress = progress
        self._check_stop()

    def _check_stop(self) -> None:
        if self.is_stop_requested or self.studio.background.is_stopping:
            raise _Stopped(
                "The comparison was stopped.",
                "The texts of finished strategies are kept.",
                "Compare again to continue.",
            )


class ComparisonRegistry:
    """The comparisons of one studio, the last of each run."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._comparisons: dict[str, Comparison] = {}

    def last(self, run: str) -> Comparison | None:
        """The last comparison of a run, if there was one."""
        return self._comparisons.get(run)

    def start(self, run: str, settings: DecodingSettings, command: str) -> Comparison:
        """Start a comparison. Raises RunError if another one is running."""
        for last in self._comparisons.values():
            if not last.is_over:
                raise RunError(
                    f"A comparison of {last.run} is already running.",
                    "One comparison can run at a time.",
                    "Wait for it, or stop it.",
                )
        comparison = self._comparisons[run] = Comparison(self._studio, run, command)
        self._studio.background.start(partial(comparison.run_comparison, settings))
        return comparison


def add(studio: Studio) -> None:
    """Register the page."""
    registry = ComparisonRegistry(studio)

    @ui.page("/decoding")
    def decoding_page(run: str = "") -> None:
        with page_layout(studio, "decoding"):
            add_table_style()
            note("decoding.about")
            _Page(studio, registry, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, registry: ComparisonRegistry, run: str) -> None:
        self._studio, self._registry = studio, registry
        runs = run_select(studio, tasks=_TASKS, preselected=run, on_change=lambda _: self._refresh())
        if runs is None:
            return
        self._runs = runs
        with ui.element("div").classes("line"):
            self._prefixes = ui.number(t("decoding.prefixes"), value=100, min=2, precision=0).props(_FIELD)
            self._length = ui.number(t("decoding.length"), min=1, precision=0).props(f"{_FIELD} clearable")
            self._seed = ui.number(t("decoding.seed"), value=0, min=0, precision=0).props(_FIELD)
            judges = {"": t("decoding.no-judge"), **{row.name: row.name for row in usable_runs(studio, _TASKS)}}
            self._judge = ui.select(judges, value="", label=t("decoding.judge")).props(_FIELD).classes("run-select")
            texts = {"": t("decoding.own-text"), **text_options(list_texts(studio.data_dir, studio.uploads))}
            self._human = ui.select(texts, value="", label=t("decoding.human-text"))
            self._human.props(_FIELD).classes("run-select")
        note("decoding.human-note")
        self._strategies = ui.textarea(t("decoding.strategies"), placeholder="mine: temperature=0.7 top_p=0.9")
        self._strategies.props(f"{_FIELD} autogrow").classes("wide")
        note("decoding.strategies-note")
        with ui.element("div").classes("line"):
            self._start_button = ui.button(t("decoding.go"), on_click=self._start).props("unelevated")
            self._stop_button = ui.button(t("decoding.stop"), on_click=self._stop).props("outline")
        self._status = ui.element("div").classes("results").props("role=status")
        self._result = ui.element("div").classes("results")
        self._shown: Comparison | None = None
        self._is_result_shown = False
        self._refresh()
        ui.timer(_REFRESH_SECONDS, self._refresh)

    def _settings(self) -> DecodingSettings:
        judge, human = self._judge.value, self._human.value
        prefixes, length = _integer(self._prefixes.value), _integer(self._length.value)
        max_length = self._studio.settings.max_new_tokens
        for name, value, most in (("Prefixes", prefixes, _MAX_PREFIXES), ("Tokens", length, max_length)):
            if value > most:
                raise RecipeError(
                    f"{name}: {value:,} is too large.", f"A page allows at most {most:,}.", "Choose a smaller number."
                )
        texts = resolve_texts([human], self._studio.data_dir, self._studio.uploads) if human else [None]
        return DecodingSettings(
            human=texts[0],
            strategies=tuple(named_strategies([parse_strategy(line) for line in self._strategy_lines()])),
            prefixes=prefixes,
            length=None if self._length.value is None else length,
            judge=str(self._studio.runs_dir / judge) if judge else None,
            seed=_integer(self._seed.value),
        )

    def _start(self) -> None:
        with errors_shown_in(self._result):
            settings = self._settings()
            self._registry.start(self._runs.value, settings, shell_command(self._command(settings)))
            self._shown = None
        self._refresh()

    def _command(self, settings: DecodingSettings) -> list[str]:
        """The terminal command for the same comparison."""
        words = ["penna", "decoding", str(self._studio.runs_dir / self._runs.value)]
        words += ["--prefixes", str(settings.prefixes)]
        for option, value in (("--human", settings.human), ("--length", settings.length), ("--judge", settings.judge)):
            words += [] if value is None else [option, str(value)]
        words += ["--seed", str(settings.seed)] if settings.seed else []
        return words + [word for line in self._strategy_lines() for word in ("--strategy", line)]

    def _strategy_lines(self) -> list[str]:
        return [line.strip() for line in (self._strategies.value or "").splitlines() if line.strip()]

    def _stop(self) -> None:
        comparison = self._registry.last(self._runs.value)
        if comparison is not None:
            comparison.is_stop_requested = True

    def _refresh(self) -> None:
        """Show the progress of the chosen run's comparison, or its result."""
        comparison = self._registry.last(self._runs.value)
        is_running = comparison is not None and not comparison.is_over
        self._start_button.set_enabled(not is_running)
        self._stop_button.set_visibility(is_running)
        if comparison is None:
            if self._shown is not None:
                self._result.clear()
                self._status.clear()
            self._shown = None
            return
        if self._shown is not comparison:
            self._shown, self._is_result_shown = comparison, False
            self._status.clear()
            self._result.clear()
            with self._status:
                self._line = ui.label()
                self._bar = ui.linear_progress(show_value=False).props(f'aria-label="{t("decoding.progress")}"')
        if is_running:
            self._show_progress(comparison)
        elif not self._is_result_shown:
            self._is_result_shown = True
            self._status.clear()
            with self._result:
                if comparison.failure is not None:
                    show_error(comparison.failure)
                elif comparison.result is not None:
                    show_decoding(comparison.result, self._studio, comparison.run)
                    show_command(t("decoding.command"), comparison.command)

    def _show_progress(self, comparison: Comparison) -> None:
        progress = comparison.progress
        if progress is None:
            self._line.set_text(comparison.message or t("layout.busy"))
            return
        text = t("decoding.writing", strategy=progress.strategy, share=f"{progress.share:.0%}")
        if progress.seconds_left is not None:
            text += f" · {t('decoding.left', left=clock(progress.seconds_left))}"
        self._line.set_text(text)
        self._bar.set_value(round(progress.share, 3))


def _integer(value: Any) -> int:
    return 0 if value is None else int(value)
