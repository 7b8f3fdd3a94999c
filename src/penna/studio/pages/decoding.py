"""The decoding lab: a run and a number of prefixes in; every way of writing beside human text, and which to take, out.

Texts take minutes to write, so a comparison belongs to the studio and not to a visit: it goes on when the page is left,
and every tab sees how far it is. Texts that are written stay in the run's evaluations, and are taken up again.
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
from penna.studio.frame import frame, heading, meaning, problem, run_select, told_problems, usable
from penna.studio.jobs import as_typed
from penna.studio.pages.decoding_labels import WORDS as WORDS
from penna.studio.pages.decoding_result import show_decoding
from penna.studio.pages.shading import add_shading
from penna.studio.state import Studio
from penna.studio.texts import chosen_texts, listed_texts, options
from penna.studio.words import add as add_words
from penna.studio.words import t

_FIELD = "outlined dense"
_TASKS = ("pretrain", "chat", "complete")
_MOST_PREFIXES = 5000
_EVERY = 0.5  # seconds between two looks at how far it is


class _Stopped(PennaError):  # noqa: N818 - a person wanted it
    """A comparison that was stopped from the page."""


@dataclass(eq=False)
class Comparison:
    """One comparison of a run, under way or over."""

    studio: Studio
    run: str
    command: str
    progress: DecodingProgress | None = None
    said: str = ""  # what is done besides writing
    result: DecodingResult | None = None
    failure: BaseException | None = None
    stop: bool = False
    seen: int = 0  # changes

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.result is not None or self.failure is not None

    def work(self, settings: DecodingSettings) -> None:
        """Compare; this takes minutes."""
        try:
            self.result = compare_decoding(
                str(self.studio.runs_dir / self.run),
                settings,
                runs_dir=self.studio.runs_dir,
                device=self.studio.device,
                report=self._hear,
                on_event=self._listen,
            )
        except Exception as error:  # shown on the page
            self.failure = error

    def _hear(self, said: str) -> None:
        self.said, self.progress = said, None
        self._check()

    def _listen(self, progress: DecodingProgress) -> None:
        self.progress = progress
        self._check()

    def _check(self) -> None:
        if self.stop or self.studio.long.is_ending:
            raise _Stopped(
                "The comparison was stopped.",
                "The texts of strategies that were done are kept.",
                "Compare again to go on from there.",
            )


class Lab:
    """The comparisons of one studio, the last of each run."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._comparisons: dict[str, Comparison] = {}

    def last(self, run: str) -> Comparison | None:
        """The last comparison of a run, if there was any."""
        return self._comparisons.get(run)

    def begin(self, run: str, settings: DecodingSettings, command: str) -> Comparison:
        """Begin a comparison. Raises RunError where one is under way."""
        for last in self._comparisons.values():
            if not last.is_over:
                raise RunError(
                    f"{last.run} is being compared already.", "One comparison at a time.", "Wait for it or stop it."
                )
        begun = self._comparisons[run] = Comparison(self._studio, run, command)
        self._studio.long.begin(partial(begun.work, settings))
        return begun


def add(studio: Studio) -> None:
    """Put the page in place."""
    add_words(WORDS)
    lab = Lab(studio)

    @ui.page("/decoding")
    def decoding_page(run: str = "") -> None:
        with frame(studio, "decoding"):
            add_shading()
            meaning("decoding.about")
            _Page(studio, lab, run)


class _Page:
    """One visit."""

    def __init__(self, studio: Studio, lab: Lab, run: str) -> None:
        self._studio, self._lab = studio, lab
        runs = run_select(studio, tasks=_TASKS, wanted=run, on_change=lambda _: self._look())
        if runs is None:
            return
        self._runs = runs
        with ui.element("div").classes("line"):
            self._prefixes = ui.number(t("decoding.prefixes"), value=100, min=2, precision=0).props(_FIELD)
            self._length = ui.number(t("decoding.length"), min=1, precision=0).props(f"{_FIELD} clearable")
            self._seed = ui.number(t("decoding.seed"), value=0, min=0, precision=0).props(_FIELD)
            judges = {"": t("decoding.no-judge"), **{row.name: row.name for row in usable(studio, _TASKS)}}
            self._judge = ui.select(judges, value="", label=t("decoding.judge")).props(_FIELD).classes("run-select")
            texts = options(listed_texts(studio.data_dir, studio.uploads))
            self._human = ui.select({"": t("decoding.own-text"), **texts}, value="", label=t("decoding.human-text"))
            self._human.props(_FIELD).classes("run-select")
        meaning("decoding.human-meaning")
        self._own = ui.textarea(t("decoding.strategies"), placeholder="mine: temperature=0.7 top_p=0.9")
        self._own.props(f"{_FIELD} autogrow").classes("wide")
        meaning("decoding.strategies-meaning")
        with ui.element("div").classes("line"):
            self._go = ui.button(t("decoding.go"), on_click=self._begin).props("unelevated")
            self._stop = ui.button(t("decoding.stop"), on_click=self._end).props("outline")
        self._state = ui.element("div").classes("results").props("role=status")
        self._result = ui.element("div").classes("results")
        self._shown: Comparison | None = None
        self._shown_over = False
        self._look()
        ui.timer(_EVERY, self._look)

    def _settings(self) -> DecodingSettings:
        judge, human = self._judge.value, self._human.value
        prefixes, length = _whole(self._prefixes.value, 0), _whole(self._length.value, 0)
        for value, most, what in (
            (prefixes, _MOST_PREFIXES, "prefixes"),
            (length, self._studio.settings.max_new_tokens, "tokens behind each"),
        ):
            if value > most:
                raise RecipeError(f"{value:,} {what} are asked for.", f"At most {most:,} on a page.", "Ask for fewer.")
        chosen = chosen_texts([human], self._studio.data_dir, self._studio.uploads) if human else [None]
        return DecodingSettings(
            human=chosen[0],
            strategies=tuple(named_strategies([parse_strategy(line) for line in self._lines()])),
            prefixes=prefixes,
            length=None if self._length.value is None else length,
            judge=str(self._studio.runs_dir / judge) if judge else None,
            seed=_whole(self._seed.value, 0),
        )

    def _begin(self) -> None:
        with told_problems(self._result):
            settings = self._settings()
            self._lab.begin(self._runs.value, settings, as_typed(self._command(settings)))
            self._shown = None
        self._look()

    def _command(self, settings: DecodingSettings) -> list[str]:
        """The line of the terminal that does the same."""
        words = ["penna", "decoding", str(self._studio.runs_dir / self._runs.value)]
        words += ["--prefixes", str(settings.prefixes)]
        for option, value in (("--human", settings.human), ("--length", settings.length), ("--judge", settings.judge)):
            words += [] if value is None else [option, str(value)]
        words += ["--seed", str(settings.seed)] if settings.seed else []
        return words + [word for line in self._lines() for word in ("--strategy", line)]

    def _lines(self) -> list[str]:
        """The strategies that were written, one a line."""
        return [line.strip() for line in (self._own.value or "").splitlines() if line.strip()]

    def _end(self) -> None:
        last = self._lab.last(self._runs.value)
        if last is not None:
            last.stop = True

    def _look(self) -> None:
        """Show how far the comparison of the chosen run is, and what came of it once."""
        last = self._lab.last(self._runs.value)
        at_work = last is not None and not last.is_over
        self._go.set_enabled(not at_work)
        self._stop.set_visibility(at_work)
        if last is None:
            if self._shown is not None:
                self._result.clear()
                self._state.clear()
            self._shown = None
            return
        if self._shown is not last:
            self._shown, self._shown_over = last, False
            self._state.clear()
            self._result.clear()
            with self._state:
                self._line = ui.label()
                self._bar = ui.linear_progress(show_value=False).props(f'aria-label="{t("decoding.progress")}"')
        if at_work:
            self._tell(last)
        elif not self._shown_over:
            self._shown_over = True
            self._state.clear()
            with self._result:
                if last.failure is not None:
                    problem(last.failure)
                elif last.result is not None:
                    show_decoding(last.result, self._studio, last.run)
                    heading(t("decoding.command"), 3)
                    ui.label(last.command).classes("code")

    def _tell(self, comparison: Comparison) -> None:
        progress = comparison.progress
        if progress is None:
            self._line.set_text(comparison.said or t("frame.busy"))
            return
        left = progress.seconds_left
        told = t("decoding.writing", strategy=progress.strategy, share=f"{progress.share:.0%}")
        self._line.set_text(told if left is None else f"{told} · {t('decoding.left', left=_clock(left))}")
        self._bar.set_value(round(progress.share, 3))


def _whole(value: Any, otherwise: int) -> int:
    return otherwise if value is None else int(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
